//! What becomes of each packet: seeded, and without a clock of its own.

use crate::Settings;
use crate::random::Random;

/// What becomes of one packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It vanishes.
    Lost,
    /// It vanishes, because too many wait for the rate.
    Overflow,
    /// It leaves at these times; the second one is that of its duplicate.
    Leaves(u64, Option<u64>),
}

/// Decides about the packets of one direction, in order of arrival.
#[derive(Clone, Debug)]
pub struct Fates {
    random: Random,
    /// When the wire has sent all that came before.
    idle_at: u64,
    /// When the last packet that was not held back leaves.
    last: u64,
}

impl Fates {
    /// The same seed decides alike about the same packets.
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            idle_at: 0,
            last: 0,
        }
    }

    /// The fate of a frame of `bytes` that arrives at `now`, in nanoseconds.
    pub fn decide(&mut self, settings: &Settings, bytes: usize, now: u64) -> Fate {
        let lost = self.random.happens(settings.loss);
        let twice = self.random.happens(settings.duplicate);
        let held = self.random.happens(settings.reorder);
        let jitter = self.random.up_to(settings.jitter_ns);
        if lost {
            return Fate::Lost;
        }
        let Some(sent) = self.send(settings, bytes, now) else {
            return Fate::Overflow;
        };
        let due = sent + settings.delay_ns + jitter;
        let leaves = if held {
            due + settings.reorder_ns
        } else {
            self.last = due.max(self.last);
            self.last
        };
        Fate::Leaves(leaves, twice.then_some(leaves))
    }

    /// Forgets the order to keep, after a change of the settings: a shorter delay
    /// holds at once.
    pub fn restart(&mut self) {
        self.last = 0;
        self.idle_at = 0;
    }

    /// When the wire has sent the frame; None when it would wait too long.
    fn send(&mut self, settings: &Settings, bytes: usize, now: u64) -> Option<u64> {
        if settings.rate_bps == 0 {
            return Some(now);
        }
        let start = now.max(self.idle_at);
        if start - now > settings.queue_ns {
            return None;
        }
        let takes = bytes as u128 * 8 * 1_000_000_000 / u128::from(settings.rate_bps);
        self.idle_at = start + takes as u64;
        Some(self.idle_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: u64 = 1_000_000;

    fn run(settings: Settings, count: u64) -> Vec<Fate> {
        let mut fates = Fates::new(7);
        (0..count)
            .map(|number| fates.decide(&settings, 1250, number * 1000))
            .collect()
    }

    #[test]
    fn nothing_set_is_a_wire() {
        let fates = run(Settings::default(), 3);

        assert_eq!(
            fates,
            [0, 1000, 2000].map(|at| Fate::Leaves(at, None)).to_vec()
        );
    }

    #[test]
    fn loss_is_as_frequent_as_set_and_the_same_for_the_same_seed() {
        let settings = Settings {
            loss: 0.1,
            ..Settings::default()
        };

        let lost = run(settings, 100_000)
            .into_iter()
            .filter(|fate| *fate == Fate::Lost)
            .count();

        assert!((9_700..10_300).contains(&lost), "{lost}");
        assert_eq!(run(settings, 1000), run(settings, 1000));
    }

    #[test]
    fn jitter_stays_in_its_range_and_keeps_the_order() {
        let settings = Settings {
            delay_ns: MILLISECOND,
            jitter_ns: MILLISECOND,
            ..Settings::default()
        };

        let mut before = 0;
        for (number, fate) in (0u64..).zip(run(settings, 10_000)) {
            let Fate::Leaves(at, None) = fate else {
                panic!("{fate:?}");
            };
            let late = at - number * 1000;
            assert!((MILLISECOND..=2 * MILLISECOND).contains(&late), "{late}");
            assert!(at >= before);
            before = at;
        }
    }

    #[test]
    fn what_is_held_back_is_overtaken() {
        let settings = Settings {
            reorder: 0.5,
            reorder_ns: 10 * MILLISECOND,
            ..Settings::default()
        };

        let held = (0u64..)
            .zip(run(settings, 1000))
            .filter(|(number, fate)| *fate == Fate::Leaves(number * 1000 + 10 * MILLISECOND, None))
            .count();

        assert!((450..550).contains(&held), "{held}");
    }

    #[test]
    fn a_duplicate_leaves_with_its_original() {
        let settings = Settings {
            duplicate: 1.0,
            ..Settings::default()
        };

        assert_eq!(run(settings, 1), [Fate::Leaves(0, Some(0))]);
    }

    #[test]
    fn the_rate_spaces_packets_and_its_queue_is_bounded() {
        // 1250 bytes at 10 Mbit/s take a millisecond; they come every microsecond.
        let settings = Settings {
            rate_bps: 10_000_000,
            queue_ns: 2 * MILLISECOND,
            ..Settings::default()
        };

        let fates = run(settings, 4);

        assert_eq!(
            fates,
            [
                Fate::Leaves(MILLISECOND, None),
                Fate::Leaves(2 * MILLISECOND, None),
                Fate::Leaves(3 * MILLISECOND, None),
                Fate::Overflow,
            ]
        );
    }

    #[test]
    fn a_shorter_delay_holds_at_once_after_a_restart() {
        let mut fates = Fates::new(1);
        let slow = Settings {
            delay_ns: 50 * MILLISECOND,
            ..Settings::default()
        };
        fates.decide(&slow, 100, 0);

        fates.restart();

        let fate = fates.decide(&Settings::default(), 100, 5);
        assert_eq!(fate, Fate::Leaves(5, None));
    }
}
