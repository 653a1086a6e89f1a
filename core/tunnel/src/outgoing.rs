//! From the packet device to the peers: one thread.

use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use ntmobile_capsule::{destination, icmp};
use ntmobile_port::Wake;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::counters::add;
use crate::packets::{HEADROOM, Left, Packets};
use crate::sending::{Outcome, Sender};
use crate::shared::Shared;
use crate::signal::Signal;
use crate::tunnel::Tunnel;
use crate::view::{Seen, destinations};
use crate::waiting::Placed;

/// Packets after which a tunnel is let go of, so that Python's thread gets a turn.
const TURN: usize = 64;
/// How often the loop steps aside for a command at most.
const PATIENCE: usize = 1000;
const LONGEST: usize = 1 << 16;

/// Reads packets, and seals and sends each through its tunnel, until `stop`
/// is set or the device is gone.
pub(crate) fn run(shared: &Shared, packets: &Arc<dyn Packets>, stop: &Wake) {
    let mut outgoing = Outgoing {
        shared,
        packets: packets.as_ref(),
        seen: shared.present.see(),
        buffer: vec![0; LONGEST + HEADROOM],
    };
    while let Ok(false) = wait(packets.as_ref(), stop) {
        if outgoing.drain().is_err() {
            return;
        }
    }
}

struct Outgoing<'a> {
    shared: &'a Shared,
    packets: &'a dyn Packets,
    seen: Seen,
    buffer: Vec<u8>,
}

/// A packet in the buffer.
struct Read {
    left: Left,
    range: Range<usize>,
    destination: Option<IpAddr>,
}

impl Outgoing<'_> {
    /// Sends what waits in the device, but not for ever: a device that is
    /// never empty must not keep the loop from being stopped.
    fn drain(&mut self) -> io::Result<()> {
        self.seen.refresh(&self.shared.present);
        let mut next = self.read()?;
        for _ in 0..TURN {
            let Some(read) = next else { return Ok(()) };
            next = match self.tunnel(&read) {
                Some(tunnel) => self.drain_into(&tunnel, read)?,
                None => {
                    self.wait_for_tunnel(&read);
                    self.read()?
                }
            };
        }
        if let Some(read) = next {
            self.single(&read);
        }
        Ok(())
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
        let outcome = Sender::new(self.shared, &tunnel).packet(read.left, packet);
        match outcome {
            Outcome::NotUp => self.wait_for_tunnel(read),
            outcome => settle(self.shared, self.packets, outcome),
        }
    }

    fn read(&mut self) -> io::Result<Option<Read>> {
        let Some((left, range)) = self.packets.read(&mut self.buffer)? else {
            return Ok(None);
        };
        let destination = destination(&self.buffer[range.clone()]);
        Ok(Some(Read {
            left,
            range,
            destination,
        }))
    }

    fn tunnel(&self, read: &Read) -> Option<Arc<Tunnel>> {
        self.seen
            .view
            .destinations
            .get(&read.destination?)
            .map(Arc::clone)
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
    let Some(packets) = shared.present.get().packets.clone() else {
        return;
    };
    for destination in destinations(tunnel) {
        for mut packet in take(shared, destination) {
            let outcome = Sender::new(shared, tunnel).packet(packet.left, &mut packet.bytes);
            settle(shared, packets.as_ref(), outcome);
        }
    }
}

/// Answers the packets that wait for `destination` with an error.
pub(crate) fn refuse(shared: &Shared, destination: IpAddr) {
    let packets = shared.present.get().packets.clone();
    for packet in take(shared, destination) {
        add(&shared.counters.waiting_refused);
        let answer = icmp::build(&packet.bytes, icmp::Error::Prohibited);
        if let (Some(packets), Some(answer)) = (&packets, answer) {
            settle(shared, packets.as_ref(), Outcome::Answer(answer));
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

/// Waits for a packet; true when `stop` is set instead.
fn wait(packets: &dyn Packets, stop: &Wake) -> io::Result<bool> {
    let mut watched = [
        PollFd::new(stop, PollFlags::IN),
        PollFd::from_borrowed_fd(packets.descriptor(), PollFlags::IN),
    ];
    while let Err(error) = poll(&mut watched, None) {
        if error != Errno::INTR {
            return Err(error.into());
        }
    }
    let gone = PollFlags::ERR | PollFlags::NVAL;
    if watched[1].revents().intersects(gone) && !watched[1].revents().contains(PollFlags::IN) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Ok(!watched[0].revents().is_empty())
}
