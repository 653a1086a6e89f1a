//! Which counters of an epoch were received: refuses replays, and tells the
//! other side what is missing after a move.

/// How far back a counter may lie behind the highest.
pub const WINDOW: u64 = 8192;

const WORDS: usize = (WINDOW / 64) as usize;

/// A sliding window of received counters (RFC 6479's form: a ring of words).
#[derive(Clone)]
pub struct Window {
    next: u64,
    ring: [u64; WORDS],
}

/// What a window says of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Above all before.
    Newest,
    /// Late, and not seen yet.
    Late,
    /// Seen before.
    Replayed,
    /// Too far back to tell.
    TooOld,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            next: 0,
            ring: [0; WORDS],
        }
    }
}

impl Window {
    /// What `counter` would be.
    pub fn judge(&self, counter: u64) -> Verdict {
        if counter >= self.next {
            Verdict::Newest
        } else if self.next - counter > WINDOW {
            Verdict::TooOld
        } else if self.holds(counter) {
            Verdict::Replayed
        } else {
            Verdict::Late
        }
    }

    /// Notes `counter` as received, once its capsule proved authentic. The
    /// last counter of all is taken too, but no capsule carries it.
    pub fn accept(&mut self, counter: u64) {
        if counter >= self.next {
            self.forget(counter);
            self.next = counter.saturating_add(1);
        }
        self.ring[word(counter)] |= bit(counter);
    }

    /// The highest counter received.
    pub fn highest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// Bit k, lowest first, says whether highest - k was received. Counters
    /// beyond the last byte were received or lie outside the window.
    pub fn bitmap(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..WINDOW / 8).map(|at| self.byte(at * 8)).collect();
        while bytes.len() > 1 && bytes.last() == Some(&0xff) {
            bytes.pop();
        }
        bytes
    }

    fn byte(&self, back: u64) -> u8 {
        (0..8).fold(0, |byte, k| {
            let held = match self.next.checked_sub(back + k + 1) {
                Some(counter) => self.holds(counter),
                None => true,
            };
            byte | u8::from(held) << k
        })
    }

    fn holds(&self, counter: u64) -> bool {
        self.ring[word(counter)] & bit(counter) != 0
    }

    /// Clears the places of the counters from the next one up to `counter`.
    fn forget(&mut self, counter: u64) {
        if counter == self.next {
            self.ring[word(counter)] &= !bit(counter);
        } else if counter - self.next >= WINDOW {
            self.ring = [0; WORDS];
        } else {
            for skipped in self.next..=counter {
                self.ring[word(skipped)] &= !bit(skipped);
            }
        }
    }
}

fn word(counter: u64) -> usize {
    (counter / 64 % WORDS as u64) as usize
}

fn bit(counter: u64) -> u64 {
    1 << (counter % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Walks of the counter that jump over, behind and across the window.
    fn walks() -> impl Strategy<Value = Vec<u64>> {
        let step = prop_oneof![-20_i64..20, -9000_i64..9000, 0_i64..100_000];
        prop::collection::vec(step, 1..200).prop_map(|steps| {
            let mut at = 0_i64;
            let walk = steps.iter().map(|step| {
                at = (at + step).max(0);
                at as u64
            });
            walk.collect()
        })
    }

    proptest! {
        #[test]
        fn it_judges_as_a_set_of_all_counters_would(walk in walks()) {
            let mut window = Window::default();
            let mut seen = BTreeSet::new();
            for counter in walk {
                let expected = match seen.last() {
                    None => Verdict::Newest,
                    Some(&highest) if counter > highest => Verdict::Newest,
                    Some(&highest) if highest - counter >= WINDOW => Verdict::TooOld,
                    Some(_) if seen.contains(&counter) => Verdict::Replayed,
                    Some(_) => Verdict::Late,
                };
                prop_assert_eq!(window.judge(counter), expected);
                if matches!(expected, Verdict::Newest | Verdict::Late) {
                    window.accept(counter);
                    seen.insert(counter);
                }
            }
        }

        #[test]
        fn the_bitmap_tells_exactly_what_the_window_holds(walk in walks()) {
            let mut window = Window::default();
            walk.iter().for_each(|&counter| {
                if window.judge(counter) != Verdict::TooOld {
                    window.accept(counter);
                }
            });
            let highest = window.highest().expect("a counter was accepted");

            let bitmap = window.bitmap();

            for back in 0..WINDOW.min(highest + 1) {
                let told = bitmap
                    .get((back / 8) as usize)
                    .is_none_or(|byte| byte >> (back % 8) & 1 == 1);
                prop_assert_eq!(told, window.judge(highest - back) == Verdict::Replayed);
            }
        }
    }

    #[test]
    fn a_gapless_stream_has_a_bitmap_of_one_byte() {
        let mut window = Window::default();
        (0..100_000).for_each(|counter| window.accept(counter));

        assert_eq!(window.bitmap(), [0xff]);
    }
}
