//! Waiting for sockets, and being woken from another thread.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use crate::pair::Pair;

/// A descriptor that is readable from [`Wake::set`] until [`Wake::clear`].
#[derive(Debug)]
pub struct Wake(OwnedFd);

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The IPv4 socket has something.
    pub v4: bool,
    /// The IPv6 socket has something.
    pub v6: bool,
    /// The wake is set.
    pub woken: bool,
}

impl Wake {
    /// A new descriptor, not readable; fails when the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    /// Makes the descriptor readable; never blocks.
    pub fn set(&self) {
        // EAGAIN means the counter is at its top: it is readable already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Makes the descriptor unreadable; never blocks.
    pub fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0_u8; 8]);
    }

    /// Number of the descriptor, valid while this lives.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Waits without limit until a socket of `pair` has something or the wake is set.
    pub fn wait(&self, pair: &Pair) -> io::Result<Ready> {
        // Without IPv6 its place is filled by the wake itself.
        let v6 = pair.v6.as_ref().map_or(self.as_fd(), AsFd::as_fd);
        let mut watched = [self.as_fd(), pair.v4.as_fd(), v6]
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        while let Err(error) = poll(&mut watched, None) {
            if error != Errno::INTR {
                return Err(error.into());
            }
        }
        let [woken, v4, v6] = watched.map(|fd| !fd.revents().is_empty());
        Ok(Ready {
            v4,
            v6: v6 && pair.v6.is_some(),
            woken,
        })
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
