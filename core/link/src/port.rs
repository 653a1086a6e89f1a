//! The two ends of a link, both with the virtio header that keeps super-packets.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// CSUM, TSO for both families, ECN in it, USO for both families.
const ALL_OFFLOAD: libc::c_ulong = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40;
/// The same without USO, which kernels before 6.2 do not know.
const TCP_OFFLOAD: libc::c_ulong = 0x01 | 0x02 | 0x04 | 0x08;

const RECEIVE_BUFFER: libc::c_int = 256 << 20;

/// An end of a link: reads and writes whole frames, never blocking.
#[derive(Debug)]
pub struct Port(File);

impl Port {
    /// Makes the TAP device `name`. Fails without the right to do so, or when
    /// the name is too long (15 bytes) or taken.
    pub fn tap(name: &str) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")?;
        let mut request = named(name)?;
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: the request is a whole ifreq, and outlives the call.
        checked(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &mut request) })?;
        let ask = |flags: libc::c_ulong| {
            // SAFETY: TUNSETOFFLOAD takes its argument by value.
            checked(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD as _, flags) })
        };
        ask(ALL_OFFLOAD).or_else(|_| ask(TCP_OFFLOAD))?;
        rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::NONBLOCK)?;
        Ok(Self(file))
    }

    /// Takes copies of what arrives at the interface `name`, and sends through
    /// it past its queue and its filters. Fails without CAP_NET_RAW, or when
    /// there is no such interface.
    pub fn packet(name: &str) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers; the result is checked.
        let fd = checked(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: socket just returned this descriptor, and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        for option in [
            libc::PACKET_VNET_HDR,
            libc::PACKET_IGNORE_OUTGOING,
            libc::PACKET_QDISC_BYPASS,
        ] {
            set(&socket, libc::SOL_PACKET, option, 1)?;
        }
        // Without the right to exceed the system's limit, the limit it is.
        set(
            &socket,
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            RECEIVE_BUFFER,
        )
        .or_else(|_| set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER))?;
        bind(&socket, name)?;
        Ok(Self(socket.into()))
    }

    /// Reads one frame, virtio header in front; None when there is none.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.0).read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes one frame, virtio header in front.
    pub fn write(&self, frame: &[u8]) -> io::Result<()> {
        (&self.0).write(frame).map(drop)
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn bind(socket: &OwnedFd, name: &str) -> io::Result<()> {
    let index = rustix::net::netdevice::name_to_index(socket, name)?;
    // SAFETY: all-zero bytes are a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index as libc::c_int;
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is a whole sockaddr_ll of the length given.
    checked(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(())
}

fn set(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the value is an int of the length given, and outlives the call.
    checked(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            length,
        )
    })?;
    Ok(())
}

fn named(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() || name.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
