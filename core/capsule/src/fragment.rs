//! Fragmentation, for packets above the tunnel's size whose sender allows it:
//! IPv4 (RFC 791), and IPv6 (RFC 8200, section 4.5) below its least size of
//! 1280 bytes, which no error can make a sender stay under. The tunnel's end is
//! on the packet's source, so it may do what that may.

use crate::checksum::{finish_ipv4, put, word};
use crate::inner::{Fragment, IPV6_HEADER, Inner};

/// The least that every path carries of IPv6, in bytes.
pub const LEAST_V6: usize = 1280;

const MORE: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
const FRAGMENT: u8 = 44;
const FRAGMENT_HEADER: usize = 8;
const MORE_V6: u16 = 1;

/// Cuts the IPv4 packet `packet` into fragments of at most `mtu` bytes; its
/// options, if it has any, are repeated in each. None when not even eight
/// bytes of payload fit.
pub fn split(packet: &[u8], inner: &Inner, mtu: usize) -> Vec<Vec<u8>> {
    let (header, payload) = packet[..inner.total].split_at(usize::from(packet[0] & 0x0f) * 4);
    let size = mtu.saturating_sub(header.len()) / 8 * 8;
    if size == 0 {
        return Vec::new();
    }
    let pieces = payload.len().div_ceil(size);
    payload
        .chunks(size)
        .enumerate()
        .map(|(at, piece)| fragment(header, piece, at * size / 8, at + 1 == pieces))
        .collect()
}

fn fragment(header: &[u8], piece: &[u8], offset: usize, last: bool) -> Vec<u8> {
    let mut fragment = [header, piece].concat();
    let total = fragment.len() as u16;
    put(&mut fragment, 2, total);
    let before = word(&fragment, 6);
    let more = if last { before & MORE } else { MORE };
    put(&mut fragment, 6, more | ((before & OFFSET) + offset as u16));
    finish_ipv4(&mut fragment[..header.len()]);
    fragment
}

/// Cuts the IPv6 packet `packet` into fragments of at most `mtu` bytes, named
/// `identification` unless it is one already; none when it has other headers
/// in front, or not even eight bytes of payload fit.
pub fn split_v6(packet: &[u8], inner: &Inner, mtu: usize, identification: u32) -> Vec<Vec<u8>> {
    let (header, payload) = packet[..inner.total].split_at(IPV6_HEADER);
    let size = mtu.saturating_sub(IPV6_HEADER + FRAGMENT_HEADER) / 8 * 8;
    let (protocol, before, identification, payload) =
        if header[6] == FRAGMENT && payload.len() >= FRAGMENT_HEADER {
            let (old, rest) = payload.split_at(FRAGMENT_HEADER);
            let name = [old[4], old[5], old[6], old[7]];
            (old[0], word(old, 2), name, rest)
        } else if inner.upper == IPV6_HEADER && inner.fragment == Fragment::Whole {
            (header[6], 0, identification.to_be_bytes(), payload)
        } else {
            return Vec::new();
        };
    if size == 0 {
        return Vec::new();
    }
    let pieces = payload.len().div_ceil(size);
    payload
        .chunks(size)
        .enumerate()
        .map(|(at, piece)| {
            let more = if at + 1 == pieces {
                before & MORE_V6
            } else {
                MORE_V6
            };
            let place = (before & !7).wrapping_add((at * size) as u16) | more;
            let mut fragment = header.to_vec();
            put(&mut fragment, 4, (FRAGMENT_HEADER + piece.len()) as u16);
            fragment[6] = FRAGMENT;
            fragment.extend([protocol, 0]);
            fragment.extend(place.to_be_bytes());
            fragment.extend(identification);
            fragment.extend(piece);
            fragment
        })
        .collect()
}
