//! Which capsules of one receive batch travel together in one send.
//!
//! The system segments one large send into datagrams of equal length, of
//! which the last may be shorter. So capsules for the same destination join a
//! group while their lengths allow it, also when capsules for others came in
//! between. Order is kept for each destination, which is all a path promises.

use std::net::SocketAddr;

/// Most datagrams in one send. Source: UDP_MAX_SEGMENTS of older Linux kernels.
const SEGMENTS: usize = 64;
/// Most bytes in one send: below what one IPv4 datagram can hold.
const BYTES: usize = 65_000;

/// A piece of a received message: one capsule, or several of equal length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Which message of the batch.
    pub(crate) message: usize,
    /// First byte in it.
    pub(crate) start: usize,
    /// One past the last byte.
    pub(crate) end: usize,
}

/// What one send carries.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) destination: SocketAddr,
    pub(crate) ecn: u8,
    /// Length of each capsule but the last.
    pub(crate) stride: usize,
    pub(crate) parts: Vec<Part>,
    bytes: usize,
    segments: usize,
    closed: bool,
}

/// The groups of one batch; reused, so that forwarding allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Vec<Group>,
    used: usize,
}

impl Groups {
    /// Adds capsules of `stride` bytes, the last perhaps shorter.
    pub(crate) fn add(&mut self, destination: SocketAddr, ecn: u8, stride: usize, part: Part) {
        let length = part.end - part.start;
        let segments = length.div_ceil(stride);
        let stride = stride.min(length);
        match self.last_toward(destination) {
            Some(group) if group.takes(ecn, stride, length, segments) => {
                group.extend(part, length, segments);
            }
            _ => {
                let group = self.fresh(destination);
                (group.ecn, group.stride) = (ecn, stride);
                group.extend(part, length, segments);
            }
        }
    }

    /// In the order in which they must be sent.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups[..self.used].iter()
    }

    /// Forgets the groups and keeps their memory.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
    }

    fn last_toward(&mut self, destination: SocketAddr) -> Option<&mut Group> {
        self.groups[..self.used]
            .iter_mut()
            .rfind(|group| group.destination == destination)
    }

    fn fresh(&mut self, destination: SocketAddr) -> &mut Group {
        if self.used == self.groups.len() {
            self.groups.push(Group::new(destination));
        }
        let group = &mut self.groups[self.used];
        self.used += 1;
        group.reset(destination);
        group
    }
}

impl Group {
    /// How many datagrams it becomes.
    pub(crate) fn segments(&self) -> usize {
        self.segments
    }

    fn new(destination: SocketAddr) -> Self {
        Self {
            destination,
            ecn: 0,
            stride: 0,
            parts: Vec::new(),
            bytes: 0,
            segments: 0,
            closed: false,
        }
    }

    fn reset(&mut self, destination: SocketAddr) {
        self.destination = destination;
        self.parts.clear();
        (self.bytes, self.segments, self.closed) = (0, 0, false);
    }

    fn takes(&self, ecn: u8, stride: usize, length: usize, segments: usize) -> bool {
        // A shorter capsule alone may still be the last of the group.
        let fits = stride == self.stride || (segments == 1 && length < self.stride);
        fits && !self.closed
            && self.ecn == ecn
            && self.segments + segments <= SEGMENTS
            && self.bytes + length <= BYTES
    }

    fn extend(&mut self, part: Part, length: usize, segments: usize) {
        self.parts.push(part);
        self.bytes += length;
        self.segments += segments;
        self.closed = !length.is_multiple_of(self.stride);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn to(host: u8) -> SocketAddr {
        (Ipv4Addr::new(192, 0, 2, host), 4330).into()
    }

    /// Adds capsules of these lengths, one message each, and shows what each
    /// send would carry.
    fn grouped(capsules: &[(u8, usize)]) -> Vec<(u8, Vec<usize>)> {
        let mut groups = Groups::default();
        for (message, (host, length)) in capsules.iter().enumerate() {
            let part = Part {
                message,
                start: 0,
                end: *length,
            };
            groups.add(to(*host), 0, *length, part);
        }
        groups.iter().map(shown).collect()
    }

    fn shown(group: &Group) -> (u8, Vec<usize>) {
        let host = match group.destination.ip() {
            std::net::IpAddr::V4(v4) => v4.octets()[3],
            std::net::IpAddr::V6(_) => 0,
        };
        (
            host,
            group
                .parts
                .iter()
                .map(|part| part.end - part.start)
                .collect(),
        )
    }

    #[test]
    fn equal_lengths_join_also_across_other_destinations() {
        let sends = grouped(&[(1, 500), (2, 500), (1, 500), (2, 500), (1, 500)]);

        assert_eq!(sends, [(1, vec![500; 3]), (2, vec![500; 2])]);
    }

    #[test]
    fn a_shorter_capsule_is_the_last_of_its_group() {
        let sends = grouped(&[(1, 500), (1, 80), (1, 80), (1, 500)]);

        assert_eq!(sends, [(1, vec![500, 80]), (1, vec![80]), (1, vec![500])]);
    }

    #[test]
    fn another_ecn_mark_starts_another_group() {
        let mut groups = Groups::default();
        for (message, ecn) in [0, 0, 3].into_iter().enumerate() {
            groups.add(
                to(1),
                ecn,
                100,
                Part {
                    message,
                    start: 0,
                    end: 100,
                },
            );
        }

        assert_eq!(
            groups
                .iter()
                .map(|g| (g.ecn, g.segments()))
                .collect::<Vec<_>>(),
            [(0, 2), (3, 1)]
        );
    }

    #[test]
    fn an_offload_batch_with_a_short_end_closes_its_group() {
        let mut groups = Groups::default();
        groups.add(
            to(1),
            0,
            1300,
            Part {
                message: 0,
                start: 0,
                end: 3000,
            },
        );
        groups.add(
            to(1),
            0,
            1300,
            Part {
                message: 1,
                start: 0,
                end: 1300,
            },
        );

        assert_eq!(
            groups.iter().map(Group::segments).collect::<Vec<_>>(),
            [3, 1]
        );
    }

    #[test]
    fn clearing_leaves_nothing_behind() {
        let mut groups = Groups::default();
        groups.add(
            to(1),
            0,
            100,
            Part {
                message: 0,
                start: 0,
                end: 90,
            },
        );
        groups.clear();

        groups.add(
            to(1),
            0,
            100,
            Part {
                message: 0,
                start: 0,
                end: 100,
            },
        );

        assert_eq!(
            groups.iter().map(|group| group.bytes).collect::<Vec<_>>(),
            [100]
        );
    }

    proptest! {
        #[test]
        fn every_capsule_goes_once_in_order_and_every_send_can_be_segmented(
            capsules in prop::collection::vec((0_u8..4, prop_oneof![Just(200), Just(1300), 32..1400_usize]), 0..200),
        ) {
            let mut groups = Groups::default();
            for (message, (host, length)) in capsules.iter().enumerate() {
                groups.add(to(*host), 0, *length, Part { message, start: 0, end: *length });
            }

            for host in 0..4 {
                let sent: Vec<usize> = groups.iter().filter(|g| g.destination == to(host))
                    .flat_map(|g| g.parts.iter().map(|part| part.message)).collect();
                let came: Vec<usize> = capsules.iter().enumerate()
                    .filter(|(_, (h, _))| *h == host).map(|(n, _)| n).collect();
                prop_assert_eq!(sent, came);
            }
            for group in groups.iter() {
                let (_, lengths) = shown(group);
                let (last, others) = lengths.split_last().expect("a group has parts");
                prop_assert!(others.iter().all(|length| *length == group.stride) && *last <= group.stride);
                prop_assert!(group.segments() <= SEGMENTS && group.bytes <= BYTES);
            }
        }
    }
}
