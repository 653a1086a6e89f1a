//! Packets from this node to itself: they never leave the stack.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct Waiting {
    packets: VecDeque<Vec<u8>>,
    /// Somebody takes them, one after the other.
    taken: bool,
}

/// See the module. One at a time takes them, so that they keep their order and
/// an answer to a packet never comes while that packet is handled.
#[derive(Default)]
pub(crate) struct Home(Mutex<Waiting>);

impl Home {
    pub(crate) fn put(&self, packets: impl Iterator<Item = Vec<u8>>) {
        self.lock().packets.extend(packets);
    }

    /// True when the caller is to take them now, until there is none left.
    pub(crate) fn begin(&self) -> bool {
        !std::mem::replace(&mut self.lock().taken, true)
    }

    pub(crate) fn next(&self) -> Option<Vec<u8>> {
        let mut waiting = self.lock();
        let next = waiting.packets.pop_front();
        waiting.taken = next.is_some();
        next
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
