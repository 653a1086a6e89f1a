//! Packets whose tunnel is not there yet. Source: docs/protocol.md section 5.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::packets::Left;

const SECOND_NS: u64 = 1_000_000_000;
/// Packets that wait for one destination.
const MOST_PACKETS: usize = 64;
/// Destinations that packets wait for.
const MOST_DESTINATIONS: usize = 1024;
/// Bytes that wait in all.
const MOST_BYTES: usize = 32 << 20;
/// How long a packet waits.
const PATIENCE_NS: u64 = 30 * SECOND_NS;
/// How often a destination is asked for again.
const REMIND_NS: u64 = SECOND_NS;

/// The bounded queues, one for each destination.
#[derive(Default)]
pub(crate) struct Waiting {
    queues: HashMap<IpAddr, Queue>,
    bytes: usize,
}

#[derive(Default)]
struct Queue {
    packets: VecDeque<Packet>,
    asked_ns: Option<u64>,
}

/// A packet and what is left to do on it.
pub(crate) struct Packet {
    pub left: Left,
    pub bytes: Box<[u8]>,
    since_ns: u64,
}

/// What became of a packet that should wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It waits, and it is time to ask for its tunnel.
    Ask,
    /// It waits.
    Waits,
    /// There is no room.
    Full,
}

impl Waiting {
    /// Queues a packet to `destination`.
    pub(crate) fn place(
        &mut self,
        destination: IpAddr,
        left: Left,
        bytes: &[u8],
        now_ns: u64,
    ) -> Placed {
        if self.bytes + bytes.len() > MOST_BYTES || !self.has_room(destination, now_ns) {
            return Placed::Full;
        }
        let queue = self.queues.entry(destination).or_default();
        queue.packets.push_back(Packet {
            left,
            bytes: bytes.into(),
            since_ns: now_ns,
        });
        self.bytes += bytes.len();
        let due = queue.asked_ns.is_none_or(|at| now_ns >= at + REMIND_NS);
        if !due {
            return Placed::Waits;
        }
        queue.asked_ns = Some(now_ns);
        Placed::Ask
    }

    /// Takes the packets to `destination` that have not waited too long, and
    /// how many have.
    pub(crate) fn take(&mut self, destination: IpAddr, now_ns: u64) -> (Vec<Packet>, u64) {
        let queue = self.queues.remove(&destination).unwrap_or_default();
        self.bytes -= queue.bytes();
        let (fresh, stale): (Vec<_>, Vec<_>) = queue
            .packets
            .into_iter()
            .partition(|packet| !packet.is_stale(now_ns));
        (fresh, stale.len() as u64)
    }

    /// Lets go of what has waited too long; returns how many packets.
    pub(crate) fn expire(&mut self, now_ns: u64) -> u64 {
        let mut expired = 0;
        let mut freed = 0;
        for queue in self.queues.values_mut() {
            while queue.packets.front().is_some_and(|p| p.is_stale(now_ns)) {
                freed += queue.packets.pop_front().map_or(0, |p| p.bytes.len());
                expired += 1;
            }
        }
        self.bytes -= freed;
        self.queues.retain(|_, queue| !queue.packets.is_empty());
        expired
    }

    fn has_room(&mut self, destination: IpAddr, now_ns: u64) -> bool {
        match self.queues.get(&destination) {
            Some(queue) => queue.packets.len() < MOST_PACKETS,
            None if self.queues.len() < MOST_DESTINATIONS => true,
            None => {
                self.expire(now_ns);
                self.queues.len() < MOST_DESTINATIONS
            }
        }
    }
}

impl Queue {
    fn bytes(&self) -> usize {
        self.packets.iter().map(|packet| packet.bytes.len()).sum()
    }
}

impl Packet {
    fn is_stale(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.since_ns) >= PATIENCE_NS
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 64, 0, 2));

    fn place(waiting: &mut Waiting, now_ns: u64) -> Placed {
        waiting.place(PEER, Left::Nothing, &[0; 100], now_ns)
    }

    #[test]
    fn a_destination_is_asked_for_once_a_second() {
        let mut waiting = Waiting::default();

        let placed = [0, 1, SECOND_NS - 1, SECOND_NS].map(|now| place(&mut waiting, now));

        assert_eq!(
            placed,
            [Placed::Ask, Placed::Waits, Placed::Waits, Placed::Ask]
        );
    }

    #[test]
    fn the_sixty_fifth_packet_finds_no_room() {
        let mut waiting = Waiting::default();
        (0..64).for_each(|_| assert_ne!(place(&mut waiting, 0), Placed::Full));

        assert_eq!(place(&mut waiting, 0), Placed::Full);
        assert_eq!(waiting.take(PEER, 0).0.len(), 64);
        assert_eq!(waiting.bytes, 0);
    }

    #[test]
    fn nothing_waits_longer_than_thirty_seconds() {
        let mut waiting = Waiting::default();
        place(&mut waiting, 0);
        place(&mut waiting, SECOND_NS);

        let (fresh, stale) = waiting.take(PEER, 30 * SECOND_NS);

        assert_eq!((fresh.len(), stale), (1, 1));
    }

    #[test]
    fn a_thousand_destinations_do_not_lock_out_the_next_for_ever() {
        let mut waiting = Waiting::default();
        for host in 0..MOST_DESTINATIONS as u32 {
            let destination = Ipv4Addr::from(host).into();
            waiting.place(destination, Left::Nothing, &[0], 0);
        }

        assert_eq!(place(&mut waiting, SECOND_NS), Placed::Full);
        assert_eq!(place(&mut waiting, 30 * SECOND_NS), Placed::Ask);
        assert_eq!(waiting.bytes, 100);
    }
}
