//! Which segment arrived that left last: RFC 8985 section 6.2, steps 1 to 4.

use smoltcp::time::{Duration, Instant};

use crate::scoreboard::{Order, Segment, before, earlier};

/// More doubts make one no more patient.
const MOST_DOUBTS: u32 = 16;
/// So many segments beyond one that is missing: RFC 5681 calls that a loss.
const ENOUGH: usize = 3;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Rack {
    /// What arrived that left last, and how long its way and its answer's took.
    latest: Option<(Order, Duration)>,
    /// The number behind all that arrived; and before the answer that is being read.
    reach: [Option<u32>; 2],
    /// Something came behind what left after it.
    reordered: bool,
    /// How often something was sent again that had not been lost.
    doubts: u32,
    /// What the answer being read is about: how many segments, and when that left last which
    /// left only once.
    news: (usize, Option<Instant>),
}

impl Rack {
    /// An answer is read.
    pub(crate) fn begin(&mut self) {
        self.reach[1] = self.reach[0];
        self.news = (0, None);
    }

    /// A segment arrived. `least` is the shortest round trip: an answer that comes sooner after
    /// a segment was sent again is one to its first copy.
    pub(crate) fn see(&mut self, segment: &Segment, least: Duration, now: Instant) {
        self.news.0 += 1;
        if !segment.again {
            let beyond = self.reach[1].is_some_and(|reach| before(segment.end, reach));
            self.reordered |= beyond;
            self.news.1 = self.news.1.max(Some(segment.sent));
        }
        if self.reach[0].is_none_or(|reach| before(reach, segment.end)) {
            self.reach[0] = Some(segment.end);
        }
        let trip = now - segment.sent;
        if segment.again && trip < least {
            return self.doubt();
        }
        let order = (segment.sent, segment.end);
        if self.latest.is_none_or(|(latest, _)| earlier(latest, order)) {
            self.latest = Some((order, trip));
        }
    }

    /// Something was sent again in vain.
    pub(crate) fn doubt(&mut self) {
        self.reordered = true;
        self.doubts = (self.doubts + 1).min(MOST_DOUBTS);
    }

    /// One time of loss is over.
    pub(crate) fn settle(&mut self) {
        self.doubts = self.doubts.saturating_sub(1);
    }

    /// How many segments arrived by the answer just read, and when one left that makes a sample.
    pub(crate) fn news(&self) -> (usize, Option<Instant>) {
        self.news
    }

    /// Before what a segment left that is lost when it left so long ago. `there` are beyond
    /// what is missing, or one `recovers` already; `trips` are the shortest round trip and the
    /// smoothed one.
    pub(crate) fn verdict(
        &self,
        there: usize,
        recovers: bool,
        [least, smoothed]: [Duration; 2],
    ) -> Option<(Order, Duration)> {
        let (order, trip) = self.latest?;
        let sure = !self.reordered && (recovers || there >= ENOUGH);
        let leeway = match sure {
            true => Duration::ZERO,
            false => smoothed.min(least * (1 + self.doubts) / 4),
        };
        Some((order, trip + leeway))
    }
}
