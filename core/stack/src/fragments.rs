//! Datagrams in several packets: cut when they leave, put together when they
//! arrive. Source: RFC 791 section 3.2, RFC 8200 section 4.5, RFC 5722.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ntmobile_capsule::checksum::{finish_ipv4, put, word};
use ntmobile_capsule::{Inner, split, split_v6};
use smoltcp::time::{Duration, Instant};

use crate::packet::host;

/// RFC 8200 section 4.5.
const PATIENCE: Duration = Duration::from_secs(60);
/// Payload of all that is waited for, and the datagrams: beyond that the oldest are lost.
const MOST_BYTES: usize = 1 << 20;
const MOST: usize = 64;
const LONGEST: usize = 65_535;
const IPV6_HEADER: usize = 40;
const FRAGMENT_HEADER: usize = 8;
const FRAGMENT: u8 = 44;
const MORE_V4: u16 = 0x2000;
const OFFSET_V4: u16 = 0x1fff;

/// Whose part a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    ends: [IpAddr; 2],
    number: u32,
    protocol: u8,
}

struct Part {
    key: Key,
    at: usize,
    last: bool,
    payload: Vec<u8>,
    /// What stands before the payload in the whole packet.
    head: Vec<u8>,
}

struct Partial {
    until: Instant,
    /// Of the first fragment.
    head: Option<Vec<u8>>,
    parts: BTreeMap<usize, Vec<u8>>,
    end: Option<usize>,
    bytes: usize,
}

/// What was heard of datagrams that are not whole yet.
#[derive(Default)]
pub(crate) struct Reassembly {
    waiting: HashMap<Key, Partial>,
    bytes: usize,
}

impl Reassembly {
    /// Takes a fragment that [`Inner`] knows as one; the whole packet with the last of them.
    pub(crate) fn put(&mut self, packet: &[u8], now: Instant) -> Option<Vec<u8>> {
        let part = parse(packet)?;
        self.expire(now);
        let key = part.key;
        let partial = self.waiting.entry(key).or_insert_with(|| Partial {
            until: now + PATIENCE,
            head: None,
            parts: BTreeMap::new(),
            end: None,
            bytes: 0,
        });
        let before = partial.bytes;
        let fits = partial.add(part);
        self.bytes += partial.bytes - before;
        let whole = if fits { partial.whole() } else { None };
        if whole.is_some() || !fits {
            self.forget(key);
        }
        while self.bytes > MOST_BYTES || self.waiting.len() > MOST {
            self.forget_oldest();
        }
        whole
    }

    fn expire(&mut self, now: Instant) {
        let over = |partial: &Partial| partial.until <= now;
        while let Some(key) = self.waiting.iter().find_map(|(k, p)| over(p).then_some(*k)) {
            self.forget(key);
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.waiting.iter().min_by_key(|(_, partial)| partial.until);
        if let Some(key) = oldest.map(|(key, _)| *key) {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: Key) {
        self.bytes -= self.waiting.remove(&key).map_or(0, |gone| gone.bytes);
    }
}

impl Partial {
    /// False when it contradicts what is there: then nothing of it is believed.
    fn add(&mut self, part: Part) -> bool {
        let (at, end) = (part.at, part.at + part.payload.len());
        if self.parts.get(&at) == Some(&part.payload) {
            return true;
        }
        let overlaps = |(start, piece): (&usize, &Vec<u8>)| start + piece.len() > at;
        let behind_end = self.end.is_some_and(|known| end > known || part.last);
        if behind_end || self.parts.range(..end).next_back().is_some_and(overlaps) {
            return false;
        }
        if part.last {
            if self.parts.range(end..).next().is_some() {
                return false;
            }
            self.end = Some(end);
        }
        if at == 0 {
            self.head = Some(part.head);
        }
        self.bytes += part.payload.len();
        self.parts.insert(at, part.payload);
        true
    }

    fn whole(&mut self) -> Option<Vec<u8>> {
        // No part overlaps another: they are all there when they are as long as the whole.
        if self.end != Some(self.bytes) {
            return None;
        }
        let mut packet = self.head.take()?;
        self.parts
            .values()
            .for_each(|part| packet.extend_from_slice(part));
        finish(&mut packet);
        Some(packet)
    }
}

/// Cuts the whole packet of a datagram into such of at most `mtu` bytes.
pub(crate) fn cut(mut packet: Vec<u8>, mtu: usize, number: u32) -> Vec<Vec<u8>> {
    if packet.len() <= mtu {
        return vec![packet];
    }
    let v6 = packet[0] >> 4 == 6;
    if !v6 {
        put(&mut packet, 4, number as u16);
        // It may be cut: not "don't fragment".
        put(&mut packet, 6, 0);
        finish_ipv4(&mut packet[..20]);
    }
    match Inner::parse(&packet) {
        Ok(inner) if v6 => split_v6(&packet, &inner, mtu, number),
        Ok(inner) => split(&packet, &inner, mtu),
        Err(_) => Vec::new(),
    }
}

/// Writes the lengths of a packet that is whole again.
fn finish(packet: &mut [u8]) {
    let length = packet.len();
    if packet[0] >> 4 == 6 {
        put(packet, 4, (length - IPV6_HEADER) as u16);
    } else {
        put(packet, 2, length as u16);
        put(packet, 6, 0);
        let header = usize::from(packet[0] & 0x0f) * 4;
        finish_ipv4(&mut packet[..header]);
    }
}

/// None when it is no fragment, or a malformed one.
fn parse(packet: &[u8]) -> Option<Part> {
    let inner = Inner::parse(packet).ok()?;
    let part = if inner.v6 {
        parse_v6(&packet[..inner.total])?
    } else {
        parse_v4(&packet[..inner.total])?
    };
    let length = part.payload.len();
    let right = length > 0 && (part.last || length.is_multiple_of(8));
    (right && part.head.len() + part.at + length <= LONGEST).then_some(part)
}

fn parse_v4(packet: &[u8]) -> Option<Part> {
    let (head, payload) = packet.split_at_checked(usize::from(packet[0] & 0x0f) * 4)?;
    let place = word(packet, 6);
    Some(Part {
        key: Key {
            ends: [host(&packet[12..16])?, host(&packet[16..20])?],
            number: u32::from(word(packet, 4)),
            protocol: packet[9],
        },
        at: usize::from(place & OFFSET_V4) * 8,
        last: place & MORE_V4 == 0,
        payload: payload.to_vec(),
        head: head.to_vec(),
    })
}

fn parse_v6(packet: &[u8]) -> Option<Part> {
    let (mut named, mut at) = (6, IPV6_HEADER);
    // Each header makes the rest shorter, so this ends.
    while packet[named] != FRAGMENT {
        let length = usize::from(*packet.get(at + 1)?);
        (named, at) = (at, at + 8 + length * 8);
    }
    let (before, rest) = packet.split_at_checked(at)?;
    let (header, payload) = rest.split_first_chunk::<FRAGMENT_HEADER>()?;
    let [protocol, _, place @ .., n0, n1, n2, n3] = *header;
    let place = u16::from_be_bytes(place);
    let mut head = before.to_vec();
    head[named] = protocol;
    Some(Part {
        key: Key {
            ends: [host(&packet[8..24])?, host(&packet[24..40])?],
            number: u32::from_be_bytes([n0, n1, n2, n3]),
            protocol,
        },
        at: usize::from(place & !7),
        last: place & 1 == 0,
        payload: payload.to_vec(),
        head,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Instant = Instant::ZERO;

    fn datagram(v6: bool, length: usize) -> Vec<u8> {
        let payload = (0..length).map(|at| (at / 7) as u8);
        let mut head = if v6 {
            let mut head = vec![0x60, 0, 0, 0, 0, 0, 17, 64];
            head.extend([0xfd; 16]);
            head.extend([0xfc; 16]);
            head
        } else {
            vec![
                0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 100, 64, 0, 1, 100, 64, 0, 2,
            ]
        };
        head.extend(payload);
        finish(&mut head);
        head
    }

    fn all(reassembly: &mut Reassembly, fragments: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let whole = |fragment: &Vec<u8>| reassembly.put(fragment, NOW);
        fragments.iter().filter_map(whole).collect()
    }

    proptest! {
        #[test]
        fn in_whatever_order_they_come_the_datagram_is_whole(
            v6 in any::<bool>(),
            length in 9000..60_000_usize,
            mtu in 1280..9000_usize,
            order in any::<u64>(),
        ) {
            let packet = datagram(v6, length);
            let mut fragments = cut(packet.clone(), mtu, 7);
            fragments.iter().for_each(|each| assert!(each.len() <= mtu));
            let count = fragments.len();
            for at in (1..count).rev() {
                fragments.swap(at, (order.rotate_left(at as u32) % (at as u64 + 1)) as usize);
            }
            let mut reassembly = Reassembly::default();
            let mut got = all(&mut reassembly, &fragments);
            prop_assert_eq!(got.len(), 1);
            if !v6 {
                // The whole keeps the number of its parts.
                put(&mut got[0], 4, 0);
                finish_ipv4(&mut got[0][..20]);
            }
            prop_assert!(got[0] == packet);
            prop_assert_eq!((reassembly.bytes, reassembly.waiting.len()), (0, 0));
        }

        #[test]
        fn nonsense_is_bounded_and_harmless(
            pieces in prop::collection::vec((any::<[u8; 8]>(), 0..200_usize), 0..300)
        ) {
            let mut reassembly = Reassembly::default();
            for (bytes, length) in pieces {
                let mut packet = datagram(bytes[0] & 1 == 1, length);
                packet[4..8].copy_from_slice(&bytes[..4]);
                if bytes[0] & 2 == 2 {
                    packet[6] = FRAGMENT;
                }
                reassembly.put(&packet, NOW);
                prop_assert!(reassembly.waiting.len() <= MOST);
            }
        }
    }

    #[test]
    fn one_that_is_missing_keeps_the_rest_waiting_for_a_minute() {
        for v6 in [false, true] {
            let fragments = cut(datagram(v6, 4000), 1280, 7);
            let mut reassembly = Reassembly::default();
            assert!(all(&mut reassembly, &fragments[1..]).is_empty());

            assert!(reassembly.put(&fragments[0], NOW + PATIENCE).is_none());
        }
    }

    #[test]
    fn the_same_twice_is_heard_once() {
        for v6 in [false, true] {
            let fragments = cut(datagram(v6, 3000), 1280, 7);
            let doubled = [&fragments[..2], &fragments].concat();

            assert_eq!(all(&mut Reassembly::default(), &doubled).len(), 1);
        }
    }

    #[test]
    fn parts_that_overlap_are_believed_by_nobody() {
        for v6 in [false, true] {
            let packet = datagram(v6, 4000);
            let [wide, narrow] = [1480, 1280].map(|mtu| cut(packet.clone(), mtu, 7));
            let mixed = [&narrow[..1], &wide[1..]].concat();

            assert!(all(&mut Reassembly::default(), &mixed).is_empty());
        }
    }

    #[test]
    fn a_flood_of_beginnings_costs_the_oldest() {
        let mut reassembly = Reassembly::default();
        let first = cut(datagram(true, 4000), 1280, 1);
        reassembly.put(&first[0], NOW);
        for number in 2..200 {
            let other = cut(datagram(true, 4000), 1280, number);
            reassembly.put(&other[0], NOW + Duration::from_secs(1));
            assert!(reassembly.waiting.len() <= MOST && reassembly.bytes <= MOST_BYTES);
        }

        assert!(all(&mut reassembly, &first[1..]).is_empty());
    }
}
