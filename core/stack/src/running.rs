//! A stack as the packet device of an engine, with a thread for the timers.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use ntmobile_tunnel::{Capability, Left, Packets};
use smoltcp::time::Instant;

use crate::stack::{Buffers, Stack};

/// See the module. Dropping it ends the thread.
pub struct Running {
    packets: Arc<Device>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the engine holds.
struct Device {
    stack: Stack,
    started: std::time::Instant,
}

impl Running {
    /// Fails when the process has no descriptor or thread left.
    pub fn new(seed: u64, buffers: Buffers) -> io::Result<Self> {
        let packets = Arc::new(Device {
            stack: Stack::new(seed, buffers, Instant::ZERO)?,
            started: std::time::Instant::now(),
        });
        let device = Arc::clone(&packets);
        let thread = thread::Builder::new()
            .name("ntm-stack".into())
            .spawn(move || device.run_timers())?;
        Ok(Self {
            packets,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// For `Engine::attach`.
    pub fn packets(&self) -> Arc<dyn Packets> {
        Arc::clone(&self.packets) as Arc<dyn Packets>
    }

    /// The stack, and what time it is there.
    pub fn now(&self) -> (&Stack, Instant) {
        (&self.packets.stack, self.packets.now())
    }

    /// Ends the thread; no connection moves any more.
    pub fn close(&self) {
        self.packets.stack.timers().stop();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A thread that panicked has nothing left to clean up.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.close();
    }
}

impl Device {
    fn now(&self) -> Instant {
        Instant::from_micros(self.started.elapsed().as_micros() as i64)
    }

    fn run_timers(&self) {
        while self.stack.timers().wait(|| self.now()) {
            self.stack.expire(self.now());
        }
    }
}

impl Packets for Device {
    fn capability(&self) -> Capability {
        // smoltcp takes a super-packet as one long segment.
        Capability {
            tcp: true,
            udp: false,
        }
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<Option<(Left, Range<usize>)>> {
        Ok(self.stack.take(buffer))
    }

    fn write(&self, _left: Left, pieces: [&[u8]; 2]) -> io::Result<()> {
        self.stack.handle(pieces.concat(), self.now());
        Ok(())
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.stack.outbox().descriptor()
    }
}
