//! When to look at which connection again. Entries are never taken back: one
//! that has become wrong costs a look.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use smoltcp::time::Instant;

#[derive(Default)]
struct Due {
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
    stopped: bool,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Timers {
    due: Mutex<Due>,
    changed: Condvar,
}

impl Timers {
    pub(crate) fn add(&self, at: Instant, id: u64) {
        let mut due = self.lock();
        let first = due
            .heap
            .peek()
            .is_none_or(|Reverse((first, _))| at < *first);
        due.heap.push(Reverse((at, id)));
        if first {
            self.changed.notify_all();
        }
    }

    /// Takes one whose time has come, with that time.
    pub(crate) fn take(&self, now: Instant) -> Option<(Instant, u64)> {
        let mut due = self.lock();
        let Reverse((at, _)) = due.heap.peek()?;
        if *at > now {
            return None;
        }
        due.heap.pop().map(|Reverse(entry)| entry)
    }

    /// When the next is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.lock().heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Waits until one is due; false when it was stopped.
    pub(crate) fn wait(&self, clock: impl Fn() -> Instant) -> bool {
        let mut due = self.lock();
        while !due.stopped {
            let next = due.heap.peek().map(|Reverse((at, _))| *at);
            due = match next.map(|at| (at, clock())) {
                Some((at, now)) if at <= now => return true,
                Some((at, now)) => {
                    let left = (at - now).into();
                    let waited = self.changed.wait_timeout(due, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .changed
                    .wait(due)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
        false
    }

    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
