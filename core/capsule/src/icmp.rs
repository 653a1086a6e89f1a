//! ICMP and ICMPv6 errors: the packet they quote, and building our own.

use crate::checksum::{Sum, finish_ipv4, pseudo, put};
use crate::inner::{Fragment, ICMP, ICMPV6, IPV4_HEADER, IPV6_HEADER, Inner};

pub(crate) const CHECKSUM: usize = 2;
const ERROR_HEADER: usize = 8;
/// What an error quotes at most: RFC 1812 section 4.3.2.3, RFC 4443 section 2.4.
const MOST_IPV4: usize = 576;
const MOST_IPV6: usize = 1280;

const UNREACHABLE_V4: u8 = 3;
const UNREACHABLE_V6: u8 = 1;
const TOO_BIG_V6: u8 = 2;

/// What an error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The packet is larger than `mtu` bytes.
    TooBig {
        /// The largest inner packet that fits.
        mtu: u16,
    },
    /// The peer, or a policy, does not want it.
    Prohibited,
}

/// Where in `packet` the packet lies that an ICMP error quotes; none when
/// `packet` is no such error.
pub(crate) fn quoted(packet: &[u8], inner: &Inner) -> Option<usize> {
    if inner.fragment == Fragment::Later || !is_error(packet, inner) {
        return None;
    }
    let at = inner.upper + ERROR_HEADER;
    (at < packet.len()).then_some(at)
}

/// The error that answers `packet`, as if the peer had sent it; none where
/// RFC 1122 section 3.2.2 forbids one: for errors and for later fragments.
pub fn build(packet: &[u8], error: Error) -> Option<Vec<u8>> {
    let inner = Inner::parse(packet).ok()?;
    if inner.fragment == Fragment::Later || is_error(packet, &inner) {
        return None;
    }
    let packet = &packet[..inner.total];
    Some(if inner.v6 {
        build_v6(packet, error)
    } else {
        build_v4(packet, error)
    })
}

fn is_error(packet: &[u8], inner: &Inner) -> bool {
    let kind = packet.get(inner.upper);
    match inner.protocol {
        ICMP if !inner.v6 => matches!(kind, Some(3 | 4 | 5 | 11 | 12)),
        ICMPV6 if inner.v6 => matches!(kind, Some(0..=127)),
        _ => false,
    }
}

fn build_v4(packet: &[u8], error: Error) -> Vec<u8> {
    let (code, mtu) = match error {
        Error::TooBig { mtu } => (4, mtu),
        Error::Prohibited => (13, 0),
    };
    let quote = &packet[..packet.len().min(MOST_IPV4 - IPV4_HEADER - ERROR_HEADER)];
    let mut reply = vec![0; IPV4_HEADER + ERROR_HEADER];
    reply.extend_from_slice(quote);
    let total = reply.len() as u16;
    reply[0] = 0x45;
    put(&mut reply, 2, total);
    reply[8] = 64;
    reply[9] = ICMP;
    reply[12..16].copy_from_slice(&packet[16..20]);
    reply[16..20].copy_from_slice(&packet[12..16]);
    finish_ipv4(&mut reply[..IPV4_HEADER]);
    reply[20] = UNREACHABLE_V4;
    reply[21] = code;
    put(&mut reply, 26, mtu);
    let sum = Sum::default().with(&reply[IPV4_HEADER..]).fold();
    put(&mut reply, IPV4_HEADER + CHECKSUM, !sum);
    reply
}

fn build_v6(packet: &[u8], error: Error) -> Vec<u8> {
    let (kind, code, mtu) = match error {
        Error::TooBig { mtu } => (TOO_BIG_V6, 0, mtu),
        Error::Prohibited => (UNREACHABLE_V6, 1, 0),
    };
    let quote = &packet[..packet.len().min(MOST_IPV6 - IPV6_HEADER - ERROR_HEADER)];
    let mut reply = vec![0; IPV6_HEADER + ERROR_HEADER];
    reply.extend_from_slice(quote);
    let length = reply.len() - IPV6_HEADER;
    reply[0] = 0x60;
    put(&mut reply, 4, length as u16);
    reply[6] = ICMPV6;
    reply[7] = 64;
    reply[8..24].copy_from_slice(&packet[24..40]);
    reply[24..40].copy_from_slice(&packet[8..24]);
    reply[40] = kind;
    reply[41] = code;
    put(&mut reply, 46, mtu);
    let sum = pseudo(&reply[8..40], ICMPV6, length).with(&reply[IPV6_HEADER..]);
    put(&mut reply, IPV6_HEADER + CHECKSUM, !sum.fold());
    reply
}
