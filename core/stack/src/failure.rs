//! Why something ended or could not begin, in the words of POSIX.

use std::fmt;

/// One of the errors that sockets have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens there (ECONNREFUSED).
    Refused,
    /// The other end broke off (ECONNRESET).
    Reset,
    /// No answer for too long (ETIMEDOUT).
    TimedOut,
    /// There is no way to that address (EHOSTUNREACH).
    Unreachable,
    /// The node's domain, or the peer, forbids it (EACCES).
    Prohibited,
    /// The port is taken (EADDRINUSE).
    InUse,
    /// This node has no virtual address of that family (EADDRNOTAVAIL).
    NoAddress,
    /// The datagram is larger than the path carries (EMSGSIZE).
    TooLong,
    /// There is no such connection, or it is not open (ENOTCONN).
    NotConnected,
    /// This side has said its last word (EPIPE).
    Closed,
    /// The system has no memory for one more (ENOBUFS).
    NoRoom,
}

impl Failure {
    /// The number by which systems know it.
    pub fn errno(self) -> i32 {
        match self {
            Self::Refused => libc::ECONNREFUSED,
            Self::Reset => libc::ECONNRESET,
            Self::TimedOut => libc::ETIMEDOUT,
            Self::Unreachable => libc::EHOSTUNREACH,
            Self::Prohibited => libc::EACCES,
            Self::InUse => libc::EADDRINUSE,
            Self::NoAddress => libc::EADDRNOTAVAIL,
            Self::TooLong => libc::EMSGSIZE,
            Self::NotConnected => libc::ENOTCONN,
            Self::Closed => libc::EPIPE,
            Self::NoRoom => libc::ENOBUFS,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::Reset => "connection reset by peer",
            Self::TimedOut => "timed out",
            Self::Unreachable => "no route to host",
            Self::Prohibited => "not allowed",
            Self::InUse => "address already in use",
            Self::NoAddress => "no virtual address of this family",
            Self::TooLong => "message too long",
            Self::NotConnected => "not connected",
            Self::Closed => "closed for sending",
            Self::NoRoom => "no buffer space available",
        })
    }
}

impl std::error::Error for Failure {}
