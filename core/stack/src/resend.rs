//! A segment that leaves again, made from the packet in which it left first.

use ntmobile_capsule::Inner;
use ntmobile_capsule::checksum::{finish_ipv4, pseudo, put};
use ntmobile_tunnel::Left;

use crate::wire::Leaving;

const TCP: u8 = 6;
const IPV6_HEADER: usize = 40;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CHECKSUM: usize = 16;

/// A segment that left, or leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// From its number to the one behind it.
    pub range: [u32; 2],
    /// What it acknowledges, and its window.
    pub answer: (u32, u16),
    pub flags: u8,
    /// Where TCP begins, and where the payload.
    pub upper: usize,
    pub payload: usize,
}

impl Said {
    /// None when `packet` is no TCP segment.
    pub(crate) fn parse(packet: &[u8]) -> Option<Self> {
        let inner = Inner::parse(packet).ok()?;
        let segment = &packet[inner.upper..inner.total];
        let head = segment.first_chunk::<20>()?;
        let number =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let payload = usize::from(head[12] >> 4) * 4;
        let fin = u32::from(head[13] & FIN != 0);
        let length = segment.len().checked_sub(payload)? as u32 + fin;
        (inner.protocol == TCP).then_some(Self {
            range: [number(4), number(4).wrapping_add(length)],
            answer: (number(8), u16::from_be_bytes([head[14], head[15]])),
            flags: head[13],
            upper: inner.upper,
            payload: inner.upper + payload,
        })
    }
}

/// What of `packet` has the numbers from `start` to `end`, with another acknowledgement and
/// window; the checksum is left to who seals it.
pub(crate) fn again(packet: &[u8], [start, end]: [u32; 2], answer: (u32, u16)) -> Option<Leaving> {
    let mut said = Said::parse(packet)?;
    let fin = usize::from(end == said.range[1] && said.flags & FIN != 0);
    if end != said.range[1] {
        said.flags &= !(FIN | PSH);
    }
    let from = said.payload + start.wrapping_sub(said.range[0]) as usize;
    let to = from + (end.wrapping_sub(start) as usize).checked_sub(fin)?;
    said.range = [start, end];
    said.answer = answer;
    said.write(packet, packet.get(from..to)?)
}

/// The same segment without what it carries: it only acknowledges, and has the number `next`.
pub(crate) fn bare(packet: &[u8], next: u32) -> Option<Leaving> {
    let mut said = Said::parse(packet)?;
    said.flags &= !(FIN | PSH);
    said.range = [next; 2];
    said.write(packet, &[])
}

impl Said {
    /// A packet like `packet` that says this.
    fn write(&self, packet: &[u8], payload: &[u8]) -> Option<Leaving> {
        let mut bytes = [packet.get(..self.payload)?, payload].concat();
        let total = bytes.len();
        let length = total - self.upper;
        let addresses = if self.upper == IPV6_HEADER {
            put(&mut bytes, 4, length as u16);
            8..40
        } else {
            put(&mut bytes, 2, total as u16);
            finish_ipv4(&mut bytes[..self.upper]);
            12..20
        };
        let sum = pseudo(&bytes[addresses], TCP, length).fold();
        let (number, window) = self.answer;
        let tcp = &mut bytes[self.upper..];
        tcp[4..8].copy_from_slice(&self.range[0].to_be_bytes());
        tcp[8..12].copy_from_slice(&number.to_be_bytes());
        tcp[13] = self.flags;
        put(tcp, 14, window);
        put(tcp, CHECKSUM, sum);
        let left = Left::Checksum {
            start: self.upper as u16,
            offset: CHECKSUM as u16,
        };
        Some(Leaving::new(bytes, left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ntmobile_capsule::checksum::{Sum, finish_at};

    const ANSWER: (u32, u16) = (77, 88);

    /// 100 bytes from the number `u32::MAX - 9` on, and FIN.
    fn packet(upper: usize) -> Vec<u8> {
        let mut packet = vec![0; upper + 20];
        if upper == IPV6_HEADER {
            packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 120, TCP, 64]);
            packet[8] = 0xfd;
            packet[23] = 1;
            packet[24] = 0xfd;
            packet[39] = 2;
        } else {
            packet[..12].copy_from_slice(&[0x45, 0, 0, 140, 0, 0, 0, 0, 64, TCP, 0, 0]);
            packet[12..20].copy_from_slice(&[100, 64, 0, 1, 100, 64, 0, 2]);
        }
        packet[upper + 4..upper + 8].copy_from_slice(&(u32::MAX - 9).to_be_bytes());
        packet[upper + 12] = 5 << 4;
        packet[upper + 13] = 0x10 | PSH | FIN;
        packet.extend(0..100);
        packet
    }

    #[test]
    fn a_part_has_its_own_numbers_bytes_length_and_checksums() {
        for upper in [20, IPV6_HEADER] {
            let part = again(&packet(upper), [10, 30], ANSWER).expect("it lies in it");

            let said = Said::parse(&part.bytes).expect("a segment");
            assert_eq!((said.range, said.answer), ([10, 30], ANSWER));
            assert_eq!(said.flags, 0x10);
            assert_eq!(part.bytes[said.payload..], (20..40).collect::<Vec<u8>>());
            let mut bytes = part.bytes.to_vec();
            finish_at(&mut bytes, upper, CHECKSUM);
            let addresses = if upper == 20 { 12..20 } else { 8..40 };
            let sum = pseudo(&bytes[addresses], TCP, 40).with(&bytes[upper..]);
            assert_eq!(sum.fold(), 0xffff);
            if upper == 20 {
                assert_eq!(Sum::default().with(&bytes[..20]).fold(), 0xffff);
            }
        }
    }

    #[test]
    fn the_last_part_ends_the_stream() {
        let part = again(&packet(20), [80, 91], ANSWER).expect("it lies in it");

        let said = Said::parse(&part.bytes).expect("a segment");
        assert_eq!((said.range, said.flags), ([80, 91], 0x10 | PSH | FIN));
        assert_eq!(part.bytes[40..], (90..100).collect::<Vec<u8>>());
    }

    #[test]
    fn without_what_it_carries_it_only_acknowledges() {
        let bare = bare(&packet(40), 91).expect("a segment");

        let said = Said::parse(&bare.bytes).expect("a segment");
        assert_eq!((said.range, said.flags), ([91, 91], 0x10));
        assert_eq!(bare.bytes.len(), 60);
    }

    #[test]
    fn what_does_not_lie_in_it_cannot_leave() {
        assert!(again(&packet(20), [80, 92], ANSWER).is_none());
    }
}
