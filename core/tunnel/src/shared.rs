//! What the two loops and Python's thread share.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use ntmobile_capsule::Budget;
use ntmobile_port::{Address, Datagram, Inbox, LONGEST, Pair, Socket, Wake};

use crate::counters::{Counters, add};
use crate::early::Kept;
use crate::own::SPARE;
use crate::signal::Signal;
use crate::view::Present;
use crate::waiting::Waiting;

/// Capsules kept for sending again, all tunnels together, in bytes.
const RESEND_BYTES: usize = 256 << 20;
/// Capsules of one epoch after which new keys are due.
const REKEY_AFTER: u64 = 1 << 40;

pub(crate) struct Shared {
    pub pair: Pair,
    /// The second port, of IPv4, once it is wanted.
    pub spare: OnceLock<Socket>,
    pub present: Present,
    pub inbox: Inbox<Signal>,
    pub counters: Counters,
    pub budget: Arc<Budget>,
    pub rekey_after: AtomicU64,
    pub stopped: AtomicBool,
    /// Makes the receiving thread look at everything anew.
    pub kick: Wake,
    waiting: Mutex<Waiting>,
    ripe: Mutex<Vec<Kept>>,
    start: Instant,
}

impl Shared {
    pub(crate) fn new(pair: Pair, queue: usize) -> std::io::Result<Self> {
        Ok(Self {
            pair,
            spare: OnceLock::new(),
            present: Present::default(),
            inbox: Inbox::new(queue)?,
            counters: Counters::default(),
            budget: Budget::new(RESEND_BYTES),
            rekey_after: AtomicU64::new(REKEY_AFTER),
            stopped: AtomicBool::new(false),
            kick: Wake::new()?,
            waiting: Mutex::new(Waiting::default()),
            ripe: Mutex::default(),
            start: Instant::now(),
        })
    }

    /// The socket of the engine's own that reaches `destination`, from the second
    /// port if that is `number` and there is one of the family.
    pub(crate) fn toward(&self, destination: &SocketAddr, number: u32) -> Option<&Socket> {
        if number == SPARE && destination.is_ipv4() {
            return self.spare.get();
        }
        self.pair.toward(destination)
    }

    /// Sends a datagram of Python's from port `number`.
    pub(crate) fn send(
        &self,
        destination: SocketAddr,
        payload: &[u8],
        interface: u32,
        number: u32,
    ) -> io::Result<()> {
        let socket = self
            .toward(&destination, number)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
        socket.send(&mut Address::new(destination, interface, 0), payload)
    }

    /// Nanoseconds since the engine was started.
    pub(crate) fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    pub(crate) fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the receiving thread take these capsules again.
    pub(crate) fn ripen(&self, mut kept: Vec<Kept>) {
        if !kept.is_empty() {
            self.ripe().append(&mut kept);
            self.kick.set();
        }
    }

    /// Takes what is to be taken again.
    pub(crate) fn take_ripe(&self) -> Vec<Kept> {
        std::mem::take(&mut *self.ripe())
    }

    fn ripe(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.ripe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a datagram that is not a capsule.
    pub(crate) fn hand_over(&self, source: SocketAddr, interface: u32, bytes: &[u8]) {
        if bytes.len() > LONGEST {
            add(&self.counters.too_long);
            return;
        }
        self.tell_with(|| {
            Signal::Datagram(Datagram {
                source,
                interface,
                bytes: bytes.to_vec(),
            })
        });
    }

    /// Queues a signal; false when the queue is full.
    pub(crate) fn tell_with(&self, make: impl FnOnce() -> Signal) -> bool {
        let queued = self.inbox.push_with(make);
        if !queued {
            add(&self.counters.queue_full);
        }
        queued
    }
}
