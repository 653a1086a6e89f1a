//! A user-space link with delay, jitter, loss, duplication, reordering and a
//! rate, for machines whose kernel has no netem.
//!
//! A [`Link`] joins an interface that exists, and whose packets nobody else must
//! take, with a TAP device that it makes. One thread per direction reads frames,
//! lets [`Fates`] decide about each, and writes them when they are due.
//!
//! Super-packets of segmentation offload pass whole while the link does nothing
//! but delay. Otherwise they are cut first, so that each packet that a wire would
//! carry has a fate of its own.

mod direction;
mod fate;
mod frame;
mod link;
mod port;
mod queue;
mod random;
mod segment;

pub use direction::{Counters, Statistics};
pub use fate::{Fate, Fates};
pub use frame::Frame;
pub use link::{Link, Way};
pub use port::Port;
pub use queue::Queue;
pub use segment::segments;

/// What happens to the packets of one direction; zero means that it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Settings {
    /// From arrival to departure.
    pub delay_ns: u64,
    /// Added to the delay, evenly spread from 0 to this; never reorders.
    pub jitter_ns: u64,
    /// Probability that a packet vanishes.
    pub loss: f64,
    /// Probability that a packet arrives twice.
    pub duplicate: f64,
    /// Probability that a packet is held back and overtaken.
    pub reorder: f64,
    /// How long it is held back.
    pub reorder_ns: u64,
    /// Bits a second, counted from the Ethernet header on; 0 is no limit.
    pub rate_bps: u64,
    /// Longest wait for the rate; what would wait longer is dropped.
    pub queue_ns: u64,
}

impl Settings {
    /// Whether packets pass at once and as they are.
    pub fn is_a_wire(&self) -> bool {
        self.delay_ns == 0 && self.spares_super_packets()
    }

    /// Whether a super-packet may pass as one.
    pub fn spares_super_packets(&self) -> bool {
        self.rate_bps == 0
            && self.jitter_ns == 0
            && [self.loss, self.duplicate, self.reorder] == [0.0; 3]
    }
}
