//! Packets that came one by one leave as super-packets that a kernel would cut
//! into just those packets.

use proptest::prelude::*;

use super::tests::builder::{Ends, Fragment, Spec, Sums, Tcp, Upper, build, sum};
use super::tests::{ADDRESSES, OFFLOAD, Shelf, arrival};
use super::*;

const ACK: u8 = 0x10;
const PUSH: u8 = 0x08;

/// Packets of one flow.
#[derive(Clone, Debug)]
struct Stream {
    v6: bool,
    tcp: bool,
    /// Their checksums are left to offload.
    partial: bool,
    identification: u16,
    sequence: u32,
    packets: Vec<Part>,
}

#[derive(Clone, Debug)]
struct Part {
    payload: Vec<u8>,
    push: bool,
    /// Bytes, or numbers, are missing in front of it.
    gap: bool,
    /// Its checksum is wrong.
    wrong: bool,
}

impl Stream {
    fn sums(&self) -> Sums {
        if self.partial {
            Sums::Partial
        } else {
            Sums::Full
        }
    }

    /// Packets `range` as one, from scratch.
    fn build(&self, range: Range<usize>, ends: &Ends, sums: Sums) -> Vec<u8> {
        let before = |part: &Part| part.payload.len() + usize::from(part.gap) * 1000;
        let first = &self.packets[range.start];
        let skipped: usize = self.packets[..range.start].iter().map(before).sum();
        let gaps = self.packets[..=range.start].iter().filter(|part| part.gap);
        let jumps = gaps.count() * 7;
        let parts = &self.packets[range.clone()];
        let payload = parts.iter().flat_map(|part| part.payload.clone()).collect();
        let push = parts.last().is_some_and(|part| part.push);
        let sequence = skipped + usize::from(first.gap) * 1000;
        let upper = if self.tcp {
            Upper::Tcp(Tcp {
                sequence: self.sequence.wrapping_add(sequence as u32),
                flags: ACK | if push { PUSH } else { 0 },
                options: vec![1; 12],
                payload,
            })
        } else {
            Upper::Udp {
                checksum: true,
                payload,
            }
        };
        let identification = self
            .identification
            .wrapping_add((range.start + jumps) as u16);
        let spec = Spec {
            v6: self.v6,
            class: 0,
            identification,
            options: false,
            fragment: Fragment::Whole,
            upper,
        };
        let mut packet = build(&spec, ends, sums);
        if !self.v6 {
            // May be cut, so that the identification counts.
            packet[6] = 0;
            packet[10..12].fill(0);
            let checksum = !sum(&packet[..20]);
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        packet
    }

    fn arriving(&self, index: usize) -> Vec<u8> {
        let (a, b) = if self.v6 {
            (vec![0xfd; 16], vec![0xfe; 16])
        } else {
            (vec![100, 9, 9, 9], vec![100, 8, 8, 8])
        };
        let mut packet = self.build(index..index + 1, &Ends::between(&a, &b), self.sums());
        if self.is_wrong(index) {
            let last = packet.len() - 1;
            packet[last] ^= 0x55;
        }
        packet
    }

    /// A checksum left to offload cannot be wrong.
    fn is_wrong(&self, index: usize) -> bool {
        self.packets[index].wrong && !self.partial
    }

    fn stamped(&self, range: Range<usize>, sums: Sums) -> Vec<u8> {
        let ends = if self.v6 {
            Ends::between(&ADDRESSES.peer_v6, &ADDRESSES.own_v6)
        } else {
            Ends::between(&ADDRESSES.peer_v4, &ADDRESSES.own_v4)
        };
        self.build(range, &ends, sums)
    }

    fn run(&self) -> Vec<(Left, Vec<u8>)> {
        let shelf = Shelf::new(OFFLOAD);
        let counters = Counters::default();
        let sink = Sink {
            packets: Some(&shelf),
            counters: &counters,
        };
        let mut rebuild = Rebuild::default();
        for index in 0..self.packets.len() {
            let content = self.arriving(index);
            rebuild.room()[..content.len()].copy_from_slice(&content);
            rebuild.plain(&arrival(content.len()), self.partial, sink);
        }
        rebuild.finish(sink);
        shelf.into_packets()
    }

    fn headers(&self) -> usize {
        (if self.v6 { 40 } else { 20 }) + if self.tcp { 32 } else { 8 }
    }
}

fn streams(rare: f64) -> impl Strategy<Value = Stream> {
    let flag = move || prop::bool::weighted(rare);
    let size = prop_oneof![9 => Just(500_usize), 1 => 1_usize..500];
    let part =
        (size, any::<u8>(), flag(), flag(), flag()).prop_map(|(size, byte, push, gap, wrong)| {
            Part {
                payload: vec![byte; size],
                push,
                gap,
                wrong,
            }
        });
    let packets = prop::collection::vec(part, 1..150);
    (any::<[bool; 3]>(), any::<u16>(), any::<u32>(), packets).prop_map(
        |([v6, tcp, partial], identification, sequence, packets)| Stream {
            v6,
            tcp,
            partial,
            identification,
            sequence,
            packets,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_super_packet_is_what_its_packets_make_up(stream in streams(0.05)) {
        let mut at = 0;
        for (left, packet) in stream.run() {
            let mut payload = packet.len() - stream.headers();
            let mut to = at;
            while payload > 0 {
                payload -= stream.packets[to].payload.len();
                to += 1;
            }
            match left {
                Left::Segments(whole) => {
                    prop_assert_eq!(&packet, &stream.stamped(at..to, Sums::Partial));
                    let parts = &stream.packets[at..to];
                    let (last, full) = parts.split_last().expect("not empty");
                    prop_assert!(full.iter().all(|part| part.payload.len() == usize::from(whole.size)));
                    prop_assert!(last.payload.len() <= usize::from(whole.size));
                    let joined = stream.packets[at + 1..to].iter();
                    prop_assert!(!joined.clone().any(|part| part.gap && stream.tcp));
                    prop_assert!(!(at..to).any(|index| stream.is_wrong(index)));
                    prop_assert!(!full.iter().any(|part| part.push && stream.tcp));
                }
                Left::Checksum { .. } => {
                    prop_assert_eq!(to - at, 1);
                    prop_assert_eq!(&packet, &stream.stamped(at..to, Sums::Partial));
                }
                Left::Nothing => {
                    prop_assert_eq!(to - at, 1);
                    prop_assert!(stream.is_wrong(at));
                }
            }
            at = to;
        }
        prop_assert_eq!(at, stream.packets.len());
    }

    #[test]
    fn a_steady_stream_makes_few_super_packets(stream in streams(0.0), count in 1_usize..150) {
        let part = Part { payload: vec![3; 500], push: false, gap: false, wrong: false };
        let steady = Stream { packets: vec![part; count], ..stream };

        prop_assert_eq!(steady.run().len(), count.div_ceil(64));
    }
}
