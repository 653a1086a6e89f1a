//! Whatever arrives of a super-packet, in whatever pieces, comes out as packets
//! built from scratch, with offload and without.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Mutex;

use ntmobile_capsule::{Super, destination};
use proptest::prelude::*;

use super::*;
use crate::packets::Capability;

#[path = "../../../capsule/tests/builder/mod.rs"]
pub(super) mod builder;

use builder::{Ends, Fragment, Spec, Sums, Tcp, Upper, build};

pub(super) const ADDRESSES: Addresses = Addresses {
    own_v4: [100, 64, 0, 1],
    own_v6: [0xfd; 16],
    peer_v4: [100, 64, 0, 2],
    peer_v6: [0xfc; 16],
};
static NOBODY_ELSE: std::sync::LazyLock<View> = std::sync::LazyLock::new(View::default);
const NO_OFFLOAD: Capability = Capability {
    tcp: false,
    udp: false,
};
pub(super) const OFFLOAD: Capability = Capability {
    tcp: true,
    udp: true,
};
const FIN_AND_PUSH: u8 = 0x09;
const CONGESTION_REDUCED: u8 = 0x80;

/// A device that keeps what it is given.
pub(super) struct Shelf {
    capability: Capability,
    packets: Mutex<Vec<(Left, Vec<u8>)>>,
}

impl Shelf {
    pub(super) fn new(capability: Capability) -> Self {
        Self {
            capability,
            packets: Mutex::default(),
        }
    }

    pub(super) fn into_packets(self) -> Vec<(Left, Vec<u8>)> {
        self.packets.into_inner().expect("not poisoned")
    }
}

impl Packets for Shelf {
    fn capability(&self) -> Capability {
        self.capability
    }

    fn read(&self, _: &mut [u8]) -> io::Result<Option<(Left, Range<usize>)>> {
        Ok(None)
    }

    fn write(&self, left: Left, pieces: [&[u8]; 2]) -> io::Result<()> {
        let packet = pieces.concat();
        assert!(destination(&packet).is_some());
        self.packets
            .lock()
            .expect("not poisoned")
            .push((left, packet));
        Ok(())
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        unreachable!("nothing is read from it")
    }
}

/// A super-packet, its segments' size, which of them arrive, and behind which
/// of them the socket is empty for a moment.
#[derive(Clone, Debug)]
struct Case {
    spec: Spec,
    size: usize,
    arrives: Vec<bool>,
    pauses: Vec<bool>,
}

impl Case {
    fn payload(&self) -> &[u8] {
        match &self.spec.upper {
            Upper::Tcp(tcp) => &tcp.payload,
            Upper::Udp { payload, .. } => payload,
            _ => unreachable!("only TCP and UDP are cut up"),
        }
    }

    fn count(&self) -> usize {
        self.payload().len().div_ceil(self.size)
    }

    fn arrives(&self, index: usize) -> bool {
        self.arrives[index % self.arrives.len()]
    }

    fn pauses(&self, index: usize) -> bool {
        self.pauses[index % self.pauses.len()]
    }

    fn kind(&self) -> Kind {
        match (&self.spec.upper, self.spec.v6) {
            (Upper::Udp { .. }, _) => Kind::Udp,
            (_, true) => Kind::TcpV6,
            (_, false) => Kind::TcpV4,
        }
    }

    /// The capsules' contents, as the other end makes them.
    fn contents(&self) -> Vec<Vec<u8>> {
        let ends = Ends::between(
            &[if self.spec.v6 {
                &[0xfd; 16][..]
            } else {
                &[100, 1, 1, 1]
            }]
            .concat(),
            &[if self.spec.v6 {
                &[0xfe; 16][..]
            } else {
                &[100, 2, 2, 2]
            }]
            .concat(),
        );
        let packet = build(&self.spec, &ends, Sums::Partial);
        let upper = packet.len() - self.payload().len() - self.upper_length();
        let size = self.size as u16;
        let whole = Super::new(&packet, self.kind(), false, upper, size).expect("a super-packet");
        assert_eq!(whole.count(&packet), self.count());
        (0..self.count())
            .map(|index| {
                let mut content = vec![0; whole.stride()];
                let length = whole.write(&packet, index, 7, &mut content);
                content.truncate(length);
                content
            })
            .collect()
    }

    fn upper_length(&self) -> usize {
        match &self.spec.upper {
            Upper::Tcp(tcp) => 20 + tcp.options.len(),
            _ => 8,
        }
    }

    /// Segments `range` as one packet, from scratch.
    fn expected(&self, range: Range<usize>, sums: Sums) -> Vec<u8> {
        let payload = self.payload();
        let bytes = range.start * self.size..payload.len().min(range.end * self.size);
        let upper = match &self.spec.upper {
            Upper::Tcp(tcp) => Upper::Tcp(Tcp {
                sequence: tcp.sequence.wrapping_add(bytes.start as u32),
                flags: self.flags(tcp.flags, &range),
                options: tcp.options.clone(),
                payload: payload[bytes].to_vec(),
            }),
            _ => Upper::Udp {
                checksum: true,
                payload: payload[bytes].to_vec(),
            },
        };
        let identification = self.spec.identification.wrapping_add(range.start as u16);
        let spec = Spec {
            identification,
            upper,
            ..self.spec.clone()
        };
        let ends = if self.spec.v6 {
            Ends::between(&ADDRESSES.peer_v6, &ADDRESSES.own_v6)
        } else {
            Ends::between(&ADDRESSES.peer_v4, &ADDRESSES.own_v4)
        };
        build(&spec, &ends, sums)
    }

    fn flags(&self, flags: u8, range: &Range<usize>) -> u8 {
        let unfinished = if range.end < self.count() {
            FIN_AND_PUSH
        } else {
            0
        };
        let begun = if range.start > 0 {
            CONGESTION_REDUCED
        } else {
            0
        };
        flags & !unfinished & !begun
    }

    /// Feeds what arrives, and returns what the device got.
    fn run(&self, capability: Capability) -> Vec<(Left, Vec<u8>)> {
        let shelf = Shelf::new(capability);
        let counters = Counters::default();
        let sink = Sink {
            packets: Some(&shelf),
            counters: &counters,
        };
        let mut rebuild = Rebuild::default();
        for (index, content) in self.contents().iter().enumerate() {
            if self.arrives(index) {
                rebuild.room()[..content.len()].copy_from_slice(content);
                rebuild.segment(&arrival(content.len()), sink);
            }
            if self.pauses(index) {
                rebuild.finish(sink);
            }
        }
        rebuild.finish(sink);
        assert!(counters.read().iter().all(|(_, count)| *count == 0));
        shelf.into_packets()
    }
}

pub(super) fn arrival(length: usize) -> Arrival<'static> {
    Arrival {
        index: 1,
        addresses: &ADDRESSES,
        view: &NOBODY_ELSE,
        mtu: Some(1400),
        ecn: 0,
        length,
        more: true,
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let payload = || prop::collection::vec(any::<u8>(), 1..5000);
    let upper = prop_oneof![
        (builder::tcp(1), payload()).prop_map(|(tcp, payload)| Upper::Tcp(Tcp { payload, ..tcp })),
        payload().prop_map(|payload| Upper::Udp {
            checksum: true,
            payload
        }),
    ];
    let sizes = prop_oneof![1_usize..100, 500_usize..1500];
    let flags = || prop::collection::vec(prop::bool::weighted(0.85), 7);
    let rare = prop::collection::vec(prop::bool::weighted(0.1), 5);
    (any::<(bool, u8, u16)>(), upper, sizes, flags(), rare).prop_map(
        |((v6, class, identification), upper, size, arrives, pauses)| Case {
            spec: Spec {
                v6,
                class,
                identification,
                options: false,
                fragment: Fragment::Whole,
                upper,
            },
            size,
            arrives,
            pauses,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_device_without_offload_gets_each_segment_as_if_it_had_been_sent_alone(case in cases()) {
        let got = case.run(NO_OFFLOAD);

        let expected: Vec<_> = (0..case.count())
            .filter(|index| case.arrives(*index))
            .map(|index| (Left::Nothing, case.expected(index..index + 1, Sums::Full)))
            .collect();
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn a_device_with_offload_gets_super_packets_of_what_came_in_a_row(case in cases()) {
        let got = case.run(OFFLOAD);

        let mut rows = got.iter();
        let mut index = 0;
        while index < case.count() {
            let row = (index..case.count())
                .take_while(|&at| case.arrives(at) && (at == index || !case.pauses(at - 1)))
                .count();
            if row == 0 {
                index += 1;
                continue;
            }
            let (left, packet) = rows.next().expect("one for each row");
            prop_assert_eq!(packet, &case.expected(index..index + row, Sums::Partial));
            prop_assert_eq!(matches!(left, Left::Segments(_)), row > 1);
            prop_assert_ne!(*left, Left::Nothing);
            index += row;
        }
        prop_assert_eq!(rows.next(), None);
    }

    #[test]
    fn no_content_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), mut content in cases().prop_map(|case| case.contents().swap_remove(0)), at: usize, value: u8) {
        let counters = Counters::default();
        let sink = Sink { packets: None, counters: &counters };
        let mut rebuild = Rebuild::default();
        let at = at % content.len();
        content[at] = value;

        for content in [bytes, content] {
            rebuild.room()[..content.len()].copy_from_slice(&content);
            rebuild.segment(&arrival(content.len()), sink);
            rebuild.room()[..content.len()].copy_from_slice(&content);
            rebuild.plain(&arrival(content.len()), true, sink);
        }
        rebuild.finish(sink);
    }
}
