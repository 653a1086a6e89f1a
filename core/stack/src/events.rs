//! What happened, for who waits: one entry a connection, port or listener,
//! however often something happened to it.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::io;
use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError};

use ntmobile_port::Wake;

/// Something to look at, of what has the number `id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Of a connection, listener or datagram port.
    pub id: u64,
    /// Some of [`Event::READABLE`] and the others.
    pub what: u8,
}

impl Event {
    /// There is data, or the end of it, or a connection to accept.
    pub const READABLE: u8 = 1;
    /// There is room to send; of a new connection: it stands.
    pub const WRITABLE: u8 = 2;
    /// It is over, both ways.
    pub const ENDED: u8 = 4;
}

#[derive(Default)]
struct Waiting {
    order: VecDeque<u64>,
    what: HashMap<u64, u8>,
}

/// See the module.
pub(crate) struct Events {
    waiting: Mutex<Waiting>,
    wake: Wake,
}

impl Events {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            waiting: Mutex::default(),
            wake: Wake::new()?,
        })
    }

    pub(crate) fn tell(&self, id: u64, what: u8) {
        if what == 0 {
            return;
        }
        let mut guard = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = &mut *guard;
        match waiting.what.entry(id) {
            Entry::Occupied(mut known) => *known.get_mut() |= what,
            Entry::Vacant(new) => {
                new.insert(what);
                waiting.order.push_back(id);
            }
        }
        if waiting.order.len() == 1 {
            self.wake.set();
        }
    }

    /// Takes up to `most` events, oldest first.
    pub(crate) fn drain(&self, most: usize) -> Vec<Event> {
        let mut guard = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = &mut *guard;
        let count = most.min(waiting.order.len());
        let taken = waiting
            .order
            .drain(..count)
            .filter_map(|id| waiting.what.remove(&id).map(|what| Event { id, what }))
            .collect();
        if waiting.order.is_empty() {
            self.wake.clear();
        }
        taken
    }

    /// Readable exactly while [`Events::drain`] has something.
    pub(crate) fn fd(&self) -> RawFd {
        self.wake.fd()
    }
}
