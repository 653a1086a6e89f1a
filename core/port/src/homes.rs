//! At which of this machine's addresses each peer asks: a NAT drops an answer
//! that leaves from another one.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The local address that each peer's newest datagram came to.
///
/// Bounded: two generations of at most `most` peers each. A peer that says
/// nothing while a whole generation fills is forgotten.
#[derive(Debug)]
pub struct Homes {
    most: usize,
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<SocketAddr, IpAddr>,
    old: HashMap<SocketAddr, IpAddr>,
}

impl Homes {
    /// Remembers at least the last `most` peers (at least one) and at most twice as many.
    pub fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            generations: Mutex::default(),
        }
    }

    /// A datagram of `peer` came to `local`.
    pub fn note(&self, peer: SocketAddr, local: IpAddr) {
        let mut generations = self.lock();
        if generations.young.len() >= self.most && !generations.young.contains_key(&peer) {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(peer, local);
    }

    /// Where `peer` was last heard at, if that is still known.
    pub fn of(&self, peer: SocketAddr) -> Option<IpAddr> {
        let Generations { young, old } = &*self.lock();
        young.get(&peer).or_else(|| old.get(&peer)).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
    const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 11));

    fn peer(number: u16) -> SocketAddr {
        (Ipv4Addr::new(192, 0, 2, 1), number).into()
    }

    #[test]
    fn the_newest_datagram_decides() {
        let homes = Homes::new(8);

        homes.note(peer(1), FIRST);
        homes.note(peer(1), SECOND);

        assert_eq!(homes.of(peer(1)), Some(SECOND));
        assert_eq!(homes.of(peer(2)), None);
    }

    #[test]
    fn a_flood_of_strangers_forgets_the_silent_and_grows_no_further() {
        let homes = Homes::new(10);
        homes.note(peer(1), FIRST);
        homes.note(peer(2), FIRST);

        for stranger in 100..150 {
            homes.note(peer(stranger), SECOND);
            homes.note(peer(1), FIRST);
        }

        let held = {
            let generations = homes.lock();
            generations.young.len() + generations.old.len()
        };
        assert_eq!(homes.of(peer(1)), Some(FIRST));
        assert_eq!(homes.of(peer(2)), None);
        assert!(held <= 20);
    }
}
