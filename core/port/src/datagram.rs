//! What the queue to Python carries.

use std::net::SocketAddr;

/// Longest datagram that is queued, in bytes; longer ones are counted and
/// dropped, so that a full queue has a known size. Signalling stays below 1200.
pub const LONGEST: usize = 2048;

/// One datagram that is not a capsule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it; never an IPv4-mapped IPv6 address.
    pub source: SocketAddr,
    /// Index of the interface it came in through; 0 when the system did not say.
    pub interface: u32,
    /// The UDP payload, at most [`LONGEST`] bytes.
    pub bytes: Vec<u8>,
}
