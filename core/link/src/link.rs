//! Two ports and the two threads between them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};

use crate::Settings;
use crate::direction::{Counters, Direction, Shared, Statistics};
use crate::port::Port;

/// A direction of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// From the first port to the second.
    Out,
    /// From the second port to the first.
    Back,
}

/// A running link; dropping it stops it, and what is on the way is lost.
#[derive(Debug)]
pub struct Link {
    ways: [Running; 2],
}

#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// Joins two ports as a plain wire; `seed` decides what the settings leave to
    /// chance. Fails when the system refuses descriptors or threads.
    pub fn join(first: Port, second: Port, seed: u64) -> io::Result<Self> {
        let (first, second) = (Arc::new(first), Arc::new(second));
        let out = Running::start(first.clone(), second.clone(), seed, "link-out")?;
        let back = Running::start(second, first, !seed, "link-back")?;
        Ok(Self { ways: [out, back] })
    }

    /// Settings for what arrives from now on.
    pub fn set(&self, way: Way, settings: Settings) {
        let shared = &self.ways[way as usize].shared;
        let mut current = shared
            .settings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *current = (settings, current.1 + 1);
        drop(current);
        shared.wake();
    }

    /// What happened in one direction so far.
    pub fn statistics(&self, way: Way) -> Statistics {
        self.ways[way as usize].shared.counters.read()
    }
}

impl Running {
    fn start(input: Arc<Port>, output: Arc<Port>, seed: u64, name: &str) -> io::Result<Self> {
        let wake: OwnedFd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let shared = Arc::new(Shared {
            settings: Mutex::new((Settings::default(), 0)),
            counters: Counters::default(),
            stop: AtomicBool::new(false),
            wake,
        });
        let direction = Direction::new(input, output, shared.clone(), seed);
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || direction.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn wake(&self) {
        // Full only when the thread has been told already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}
