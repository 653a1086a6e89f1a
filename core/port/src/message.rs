//! The C structures of sendmsg: an address and the control messages.

use std::mem;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An address in the system's form, with the control messages that choose the
/// uplink, the local address, the segment size and the ECN mark. Reusable, as
/// it borrows nothing.
#[derive(Clone, Copy)]
pub struct Address {
    /// An IPv4 address lies in the first 16 of these 28 bytes.
    name: libc::sockaddr_in6,
    name_length: libc::socklen_t,
    /// Words, as control messages start at multiples of eight bytes.
    control: [u64; CONTROL / 8],
    control_length: usize,
    v6: bool,
}

/// Room for the largest interface choice (40), a segment size and an ECN mark (24 each).
const CONTROL: usize = 88;

impl Address {
    /// Where to send: `interface` 0 leaves the uplink to the system; `stride`
    /// 0 sends one datagram, otherwise the payload is cut every `stride` bytes.
    pub fn new(destination: SocketAddr, interface: u32, stride: u16) -> Self {
        Self::leaving(None, destination, interface, stride)
    }

    /// The same, leaving from `source`, an address of this machine; None, or one
    /// of the other family, leaves that to the system.
    pub fn leaving(
        source: Option<IpAddr>,
        destination: SocketAddr,
        interface: u32,
        stride: u16,
    ) -> Self {
        let (name, name_length) = match destination {
            SocketAddr::V4(v4) => (name_v4(v4), size_of::<libc::sockaddr_in>()),
            SocketAddr::V6(v6) => (name_v6(v6), size_of::<libc::sockaddr_in6>()),
        };
        let mut address = Self {
            name,
            name_length: name_length as libc::socklen_t,
            control: [0; CONTROL / 8],
            control_length: 0,
            v6: destination.is_ipv6(),
        };
        address.choose_uplink(interface, source);
        if stride != 0 {
            address.append(libc::SOL_UDP, libc::UDP_SEGMENT, stride);
        }
        address
    }

    /// The same with these two ECN bits in the outer header.
    #[must_use]
    pub fn with_ecn(mut self, ecn: u8) -> Self {
        let (level, kind) = if self.v6 {
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
        } else {
            (libc::IPPROTO_IP, libc::IP_TOS)
        };
        if ecn != 0 {
            self.append(level, kind, libc::c_int::from(ecn & 3));
        }
        self
    }

    /// The address is of IPv6, so it goes out through the pair's IPv6 socket.
    pub fn is_ipv6(&self) -> bool {
        self.v6
    }

    /// A message header over the pieces of a payload, valid while address and
    /// pieces stay where they are.
    pub fn header(&mut self, pieces: &mut [libc::iovec]) -> libc::msghdr {
        // SAFETY: all-zero bytes are a valid msghdr.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_name = (&raw mut self.name).cast();
        header.msg_namelen = self.name_length;
        header.msg_iov = pieces.as_mut_ptr();
        header.msg_iovlen = pieces.len() as _;
        if self.control_length != 0 {
            header.msg_control = self.control.as_mut_ptr().cast();
            header.msg_controllen = self.control_length as _;
        }
        header
    }

    fn choose_uplink(&mut self, interface: u32, source: Option<IpAddr>) {
        // SAFETY: all-zero bytes are valid in both; they leave the source address open.
        let (mut v4, mut v6): (libc::in_pktinfo, libc::in6_pktinfo) = unsafe { mem::zeroed() };
        let source = source.filter(|source| source.is_ipv6() == self.v6);
        match source {
            Some(IpAddr::V4(host)) => v4.ipi_spec_dst.s_addr = u32::from_ne_bytes(host.octets()),
            Some(IpAddr::V6(host)) => v6.ipi6_addr.s6_addr = host.octets(),
            None if interface == 0 => return,
            None => {}
        }
        if self.v6 {
            v6.ipi6_ifindex = interface as _;
            self.append(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, v6);
        } else {
            v4.ipi_ifindex = interface as _;
            self.append(libc::IPPROTO_IP, libc::IP_PKTINFO, v4);
        }
    }

    fn append<T: Copy>(&mut self, level: libc::c_int, kind: libc::c_int, value: T) {
        let size = size_of::<T>() as libc::c_uint;
        // SAFETY: pure arithmetic.
        let (length, space) = unsafe { (libc::CMSG_LEN(size), libc::CMSG_SPACE(size) as usize) };
        assert!(
            self.control_length + space <= CONTROL,
            "control messages outgrow their buffer"
        );
        // SAFETY: the bounds were checked, CMSG_SPACE keeps the offset a multiple of
        // eight, and CMSG_DATA stays inside that space.
        unsafe {
            let at = self
                .control
                .as_mut_ptr()
                .cast::<u8>()
                .add(self.control_length);
            let header = at.cast::<libc::cmsghdr>();
            (*header).cmsg_len = length as _;
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        }
        self.control_length += space;
    }
}

fn name_v4(address: SocketAddrV4) -> libc::sockaddr_in6 {
    // SAFETY: all-zero bytes are valid in both; a sockaddr_in is shorter than a
    // sockaddr_in6 and needs no stricter alignment, so the write stays inside.
    unsafe {
        let mut name: libc::sockaddr_in6 = mem::zeroed();
        let mut v4: libc::sockaddr_in = mem::zeroed();
        v4.sin_family = libc::AF_INET as libc::sa_family_t;
        v4.sin_port = address.port().to_be();
        v4.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
        (&raw mut name).cast::<libc::sockaddr_in>().write(v4);
        name
    }
}

fn name_v6(address: SocketAddrV6) -> libc::sockaddr_in6 {
    // SAFETY: all-zero bytes are a valid sockaddr_in6.
    let mut name: libc::sockaddr_in6 = unsafe { mem::zeroed() };
    name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
    name.sin6_port = address.port().to_be();
    name.sin6_flowinfo = address.flowinfo();
    name.sin6_addr.s6_addr = address.ip().octets();
    name.sin6_scope_id = address.scope_id();
    name
}
