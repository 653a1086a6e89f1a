//! Sealing inner packets into a tunnel's log and sending them from there.

use std::io;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use ntmobile_capsule::{
    Checksum, Dropped, Form, HEADER, Inner, Kind, LEAST_V6, Missing, OVERHEAD, ReceiveState, Super,
    TRAILER, clamp, ecn, finish_at, icmp, split, split_v6,
};
use ntmobile_port::{Address, Socket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::counters::add;
use crate::own::through;
use crate::packets::Left;
use crate::shared::Shared;
use crate::signal::Signal;
use crate::tunnel::{Gate, Path, Sending, Tunnel};

/// ECN bits of what is not a fresh inner packet.
const NOT_CAPABLE: u8 = 0;

/// A tunnel that sent nothing for so long wakes with its next packet.
const QUIET_NS: u64 = 1_000_000_000;

/// How long a full socket buffer is waited for; then the capsules stay in the
/// log, and a later move sends them again.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// The sending half of a tunnel, locked. What was sealed is sent when a run is
/// full, by [`Sender::flush`], or when this is dropped.
pub(crate) struct Sender<'a> {
    shared: &'a Shared,
    tunnel: &'a Tunnel,
    sending: MutexGuard<'a, Sending>,
    now_ns: u64,
}

/// What became of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Sealed; sent by the next flush at the latest.
    Sealed,
    /// The tunnel has no keys or no path: it has to wait.
    NotUp,
    /// It gets this packet as an answer instead.
    Answer(Vec<u8>),
    /// The tunnel does not carry it.
    Dropped(Dropped),
}

impl<'a> Sender<'a> {
    pub(crate) fn new(shared: &'a Shared, tunnel: &'a Tunnel) -> Self {
        Self {
            shared,
            tunnel,
            sending: tunnel.sending(),
            now_ns: shared.now_ns(),
        }
    }

    /// The same for a command, which the packet loop lets through.
    pub(crate) fn for_command(shared: &'a Shared, tunnel: &'a Tunnel) -> Self {
        Self {
            shared,
            tunnel,
            sending: tunnel.command(),
            now_ns: shared.now_ns(),
        }
    }

    /// Seals one packet from the device.
    pub(crate) fn packet(&mut self, left: Left, packet: &mut [u8]) -> Outcome {
        let Some(path) = self.sending.path.filter(|_| self.sending.is_up()) else {
            return Outcome::NotUp;
        };
        let inner = match Inner::parse(packet) {
            Ok(inner) => inner,
            Err(reason) => return Outcome::Dropped(reason),
        };
        let packet = &mut packet[..inner.total];
        self.mark(ecn::of(packet));
        match left {
            Left::Segments(whole) => self.super_packet(&path, &inner, whole, packet),
            _ => self.plain(&path, &inner, left, packet),
        }
    }

    /// Sends what was sealed, unless it is to stay in the log.
    pub(crate) fn flush(&mut self) {
        let sending = &mut *self.sending;
        let (Some(run), Some(path)) = (sending.log.open_run(), &sending.path) else {
            return;
        };
        let leaves = sending.gate == Gate::Open;
        let socket = through(self.shared, &sending.own, path);
        let result = leaves.then(|| send_run(socket, path, run, sending.ecn));
        sending.log.close_run();
        sending.held = match result {
            Some(Ok(())) => None,
            Some(Err(_)) | None => sending.held.or(sending.run),
        };
        if let Some(result) = result {
            self.note(result);
        }
    }

    /// Seals `payload` as a control message and sends it to `path`, or to the
    /// tunnel's own; false when there is no key or nowhere to send.
    pub(crate) fn control(&mut self, payload: &[u8], path: Option<Path>) -> bool {
        let Some(path) = path.or(self.sending.way()) else {
            return false;
        };
        let mut capsule = vec![0; payload.len() + OVERHEAD];
        capsule[HEADER..][..payload.len()].copy_from_slice(payload);
        if self
            .sending
            .sealer
            .seal(Form::Control, &mut capsule)
            .is_err()
        {
            return false;
        }
        self.sending.traffic.count(payload.len(), self.now_ns);
        let stride = capsule.len();
        let bytes = &capsule;
        let socket = through(self.shared, &self.sending.own, &path);
        let result = send_run(socket, &path, Missing { bytes, stride }, NOT_CAPABLE);
        self.note(result);
        true
    }

    /// Sends what was held, if data may leave.
    pub(crate) fn let_go(&mut self) {
        if self.sending.gate == Gate::Open && self.sending.held.is_some() {
            self.resend(&[]);
        }
    }

    /// Sends again what the peer that reported `told` misses, and what was
    /// held; how many capsules.
    pub(crate) fn resend(&mut self, told: &[&ReceiveState]) -> usize {
        let Some(path) = self.sending.way() else {
            return 0;
        };
        let before_held = self.sending.before_held();
        let untold = |held: &&ReceiveState| told.iter().all(|state| state.epoch != held.epoch);
        let told: Vec<_> = told
            .iter()
            .copied()
            .chain(before_held.as_ref().filter(untold))
            .collect();
        self.sending.gate = Gate::Open;
        self.sending.held = None;
        let socket = through(self.shared, &self.sending.own, &path);
        let missing = self.sending.log.missing(&told);
        let count = missing
            .iter()
            .map(|run| run.bytes.len().div_ceil(run.stride))
            .sum();
        let results: Vec<_> = missing
            .into_iter()
            .map(|run| send_run(socket, &path, run, NOT_CAPABLE))
            .collect();
        results.into_iter().for_each(|result| self.note(result));
        count
    }

    /// The outer header carries the inner one's ECN bits (RFC 6040, normal mode).
    fn mark(&mut self, ecn: u8) {
        if self.sending.ecn != ecn {
            self.flush();
            self.sending.ecn = ecn;
        }
    }

    fn plain(&mut self, path: &Path, inner: &Inner, left: Left, packet: &mut [u8]) -> Outcome {
        if packet.len() > usize::from(path.mtu) {
            return self.oversized(path, inner, left, packet);
        }
        let (partial, checksum) = match left {
            Left::Checksum { start, offset } if is_upper(inner, packet, start, offset) => {
                (true, Checksum::Partial)
            }
            Left::Checksum { start, offset } => {
                finish_at(packet, usize::from(start), usize::from(offset));
                (false, Checksum::Full)
            }
            _ => (false, Checksum::Full),
        };
        clamp::clamp(packet, inner, usize::from(path.mtu), checksum);
        let form = Form::Plain { partial };
        let flow = inner.flow(packet);
        self.seal(form, packet.len(), flow, |content| {
            content.copy_from_slice(packet);
        })
    }

    fn super_packet(
        &mut self,
        path: &Path,
        inner: &Inner,
        whole: Super,
        packet: &mut [u8],
    ) -> Outcome {
        let Some(whole) = fit(whole, usize::from(path.mtu)) else {
            return self.answer_too_big(path, inner, packet);
        };
        let flow = inner.flow(packet);
        self.sending.serial = self.sending.serial.wrapping_add(1);
        let serial = self.sending.serial;
        let count = whole.count(packet);
        let rest =
            packet.len() - usize::from(whole.headers) - (count - 1) * usize::from(whole.size);
        for index in 0..count {
            let payload = if index + 1 == count {
                rest
            } else {
                usize::from(whole.size)
            };
            let length = payload + usize::from(whole.headers) + TRAILER;
            let outcome = self.seal(Form::Segment, length, flow, |content| {
                whole.write(packet, index, serial, content);
            });
            if outcome != Outcome::Sealed {
                return outcome;
            }
        }
        Outcome::Sealed
    }

    /// Seals a content of `length` bytes that `write` makes, right in the log.
    fn seal(
        &mut self,
        form: Form,
        length: usize,
        flow: u32,
        write: impl FnOnce(&mut [u8]),
    ) -> Outcome {
        let capsule = length + OVERHEAD;
        let next = self.sending.sealer.sealed();
        let begins = !self.sending.log.joins(capsule, next);
        if begins {
            self.flush();
        }
        let Sending { sealer, log, .. } = &mut *self.sending;
        let room = log.place(capsule);
        write(&mut room[HEADER..HEADER + length]);
        let (Some(active), Ok(counter)) = (sealer.active(), sealer.seal(form, room)) else {
            return Outcome::NotUp;
        };
        log.commit(capsule, counter, active, flow);
        if begins {
            self.sending.run = Some((active.0, counter));
        }
        self.sending.traffic.count(length, self.now_ns);
        self.wake();
        self.remind(counter);
        Outcome::Sealed
    }

    /// Python judges a path by what answers, and looks seldom at a quiet one.
    fn wake(&mut self) {
        let now_ns = self.now_ns;
        let before = self.sending.busy_ns.replace(now_ns);
        if before.is_none_or(|before| now_ns.saturating_sub(before) >= QUIET_NS) {
            let index = self.tunnel.index;
            self.shared.tell_with(|| Signal::Woken(index));
        }
    }

    /// A packet above the path's size: an error for who forbade fragments,
    /// fragments for others, and for IPv6 of a size that all paths must carry.
    fn oversized(&mut self, path: &Path, inner: &Inner, left: Left, packet: &mut [u8]) -> Outcome {
        let mtu = usize::from(path.mtu);
        let allowed = if inner.v6 {
            packet.len() <= LEAST_V6
        } else {
            packet[6] & 0x40 == 0
        };
        if !allowed {
            return self.answer_too_big(path, inner, packet);
        }
        if let Left::Checksum { start, offset } = left {
            finish_at(packet, usize::from(start), usize::from(offset));
        }
        let fragments = if inner.v6 {
            split_v6(packet, inner, mtu, self.sending.sealer.sealed() as u32)
        } else {
            split(packet, inner, mtu)
        };
        if fragments.is_empty() {
            return self.answer_too_big(path, inner, packet);
        }
        for mut fragment in fragments {
            let outcome = self.packet(Left::Nothing, &mut fragment);
            if outcome != Outcome::Sealed {
                return outcome;
            }
        }
        Outcome::Sealed
    }

    fn answer_too_big(&self, path: &Path, inner: &Inner, packet: &[u8]) -> Outcome {
        add(&self.shared.counters.too_big);
        let least = if inner.v6 { LEAST_V6 as u16 } else { 0 };
        let mtu = path.mtu.max(least);
        match icmp::build(packet, icmp::Error::TooBig { mtu }) {
            Some(answer) => Outcome::Answer(answer),
            None => Outcome::Dropped(Dropped::Malformed),
        }
    }

    fn remind(&mut self, counter: u64) {
        let due = counter >= self.shared.rekey_after.load(Ordering::Relaxed);
        if due && !self.sending.told_due {
            let index = self.tunnel.index;
            self.sending.told_due = self.shared.tell_with(|| Signal::RekeyDue(index));
        }
    }

    /// A refusal is told once, until sending works again.
    fn note(&mut self, result: io::Result<()>) {
        let Err(error) = result else {
            self.sending.told_failure = false;
            return;
        };
        add(&self.shared.counters.send_failed);
        if !self.sending.told_failure {
            let index = self.tunnel.index;
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            self.sending.told_failure = self
                .shared
                .tell_with(|| Signal::SendFailed { index, errno });
        }
    }
}

impl Drop for Sender<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The super-packet in segments that the path carries; none where its system
/// can be told to make them smaller. IPv6's systems never go below 1280 bytes.
fn fit(whole: Super, mtu: usize) -> Option<Super> {
    let headers = usize::from(whole.headers);
    let segment = headers + usize::from(whole.size);
    if segment <= mtu {
        return Some(whole);
    }
    let cut = whole.kind == Kind::TcpV6 && segment <= LEAST_V6 && mtu > headers;
    cut.then(|| Super {
        size: (mtu - headers) as u16,
        ..whole
    })
}

/// The offloaded checksum is the one that the receiver will look for.
fn is_upper(inner: &Inner, packet: &[u8], start: u16, offset: u16) -> bool {
    let at = usize::from(start) + usize::from(offset);
    inner.is_offloadable()
        && inner.upper == usize::from(start)
        && inner.checksum(packet) == Some(at)
}

fn send_run(socket: Option<&Socket>, path: &Path, run: Missing<'_>, ecn: u8) -> io::Result<()> {
    let socket = socket.ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
    let single = run.bytes.len() <= run.stride;
    let stride = if single { 0 } else { run.stride as u16 };
    match send(socket, path, run.bytes, stride, ecn) {
        // A device without checksum offload refuses what it cannot cut up.
        Err(error) if !single && cannot_segment(&error) => run
            .bytes
            .chunks(run.stride)
            .try_for_each(|capsule| send(socket, path, capsule, 0, ecn)),
        result => result,
    }
}

fn cannot_segment(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL))
}

fn send(socket: &Socket, path: &Path, bytes: &[u8], stride: u16, ecn: u8) -> io::Result<()> {
    let mut address = Address::new(path.destination, path.interface, stride).with_ecn(ecn);
    match socket.send(&mut address, bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&PATIENCE))?;
            socket.send(&mut address, bytes)
        }
        result => result,
    }
}
