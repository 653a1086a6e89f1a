//! The two sockets of a port.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use quinn_udp::UdpSocketState;
use socket2::{Domain, Protocol, Type};

use crate::message::Address;
use crate::socket::Socket;

/// Socket buffers asked for, in bytes: about 30 ms at 2 Gbit/s.
const BUFFER: usize = 8 << 20;
/// How many numbers are tried until one is free in both families.
const TRIES: usize = 64;

/// A UDP port: the same number in both families.
#[derive(Debug)]
pub struct Pair {
    /// The IPv4 socket.
    pub v4: Socket,
    /// The IPv6 socket, IPv6 only; absent where the system has no IPv6.
    pub v6: Option<Socket>,
    /// The number both are bound to.
    pub port: u16,
}

/// Opens UDP port `port` on every address of the machine; 0 takes a number
/// that is free in both families. A `mark` other than 0 is put on everything
/// sent (SO_MARK; needs the right to do so). Fails with AddrInUse when taken.
pub fn bind(port: u16, mark: u32) -> io::Result<Pair> {
    let mut taken = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..if port == 0 { TRIES } else { 1 } {
        match bind_both(port, mark) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken = error,
            other => return other,
        }
    }
    Err(taken)
}

impl Pair {
    /// The socket that reaches `destination`, if this machine has its family.
    pub fn toward(&self, destination: &SocketAddr) -> Option<&Socket> {
        if destination.is_ipv6() {
            self.v6.as_ref()
        } else {
            Some(&self.v4)
        }
    }

    /// Sends one datagram through `interface` (0: the system's choice); fails
    /// with the system's error, or EAFNOSUPPORT where there is no IPv6.
    pub fn send_to(
        &self,
        destination: SocketAddr,
        payload: &[u8],
        interface: u32,
    ) -> io::Result<()> {
        let socket = self
            .toward(&destination)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
        socket.send(&mut Address::new(destination, interface, 0), payload)
    }
}

fn bind_both(port: u16, mark: u32) -> io::Result<Pair> {
    let v4 = open((Ipv4Addr::UNSPECIFIED, port).into(), mark)?;
    let port = v4
        .inner
        .local_addr()?
        .as_socket()
        .map_or(port, |address| address.port());
    let v6 = match open((Ipv6Addr::UNSPECIFIED, port).into(), mark) {
        Ok(socket) => Some(socket),
        Err(error) if family_is_missing(&error) => None,
        Err(error) => return Err(error),
    };
    Ok(Pair { v4, v6, port })
}

fn family_is_missing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT | libc::EADDRNOTAVAIL)
    )
}

fn open(local: SocketAddr, mark: u32) -> io::Result<Socket> {
    let inner = socket2::Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    if local.is_ipv6() {
        inner.set_only_v6(true)?;
    }
    if mark != 0 {
        inner.set_mark(mark)?;
    }
    widen(&inner)?;
    inner.bind(&local.into())?;
    let state = UdpSocketState::new((&inner).into())?;
    stop_timestamps(&inner);
    Ok(Socket { inner, state })
}

/// Large buffers: past the system's limit where that is allowed, else up to it.
fn widen(socket: &socket2::Socket) -> io::Result<()> {
    use rustix::net::sockopt;
    if sockopt::set_socket_recv_buffer_size_force(socket, BUFFER).is_err() {
        socket.set_recv_buffer_size(BUFFER)?;
    }
    if sockopt::set_socket_send_buffer_size_force(socket, BUFFER).is_err() {
        socket.set_send_buffer_size(BUFFER)?;
    }
    Ok(())
}

/// Nobody reads the time stamps that quinn-udp asks for, and every datagram of
/// the machine pays for them.
fn stop_timestamps(socket: &socket2::Socket) {
    let off: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the value is an int that outlives the
    // call. A refusal costs speed only.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const off).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}
