//! Capsules that came before their keys: the peer sends as soon as it has agreed,
//! while this end still reads what agrees. Without them the first packet of a
//! tunnel would be lost, and TCP waits a second before it sends the next.

use std::collections::VecDeque;
use std::net::SocketAddr;

use ntmobile_port::Received;

/// Capsules kept for one tunnel.
const MOST_CAPSULES: usize = 16;
/// Bytes kept for one tunnel.
const MOST_BYTES: usize = 32 << 10;
/// How long a capsule is kept.
const PATIENCE_NS: u64 = 2_000_000_000;

/// What is kept of one tunnel, oldest first.
#[derive(Default)]
pub(crate) struct Early {
    capsules: VecDeque<Kept>,
    bytes: usize,
}

/// A capsule as it was received.
pub(crate) struct Kept {
    bytes: Box<[u8]>,
    source: SocketAddr,
    interface: u32,
    ecn: u8,
    /// The socket it came to.
    pub(crate) socket: u32,
    since_ns: u64,
}

impl Early {
    /// Keeps a capsule, if there is room.
    pub(crate) fn keep(
        &mut self,
        capsule: &[u8],
        received: &Received<'_>,
        socket: u32,
        now_ns: u64,
    ) {
        while self.capsules.front().is_some_and(|k| k.is_stale(now_ns)) {
            self.bytes -= self.capsules.pop_front().map_or(0, |k| k.bytes.len());
        }
        let fits = self.bytes + capsule.len() <= MOST_BYTES;
        if !fits || self.capsules.len() == MOST_CAPSULES {
            return;
        }
        self.bytes += capsule.len();
        self.capsules.push_back(Kept {
            bytes: capsule.into(),
            source: received.source,
            interface: received.interface,
            ecn: received.ecn,
            socket,
            since_ns: now_ns,
        });
    }

    /// Takes all that is not too old.
    pub(crate) fn take(&mut self, now_ns: u64) -> Vec<Kept> {
        let kept = std::mem::take(self).capsules;
        kept.into_iter().filter(|k| !k.is_stale(now_ns)).collect()
    }
}

impl Kept {
    /// The capsule as if it came now.
    pub(crate) fn received(&self) -> Received<'_> {
        Received {
            source: self.source,
            interface: self.interface,
            local: None,
            ecn: self.ecn,
            stride: self.bytes.len(),
            bytes: &self.bytes,
        }
    }

    fn is_stale(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.since_ns) >= PATIENCE_NS
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn keep(early: &mut Early, capsule: &[u8], now_ns: u64) {
        let received = Received {
            source: (Ipv4Addr::LOCALHOST, 9).into(),
            interface: 1,
            local: None,
            ecn: 2,
            stride: capsule.len(),
            bytes: capsule,
        };
        early.keep(capsule, &received, 4, now_ns);
    }

    #[test]
    fn what_is_kept_comes_back_as_it_came_and_once() {
        let mut early = Early::default();
        keep(&mut early, b"first", 0);
        keep(&mut early, b"second", 1);

        let kept = early.take(2);

        let bytes: Vec<_> = kept.iter().map(|k| k.received().bytes).collect();
        assert_eq!(bytes, [&b"first"[..], &b"second"[..]]);
        assert_eq!((kept[0].received().interface, kept[0].ecn), (1, 2));
        assert_eq!(kept[0].socket, 4);
        assert!(early.take(2).is_empty());
    }

    #[test]
    fn neither_many_capsules_nor_large_ones_take_more_than_their_room() {
        let mut early = Early::default();
        (0..100).for_each(|_| keep(&mut early, &[0; 40], 0));
        assert_eq!(early.take(0).len(), MOST_CAPSULES);

        (0..100).for_each(|_| keep(&mut early, &[0; 10_000], 0));
        assert_eq!(early.take(0).len(), 3);
    }

    #[test]
    fn the_stale_make_room_and_never_come_back() {
        let mut early = Early::default();
        (0..MOST_CAPSULES).for_each(|_| keep(&mut early, b"stale", 0));
        keep(&mut early, b"fresh", PATIENCE_NS);

        assert_eq!(early.take(PATIENCE_NS).len(), 1);
        keep(&mut early, b"stale", 0);
        assert!(early.take(PATIENCE_NS).is_empty());
    }
}
