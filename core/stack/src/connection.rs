//! One TCP connection: smoltcp's socket, and what POSIX adds to it.

use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, RecvError, Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IpEndpoint, IpListenEndpoint};

use ntmobile_capsule::Inner;

use crate::acks::{Acks, acknowledgement};
use crate::events::Event;
use crate::failure::Failure;
use crate::memory::Memory;
use crate::packet::Pair;
use crate::recovery::Recovery;
use crate::rest::interface;
use crate::stack::Buffers;
use crate::wire::{Leaving, Wire};

/// How long one tries to connect: Linux gives up after about as long.
const CONNECT: Duration = Duration::from_secs(120);
/// How long a connection that its application has left may take to end.
const LEAVE: Duration = Duration::from_secs(60);
/// How long what was sent may stay without an answer: about as long as Linux
/// waits (tcp_retries2), longer than any hole in the network that a move makes.
const UNANSWERED: Duration = Duration::from_secs(15 * 60);
/// Delayed acknowledgements: RFC 1122 section 4.2.3.2 allows 500 ms.
const ACK_DELAY: Duration = Duration::from_millis(10);

/// So many duplicate acknowledgements are a loss to smoltcp (RFC 5681 section 3.2).
const COMPLAINTS: usize = 3;

/// What reading gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes.
    Data(usize),
    /// Nothing yet.
    Nothing,
    /// The peer has said its last word.
    End,
}

/// See the module. Every change is followed by [`Connection::poll`].
pub(crate) struct Connection {
    pair: Pair,
    /// The same, as smoltcp knows it.
    known: Pair,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    wire: Wire,
    acks: Acks,
    recovery: Recovery,
    seed: u64,
    stood: bool,
    /// Its application has let go of it.
    left: bool,
    /// Until when it must stand, be answered, or be over.
    deadline: Option<Instant>,
    failure: Option<Failure>,
    /// What the application knows and has not used up.
    told: u8,
    /// Nobody is told before it is accepted.
    pub(crate) visible: bool,
    /// Of the socket's buffers: it goes after `sockets`, as fields are dropped in their order.
    _memory: Memory,
}

impl Connection {
    /// The active side: its first poll sends SYN.
    pub(crate) fn connect(
        pair: Pair,
        buffers: Buffers,
        mtu: usize,
        seed: u64,
        now: Instant,
    ) -> Result<Self, Failure> {
        let mut new = Self::new(pair, buffers, mtu, seed, now)?;
        let ends = [new.known.local, new.known.remote];
        let [local, remote] = ends.map(IpEndpoint::from);
        let socket = new.sockets.get_mut::<Socket<'_>>(new.handle);
        socket
            .connect(new.interface.context(), remote, local)
            .map_err(|_| Failure::Unreachable)?;
        new.visible = true;
        Ok(new)
    }

    /// The passive side: it is to be given the peer's SYN.
    pub(crate) fn await_peer(
        pair: Pair,
        buffers: Buffers,
        mtu: usize,
        seed: u64,
        now: Instant,
    ) -> Result<Self, Failure> {
        let mut new = Self::new(pair, buffers, mtu, seed, now)?;
        let local = IpListenEndpoint::from(IpEndpoint::from(new.known.local));
        new.socket().listen(local).map_err(|_| Failure::InUse)?;
        Ok(new)
    }

    fn new(
        pair: Pair,
        buffers: Buffers,
        mtu: usize,
        seed: u64,
        now: Instant,
    ) -> Result<Self, Failure> {
        let mut memory = Memory::new(buffers.receive + buffers.send).ok_or(Failure::NoRoom)?;
        // SAFETY: asked once; the socket that uses them is dropped before the memory.
        let [receive, send] = unsafe { memory.halves(buffers.receive) };
        let (mut wire, known) = Wire::of(pair, mtu);
        let interface = interface(&mut wire, std::iter::once(known.local.ip()), seed, now);
        let mut socket = Socket::new(SocketBuffer::new(receive), SocketBuffer::new(send));
        socket.set_congestion_control(CongestionControl::Cubic);
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(Some(ACK_DELAY));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Ok(Self {
            pair,
            known,
            interface,
            sockets,
            handle,
            wire,
            acks: Acks::default(),
            recovery: Recovery::new(),
            seed,
            stood: false,
            left: false,
            deadline: Some(now + CONNECT),
            failure: None,
            told: 0,
            visible: false,
            _memory: memory,
        })
    }

    pub(crate) fn pair(&self) -> Pair {
        self.pair
    }

    /// Takes a packet of the peer's; `resets` says that it breaks the
    /// connection off.
    pub(crate) fn take(&mut self, packet: Vec<u8>, resets: bool, now: Instant) {
        if !self.is_withheld(&packet, now) {
            self.acknowledge(&packet, now);
            self.wire.put(packet);
        }
        if self.stood && !self.left {
            self.deadline = None;
        }
        self.poll(now);
        if resets && self.state() == State::Closed {
            let refused = if self.stood {
                Failure::Reset
            } else {
                Failure::Refused
            };
            self.failure.get_or_insert(refused);
        }
    }

    /// Hears what the peer has got; smoltcp is to learn only of some acknowledgements.
    fn is_withheld(&mut self, packet: &[u8], now: Instant) -> bool {
        let (Some([newest, _]), Ok(inner)) = (self.wire.sent(), Inner::parse(packet)) else {
            return false;
        };
        let segment = &packet[inner.upper..inner.total];
        self.recovery.hear(segment, newest, now)
    }

    /// Tells smoltcp that something was lost, as peers do: it narrows its window.
    fn tell_of_loss(&mut self, now: Instant) {
        let Some((segment, number)) = self.recovery.complaint() else {
            return;
        };
        for _ in 0..COMPLAINTS {
            let Some(packet) = acknowledgement(&segment, self.known, number) else {
                return;
            };
            self.wire.put_known(packet);
            let (wire, sockets) = (&mut self.wire, &mut self.sockets);
            self.interface.poll_ingress_single(now, wire, sockets);
        }
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
    }

    /// Tells smoltcp of much that is acknowledged in steps, while its window
    /// is what keeps the rest from being sent.
    fn acknowledge(&mut self, packet: &[u8], now: Instant) {
        let Some([newest, latest]) = self.wire.sent() else {
            return;
        };
        let Ok(inner) = Inner::parse(packet) else {
            return;
        };
        let segment = &packet[inner.upper..inner.total];
        let waits = self.unsent() > self.acks.flight(latest);
        let steps = self.acks.note(segment, self.wire.segment() as u32, newest);
        for number in steps.into_iter().filter(|_| waits) {
            if let Some(step) = acknowledgement(segment, self.known, number) {
                self.wire.put_known(step);
                let (wire, sockets) = (&mut self.wire, &mut self.sockets);
                self.interface.poll_ingress_single(now, wire, sockets);
            }
        }
    }

    /// Lets smoltcp do what there is to do.
    pub(crate) fn poll(&mut self, now: Instant) {
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        self.recovery.expire(now);
        self.tell_of_loss(now);
        self.stood |= matches!(self.state(), State::Established | State::CloseWait);
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.give_up(now);
        }
        if self.stood && !self.left {
            self.await_answer(now);
        }
        if self.left && self.socket().can_recv() {
            // As every system does: who closes does not want what still comes.
            self.abort(now);
        }
    }

    /// When to poll next.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Instant> {
        let next = self.interface.poll_at(now, &self.sockets);
        let recovery = self.recovery.next().filter(|_| !self.is_over());
        [next, recovery, self.deadline].into_iter().flatten().min()
    }

    /// What leaves now: all that smoltcp has to say for the first time, and what was lost.
    pub(crate) fn leaving(&mut self, now: Instant) -> Vec<Leaving> {
        let packets = self.wire.take();
        if self.pair.is_own() {
            return packets.collect();
        }
        let leaving: Vec<_> = packets.collect();
        if self.is_over() {
            return leaving;
        }
        let most = self.wire.segment() as u32;
        self.recovery.leave(leaving, most, now)
    }

    /// Takes over from `data` what there is room for.
    pub(crate) fn send(&mut self, data: &[u8], now: Instant) -> Result<usize, Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if !self.stood {
            return Ok(0);
        }
        let sent = self
            .socket()
            .send_slice(data)
            .map_err(|_| Failure::Closed)?;
        if sent < data.len() {
            self.told &= !Event::WRITABLE;
        }
        self.poll(now);
        Ok(sent)
    }

    /// Gives `take` the next bytes, at most `most`.
    pub(crate) fn receive(
        &mut self,
        most: usize,
        now: Instant,
        take: impl FnOnce(&[u8]),
    ) -> Result<Received, Failure> {
        let result = self.socket().recv(|bytes| {
            let count = bytes.len().min(most);
            if count > 0 {
                take(&bytes[..count]);
            }
            (count, count)
        });
        match result {
            Ok(0) => {
                self.told &= !Event::READABLE;
                Ok(Received::Nothing)
            }
            Ok(count) => {
                if !self.socket().can_recv() {
                    self.told &= !Event::READABLE;
                }
                self.poll(now);
                Ok(Received::Data(count))
            }
            Err(RecvError::Finished) => Ok(Received::End),
            Err(RecvError::InvalidState) => match self.failure {
                Some(failure) => Err(failure),
                None if self.stood => Ok(Received::End),
                None => Ok(Received::Nothing),
            },
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn shutdown(&mut self, now: Instant) {
        self.socket().close();
        self.poll(now);
    }

    /// The application wants no more of it: it ends in its own time.
    pub(crate) fn leave(&mut self, now: Instant) {
        self.left = true;
        self.visible = false;
        self.deadline = Some(now + LEAVE);
        self.shutdown(now);
    }

    /// Breaks off.
    pub(crate) fn abort(&mut self, now: Instant) {
        self.socket().abort();
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
    }

    /// A router, or the node itself, says that packets do not get there. A
    /// connection that stands outlives that: the way may come back.
    pub(crate) fn fail(&mut self, failure: Failure, now: Instant) {
        if !self.stood {
            self.failure.get_or_insert(failure);
            self.abort(now);
        }
    }

    /// Packets have at most `mtu` bytes from now on.
    pub(crate) fn set_mtu(&mut self, mtu: usize, now: Instant) {
        if mtu == self.wire.mtu() {
            return;
        }
        self.wire.set_mtu(mtu);
        // smoltcp asks a device what it can only once.
        let local = std::iter::once(self.known.local.ip());
        self.interface = interface(&mut self.wire, local, self.seed, now);
        self.poll(now);
    }

    /// What the application does not know yet; it does from now on.
    pub(crate) fn news(&mut self) -> u8 {
        if !self.visible {
            return 0;
        }
        let socket = self.sockets.get::<Socket<'_>>(self.handle);
        let mut now = 0;
        if socket.can_recv() || (self.stood && !socket.may_recv()) {
            now |= Event::READABLE;
        }
        if self.stood && has_room(socket) {
            now |= Event::WRITABLE;
        }
        if self.is_over() {
            now |= Event::ENDED;
        }
        let new = now & !self.told;
        self.told |= new;
        new
    }

    /// Nothing more comes or goes. The peer may miss our last acknowledgement;
    /// what it sends again is answered by a reset, which does it no harm.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state(), State::Closed | State::TimeWait)
    }

    /// Nobody needs it any more.
    pub(crate) fn is_done(&self) -> bool {
        self.is_over() && (self.left || !self.visible)
    }

    /// It stands, or stood.
    pub(crate) fn stood(&self) -> bool {
        self.stood
    }

    /// Why it ended, if not in peace.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// Bytes that the peer has not acknowledged yet.
    pub(crate) fn unsent(&self) -> usize {
        self.sockets.get::<Socket<'_>>(self.handle).send_queue()
    }

    /// What was sent must be answered in time; where nothing was, nobody waits.
    fn await_answer(&mut self, now: Instant) {
        if self.unsent() == 0 || self.is_over() {
            self.deadline = None;
        } else {
            self.deadline.get_or_insert(now + UNANSWERED);
        }
    }

    fn give_up(&mut self, now: Instant) {
        self.deadline = None;
        if !self.is_over() {
            self.failure.get_or_insert(Failure::TimedOut);
            self.abort(now);
        }
    }

    fn state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.handle).state()
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut::<Socket<'static>>(self.handle)
    }
}

/// Room worth waking somebody for.
fn has_room(socket: &Socket<'_>) -> bool {
    let room = socket.send_capacity() - socket.send_queue();
    socket.may_send() && room >= socket.send_capacity() / 4
}
