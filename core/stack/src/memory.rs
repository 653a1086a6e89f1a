//! Room for a connection's buffers, straight from the system: what is never
//! written costs nothing, and all of it goes back at the end. A general
//! allocator keeps it and clears it for the next connection, so that thousands
//! of idle ones would hold megabytes each.

use std::ptr::{self, NonNull};
use std::slice;

/// See the module. Zeros at first.
#[derive(Debug)]
pub(crate) struct Memory {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: it is owned memory like a Box<[u8]>, bound to no thread.
unsafe impl Send for Memory {}

impl Memory {
    /// None when the system has no more.
    pub(crate) fn new(length: usize) -> Option<Self> {
        let length = length.max(1);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at a place of the system's choice touches nothing else.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        NonNull::new(start.cast()).map(|start| Self { start, length })
    }

    /// The two parts of it, the first of `first` bytes.
    ///
    /// # Safety
    /// They must be used only while this memory lives, and asked for only once.
    pub(crate) unsafe fn halves(&mut self, first: usize) -> [&'static mut [u8]; 2] {
        // SAFETY: the mapping is readable and writable, as long as the slice, and zeroed; that
        // nobody else uses it, nor uses it too long, the caller promises.
        let whole = unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.length) };
        <[_; 2]>::from(whole.split_at_mut(first.min(self.length)))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and whole; whoever used it is gone (see `halves`).
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_are_zeros_and_apart() {
        let mut memory = Memory::new(10_000).expect("the system has some");
        // SAFETY: asked once, and used while it lives.
        let [first, second] = unsafe { memory.halves(4_000) };
        assert!(first.iter().chain(second.iter()).all(|byte| *byte == 0));
        assert_eq!([first.len(), second.len()], [4_000, 6_000]);
        first.fill(1);
        second.fill(2);
        assert!(first.iter().all(|byte| *byte == 1));
    }

    #[test]
    fn more_than_there_is_is_refused() {
        assert!(Memory::new(usize::MAX / 2).is_none());
    }
}
