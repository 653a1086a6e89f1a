//! Frames on their way, by the time they are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::frame::Frame;

/// Holds as much as 15 Gbit/s put on the way in 130 ms.
pub(crate) const LIMIT: usize = 256 << 20;

/// Frames by due time; of those due together, the earlier one first.
#[derive(Debug, Default)]
pub struct Queue {
    heap: BinaryHeap<Reverse<(u64, u64, Frame)>>,
    bytes: usize,
    pushed: u64,
}

impl Queue {
    /// Puts a frame on its way; false when there is no room left for it.
    pub fn push(&mut self, due: u64, frame: Frame) -> bool {
        if self.bytes + frame.len() > LIMIT {
            return false;
        }
        self.bytes += frame.len();
        self.pushed += 1;
        self.heap.push(Reverse((due, self.pushed, frame)));
        true
    }

    /// The next frame that is due at `now`.
    pub fn pop(&mut self, now: u64) -> Option<Frame> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse((_, _, frame)) = self.heap.pop()?;
        self.bytes -= frame.len();
        Some(frame)
    }

    /// When the next frame is due.
    pub fn next_due(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((due, ..))| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_leave_when_due_and_in_order_of_arrival() {
        let mut queue = Queue::default();
        for (due, byte) in [(20, 1), (10, 2), (10, 3)] {
            assert!(queue.push(due, vec![byte]));
        }

        assert_eq!(queue.pop(9), None);
        assert_eq!(queue.pop(10), Some(vec![2]));
        assert_eq!(queue.pop(10), Some(vec![3]));
        assert_eq!(queue.next_due(), Some(20));
    }

    #[test]
    fn a_full_queue_takes_nothing_until_something_left() {
        let mut queue = Queue::default();
        assert!(queue.push(1, vec![0; LIMIT]));

        assert!(!queue.push(1, vec![0]));
        queue.pop(1);
        assert!(queue.push(1, vec![0]));
    }
}
