//! One direction of a link: the thread that carries its frames.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::time::{ClockId, clock_gettime};

use crate::fate::{Fate, Fates};
use crate::frame::{Frame, VIRTIO};
use crate::port::Port;
use crate::queue::Queue;
use crate::segment::segments;
use crate::{Settings, frame};

/// Room for the largest super-packet there is.
const BUFFER: usize = VIRTIO + 14 + (1 << 16);
/// Frames this long keep the buffer they were read into.
const LARGE: usize = 1 << 14;
/// Frames read before those that became due meanwhile are written.
const BATCH: usize = 32;
/// The next best to a real-time thread.
const NICE: i32 = -20;

/// What the thread of one direction counts.
#[derive(Debug, Default)]
pub struct Counters {
    arrived: AtomicU64,
    delivered: AtomicU64,
    lost: AtomicU64,
    duplicated: AtomicU64,
    overflowed: AtomicU64,
    refused: AtomicU64,
    late_ns: AtomicU64,
}

/// What happened in one direction since the link was made, in packets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Statistics {
    /// Taken in.
    pub arrived: u64,
    /// Handed over, duplicates included.
    pub delivered: u64,
    /// Lost on purpose.
    pub lost: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Dropped because the rate's queue or the link's memory was full.
    pub overflowed: u64,
    /// Not taken by the interface at the other end.
    pub refused: u64,
    /// The longest that a packet left after it was due, in nanoseconds.
    pub late_ns: u64,
}

impl Counters {
    pub(crate) fn read(&self) -> Statistics {
        Statistics {
            arrived: self.arrived.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
            lost: self.lost.load(Relaxed),
            duplicated: self.duplicated.load(Relaxed),
            overflowed: self.overflowed.load(Relaxed),
            refused: self.refused.load(Relaxed),
            late_ns: self.late_ns.load(Relaxed),
        }
    }
}

/// What the thread shares with its owner.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Mutex<(Settings, u64)>,
    pub(crate) counters: Counters,
    pub(crate) stop: AtomicBool,
    /// Written to make the thread look.
    pub(crate) wake: OwnedFd,
}

pub(crate) struct Direction {
    input: Arc<Port>,
    output: Arc<Port>,
    shared: Arc<Shared>,
    fates: Fates,
    queue: Queue,
    settings: Settings,
    changes: u64,
    buffer: Frame,
}

impl Direction {
    pub(crate) fn new(input: Arc<Port>, output: Arc<Port>, shared: Arc<Shared>, seed: u64) -> Self {
        Self {
            input,
            output,
            shared,
            fates: Fates::new(seed),
            queue: Queue::default(),
            settings: Settings::default(),
            changes: 0,
            buffer: vec![0; BUFFER],
        }
    }

    /// Carries frames until it is told to stop, or an end is gone.
    pub(crate) fn run(mut self) {
        be_punctual();
        while !self.shared.stop.load(Relaxed) {
            self.look_at_settings();
            let Ok(more) = self.take_in() else { return };
            self.deliver_due();
            if !more && self.wait().is_err() {
                return;
            }
        }
    }

    fn look_at_settings(&mut self) {
        let (settings, changes) = *self
            .shared
            .settings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if changes != self.changes {
            self.settings = settings;
            self.changes = changes;
            self.fates.restart();
        }
    }

    /// Reads a batch; true when there may be more.
    fn take_in(&mut self) -> io::Result<bool> {
        for _ in 0..BATCH {
            let length = match self.input.read(&mut self.buffer) {
                Ok(Some(length)) => length,
                Ok(None) => return Ok(false),
                // The interface is down, for now.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => return Ok(false),
                Err(error) => return Err(error),
            };
            self.accept(length);
        }
        Ok(true)
    }

    fn accept(&mut self, length: usize) {
        if self.settings.spares_super_packets() || frame::whole(&self.buffer[..length]).is_none() {
            self.send_on(length);
            return;
        }
        for segment in segments(self.buffer[..length].to_vec()) {
            self.schedule(segment);
        }
    }

    /// Schedules the frame in the buffer, or writes it if it need not wait.
    fn send_on(&mut self, length: usize) {
        if self.settings.is_a_wire() && self.queue.next_due().is_none() {
            count(&self.shared.counters.arrived);
            self.write(&self.buffer[..length]);
            return;
        }
        let frame = if length >= LARGE {
            let mut frame = std::mem::replace(&mut self.buffer, vec![0; BUFFER]);
            frame.truncate(length);
            frame
        } else {
            self.buffer[..length].to_vec()
        };
        self.schedule(frame);
    }

    fn schedule(&mut self, frame: Frame) {
        let counters = &self.shared.counters;
        count(&counters.arrived);
        match self
            .fates
            .decide(&self.settings, frame.len() - VIRTIO, now())
        {
            Fate::Lost => count(&counters.lost),
            Fate::Overflow => count(&counters.overflowed),
            Fate::Leaves(due, again) => {
                if let Some(again) = again {
                    count(&counters.duplicated);
                    self.push(again, frame.clone());
                }
                self.push(due, frame);
            }
        }
    }

    fn push(&mut self, due: u64, frame: Frame) {
        if !self.queue.push(due, frame) {
            count(&self.shared.counters.overflowed);
        }
    }

    fn deliver_due(&mut self) {
        while let Some(due) = self.queue.next_due() {
            let now = now();
            let Some(frame) = self.queue.pop(now) else {
                return;
            };
            self.shared.counters.late_ns.fetch_max(now - due, Relaxed);
            self.write(&frame);
        }
    }

    fn write(&self, frame: &[u8]) {
        let counters = &self.shared.counters;
        match self.output.write(frame) {
            Ok(()) => count(&counters.delivered),
            Err(_) => count(&counters.refused),
        }
    }

    fn wait(&self) -> io::Result<()> {
        let mut events = [
            PollFd::new(&*self.input, PollFlags::IN),
            PollFd::new(&self.shared.wake, PollFlags::IN),
        ];
        let timeout = self.queue.next_due().map(|due| {
            let left = due.saturating_sub(now());
            Timespec {
                tv_sec: (left / 1_000_000_000) as i64,
                tv_nsec: (left % 1_000_000_000) as i64,
            }
        });
        match rustix::event::poll(&mut events, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if events[1].revents().contains(PollFlags::IN) {
            let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
        }
        Ok(())
    }
}

/// Time-outs to the nanosecond, and the processor before all that is not real-time:
/// on a busy machine a packet would else leave tens of milliseconds late. Without
/// the right to the latter, at least the former.
fn be_punctual() {
    // SAFETY: all-zero bytes are a valid sched_param.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = 1;
    // SAFETY: the parameters outlive the call; all calls concern this thread.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong);
        if libc::sched_setscheduler(0, libc::SCHED_RR, &raw const parameters) != 0 {
            libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
        }
    }
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
