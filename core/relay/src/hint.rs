//! The hint to who sends capsules that nothing is bound for: a relay that has
//! restarted, or an address that a NAT has changed, shows at once that way.
//!
//! Layout and meaning: `wire/hint.py`; docs/protocol.md section 8.

use std::hash::BuildHasher;
use std::net::IpAddr;

/// Length of a hint: shorter than any capsule, so nobody gains by a forged source.
pub(crate) const LENGTH: usize = 12;

const KIND: u8 = 0x07;
const VERSION: u8 = 1;
const INDEX: u8 = 1;
/// Hosts whose last hint is remembered; those that share a place share its rate.
const PLACES: usize = 1024;
/// Shortest time between two hints to one place, in nanoseconds.
const EVERY_NS: u64 = 5_000_000;

/// When each host was told last.
pub(crate) struct Hints {
    next_ns: Box<[u64]>,
    hasher: foldhash::quality::RandomState,
}

impl Default for Hints {
    fn default() -> Self {
        Self {
            next_ns: vec![0; PLACES].into_boxed_slice(),
            hasher: foldhash::quality::RandomState::default(),
        }
    }
}

impl Hints {
    /// Whether a hint to `host` may go now.
    pub(crate) fn admit(&mut self, host: IpAddr, now_ns: u64) -> bool {
        let place = self.hasher.hash_one(host) as usize % PLACES;
        let next_ns = &mut self.next_ns[place];
        let admitted = now_ns >= *next_ns;
        if admitted {
            *next_ns = now_ns + EVERY_NS;
        }
        admitted
    }
}

/// No capsule of this index from there is forwarded.
pub(crate) fn hint(index: u32) -> [u8; LENGTH] {
    let [a, b, c, d] = index.to_be_bytes();
    [KIND, VERSION, INDEX, 0, 0, 0, 0, 0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::capsule::SHORTEST;

    const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn a_hint_has_these_bytes_and_is_shorter_than_any_capsule() {
        let expected = [7, 1, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4];

        assert_eq!(hint(0x0102_0304), expected);
        const { assert!(LENGTH < SHORTEST) };
    }

    #[test]
    fn a_host_is_told_again_only_after_a_while() {
        let mut hints = Hints::default();

        let told = [1, 2, EVERY_NS, EVERY_NS + 1].map(|now| hints.admit(HOST, now));

        assert_eq!(told, [true, false, false, true]);
    }

    #[test]
    fn however_many_hosts_ask_no_more_are_told_than_there_are_places() {
        let mut hints = Hints::default();

        let hosts = (0..100_000_u32).map(|host| IpAddr::from(host.to_be_bytes()));
        let told = hosts.filter(|host| hints.admit(*host, 1)).count();

        assert!((PLACES / 2..=PLACES).contains(&told));
    }
}
