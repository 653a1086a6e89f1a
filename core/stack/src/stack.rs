//! Connections, listeners and datagram ports. Reads no clock: every call that
//! can move something is told the time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ntmobile_capsule::destination;
use ntmobile_tunnel::Left;
use smoltcp::time::Instant;

use crate::connection::{Connection, Received};
use crate::datagrams::{Datagram, build};
use crate::events::{Event, Events};
use crate::failure::Failure;
use crate::fragments::{Reassembly, cut};
use crate::home::Home;
use crate::listener::Listener;
use crate::outbox::Outbox;
use crate::packet::{Error, Pair, Seen, see};
use crate::rest::Rest;
use crate::table::{Entry, Table};
use crate::timers::Timers;
use crate::wire::Leaving;

/// Room of one connection, in bytes. Pages that are never written cost nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// What the peer may send before the application reads.
    pub receive: usize,
    /// What the application may send before the peer acknowledges.
    pub send: usize,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            receive: 1 << 20,
            send: 1 << 20,
        }
    }
}

/// See the module. Numbers of connections, listeners and ports are never used
/// twice; an unknown one is [`Failure::NotConnected`].
pub struct Stack {
    buffers: Buffers,
    table: RwLock<Table>,
    rest: Mutex<Rest>,
    fragments: Mutex<Reassembly>,
    outbox: Outbox,
    home: Home,
    events: Events,
    timers: Timers,
    numbers: AtomicU64,
    random: AtomicU64,
}

impl Stack {
    /// A stack without addresses. `seed` makes ports and sequence numbers
    /// unpredictable; fails when the process has no descriptor left.
    pub fn new(seed: u64, buffers: Buffers, now: Instant) -> io::Result<Self> {
        Ok(Self {
            buffers,
            table: RwLock::default(),
            rest: Mutex::new(Rest::new(&[], seed, now)),
            fragments: Mutex::default(),
            outbox: Outbox::new()?,
            home: Home::default(),
            events: Events::new()?,
            timers: Timers::default(),
            numbers: AtomicU64::new(1),
            random: AtomicU64::new(seed),
        })
    }

    /// The node's virtual addresses, at most one a family.
    pub fn set_addresses(&self, addresses: &[IpAddr], now: Instant) {
        self.write().addresses = addresses.to_vec();
        *self.rest.lock().unwrap_or_else(PoisonError::into_inner) =
            Rest::new(addresses, self.random(), now);
    }

    /// Packets to `remote` have at most `mtu` bytes, or 1280.
    pub fn set_mtu(&self, remote: IpAddr, mtu: usize, now: Instant) {
        let mut table = self.write();
        table.set_mtu(remote, mtu);
        let mtu = table.mtu(remote);
        let all = table.connections.iter();
        let concerned: Vec<_> = all
            .filter(|(pair, _)| pair.remote.ip() == remote)
            .map(|(_, entry)| Arc::clone(entry))
            .collect();
        drop(table);
        for entry in concerned {
            self.with(&entry, now, |connection| connection.set_mtu(mtu, now));
        }
    }

    /// Begins a connection; it stands when it becomes writable.
    pub fn connect(&self, remote: SocketAddr, now: Instant) -> Result<(u64, Pair), Failure> {
        let mut table = self.write();
        let pair = table.pair(remote, self.random())?;
        let mtu = table.mtu(remote.ip());
        let connection = Connection::connect(pair, self.buffers, mtu, self.random(), now)?;
        let entry = Entry::new(self.number(), None, connection);
        table.add(pair, &entry);
        drop(table);
        self.with(&entry, now, |connection| connection.poll(now));
        Ok((entry.id, pair))
    }

    /// Lets peers connect to `port` (0: any free one); readable when one has.
    pub fn listen(&self, port: u16, backlog: usize) -> Result<(u64, u16), Failure> {
        let mut table = self.write();
        let port = match port {
            0 => table.free_listener(self.random())?,
            port => port,
        };
        if table.listeners.contains_key(&port) {
            return Err(Failure::InUse);
        }
        let id = self.number();
        table
            .listeners
            .insert(port, Listener::new(id, port, backlog));
        Ok((id, port))
    }

    /// The next connection of a listener.
    pub fn accept(&self, listener: u64) -> Option<(u64, Pair)> {
        let mut table = self.write();
        let listener = table
            .listeners
            .values_mut()
            .find(|each| each.id == listener)?;
        let id = listener.accept()?;
        if !listener.is_empty() {
            self.events.tell(listener.id, Event::READABLE);
        }
        let entry = table.entries.get(&id).map(Arc::clone)?;
        drop(table);
        let mut guard = entry.lock();
        guard.0.visible = true;
        self.events.tell(id, guard.0.news());
        Some((id, guard.0.pair()))
    }

    /// Ends a listener; what waits to be accepted is broken off.
    pub fn close_listener(&self, listener: u64, now: Instant) {
        let mut table = self.write();
        let Some(port) = table
            .listeners
            .values()
            .find_map(|each| (each.id == listener).then_some(each.port))
        else {
            return;
        };
        let waiting = table.listeners.remove(&port).map(|each| each.all());
        let waiting: Vec<_> = waiting
            .unwrap_or_default()
            .iter()
            .filter_map(|id| table.entries.get(id).map(Arc::clone))
            .collect();
        drop(table);
        for entry in waiting {
            self.with(&entry, now, |connection| connection.abort(now));
        }
    }

    /// Takes over from `data` what there is room for, in bytes.
    pub fn send(&self, id: u64, data: &[u8], now: Instant) -> Result<usize, Failure> {
        self.on(id, now, |connection| connection.send(data, now))?
    }

    /// Gives `take` the next bytes, at most `most`.
    pub fn receive(
        &self,
        id: u64,
        most: usize,
        now: Instant,
        take: impl FnOnce(&[u8]),
    ) -> Result<Received, Failure> {
        self.on(id, now, |connection| connection.receive(most, now, take))?
    }

    /// Says that nothing more will be sent; the other direction stays open.
    pub fn shutdown(&self, id: u64, now: Instant) -> Result<(), Failure> {
        self.on(id, now, |connection| connection.shutdown(now))
    }

    /// Lets go of a connection, which ends in its own time.
    pub fn leave(&self, id: u64, now: Instant) {
        // It may be gone already.
        let _ = self.on(id, now, |connection| connection.leave(now));
    }

    /// Breaks a connection off and lets go of it.
    pub fn abort(&self, id: u64, now: Instant) {
        let _ = self.on(id, now, |connection| {
            connection.abort(now);
            connection.leave(now);
        });
    }

    /// Why a connection ended, or could not begin; none for a peaceful end.
    pub fn failure(&self, id: u64) -> Option<Failure> {
        let entry = self.entry(id).ok()?;
        let guard = entry.lock();
        guard.0.failure()
    }

    /// Bytes that were sent and not acknowledged.
    pub fn unsent(&self, id: u64) -> Result<usize, Failure> {
        Ok(self.entry(id)?.lock().0.unsent())
    }

    /// Takes the UDP `port` (0: any free one); readable when a datagram waits.
    pub fn bind(&self, port: u16) -> Result<(u64, u16), Failure> {
        let mut table = self.write();
        let number = match port {
            0 => table.free_port(self.random())?,
            port => port,
        };
        let id = self.number();
        table.take_port(id, number)?;
        Ok((id, number))
    }

    /// Gives a UDP port back.
    pub fn unbind(&self, id: u64) {
        self.write().free_port_of(id);
    }

    /// Sends one datagram from a UDP port, in several packets where the path
    /// demands it; what does not fit into the queue is lost, as on any network.
    pub fn send_to(
        &self,
        id: u64,
        remote: SocketAddr,
        payload: &[u8],
        now: Instant,
    ) -> Result<(), Failure> {
        let table = self.read();
        let local = SocketAddr::new(table.local(remote.ip())?, table.port(id)?.number);
        let mtu = table.mtu(remote.ip());
        drop(table);
        let packet = build(Pair { local, remote }, payload)?;
        for bytes in cut(packet, mtu, self.random() as u32) {
            let left = Left::Nothing;
            self.depart(Leaving::new(bytes, left));
        }
        self.turn_around(now);
        Ok(())
    }

    /// The next datagram of a UDP port; an error is told once.
    pub fn receive_from(&self, id: u64) -> Result<Option<Datagram>, Failure> {
        let table = self.read();
        let mut queue = table.port(id)?.lock();
        match queue.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(queue.take()),
        }
    }

    /// Takes a packet that came through a tunnel.
    pub fn handle(&self, packet: Vec<u8>, now: Instant) {
        match see(&packet) {
            Some(Seen::Segment {
                pair,
                opens,
                resets,
            }) => self.segment(pair, opens, resets, packet, now),
            Some(Seen::Datagram { pair, payload }) => self.datagram(pair, payload, packet, now),
            Some(Seen::Error { pair, tcp, error }) => self.error(pair, tcp, error, now),
            Some(Seen::Other) => self.answer(packet, now),
            Some(Seen::Fragment) => {
                let mut waiting = self
                    .fragments
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                let whole = waiting.put(&packet, now);
                drop(waiting);
                if let Some(packet) = whole {
                    self.handle(packet, now);
                }
            }
            None => {}
        }
    }

    /// Does what is due; returns when something is next.
    pub fn expire(&self, now: Instant) -> Option<Instant> {
        while let Some((at, id)) = self.timers.take(now) {
            let Ok(entry) = self.entry(id) else { continue };
            let mut guard = entry.lock();
            let current = guard.1.take_if(|due| *due == at).is_some();
            drop(guard);
            if current {
                self.with(&entry, now, |connection| connection.poll(now));
            }
        }
        self.timers.next()
    }

    /// Takes up to `most` events, oldest first.
    pub fn drain(&self, most: usize) -> Vec<Event> {
        self.events.drain(most)
    }

    /// Readable exactly while [`Stack::drain`] has something.
    pub fn fd(&self) -> RawFd {
        self.events.fd()
    }

    /// Connections that are kept, however they stand.
    pub fn count(&self) -> usize {
        self.read().entries.len()
    }

    /// Copies the next packet that leaves to the front of `buffer`, which holds
    /// 64 KiB: what is left to do on it, and where it lies.
    pub fn take(&self, buffer: &mut [u8]) -> Option<(Left, Range<usize>)> {
        self.outbox.take(buffer)
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(crate) fn timers(&self) -> &Timers {
        &self.timers
    }

    fn segment(&self, pair: Pair, opens: bool, resets: bool, packet: Vec<u8>, now: Instant) {
        let known = self.read().connections.get(&pair).map(Arc::clone);
        let entry = match known.filter(|entry| !(opens && entry.lock().0.is_over())) {
            Some(entry) => entry,
            None if opens => match self.begin(pair, now) {
                Some(entry) => entry,
                None => return self.refuse(pair, packet, now),
            },
            None => return self.answer(packet, now),
        };
        self.with(&entry, now, |connection| {
            connection.take(packet, resets, now);
        });
    }

    /// A peer connects: there must be a listener, with room.
    fn begin(&self, pair: Pair, now: Instant) -> Option<Arc<Entry>> {
        let mut table = self.write();
        let mtu = table.mtu(pair.remote.ip());
        let mine = table.addresses.contains(&pair.local.ip());
        let listener = table.listeners.get_mut(&pair.local.port())?;
        if !mine || !listener.has_room() {
            return None;
        }
        let made = Connection::await_peer(pair, self.buffers, mtu, self.random(), now).ok()?;
        let entry = Entry::new(self.number(), Some(listener.id), made);
        listener.begin(entry.id);
        table.add(pair, &entry);
        Some(entry)
    }

    /// Where nobody listens: a reset. A listener without room is silent, so
    /// that the peer tries again.
    fn refuse(&self, pair: Pair, packet: Vec<u8>, now: Instant) {
        if !self.read().listeners.contains_key(&pair.local.port()) {
            self.answer(packet, now);
        }
    }

    fn datagram(&self, pair: Pair, payload: Range<usize>, mut packet: Vec<u8>, now: Instant) {
        let Some(port) = self.read().ports.get(&pair.local.port()).map(Arc::clone) else {
            return self.answer(packet, now);
        };
        packet.truncate(payload.end);
        packet.drain(..payload.start);
        let datagram = Datagram {
            source: pair.remote,
            payload: packet,
        };
        let mut queue = port.lock();
        let first = queue.is_empty();
        if queue.put(datagram) && first {
            self.events.tell(port.id, Event::READABLE);
        }
    }

    fn error(&self, pair: Pair, tcp: bool, error: Error, now: Instant) {
        let failure = match error {
            Error::TooBig(mtu) => {
                return self.set_mtu(pair.remote.ip(), usize::from(mtu), now);
            }
            Error::Port => Failure::Refused,
            Error::Prohibited => Failure::Prohibited,
            Error::Unreachable => Failure::Unreachable,
        };
        let table = self.read();
        if tcp {
            let known = table.connections.get(&pair).map(Arc::clone);
            drop(table);
            if let Some(entry) = known {
                self.with(&entry, now, |connection| connection.fail(failure, now));
            }
        } else if let Some(port) = table.ports.get(&pair.local.port()) {
            port.lock().failure = Some(failure);
            self.events.tell(port.id, Event::READABLE);
        }
    }

    fn answer(&self, packet: Vec<u8>, now: Instant) {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        rest.answer(packet, now);
        let answers: Vec<Leaving> = rest.wire.take().collect();
        drop(rest);
        for answer in answers {
            self.depart(answer);
        }
        self.turn_around(now);
    }

    /// Sends a packet that nobody waits for.
    fn depart(&self, packet: Leaving) {
        let own = |host| self.read().addresses.contains(&host);
        if destination(&packet.bytes).is_some_and(own) {
            let bytes = Arc::unwrap_or_clone(packet.bytes);
            self.home.put(std::iter::once(bytes));
        } else {
            self.outbox.put_datagram(packet);
        }
    }

    /// Takes what this node sent to itself, and what follows from that.
    fn turn_around(&self, now: Instant) {
        if self.home.begin() {
            while let Some(packet) = self.home.next() {
                self.handle(packet, now);
            }
        }
    }

    fn on<R>(
        &self,
        id: u64,
        now: Instant,
        change: impl FnOnce(&mut Connection) -> R,
    ) -> Result<R, Failure> {
        let entry = self.entry(id)?;
        Ok(self.with(&entry, now, change))
    }

    /// Changes a connection, then does what follows from it: packets leave,
    /// who waits is told, the timer is set, and what is over is forgotten.
    fn with<R>(
        &self,
        entry: &Arc<Entry>,
        now: Instant,
        change: impl FnOnce(&mut Connection) -> R,
    ) -> R {
        let mut guard = entry.lock();
        let (connection, due) = &mut *guard;
        let result = change(connection);
        let own = connection.pair().is_own();
        if own {
            let leaving = connection.leaving(now).into_iter();
            self.home
                .put(leaving.map(|packet| Arc::unwrap_or_clone(packet.bytes)));
        } else {
            self.outbox.put(connection.leaving(now).into_iter());
        }
        self.events.tell(entry.id, connection.news());
        if let Some(next) = connection.next(now)
            && due.is_none_or(|due| next < due)
        {
            *due = Some(next);
            self.timers.add(next, entry.id);
        }
        let (pair, done) = (connection.pair(), connection.is_done());
        let stands = connection.stood() && !connection.is_over();
        drop(guard);
        if let Some(listener) = entry.listener {
            self.tell_listener(listener, pair, entry.id, stands, done);
        }
        if done {
            self.write().remove(pair, entry.id);
        }
        if own {
            self.turn_around(now);
        }
        result
    }

    fn tell_listener(&self, listener: u64, pair: Pair, id: u64, stands: bool, done: bool) {
        if !stands && !done {
            return;
        }
        let port = pair.local.port();
        let known = |table: &Table| table.listeners.get(&port).is_some_and(|l| l.id == listener);
        if !known(&self.read()) {
            return;
        }
        let mut table = self.write();
        let Some(waiting) = table.listeners.get_mut(&port) else {
            return;
        };
        if done {
            waiting.forget(id);
        } else if waiting.stands(id) {
            self.events.tell(listener, Event::READABLE);
        }
    }

    fn entry(&self, id: u64) -> Result<Arc<Entry>, Failure> {
        let table = self.read();
        table
            .entries
            .get(&id)
            .map(Arc::clone)
            .ok_or(Failure::NotConnected)
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// SplitMix64: <https://prng.di.unimi.it/splitmix64.c>.
    fn random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.random.fetch_add(STEP, Ordering::Relaxed);
        let mut mixed = state.wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}
