//! Congestion marks of the path, handed to the inner packet: RFC 6040.

use crate::checksum::update;
use crate::inner::Dropped;

const NOT_CAPABLE: u8 = 0;
const ECT_1: u8 = 1;
const CONGESTED: u8 = 3;

/// The ECN bits of `packet`, an IPv4 or IPv6 packet of at least 20 bytes.
pub fn of(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 6 {
        packet[1] >> 4 & 3
    } else {
        packet[1] & 3
    }
}

/// Combines the outer header's ECN bits into `packet` (RFC 6040, Fig. 4).
pub fn decapsulate(packet: &mut [u8], outer: u8) -> Result<(), Dropped> {
    let inner = of(packet);
    match (inner, outer) {
        (NOT_CAPABLE, CONGESTED) => Err(Dropped::Congestion),
        (NOT_CAPABLE | CONGESTED, _) => Ok(()),
        (_, CONGESTED) | (_, ECT_1) if inner != outer => {
            set(packet, outer);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn set(packet: &mut [u8], ecn: u8) {
    if packet[0] >> 4 == 6 {
        packet[1] = packet[1] & !0x30 | ecn << 4;
        return;
    }
    let before = [packet[0], packet[1]];
    packet[1] = packet[1] & !3 | ecn;
    let after = [packet[0], packet[1]];
    update(packet, 10, &before, &after);
}
