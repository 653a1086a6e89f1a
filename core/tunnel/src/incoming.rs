//! From the peers to the packet device: one thread, which also queues for
//! Python what is not a capsule.

use std::io;
use std::os::fd::{AsFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ntmobile_capsule::{Form, Header, KIND, Opened, Refusal};
use ntmobile_port::{Buffers, Received, Socket};

use crate::counters::add;
use crate::early::Kept;
use crate::own::{Own, SPARE};
use crate::rebuild::{Arrival, Rebuild, Sink};
use crate::shared::Shared;
use crate::signal::Signal;
use crate::tunnel::{Receiving, Tunnel};
use crate::view::View;
use crate::watch::watch_also;

/// Messages asked for when nothing is known about what waits, and when much
/// does. Each may be 64 datagrams; room for many costs time even if few come.
const FEW: usize = 2;
const MANY: usize = 32;
/// Receive calls after which the loop looks at its other sources.
const TURN: usize = 16;
/// How often a move to one address is told until it is acted on.
const REMIND_NS: u64 = 1_000_000_000;

/// Receives, and reads the device while little comes from there, until the
/// engine is stopped.
pub(crate) fn run(shared: &Shared) {
    let mut seen = shared.present.see();
    let mut rebuild = Rebuild::default();
    let mut rooms = [Buffers::new(FEW), Buffers::new(MANY)];
    while let Ok(ready) = wait(shared, &seen.view) {
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        seen.refresh(&shared.present);
        let view = Arc::clone(&seen.view);
        let mut drain = Drain::new(shared, &view, &mut rebuild);
        if ready.again {
            drain.again(&shared.take_ripe());
        }
        if ready.v4 {
            drain.socket(&shared.pair.v4, &mut rooms);
        }
        if let Some(v6) = shared.pair.v6.as_ref().filter(|_| ready.v6) {
            drain.socket(v6, &mut rooms);
        }
        if let Some(spare) = shared.spare.get().filter(|_| ready.spare) {
            drain.spare(spare, &mut rooms);
        }
        for own in view.own.iter().filter(|own| ready.own.contains(&own.fd())) {
            drain.own(own, &mut rooms);
        }
        if let Some(device) = view.device.as_ref().filter(|_| ready.device) {
            device.turn(shared);
        }
    }
}

/// What there is to do.
struct Ready {
    /// Perhaps capsules whose keys have come.
    again: bool,
    v4: bool,
    v6: bool,
    spare: bool,
    device: bool,
    /// Those of the tunnels' own sockets that have something.
    own: Vec<RawFd>,
}

fn wait(shared: &Shared, view: &View) -> io::Result<Ready> {
    let kick = shared.kick.as_fd();
    // What is not there has its place filled by the kick.
    let v6 = shared.pair.v6.as_ref().map(AsFd::as_fd);
    let spare = shared.spare.get().map(AsFd::as_fd);
    let device = view.device.as_ref().and_then(|device| device.watched());
    let descriptors = [
        kick,
        shared.pair.v4.as_fd(),
        v6.unwrap_or(kick),
        spare.unwrap_or(kick),
        device.unwrap_or(kick),
    ];
    let own: Vec<_> = view.own.iter().map(|own| own.socket.as_fd()).collect();
    let (ready, own) = watch_also(descriptors, &own)?;
    let [kicked, v4_ready, v6_ready, spare_ready, device_ready] = ready;
    if kicked {
        shared.kick.clear();
    }
    Ok(Ready {
        again: kicked,
        v4: v4_ready,
        v6: v6_ready && v6.is_some(),
        spare: spare_ready && spare.is_some(),
        device: device_ready && device.is_some(),
        own,
    })
}

/// One turn: what waits in the sockets now, with the tunnels there are now.
struct Drain<'a> {
    shared: &'a Shared,
    view: &'a View,
    rebuild: &'a mut Rebuild,
    sink: Sink<'a>,
    /// The last capsule's tunnel: most likely the next one's too.
    tunnel: Option<&'a Tunnel>,
    /// The tunnel's own socket that is worked off; none for the engine's ports.
    own: Option<(u32, u32)>,
    /// It is the engine's second port.
    at_spare: bool,
    now_ns: u64,
}

impl<'a> Drain<'a> {
    fn new(shared: &'a Shared, view: &'a View, rebuild: &'a mut Rebuild) -> Self {
        let sink = Sink {
            packets: view.device.as_ref().map(|device| device.packets()),
            counters: &shared.counters,
        };
        Self {
            shared,
            view,
            rebuild,
            sink,
            tunnel: None,
            own: None,
            at_spare: false,
            now_ns: shared.now_ns(),
        }
    }

    fn socket(&mut self, socket: &Socket, rooms: &mut [Buffers; 2]) {
        let [few, many] = rooms;
        let mut full = self.receive(socket, few) == FEW;
        for _ in 0..TURN {
            // A super-packet that is not complete is worth another look.
            if !full && !self.rebuild.has_begun() {
                break;
            }
            let count = self.receive(socket, many);
            full = count == MANY;
            if count == 0 {
                break;
            }
        }
        self.rebuild.finish(self.sink);
    }

    /// The engine's second port.
    fn spare(&mut self, socket: &Socket, rooms: &mut [Buffers; 2]) {
        self.at_spare = true;
        self.socket(socket, rooms);
        self.at_spare = false;
    }

    /// A socket of one tunnel's own.
    fn own(&mut self, own: &Own, rooms: &mut [Buffers; 2]) {
        self.own = Some((own.index, own.number));
        self.socket(&own.socket, rooms);
        self.own = None;
    }

    /// Works off what was received before.
    fn again(&mut self, kept: &[Kept]) {
        for capsule in kept {
            let received = capsule.received();
            let index = Header::decode(received.bytes).map_or(0, |header| header.index);
            self.at_spare = capsule.socket == SPARE;
            let own = capsule.socket != 0 && !self.at_spare;
            self.own = own.then_some((index, capsule.socket));
            self.take(received.bytes, &received, false);
        }
        self.own = None;
        self.at_spare = false;
        self.rebuild.finish(self.sink);
    }

    /// Works off one receive call; returns how many messages it brought.
    fn receive(&mut self, socket: &Socket, room: &mut Buffers) -> usize {
        // An error is an ICMP report about an earlier send; reading it clears it.
        let count = socket.receive(room).unwrap_or(0);
        for (message, received) in room.received().enumerate() {
            let mut datagrams = received.datagrams().peekable();
            while let Some(datagram) = datagrams.next() {
                let more = datagrams.peek().is_some() || message + 1 < count;
                self.take(datagram, &received, more);
            }
        }
        count
    }

    fn take(&mut self, datagram: &[u8], received: &Received<'_>, more: bool) {
        if datagram.first() != Some(&KIND) && self.own.is_none() {
            self.shared
                .hand_over(received.source, received.interface, datagram);
            return;
        }
        let counters = &self.shared.counters;
        let Some(header) = Header::decode(datagram) else {
            return add(&counters.malformed);
        };
        // At a tunnel's own socket everybody else is a stranger.
        let known = self.own.is_none_or(|(index, _)| index == header.index);
        let Some(tunnel) = self.find(header.index).filter(|_| known) else {
            return add(&counters.stranger);
        };
        let mut receiving = tunnel.receiving();
        match receiving
            .opener
            .open(&header, datagram, self.rebuild.room())
        {
            Err(refusal) => {
                if refusal == Refusal::UnknownEpoch {
                    let socket = self.number();
                    receiving
                        .early
                        .keep(datagram, received, socket, self.now_ns);
                }
                counters.refused(refusal);
            }
            Ok(opened) => {
                self.note(tunnel, &mut receiving, opened, received);
                let arrival = Arrival {
                    index: tunnel.index,
                    addresses: &tunnel.addresses,
                    view: self.view,
                    mtu: receiving.path.map(|path| path.mtu),
                    ecn: received.ecn,
                    length: opened.length,
                    more,
                };
                drop(receiving);
                self.opened(&header, &arrival, received);
            }
        }
    }

    /// The number of the socket that is worked off.
    fn number(&self) -> u32 {
        let port = if self.at_spare { SPARE } else { 0 };
        self.own.map_or(port, |(_, number)| number)
    }

    fn find(&mut self, index: u32) -> Option<&'a Tunnel> {
        if self.tunnel.is_none_or(|last| last.index != index) {
            self.tunnel = self.view.tunnels.get(&index).map(Arc::as_ref);
        }
        self.tunnel
    }

    /// Counts, and tells of a peer that has moved.
    fn note(
        &self,
        tunnel: &Tunnel,
        receiving: &mut Receiving,
        opened: Opened,
        received: &Received<'_>,
    ) {
        receiving.traffic.count(opened.length, self.now_ns);
        let source = received.source;
        let known = receiving
            .path
            .is_some_and(|path| path.destination == source && path.socket == self.number());
        if !opened.newest || known {
            return;
        }
        let told = receiving
            .told_move
            .is_some_and(|(to, at)| to == source && self.now_ns < at + REMIND_NS);
        let moved = || Signal::Moved {
            index: tunnel.index,
            source,
            interface: received.interface,
            socket: self.number(),
        };
        if !told && self.shared.tell_with(moved) {
            receiving.told_move = Some((source, self.now_ns));
        }
    }

    fn opened(&mut self, header: &Header, arrival: &Arrival<'_>, received: &Received<'_>) {
        match header.form {
            Form::Plain { partial } => self.rebuild.plain(arrival, partial, self.sink),
            Form::Segment => self.rebuild.segment(arrival, self.sink),
            Form::Control => {
                let socket = self.number();
                let payload = &self.rebuild.room()[..arrival.length];
                self.shared.tell_with(|| Signal::Control {
                    index: arrival.index,
                    epoch: header.epoch,
                    source: received.source,
                    interface: received.interface,
                    socket,
                    payload: payload.to_vec(),
                });
            }
        }
    }
}
