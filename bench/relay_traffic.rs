//! Traffic for the relay benchmark: many clients that send, one sink that counts.
//!
//! `relay_traffic SECONDS SIZE BURST OFFLOAD SINK_FD` reads one line
//! `FD HEX` for each client from its standard input: a connected UDP socket it
//! has inherited, and the bytes that begin each of its datagrams. Every client
//! in turn sends BURST datagrams of SIZE bytes: by one large send when OFFLOAD
//! is 1. Prints `SENT ARRIVED` when the time is over and nothing comes any more.

use std::io::{self, BufRead};
use std::mem;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const BATCH: usize = 64;
const QUIET: Duration = Duration::from_millis(200);

struct Client {
    fd: RawFd,
    burst: Vec<u8>,
}

fn main() {
    let arguments: Vec<usize> = std::env::args()
        .skip(1)
        .map(|text| text.parse().expect("a number"))
        .collect();
    let [seconds, size, burst, offload, sink] = arguments[..] else {
        panic!("five arguments");
    };
    let clients = read_clients(size, burst);
    if offload == 1 {
        clients.iter().for_each(|client| segment(client.fd, size));
    }
    let over = AtomicBool::new(false);
    let (sent, arrived) = thread::scope(|scope| {
        let counter = scope.spawn(|| count(sink as RawFd, &over));
        let step = if offload == 1 { size * burst } else { size };
        let sent = send(&clients, size, step, Duration::from_secs(seconds as u64));
        over.store(true, Ordering::Relaxed);
        (sent, counter.join().expect("the counter"))
    });
    println!("{sent} {arrived}");
}

fn read_clients(size: usize, burst: usize) -> Vec<Client> {
    let client = |line: String| {
        let (fd, hex) = line.split_once(' ').expect("FD HEX");
        let mut datagram = vec![0; size];
        for (at, byte) in datagram.iter_mut().take(hex.len() / 2).enumerate() {
            *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex");
        }
        Client {
            fd: fd.parse().expect("a descriptor"),
            burst: datagram.repeat(burst),
        }
    };
    io::stdin()
        .lock()
        .lines()
        .map(|line| client(line.expect("a line")))
        .collect()
}

fn send(clients: &[Client], size: usize, step: usize, time: Duration) -> u64 {
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < time {
        for client in clients {
            sent += send_burst(client, step) * (step / size) as u64;
        }
    }
    sent
}

/// Sends a client's burst in pieces of `step` bytes, by one system call, and
/// returns how many pieces went.
fn send_burst(client: &Client, step: usize) -> u64 {
    let mut pieces: Vec<libc::iovec> = client.burst.chunks(step).map(piece).collect();
    // SAFETY: all-zero bytes are a valid header; pointers and lengths are those of
    // slices that outlive the call, which only reads them.
    unsafe {
        let mut headers: Vec<libc::mmsghdr> = vec![mem::zeroed(); pieces.len()];
        for (header, piece) in headers.iter_mut().zip(&mut pieces) {
            header.msg_hdr.msg_iov = piece;
            header.msg_hdr.msg_iovlen = 1;
        }
        let count = headers.len() as libc::c_uint;
        let sent = libc::sendmmsg(client.fd, headers.as_mut_ptr(), count, 0);
        u64::try_from(sent).unwrap_or(0)
    }
}

fn piece(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

/// Counts datagrams until it is over and none came for a while.
fn count(fd: RawFd, over: &AtomicBool) -> u64 {
    let (mut arrived, mut last) = (0, Instant::now());
    while !over.load(Ordering::Relaxed) || last.elapsed() < QUIET {
        let batch = receive(fd);
        arrived += batch;
        if batch > 0 {
            last = Instant::now();
        } else {
            // Nobody waits on the socket, so no relay pays for waking the sink.
            thread::sleep(Duration::from_millis(1));
        }
    }
    arrived
}

/// How many datagrams wait, at most one batch. Their content is not even copied.
fn receive(fd: RawFd) -> u64 {
    // SAFETY: all-zero bytes are valid in each; the pointers stay valid during the call.
    unsafe {
        let mut control = [[0_u64; 4]; BATCH];
        let mut bytes = [0_u8; 1];
        let mut piece = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: 1,
        };
        let mut headers: [libc::mmsghdr; BATCH] = mem::zeroed();
        for (header, control) in headers.iter_mut().zip(&mut control) {
            header.msg_hdr.msg_iov = &raw mut piece;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = 32;
        }
        let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
        let got = libc::recvmmsg(
            fd,
            headers.as_mut_ptr(),
            BATCH as u32,
            flags,
            std::ptr::null_mut(),
        );
        let got = usize::try_from(got).unwrap_or(0);
        headers[..got].iter().map(|header| datagrams(header)).sum()
    }
}

/// # Safety
/// The header must be one that recvmmsg has filled in.
unsafe fn datagrams(header: &libc::mmsghdr) -> u64 {
    // SAFETY: the caller promises that the control messages are the system's.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(&header.msg_hdr);
        if first.is_null() || (*first).cmsg_type != libc::UDP_GRO {
            return 1;
        }
        let stride = libc::CMSG_DATA(first)
            .cast::<libc::c_int>()
            .read_unaligned();
        u64::from(header.msg_len).div_ceil(stride as u64)
    }
}

fn segment(fd: RawFd, size: usize) {
    let size = size as libc::c_int;
    // SAFETY: the value is an int that outlives the call.
    let result = unsafe {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(
            fd,
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const size).cast(),
            length,
        )
    };
    assert_eq!(result, 0, "UDP_SEGMENT");
}
