//! From the packet device to the peers.

use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use ntmobile_capsule::{destination, icmp};

use crate::counters::add;
use crate::packets::{HEADROOM, Left, Packets};
use crate::sending::{Outcome, Sender};
use crate::shared::Shared;
use crate::signal::Signal;
use crate::tunnel::Tunnel;
use crate::view::{View, destinations};
use crate::waiting::Placed;

/// Packets after which a tunnel is let go of, so that Python's thread gets a turn.
const TURN: usize = 64;
/// How often the loop steps aside for a command at most.
const PATIENCE: usize = 1000;
const LONGEST: usize = 1 << 16;

/// One turn of reading the device, with the tunnels there are now.
pub(crate) struct Outgoing<'a> {
    shared: &'a Shared,
    packets: &'a dyn Packets,
    view: &'a View,
    buffer: &'a mut [u8],
    count: usize,
}

/// A packet in the buffer.
struct Read {
    left: Left,
    range: Range<usize>,
    destination: Option<IpAddr>,
}

/// A buffer to read packets into.
pub(crate) fn buffer() -> Vec<u8> {
    vec![0; LONGEST + HEADROOM]
}

impl<'a> Outgoing<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        packets: &'a dyn Packets,
        view: &'a View,
        buffer: &'a mut [u8],
    ) -> Self {
        Self {
            shared,
            packets,
            view,
            buffer,
            count: 0,
        }
    }

    /// Seals and sends what waits in the device, but not for ever: a device
    /// that is never empty must not keep the loop from being stopped. Returns
    /// how many packets it was; fails when the device is gone.
    pub(crate) fn drain(mut self) -> io::Result<usize> {
        let mut next = self.read()?;
        for _ in 0..TURN {
            let Some(read) = next else {
                return Ok(self.count);
            };
            next = match self.tunnel(&read) {
                Some(tunnel) => self.drain_into(tunnel, read)?,
                None => {
                    self.wait_for_tunnel(&read);
                    self.read()?
                }
            };
        }
        if let Some(read) = next {
            self.single(&read);
        }
        Ok(self.count)
    }

    /// Sends `read` and what follows to the same address; returns the first
    /// packet that goes elsewhere.
    fn drain_into(&mut self, tunnel: &Tunnel, mut read: Read) -> io::Result<Option<Read>> {
        let destination = read.destination;
        let mut sender = Sender::new(self.shared, tunnel);
        let mut turn = 0..TURN;
        while turn.next().is_some() && !tunnel.is_commanded() {
            let outcome = sender.packet(read.left, &mut self.buffer[read.range.clone()]);
            if outcome == Outcome::NotUp {
                drop(sender);
                self.wait_for_tunnel(&read);
                return self.read();
            }
            settle(self.shared, self.packets, outcome);
            match self.read()? {
                Some(next) if next.destination == destination => read = next,
                other => return Ok(other),
            }
        }
        drop(sender);
        let_commands_through(tunnel);
        Ok(Some(read))
    }

    fn single(&mut self, read: &Read) {
        let Some(tunnel) = self.tunnel(read) else {
            self.wait_for_tunnel(read);
            return;
        };
        let packet = &mut self.buffer[read.range.clone()];
        let outcome = Sender::new(self.shared, tunnel).packet(read.left, packet);
        match outcome {
            Outcome::NotUp => self.wait_for_tunnel(read),
            outcome => settle(self.shared, self.packets, outcome),
        }
    }

    fn read(&mut self) -> io::Result<Option<Read>> {
        let Some((left, range)) = self.packets.read(self.buffer)? else {
            return Ok(None);
        };
        self.count += 1;
        let destination =
            destination(&self.buffer[range.clone()]).map(|host| self.view.towards(host));
        Ok(Some(Read {
            left,
            range,
            destination,
        }))
    }

    fn tunnel(&self, read: &Read) -> Option<&'a Tunnel> {
        let destination = read.destination?;
        self.view.destinations.get(&destination).map(Arc::as_ref)
    }

    fn wait_for_tunnel(&self, read: &Read) {
        let packet = &self.buffer[read.range.clone()];
        let inner = match ntmobile_capsule::Inner::parse(packet) {
            Ok(_) => read.destination,
            Err(reason) => {
                self.shared.counters.dropped(reason);
                None
            }
        };
        if let Some(destination) = inner {
            place(self.shared, destination, read.left, packet);
        }
    }
}

/// A lock is free to go to whoever asks first, and a busy loop asks first.
fn let_commands_through(tunnel: &Tunnel) {
    for _ in 0..PATIENCE {
        if !tunnel.is_commanded() {
            return;
        }
        std::thread::yield_now();
    }
}

/// Makes a packet wait for a tunnel to `destination`, and Python build one.
fn place(shared: &Shared, destination: IpAddr, left: Left, packet: &[u8]) {
    let now_ns = shared.now_ns();
    let placed = shared.waiting().place(destination, left, packet, now_ns);
    match placed {
        Placed::Ask => {
            shared.tell_with(|| Signal::Wanted(destination));
        }
        Placed::Waits => {}
        Placed::Full => add(&shared.counters.waiting_full),
    }
    // The tunnel may have come up in between; then nobody else would look.
    let view = shared.present.get();
    if let Some(tunnel) = view.destinations.get(&destination)
        && tunnel.sending().is_up()
    {
        release(shared, tunnel);
    }
}

/// Sends the packets that waited for `tunnel`.
pub(crate) fn release(shared: &Shared, tunnel: &Tunnel) {
    let view = shared.present.get();
    let Some(device) = &view.device else { return };
    for destination in destinations(tunnel) {
        for mut packet in take(shared, destination) {
            let outcome = Sender::new(shared, tunnel).packet(packet.left, &mut packet.bytes);
            settle(shared, device.packets(), outcome);
        }
    }
}

/// Answers the packets that wait for `destination` with an error.
pub(crate) fn refuse(shared: &Shared, destination: IpAddr) {
    let view = shared.present.get();
    for packet in take(shared, destination) {
        add(&shared.counters.waiting_refused);
        let answer = icmp::build(&packet.bytes, icmp::Error::Prohibited);
        if let (Some(device), Some(answer)) = (&view.device, answer) {
            settle(shared, device.packets(), Outcome::Answer(answer));
        }
    }
}

fn take(shared: &Shared, destination: IpAddr) -> Vec<crate::waiting::Packet> {
    let now_ns = shared.now_ns();
    let (fresh, stale) = shared.waiting().take(destination, now_ns);
    shared
        .counters
        .waiting_expired
        .fetch_add(stale, std::sync::atomic::Ordering::Relaxed);
    fresh
}

fn settle(shared: &Shared, packets: &dyn Packets, outcome: Outcome) {
    match outcome {
        Outcome::Sealed | Outcome::NotUp => {}
        Outcome::Dropped(reason) => shared.counters.dropped(reason),
        Outcome::Answer(answer) => {
            if packets.write(Left::Nothing, [&answer, &[]]).is_err() {
                add(&shared.counters.device_refused);
            }
        }
    }
}
