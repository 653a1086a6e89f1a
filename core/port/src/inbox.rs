//! The bounded queue between the packet threads and Python's event loop.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::wake::Wake;

/// A bounded queue, many writers, whose descriptor is readable exactly while it
/// holds something. Nothing here ever waits for the other side: a full queue
/// drops what comes and counts it.
#[derive(Debug)]
pub struct Inbox<T> {
    items: Mutex<VecDeque<T>>,
    capacity: usize,
    wake: Wake,
    dropped: AtomicU64,
}

impl<T> Inbox<T> {
    /// A queue of at most `capacity` items (at least one); fails when the
    /// process has no descriptor left.
    pub fn new(capacity: usize) -> io::Result<Self> {
        Ok(Self {
            items: Mutex::new(VecDeque::new()),
            capacity: capacity.max(1),
            wake: Wake::new()?,
            dropped: AtomicU64::new(0),
        })
    }

    /// Adds `item`; false when the queue was full and the item is lost.
    pub fn push(&self, item: T) -> bool {
        self.push_with(|| item)
    }

    /// Adds what `make` returns; a full queue does not call it, so that a flood
    /// costs no allocation. False when the item is lost.
    pub fn push_with(&self, make: impl FnOnce() -> T) -> bool {
        let mut items = self.lock();
        if items.len() >= self.capacity {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        items.push_back(make());
        if items.len() == 1 {
            self.wake.set();
        }
        true
    }

    /// Takes up to `max` items, oldest first.
    pub fn drain(&self, max: usize) -> Vec<T> {
        let mut items = self.lock();
        let count = max.min(items.len());
        let taken: Vec<T> = items.drain(..count).collect();
        if items.is_empty() && !taken.is_empty() {
            self.wake.clear();
        }
        taken
    }

    /// Descriptor to watch: readable exactly while the queue holds something.
    /// Only [`Inbox::drain`] may read it.
    pub fn fd(&self) -> RawFd {
        self.wake.fd()
    }

    /// How many items a full queue has cost so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn readable<T>(inbox: &Inbox<T>) -> bool {
        let mut watched = [PollFd::new(&inbox.wake, PollFlags::IN)];
        poll(&mut watched, Some(&Timespec::default())).expect("poll") == 1
    }

    #[test]
    fn a_full_queue_drops_the_newest_and_counts_it() {
        let inbox = Inbox::new(2).expect("a descriptor");

        let kept: Vec<bool> = (0..4).map(|n| inbox.push(n)).collect();

        assert_eq!(kept, [true, true, false, false]);
        assert_eq!(inbox.dropped(), 2);
        assert_eq!(inbox.drain(10), [0, 1]);
    }

    #[test]
    fn the_descriptor_is_readable_exactly_while_something_is_queued() {
        let inbox = Inbox::new(8).expect("a descriptor");
        assert!(!readable(&inbox));

        inbox.push(1);
        inbox.push(2);
        assert!(readable(&inbox));
        inbox.drain(1);
        assert!(readable(&inbox));
        inbox.drain(1);
        assert!(!readable(&inbox));
        inbox.drain(1);
        inbox.push(3);
        assert!(readable(&inbox));
    }

    #[test]
    fn many_writers_lose_nothing_that_was_accepted() {
        let inbox = Arc::new(Inbox::new(100_000).expect("a descriptor"));
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || (0..1000).for_each(|n| assert!(inbox.push((writer, n)))))
            })
            .collect();
        writers
            .into_iter()
            .for_each(|writer| writer.join().expect("a writer"));

        let mut taken = Vec::new();
        while readable(&inbox) {
            taken.extend(inbox.drain(97));
        }

        assert_eq!(taken.len(), 4000);
        for writer in 0..4 {
            assert!(
                taken
                    .iter()
                    .filter(|(w, _)| *w == writer)
                    .map(|(_, n)| *n)
                    .eq(0..1000)
            );
        }
    }
}
