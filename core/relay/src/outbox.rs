//! Many sends in one system call: quinn-udp, which receives for us, sends one
//! message a call and cannot gather scattered pieces.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use ntmobile_port::{Address, Buffers, Socket};

use crate::group::{Group, Groups, Part};

/// What became of a batch, in capsules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    pub(crate) failed: u64,
}

/// The structures that sendmmsg reads; reused, so that sending allocates nothing.
#[derive(Default)]
pub(crate) struct Outbox {
    addresses: Vec<Address>,
    pieces: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: the pointers inside are written and read within one call of `send`.
unsafe impl Send for Outbox {}

impl Outbox {
    /// Sends every group through `socket`. A large send that the system cannot
    /// do is done one capsule at a time; what fails otherwise is lost, as on
    /// any path.
    pub(crate) fn send(&mut self, socket: &Socket, groups: &Groups, buffers: &Buffers) -> Outcome {
        self.fill(groups, buffers);
        let (mut outcome, mut first) = (Outcome::default(), 0);
        let mut left = groups.iter();
        while first < self.headers.len() {
            let result = self.send_from(socket, first);
            let accepted = *result.as_ref().unwrap_or(&0);
            outcome.sent += capsules(left.by_ref().take(accepted));
            first += accepted;
            if let (Err(error), Some(group)) = (result, left.next()) {
                outcome.add(retry(socket, group, buffers, &error));
                first += 1;
            }
        }
        outcome
    }

    fn fill(&mut self, groups: &Groups, buffers: &Buffers) {
        self.addresses.clear();
        self.pieces.clear();
        self.headers.clear();
        for group in groups.iter() {
            let stride = if group.segments() > 1 {
                group.stride as u16
            } else {
                0
            };
            self.addresses
                .push(Address::new(group.destination, 0, stride).with_ecn(group.ecn));
            self.pieces
                .extend(group.parts.iter().map(|part| piece(bytes(buffers, part))));
        }
        // Only now do addresses and pieces stay where they are.
        let mut pieces = &mut self.pieces[..];
        for (group, address) in groups.iter().zip(&mut self.addresses) {
            let (own, others) = pieces.split_at_mut(group.parts.len());
            let msg_hdr = address.header(own);
            self.headers.push(libc::mmsghdr {
                msg_hdr,
                msg_len: 0,
            });
            pieces = others;
        }
    }

    /// How many groups from the first on the system took; an error when it
    /// refused the first.
    fn send_from(&mut self, socket: &Socket, first: usize) -> io::Result<usize> {
        let headers = &mut self.headers[first..];
        loop {
            // SAFETY: the headers point into `addresses`, `pieces` and the buffers, which
            // stay in place during the call; sendmmsg writes only into the headers.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_fd().as_raw_fd(),
                    headers.as_mut_ptr(),
                    headers.len() as libc::c_uint,
                    libc::MSG_NOSIGNAL,
                )
            };
            if let Ok(sent) = usize::try_from(sent) {
                return Ok(sent);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.failed += other.failed;
    }
}

fn capsules<'a>(groups: impl Iterator<Item = &'a Group>) -> u64 {
    groups.map(|group| group.segments() as u64).sum()
}

/// Sends a refused group one capsule at a time if its size was the reason: the
/// device cannot segment, or the link is narrower than the capsules.
fn retry(socket: &Socket, group: &Group, buffers: &Buffers, error: &io::Error) -> Outcome {
    let too_large = [libc::EIO, libc::EINVAL, libc::EMSGSIZE].map(Some);
    if group.segments() == 1 || !too_large.contains(&error.raw_os_error()) {
        return Outcome {
            sent: 0,
            failed: group.segments() as u64,
        };
    }
    let mut outcome = Outcome::default();
    let mut address = Address::new(group.destination, 0, 0).with_ecn(group.ecn);
    for part in &group.parts {
        for capsule in bytes(buffers, part).chunks(group.stride) {
            let sent = socket.send(&mut address, capsule).is_ok();
            outcome.add(Outcome {
                sent: u64::from(sent),
                failed: u64::from(!sent),
            });
        }
    }
    outcome
}

fn bytes<'a>(buffers: &'a Buffers, part: &Part) -> &'a [u8] {
    &buffers.message(part.message)[part.start..part.end]
}

fn piece(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}
