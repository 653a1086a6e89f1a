//! The C structures of sendmsg: an address and the control messages.

use std::mem;
use std::net::SocketAddr;

/// An address in the system's form, with the control messages that choose the
/// uplink and the segment size. Reusable, as it borrows nothing.
#[derive(Clone, Copy)]
pub struct Address {
    name: libc::sockaddr_storage,
    name_length: libc::socklen_t,
    /// Words, as control messages start at multiples of eight bytes.
    control: [u64; CONTROL / 8],
    control_length: usize,
    v6: bool,
}

const CONTROL: usize = 80;

impl Address {
    /// Where to send: `interface` 0 leaves the uplink to the system; `stride`
    /// 0 sends one datagram, otherwise the payload is cut every `stride` bytes.
    pub fn new(destination: SocketAddr, interface: u32, stride: u16) -> Self {
        // SAFETY: all-zero bytes are a valid sockaddr_storage.
        let name = unsafe { mem::zeroed() };
        let mut address = Self {
            name,
            name_length: 0,
            control: [0; CONTROL / 8],
            control_length: 0,
            v6: destination.is_ipv6(),
        };
        let system: socket2::SockAddr = destination.into();
        // SAFETY: `as_ptr` points to `len` initialised bytes, and a sockaddr_storage holds any address.
        unsafe {
            std::ptr::copy_nonoverlapping(
                system.as_ptr().cast::<u8>(),
                (&raw mut address.name).cast::<u8>(),
                system.len() as usize,
            );
        }
        address.name_length = system.len();
        address.choose_uplink(interface);
        if stride != 0 {
            address.append(libc::SOL_UDP, libc::UDP_SEGMENT, stride);
        }
        address
    }

    /// The address is of IPv6, so it goes out through the pair's IPv6 socket.
    pub fn is_ipv6(&self) -> bool {
        self.v6
    }

    /// A message header over `payload`, valid while both stay where they are.
    pub fn header(&mut self, payload: &mut libc::iovec) -> libc::msghdr {
        // SAFETY: all-zero bytes are a valid msghdr.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_name = (&raw mut self.name).cast();
        header.msg_namelen = self.name_length;
        header.msg_iov = payload;
        header.msg_iovlen = 1;
        if self.control_length != 0 {
            header.msg_control = self.control.as_mut_ptr().cast();
            header.msg_controllen = self.control_length as _;
        }
        header
    }

    fn choose_uplink(&mut self, interface: u32) {
        if interface == 0 {
            return;
        }
        // SAFETY: all-zero bytes are valid in both; they leave the source address open.
        let (mut v4, mut v6): (libc::in_pktinfo, libc::in6_pktinfo) = unsafe { mem::zeroed() };
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
