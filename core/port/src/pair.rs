//! The two sockets of a port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, RawFd};

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

/// Where a port is bound: a number, and per family one address of this machine
/// or, unspecified, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// 0 takes a number that is free in both families.
    pub port: u16,
    /// The IPv4 address.
    pub v4: Ipv4Addr,
    /// The IPv6 address; None opens no IPv6 socket.
    pub v6: Option<Ipv6Addr>,
}

impl Local {
    /// Every address of the machine.
    pub fn any(port: u16) -> Self {
        Self {
            port,
            v4: Ipv4Addr::UNSPECIFIED,
            v6: Some(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// Whether datagrams to several addresses of this family may come.
    pub fn is_any(&self, ipv6: bool) -> bool {
        if ipv6 {
            self.v6.is_some_and(|v6| v6.is_unspecified())
        } else {
            self.v4.is_unspecified()
        }
    }
}

/// Opens UDP port `port` on every address of the machine, as [`bind_to`] does.
pub fn bind(port: u16, mark: u32) -> io::Result<Pair> {
    bind_to(Local::any(port), mark)
}

/// Opens a UDP port in both families. A `mark` other than 0 is put on everything
/// sent (SO_MARK; needs the right to do so). Fails with EADDRINUSE when taken,
/// and with EADDRNOTAVAIL when an address is not of this machine.
pub fn bind_to(local: Local, mark: u32) -> io::Result<Pair> {
    let mut taken = io::Error::from_raw_os_error(libc::EADDRINUSE);
    for _ in 0..if local.port == 0 { TRIES } else { 1 } {
        match bind_both(local, mark) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken = error,
            other => return other,
        }
    }
    Err(taken)
}

impl Pair {
    /// Descriptors of the sockets, which stay the pair's.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let sockets = std::iter::once(&self.v4).chain(&self.v6);
        sockets.map(|socket| socket.as_fd().as_raw_fd()).collect()
    }

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
        self.send_from(None, destination, payload, interface)
    }

    /// The same, leaving from `source`; one that the machine lost meanwhile is
    /// replaced by the system's choice.
    pub fn send_from(
        &self,
        source: Option<IpAddr>,
        destination: SocketAddr,
        payload: &[u8],
        interface: u32,
    ) -> io::Result<()> {
        let socket = self
            .toward(&destination)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
        let send = |source| {
            let mut address = Address::leaving(source, destination, interface, 0);
            socket.send(&mut address, payload)
        };
        match send(source) {
            Err(error) if source.is_some() && address_is_gone(&error) => send(None),
            sent => sent,
        }
    }
}

fn bind_both(local: Local, mark: u32) -> io::Result<Pair> {
    let v4 = open((local.v4, local.port).into(), mark)?;
    let port = v4
        .inner
        .local_addr()?
        .as_socket()
        .map_or(local.port, |address| address.port());
    let v6 = match local.v6.map(|v6| open((v6, port).into(), mark)) {
        None => None,
        Some(Ok(socket)) => Some(socket),
        Some(Err(error)) if local.is_any(true) && family_is_missing(&error) => None,
        Some(Err(error)) => return Err(error),
    };
    Ok(Pair { v4, v6, port })
}

fn family_is_missing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT | libc::EADDRNOTAVAIL)
    )
}

fn address_is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EADDRNOTAVAIL | libc::ENETUNREACH)
    )
}

pub(crate) fn open(local: SocketAddr, mark: u32) -> io::Result<Socket> {
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
