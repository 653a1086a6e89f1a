//! How long to wait for an answer: RFC 6298, and the probe of RFC 8985 section 7.

use smoltcp::time::{Duration, Instant};

/// Before anything was measured.
const FIRST: Duration = Duration::from_secs(1);
/// RFC 6298 has one second; systems have used this for long, and a peer's delayed
/// acknowledgement comes earlier.
const LEAST: Duration = Duration::from_millis(200);
/// Doubling ends here: after a hole in the network, however long, a connection speaks again
/// within that time. One packet in it is no load on any network.
const MOST: Duration = Duration::from_secs(2);
/// Of a peer that has got several segments.
const DELAY: Duration = Duration::from_millis(10);
/// Of a peer that has got one, and waits for another before it acknowledges.
const DELAY_OF_ONE: Duration = Duration::from_millis(50);
/// Doubling more often reaches no further.
const DOUBLINGS: u32 = 8;

/// What is to be done when there was no answer for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The last segment leaves again, to get an answer that tells what is missing.
    Probe,
    /// The first leaves again.
    Timeout,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Patience {
    smoothed: Option<Duration>,
    varied: Duration,
    least: Option<Duration>,
    since: Instant,
    probed: bool,
    timeouts: u32,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self {
            smoothed: None,
            varied: Duration::ZERO,
            least: None,
            since: Instant::ZERO,
            probed: false,
            timeouts: 0,
        }
    }

    /// A round trip took `sample`: RFC 6298 section 2.
    pub(crate) fn measure(&mut self, sample: Duration) {
        self.least = Some(self.least.map_or(sample, |least| least.min(sample)));
        let Some(smoothed) = self.smoothed else {
            self.smoothed = Some(sample);
            self.varied = sample / 2;
            return;
        };
        let apart = smoothed.max(sample) - smoothed.min(sample);
        self.varied = (self.varied * 3 + apart) / 4;
        self.smoothed = Some((smoothed * 7 + sample) / 8);
    }

    /// The shortest round trip.
    pub(crate) fn least(&self) -> Duration {
        self.least.unwrap_or(Duration::ZERO)
    }

    pub(crate) fn smoothed(&self) -> Duration {
        self.smoothed.unwrap_or(Duration::ZERO)
    }

    /// Something left.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.since = now;
    }

    /// The peer has got something new.
    pub(crate) fn answered(&mut self, now: Instant) {
        self.since = now;
        self.probed = false;
        self.timeouts = 0;
    }

    /// What is next while so many segments are on their way, and when.
    pub(crate) fn next(&self, flying: usize) -> (Due, Instant) {
        let timeout = self.timeout();
        let delay = if flying == 1 { DELAY_OF_ONE } else { DELAY };
        match self.smoothed {
            Some(smoothed) if !self.probed && self.timeouts == 0 => {
                let probe = smoothed * 2 + delay;
                (Due::Probe, self.since + probe.min(timeout))
            }
            _ => (Due::Timeout, self.since + timeout),
        }
    }

    /// It was done.
    pub(crate) fn did(&mut self, due: Due, now: Instant) {
        self.since = now;
        match due {
            Due::Probe => self.probed = true,
            Due::Timeout => self.timeouts += 1,
        }
    }

    fn timeout(&self) -> Duration {
        let single = match self.smoothed {
            Some(smoothed) => LEAST.max(smoothed + self.varied * 4),
            None => FIRST,
        };
        let doubled = single * (1 << self.timeouts.min(DOUBLINGS));
        doubled.min(MOST.max(single))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIP: Duration = Duration::from_millis(20);

    fn measured() -> Patience {
        let mut patience = Patience::new();
        patience.measure(TRIP);
        patience
    }

    #[test]
    fn before_anything_was_measured_it_is_a_second() {
        let next = Patience::new().next(3);

        assert_eq!(next, (Due::Timeout, Instant::from_secs(1)));
    }

    #[test]
    fn a_probe_comes_first_and_later_for_one_segment() {
        let patience = measured();

        assert_eq!(patience.next(2), (Due::Probe, Instant::from_millis(50)));
        assert_eq!(patience.next(1), (Due::Probe, Instant::from_millis(90)));
    }

    #[test]
    fn waiting_doubles_up_to_two_seconds_and_an_answer_ends_that() {
        let mut patience = measured();
        patience.did(Due::Probe, Instant::ZERO);
        let mut waits = Vec::new();
        let mut now = Instant::ZERO;
        for _ in 0..6 {
            let (due, at) = patience.next(2);
            assert_eq!(due, Due::Timeout);
            waits.push((at - now).total_millis());
            now = at;
            patience.did(due, now);
        }
        assert_eq!(waits, [200, 400, 800, 1600, 2000, 2000]);

        patience.answered(now);
        assert_eq!(
            patience.next(2),
            (Due::Probe, now + Duration::from_millis(50))
        );
    }

    #[test]
    fn a_slow_path_is_waited_for_even_where_doubling_ends() {
        let mut patience = Patience::new();
        patience.measure(Duration::from_secs(3));
        patience.did(Due::Timeout, Instant::ZERO);

        assert_eq!(patience.next(2).1, Instant::from_secs(9));
    }

    #[test]
    fn steady_samples_settle() {
        let mut patience = measured();
        for _ in 0..50 {
            patience.measure(TRIP * 2);
        }

        assert_eq!(patience.least(), TRIP);
        assert!(patience.smoothed() > TRIP * 2 - Duration::from_millis(1));
    }
}
