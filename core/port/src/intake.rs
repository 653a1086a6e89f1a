//! From the wire to the queue: what every reader does with a datagram that is
//! not a capsule.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::datagram::{Datagram, LONGEST};
use crate::inbox::Inbox;

/// The queue to Python with its counters; many readers may share it.
#[derive(Debug)]
pub struct Intake {
    inbox: Inbox<Datagram>,
    received: AtomicU64,
    too_long: AtomicU64,
}

impl Intake {
    /// A queue of at most `capacity` datagrams; fails when the process has no
    /// descriptor left.
    pub fn new(capacity: usize) -> io::Result<Self> {
        Ok(Self {
            inbox: Inbox::new(capacity)?,
            received: AtomicU64::new(0),
            too_long: AtomicU64::new(0),
        })
    }

    /// Queues one datagram, or counts why not; never waits.
    pub fn put(&self, source: SocketAddr, interface: u32, bytes: &[u8]) {
        if bytes.len() > LONGEST {
            self.too_long.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // Counted while it is queued: who drains it finds it counted.
        self.inbox.push_with(|| {
            self.received.fetch_add(1, Ordering::Relaxed);
            Datagram {
                source,
                interface,
                bytes: bytes.to_vec(),
            }
        });
    }

    /// The queue, to be drained and watched.
    pub fn inbox(&self) -> &Inbox<Datagram> {
        &self.inbox
    }

    /// Datagrams that were queued.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Datagrams longer than [`LONGEST`], which were dropped.
    pub fn too_long(&self) -> u64 {
        self.too_long.load(Ordering::Relaxed)
    }
}
