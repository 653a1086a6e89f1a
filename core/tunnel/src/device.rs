//! The packet device, and who reads it.
//!
//! While little comes, the thread that receives from the peers reads the device
//! too: an answer that its own packet provoked then leaves without waking
//! another thread. While much comes, a second thread reads the device, so that
//! both directions run at once.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ntmobile_port::Wake;

use crate::outgoing::{Outgoing, buffer};
use crate::packets::Packets;
use crate::shared::Shared;
use crate::watch::watch;

/// Packets that one turn finds when one thread is no longer enough.
const BUSY: usize = 4;
/// How long the device is silent before the second thread rests again, in ms.
const SILENCE_MS: u64 = 20;

/// A packet device with its reading side.
pub(crate) struct Device {
    packets: Arc<dyn Packets>,
    buffer: Mutex<Vec<u8>>,
    busy: AtomicBool,
    gone: AtomicBool,
    begin: Wake,
}

impl Device {
    /// Fails when the process has no descriptor left.
    pub(crate) fn new(packets: Arc<dyn Packets>) -> std::io::Result<Self> {
        Ok(Self {
            packets,
            buffer: Mutex::new(buffer()),
            busy: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            begin: Wake::new()?,
        })
    }

    pub(crate) fn packets(&self) -> &dyn Packets {
        self.packets.as_ref()
    }

    /// What the receiving thread has to watch, if it is to read the device.
    pub(crate) fn watched(&self) -> Option<BorrowedFd<'_>> {
        let others = self.busy.load(Ordering::Acquire) || self.gone.load(Ordering::Relaxed);
        (!others).then(|| self.packets.descriptor())
    }

    /// The receiving thread's turn: reads what waits, and hands the device to
    /// the second thread if that is much.
    pub(crate) fn turn(&self, shared: &Shared) {
        if self.drain(shared) >= BUSY && !self.busy.swap(true, Ordering::AcqRel) {
            self.begin.set();
        }
    }

    /// The second thread: rests until the device is busy, until `stop` is set.
    pub(crate) fn run(&self, shared: &Shared, stop: &Wake) {
        while let Ok([_, stopped]) = watch([self.begin.as_fd(), stop.as_fd()], None) {
            if !stopped.is_empty() {
                return;
            }
            self.begin.clear();
            if !self.read_until_silent(shared, stop) {
                return;
            }
            self.busy.store(false, Ordering::Release);
            shared.kick.set();
        }
    }

    /// False when `stop` was set.
    fn read_until_silent(&self, shared: &Shared, stop: &Wake) -> bool {
        let watched = [stop.as_fd(), self.packets.descriptor()];
        while let Ok([stopped, ready]) = watch(watched, Some(SILENCE_MS)) {
            if !stopped.is_empty() {
                return false;
            }
            if ready.is_empty() || self.gone.load(Ordering::Relaxed) {
                return true;
            }
            self.drain(shared);
        }
        false
    }

    /// Only one thread at a time, so that packets keep their order.
    fn drain(&self, shared: &Shared) -> usize {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let view = shared.present.get();
        let drained = Outgoing::new(shared, self.packets(), &view, &mut buffer).drain();
        drained.unwrap_or_else(|_| {
            self.gone.store(true, Ordering::Relaxed);
            0
        })
    }
}
