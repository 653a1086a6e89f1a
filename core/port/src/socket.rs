//! One socket of the pair: batched receiving, and sending through an uplink.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};

use crate::message::Address;
use crate::pair::open;

/// A UDP socket of one family: not connected, not blocking, reporting the
/// interface, never fragmenting.
#[derive(Debug)]
pub struct Socket {
    pub(crate) inner: socket2::Socket,
    pub(crate) state: UdpSocketState,
}

/// Room for one batched receive; reuse it.
pub struct Buffers {
    bytes: Vec<Vec<u8>>,
    metadata: Vec<RecvMeta>,
    filled: usize,
}

/// Consecutive datagrams of one source, which the system handed over together.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Who sent them; never an IPv4-mapped address.
    pub source: SocketAddr,
    /// Index of the interface they came in through; 0 when unknown.
    pub interface: u32,
    /// The address they were sent to, when the system said so.
    pub local: Option<IpAddr>,
    /// The two ECN bits of the outer header.
    pub ecn: u8,
    /// Length of every datagram but the last, which may be shorter; never 0.
    pub stride: usize,
    /// The payloads, one after the other.
    pub bytes: &'a [u8],
}

impl<'a> Received<'a> {
    /// The datagrams one by one; an empty datagram yields nothing.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.bytes.chunks(self.stride)
    }
}

impl Buffers {
    /// Room for `messages` messages (at most 32 are used) of a whole offload
    /// batch each, 64 KiB.
    pub fn new(messages: usize) -> Self {
        let messages = messages.clamp(1, BATCH_SIZE);
        Self {
            bytes: vec![vec![0; 1 << 16]; messages],
            metadata: vec![RecvMeta::default(); messages],
            filled: 0,
        }
    }

    /// The bytes of one message of the last receive, by its place in
    /// [`Buffers::received`].
    pub fn message(&self, number: usize) -> &[u8] {
        &self.bytes[number][..self.metadata[number].len]
    }

    /// What the last receive brought, in order of arrival.
    pub fn received(&self) -> impl Iterator<Item = Received<'_>> {
        self.bytes
            .iter()
            .zip(&self.metadata)
            .take(self.filled)
            .map(|(bytes, meta)| Received {
                source: meta.addr,
                interface: meta.interface_index.unwrap_or(0),
                local: meta.dst_ip,
                ecn: meta.ecn.map_or(0, |ecn| ecn as u8),
                stride: meta.stride.max(1),
                bytes: &bytes[..meta.len],
            })
    }
}

impl Socket {
    /// One more IPv4 socket, on every address of the machine and a number of its
    /// own. Fails when the process has no descriptor left.
    pub fn another() -> io::Result<Self> {
        open((Ipv4Addr::UNSPECIFIED, 0).into(), 0)
    }

    /// Fills `buffers` with what is waiting, and returns how many messages that
    /// is; 0 when nothing is waiting.
    pub fn receive(&self, buffers: &mut Buffers) -> io::Result<usize> {
        let Buffers {
            bytes,
            metadata,
            filled,
        } = buffers;
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let count = bytes.len();
        for (slice, bytes) in slices.iter_mut().zip(bytes.iter_mut()) {
            *slice = IoSliceMut::new(bytes);
        }
        *filled = match self
            .state
            .recv((&self.inner).into(), &mut slices[..count], metadata)
        {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        Ok(*filled)
    }

    /// Sends `payload` to `address`; the error is the system's, as it came
    /// (ENETUNREACH without a route, EMSGSIZE above the link's size).
    pub fn send(&self, address: &mut Address, payload: &[u8]) -> io::Result<()> {
        let mut pieces = [libc::iovec {
            iov_base: payload.as_ptr().cast_mut().cast(),
            iov_len: payload.len(),
        }];
        let header = address.header(&mut pieces);
        loop {
            // SAFETY: the header points to `address`, `pieces` and `payload`, which
            // outlive the call; sendmsg only reads them.
            let sent =
                unsafe { libc::sendmsg(self.inner.as_raw_fd(), &header, libc::MSG_NOSIGNAL) };
            if sent >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}
