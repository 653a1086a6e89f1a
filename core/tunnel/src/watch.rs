//! Waiting for one of several descriptors.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Waits until one of `descriptors` has something to read, or fails, for
/// `limit_ms` at most; which of them, each with what it has.
pub(crate) fn watch<const N: usize>(
    descriptors: [BorrowedFd<'_>; N],
    limit_ms: Option<u64>,
) -> io::Result<[PollFlags; N]> {
    let mut watched = descriptors.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let limit = limit_ms.map(|ms| Timespec {
        tv_sec: (ms / 1000) as i64,
        tv_nsec: (ms % 1000 * 1_000_000) as i64,
    });
    while let Err(error) = poll(&mut watched, limit.as_ref()) {
        if error != Errno::INTR {
            return Err(error.into());
        }
    }
    Ok(watched.map(|fd| fd.revents()))
}
