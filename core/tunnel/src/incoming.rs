//! From the peers to the packet device: one thread, which also queues for
//! Python what is not a capsule.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ntmobile_capsule::{Form, Header, KIND, OVERHEAD, Opened};
use ntmobile_port::{Buffers, Received, Socket, Wake};

use crate::counters::add;
use crate::rebuild::{Arrival, Rebuild, Sink};
use crate::shared::Shared;
use crate::signal::Signal;
use crate::tunnel::{Receiving, Tunnel};
use crate::view::Seen;

/// Messages taken in one receive call, each up to 64 datagrams.
const BATCH: usize = 32;
/// Receive calls after which the loop looks at its other sources.
const TURN: usize = 16;
/// How often a move to one address is told until it is acted on.
const REMIND_NS: u64 = 1_000_000_000;

/// Receives until `stop` is set.
pub(crate) fn run(shared: &Shared, stop: &Wake) {
    let mut incoming = Incoming {
        shared,
        seen: shared.present.see(),
        rebuild: Rebuild::default(),
        tunnel: None,
        now_ns: 0,
    };
    let mut buffers = Buffers::new(BATCH);
    while let Ok(ready) = stop.wait(&shared.pair) {
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        if ready.v4 {
            incoming.drain(&shared.pair.v4, &mut buffers);
        }
        if let Some(v6) = shared.pair.v6.as_ref().filter(|_| ready.v6) {
            incoming.drain(v6, &mut buffers);
        }
    }
}

struct Incoming<'a> {
    shared: &'a Shared,
    seen: Seen,
    rebuild: Rebuild,
    /// The last capsule's tunnel: most likely the next one's too.
    tunnel: Option<Arc<Tunnel>>,
    now_ns: u64,
}

impl Incoming<'_> {
    fn drain(&mut self, socket: &Socket, buffers: &mut Buffers) {
        self.seen.refresh(&self.shared.present);
        self.tunnel = None;
        self.now_ns = self.shared.now_ns();
        for _ in 0..TURN {
            // An error is an ICMP report about an earlier send; reading it clears it.
            if socket.receive(buffers).unwrap_or(0) == 0 {
                break;
            }
            for received in buffers.received() {
                for datagram in received.datagrams() {
                    self.take(datagram, &received);
                }
            }
        }
        let view = Arc::clone(&self.seen.view);
        self.rebuild.finish(self.sink(&view));
    }

    fn take(&mut self, datagram: &[u8], received: &Received<'_>) {
        if datagram.first() != Some(&KIND) {
            self.shared
                .hand_over(received.source, received.interface, datagram);
            return;
        }
        let counters = &self.shared.counters;
        let Some(header) = Header::decode(datagram) else {
            return add(&counters.malformed);
        };
        let Some(tunnel) = self.find(header.index) else {
            return add(&counters.stranger);
        };
        let mut receiving = tunnel.receiving();
        let room = self.rebuild.room();
        match receiving.opener.open(&header, datagram, room) {
            Err(refusal) => counters.refused(refusal),
            Ok(opened) => {
                self.note(&tunnel, &mut receiving, opened, received);
                let mtu = receiving.path.map(|path| path.mtu);
                drop(receiving);
                self.opened(&tunnel, &header, opened, mtu, received);
            }
        }
    }

    fn find(&mut self, index: u32) -> Option<Arc<Tunnel>> {
        if self.tunnel.as_ref().is_none_or(|last| last.index != index) {
            self.tunnel = self.seen.view.tunnels.get(&index).cloned();
        }
        self.tunnel.clone()
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
            .is_some_and(|path| path.destination == source);
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
        };
        if !told && self.shared.tell_with(moved) {
            receiving.told_move = Some((source, self.now_ns));
        }
    }

    fn opened(
        &mut self,
        tunnel: &Tunnel,
        header: &Header,
        opened: Opened,
        mtu: Option<u16>,
        received: &Received<'_>,
    ) {
        let view = Arc::clone(&self.seen.view);
        let sink = self.sink(&view);
        let arrival = Arrival {
            index: tunnel.index,
            addresses: &tunnel.addresses,
            mtu,
            ecn: received.ecn,
            length: opened.length,
        };
        match header.form {
            Form::Plain { partial } => self.rebuild.plain(&arrival, partial, sink),
            Form::Segment => self.rebuild.segment(&arrival, sink),
            Form::Control => self.control(tunnel, header, opened, received),
        }
    }

    fn control(
        &mut self,
        tunnel: &Tunnel,
        header: &Header,
        opened: Opened,
        received: &Received<'_>,
    ) {
        let payload = &self.rebuild.room()[..opened.length];
        self.shared.tell_with(|| Signal::Control {
            index: tunnel.index,
            epoch: header.epoch,
            source: received.source,
            interface: received.interface,
            payload: payload.to_vec(),
        });
    }

    fn sink<'v>(&self, view: &'v crate::view::View) -> Sink<'v>
    where
        Self: 'v,
    {
        Sink {
            packets: view.packets.as_deref(),
            counters: &self.shared.counters,
        }
    }
}

const _: () = assert!(OVERHEAD == 32, "the layout on the wire is fixed");
