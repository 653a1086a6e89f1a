//! Lowers the MSS that a TCP SYN offers, so that no segment outgrows the
//! tunnel, even towards a host that ignores ICMP.

use crate::checksum::{put, update, word};
use crate::inner::{Fragment, Inner, TCP};
use crate::stamp::Checksum;

const SYN: u8 = 0x02;
const TCP_HEADER: usize = 20;
const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;

/// Lowers the MSS of `packet`, if it is a SYN, to what `mtu` bytes allow.
pub fn clamp(packet: &mut [u8], inner: &Inner, mtu: usize, checksum: Checksum) {
    let Some(at) = offered(packet, inner) else {
        return;
    };
    let headers = TCP_HEADER + if inner.v6 { 40 } else { 20 };
    let most = u16::try_from(mtu.saturating_sub(headers)).unwrap_or(u16::MAX);
    if word(packet, at) <= most {
        return;
    }
    // The option may begin at an odd offset: sum the aligned words around it.
    let from = at - (at - inner.upper) % 2;
    let to = from + if from == at { 2 } else { 4 };
    let mut before = [0; 4];
    before[..to - from].copy_from_slice(&packet[from..to]);
    put(packet, at, most);
    if checksum == Checksum::Full {
        let mut after = [0; 4];
        after[..to - from].copy_from_slice(&packet[from..to]);
        update(packet, inner.upper + 16, &before, &after);
    }
}

/// Where the MSS value of a SYN lies.
fn offered(packet: &[u8], inner: &Inner) -> Option<usize> {
    if inner.protocol != TCP || inner.fragment != Fragment::Whole {
        return None;
    }
    let header = packet.get(inner.upper..inner.upper + TCP_HEADER)?;
    if header[13] & SYN == 0 {
        return None;
    }
    let end = inner.upper + usize::from(header[12] >> 4) * 4;
    let mut at = inner.upper + TCP_HEADER;
    while at + 4 <= end.min(packet.len()) {
        at += match (packet[at], usize::from(packet[at + 1])) {
            (END, _) => return None,
            (NOTHING, _) => 1,
            (MSS, 4) => return Some(at + 2),
            (_, length) => length.max(2),
        };
    }
    None
}
