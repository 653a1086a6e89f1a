//! IPv4 fragmentation (RFC 791), for packets above the tunnel's size whose
//! sender allows it.

use crate::checksum::{finish_ipv4, put, word};
use crate::inner::Inner;

const MORE: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

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
