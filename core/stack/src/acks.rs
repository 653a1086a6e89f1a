//! Acknowledgements of much, told to smoltcp in steps.
//!
//! Who takes super-packets acknowledges up to 64 KiB at once. smoltcp 0.14
//! widens its congestion window by one segment for each acknowledgement, so
//! that it would need half a hundred times as many round trips as systems that
//! count bytes (RFC 3465, RFC 9438 section 4.10). So before such an
//! acknowledgement it is given others, one for each segment's worth of it.

use std::net::{IpAddr, Ipv4Addr};

use crate::packet::Pair;

const ACK: u8 = 0x10;
const SYN_FIN_RST: u8 = 0x07;
const IPV4_HEADER: usize = 20;
const TCP_HEADER: usize = 20;
const LENGTH: u8 = (IPV4_HEADER + TCP_HEADER) as u8;
const HOPS: u8 = 64;
const TCP: u8 = 6;
/// A super-packet holds no more segments that are worth one.
const MOST: u32 = 64;

/// What a peer has acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    last: Option<u32>,
}

impl Acks {
    /// Bytes behind what is acknowledged, up to `end`.
    pub(crate) fn flight(&self, end: u32) -> usize {
        let flight = self.last.map_or(0, |last| end.wrapping_sub(last) as i32);
        flight.max(0) as usize
    }

    /// Takes note of a TCP segment that arrived; the numbers to acknowledge
    /// before its own, `step` bytes apart and none beyond `newest`.
    pub(crate) fn note(&mut self, segment: &[u8], step: u32, newest: u32) -> Vec<u32> {
        let Some(number) = acknowledged(segment) else {
            return Vec::new();
        };
        let last = self.last.unwrap_or(number);
        let news = number.wrapping_sub(last) as i32;
        if news < 0 || (newest.wrapping_sub(number) as i32) < 0 {
            return Vec::new();
        }
        self.last = Some(number);
        let count = (news as u32).saturating_sub(1) / step.max(1);
        let step = step.max(news as u32 / MOST);
        (1..=count.min(MOST - 1))
            .map(|at| last.wrapping_add(at * step))
            .take_while(|each| (number.wrapping_sub(*each) as i32) > 0)
            .collect()
    }
}

/// An IPv4 packet to `pair.local` that does nothing but acknowledge; all else
/// is as in `segment`, which acknowledges, too.
pub(crate) fn acknowledgement(segment: &[u8], pair: Pair, number: u32) -> Option<Vec<u8>> {
    let head = segment.first_chunk::<TCP_HEADER>()?;
    let mut packet = Vec::with_capacity(usize::from(LENGTH));
    packet.extend_from_slice(&[0x45, 0, 0, LENGTH, 0, 0, 0, 0, HOPS, TCP, 0, 0]);
    packet.extend_from_slice(&ipv4(pair.remote.ip())?.octets());
    packet.extend_from_slice(&ipv4(pair.local.ip())?.octets());
    packet.extend_from_slice(head);
    let tcp = &mut packet[IPV4_HEADER..];
    tcp[8..12].copy_from_slice(&number.to_be_bytes());
    tcp[12] = (TCP_HEADER as u8 / 4) << 4;
    tcp[13] = ACK;
    Some(packet)
}

/// The number that a segment acknowledges; none where it begins, ends or breaks off.
fn acknowledged(segment: &[u8]) -> Option<u32> {
    let head = segment.first_chunk::<TCP_HEADER>()?;
    let plain = head[13] & (ACK | SYN_FIN_RST) == ACK;
    plain.then(|| u32::from_be_bytes([head[8], head[9], head[10], head[11]]))
}

fn ipv4(host: IpAddr) -> Option<Ipv4Addr> {
    match host {
        IpAddr::V4(host) => Some(host),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(number: u32, flags: u8) -> Vec<u8> {
        let mut segment = vec![0; TCP_HEADER];
        segment[8..12].copy_from_slice(&number.to_be_bytes());
        segment[13] = flags;
        segment
    }

    proptest! {
        #[test]
        fn steps_grow_and_stay_before_the_number_itself(
            first in any::<u32>(), news in 0..2_000_000_u32, step in 0..3000_u32
        ) {
            let mut acks = Acks::default();
            acks.note(&segment(first, ACK), step, first);
            let number = first.wrapping_add(news);
            let steps = acks.note(&segment(number, ACK), step, number);

            prop_assert!(steps.len() < MOST as usize);
            let mut before = 0;
            for each in steps {
                let at = each.wrapping_sub(first);
                prop_assert!(at > before && at < news);
                before = at;
            }
            prop_assert_eq!(acks.flight(number.wrapping_add(9)), 9);
        }
    }

    #[test]
    fn a_segments_worth_at_a_time() {
        let mut acks = Acks::default();
        acks.note(&segment(u32::MAX - 999, ACK), 1000, u32::MAX);

        assert_eq!(acks.note(&segment(2500, ACK), 1000, 2500), [0, 1000, 2000]);
        assert!(acks.note(&segment(3500, ACK), 1000, 3500).is_empty());
    }

    #[test]
    fn what_was_never_sent_and_what_is_old_counts_for_nothing() {
        let mut acks = Acks::default();
        acks.note(&segment(5000, ACK), 1000, 5000);

        assert!(acks.note(&segment(9000, ACK), 1000, 8999).is_empty());
        assert!(acks.note(&segment(1000, ACK), 1000, 9000).is_empty());
        assert!(acks.note(&segment(9000, ACK | 1), 1000, 9000).is_empty());
        assert_eq!(acks.flight(9000), 4000);
    }
}
