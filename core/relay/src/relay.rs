//! The relay: one port, one forwarding thread, one table.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use ntmobile_port::{Buffers, Datagram, Intake, Local, Pair, Received, Socket, Wake, bind_to};

use crate::capsule::{Kind, classify};
use crate::group::{Groups, Part};
use crate::hint::{Hints, hint};
use crate::outbox::{Outbox, Outcome};
use crate::path::Usage;
use crate::table::Table;

/// Messages taken in one receive call.
const BATCH: usize = 32;

/// What a relay has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that were queued for Python.
    pub received: u64,
    /// Datagrams lost because that queue was full.
    pub queue_full: u64,
    /// Datagrams longer than the queue takes.
    pub too_long: u64,
    /// Datagrams sent from Python.
    pub sent: u64,
    /// Those that the system refused.
    pub send_failed: u64,
    /// Capsules forwarded.
    pub forwarded: u64,
    /// Capsules that the system refused to send on.
    pub forward_failed: u64,
    /// Capsules without a binding.
    pub unbound: u64,
    /// Hints sent to who sent those.
    pub hinted: u64,
    /// Capsules above the rate of their path.
    pub over_rate: u64,
    /// Datagrams that begin like a capsule and are too short for one.
    pub malformed: u64,
    /// Bindings in force now.
    pub bindings: u64,
}

/// A UDP port that forwards capsules and queues all else.
///
/// Table: `bind`, `unbind`, `forget`, `usage`. Queue: `fd`, `drain`. Sending:
/// `send`. `close` ends the thread; dropping closes too.
pub struct Relay {
    shared: Arc<Shared>,
    forwarder: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    pair: Pair,
    intake: Intake,
    stop: Wake,
    table: RwLock<Table>,
    start: Instant,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    send_failed: AtomicU64,
    forwarded: AtomicU64,
    forward_failed: AtomicU64,
    unbound: AtomicU64,
    hinted: AtomicU64,
    over_rate: AtomicU64,
    malformed: AtomicU64,
}

/// What the forwarding thread reuses from batch to batch.
struct Forwarder<'a> {
    shared: &'a Shared,
    buffers: Buffers,
    v4: Groups,
    v6: Groups,
    outbox: Outbox,
    hints: Hints,
}

impl Relay {
    /// Opens `local` as [`bind_to`] does and starts forwarding; at most `queue`
    /// datagrams wait for [`Relay::drain`].
    pub fn open(local: Local, queue: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            pair: bind_to(local, 0)?,
            intake: Intake::new(queue)?,
            stop: Wake::new()?,
            table: RwLock::default(),
            start: Instant::now(),
            counts: Counts::default(),
        });
        let forwarding = Arc::clone(&shared);
        let forwarder = thread::Builder::new()
            .name("ntm-relay".into())
            .spawn(move || Forwarder::new(&forwarding).run())?;
        Ok(Self {
            shared,
            forwarder: Mutex::new(Some(forwarder)),
        })
    }

    /// The number the port is bound to.
    pub fn number(&self) -> u16 {
        self.shared.pair.port
    }

    /// Descriptor that is readable exactly while [`Relay::drain`] has something.
    pub fn fd(&self) -> i32 {
        self.shared.intake.inbox().fd()
    }

    /// Takes up to `most` datagrams that are not capsules, oldest first.
    pub fn drain(&self, most: usize) -> Vec<Datagram> {
        self.shared.intake.inbox().drain(most)
    }

    /// Sends one datagram, as [`Pair::send_to`] does.
    pub fn send(&self, destination: SocketAddr, payload: &[u8], interface: u32) -> io::Result<()> {
        let result = self.shared.pair.send_to(destination, payload, interface);
        let Counts {
            sent, send_failed, ..
        } = &self.shared.counts;
        let counter = if result.is_ok() { sent } else { send_failed };
        counter.fetch_add(1, Ordering::Relaxed);
        result
    }

    /// Forwards from now on, as [`Table::bind`] describes.
    pub fn bind(
        &self,
        key: (SocketAddr, u32),
        destination: SocketAddr,
        path: u128,
        rate: u64,
    ) -> bool {
        self.shared.change().bind(key, destination, path, rate)
    }

    /// Ends one binding, as [`Table::unbind`] describes.
    pub fn unbind(&self, source: SocketAddr, index: u32) -> bool {
        self.shared.change().unbind((source, index))
    }

    /// Ends a path, as [`Table::forget`] describes.
    pub fn forget(&self, path: u128) -> usize {
        self.shared.change().forget(path)
    }

    /// What a path has carried, and how long ago it last did, in nanoseconds;
    /// None when it is unknown or has carried nothing.
    pub fn usage(&self, path: u128) -> (Usage, Option<u64>) {
        let usage = self
            .shared
            .table()
            .path(path)
            .map(|path| path.usage())
            .unwrap_or_default();
        let now_ns = self.shared.now_ns();
        (usage, usage.last_ns.map(|last| now_ns.saturating_sub(last)))
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Shared { intake, counts, .. } = &*self.shared;
        Counters {
            received: intake.received(),
            queue_full: intake.inbox().dropped(),
            too_long: intake.too_long(),
            sent: read(&counts.sent),
            send_failed: read(&counts.send_failed),
            forwarded: read(&counts.forwarded),
            forward_failed: read(&counts.forward_failed),
            unbound: read(&counts.unbound),
            hinted: read(&counts.hinted),
            over_rate: read(&counts.over_rate),
            malformed: read(&counts.malformed),
            bindings: self.shared.table().len() as u64,
        }
    }

    /// Ends the forwarding thread. The sockets close when the relay is dropped.
    pub fn close(&self) {
        self.shared.stop.set();
        let forwarder = self
            .forwarder
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(forwarder) = forwarder {
            // A panicked thread has nothing left to clean up.
            let _ = forwarder.join();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the relay was opened; never 0, which means never.
    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos())
            .unwrap_or(u64::MAX)
            .max(1)
    }
}

impl<'a> Forwarder<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            buffers: Buffers::new(BATCH),
            v4: Groups::default(),
            v6: Groups::default(),
            outbox: Outbox::default(),
            hints: Hints::default(),
        }
    }

    fn run(mut self) {
        let shared = self.shared;
        while let Ok(ready) = shared.stop.wait(&shared.pair) {
            if ready.woken {
                return;
            }
            if ready.v4 {
                self.empty(&shared.pair.v4);
            }
            if let Some(v6) = shared.pair.v6.as_ref().filter(|_| ready.v6) {
                self.empty(v6);
            }
        }
    }

    /// Forwards what waits, but gives the other socket its turn under load.
    fn empty(&mut self, socket: &Socket) {
        for _ in 0..16 {
            // An error here is an ICMP report about an earlier send; reading it clears it.
            let count = socket.receive(&mut self.buffers).unwrap_or(0);
            self.forward();
            if count < BATCH {
                return;
            }
        }
    }

    fn forward(&mut self) {
        self.v4.clear();
        self.v6.clear();
        self.sort();
        let Self {
            shared,
            buffers,
            v4,
            v6,
            outbox,
            ..
        } = self;
        shared
            .counts
            .book(outbox.send(&shared.pair.v4, v4, buffers));
        if let Some(socket) = &shared.pair.v6 {
            shared.counts.book(outbox.send(socket, v6, buffers));
        }
    }

    fn sort(&mut self) {
        let now_ns = self.shared.now_ns();
        let table = self.shared.table();
        let mut sorting = Sorting {
            shared: self.shared,
            table: &table,
            now_ns,
            v4: &mut self.v4,
            v6: &mut self.v6,
            hints: &mut self.hints,
        };
        for (message, received) in self.buffers.received().enumerate() {
            sorting.take(message, &received);
        }
    }
}

/// One batch on its way from the buffers to the groups.
struct Sorting<'a> {
    shared: &'a Shared,
    table: &'a Table,
    now_ns: u64,
    v4: &'a mut Groups,
    v6: &'a mut Groups,
    hints: &'a mut Hints,
}

impl Sorting<'_> {
    fn take(&mut self, message: usize, received: &Received<'_>) {
        let mut start = 0;
        while start < received.bytes.len() {
            let rest = &received.bytes[start..];
            let one = &rest[..received.stride.min(rest.len())];
            let kind = classify(one);
            let end = match kind {
                Kind::Capsule(_) => start + run(rest, received.stride, kind),
                Kind::Malformed | Kind::Other => start + one.len(),
            };
            match kind {
                Kind::Capsule(index) => self.route(
                    received,
                    index,
                    Part {
                        message,
                        start,
                        end,
                    },
                ),
                Kind::Malformed => count(&self.shared.counts.malformed, 1),
                Kind::Other => self
                    .shared
                    .intake
                    .put(received.source, received.interface, one),
            }
            start = end;
        }
    }

    /// Groups a run of capsules of one index, as far as their path's rate allows.
    fn route(&mut self, received: &Received<'_>, index: u32, mut part: Part) {
        let length = part.end - part.start;
        let capsules = |bytes: usize| bytes.div_ceil(received.stride) as u64;
        let Some(binding) = self.table.find(received.source, index) else {
            count(&self.shared.counts.unbound, capsules(length));
            return self.hint(received, index);
        };
        let admitted = binding.usage.admit(self.now_ns, received.stride, length);
        if admitted < length {
            count(&self.shared.counts.over_rate, capsules(length - admitted));
        }
        if admitted > 0 {
            part.end = part.start + admitted;
            let groups = if binding.destination.is_ipv6() {
                &mut self.v6
            } else {
                &mut self.v4
            };
            groups.add(binding.destination, received.ecn, received.stride, part);
        }
    }
}

impl Sorting<'_> {
    /// Tells who sent an unbound capsule; where that fails, or too many are to
    /// be told, silence tells them later.
    fn hint(&mut self, received: &Received<'_>, index: u32) {
        let Self { shared, hints, .. } = self;
        if hints.admit(received.source.ip(), self.now_ns) {
            let (to, through) = (received.source, received.interface);
            if shared.pair.send_to(to, &hint(index), through).is_ok() {
                count(&shared.counts.hinted, 1);
            }
        }
    }
}

impl Counts {
    fn book(&self, outcome: Outcome) {
        count(&self.forwarded, outcome.sent);
        count(&self.forward_failed, outcome.failed);
    }
}

fn count(counter: &AtomicU64, amount: u64) {
    if amount != 0 {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}

/// Length of the datagrams at the start of `bytes` that are of this kind.
fn run(bytes: &[u8], stride: usize, kind: Kind) -> usize {
    bytes
        .chunks(stride)
        .take_while(|datagram| classify(datagram) == kind)
        .map(<[u8]>::len)
        .sum()
}
