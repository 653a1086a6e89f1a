//! Waiting for one of several descriptors.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

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

/// Waits without limit until one of `descriptors` or of `more` has something to
/// read, or fails: which of the first, and the numbers of the others.
pub(crate) fn watch_also<const N: usize>(
    descriptors: [BorrowedFd<'_>; N],
    more: &[BorrowedFd<'_>],
) -> io::Result<([bool; N], Vec<RawFd>)> {
    if more.is_empty() {
        let ready = watch(descriptors, None)?.map(|flags| !flags.is_empty());
        return Ok((ready, Vec::new()));
    }
    let mut watched: Vec<_> = descriptors
        .iter()
        .chain(more)
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    while let Err(error) = poll(&mut watched, None) {
        if error != Errno::INTR {
            return Err(error.into());
        }
    }
    let has = |place: usize| !watched[place].revents().is_empty();
    let others = more.iter().enumerate().filter(|(place, _)| has(N + place));
    let others = others.map(|(_, fd)| fd.as_raw_fd()).collect();
    Ok((std::array::from_fn(has), others))
}
