//! One path's rate and account.

use std::sync::atomic::{AtomicU64, Ordering};

/// How long a path may send above its rate after a pause, in nanoseconds.
const BURST_NS: u64 = 100_000_000;
/// And at least so many bytes: a whole offload batch passes or none of it would.
const BURST_BYTES: u64 = 1 << 16;
const SECOND_NS: u64 = 1_000_000_000;
const NEVER: u64 = 0;

/// The rate limit and the account of one path, both directions together.
///
/// The bucket is kept as the time at which it will be full again (the generic
/// cell rate algorithm), so that it needs one word and no lock.
#[derive(Debug, Default)]
pub struct Path {
    rate: AtomicU64,
    full_at_ns: AtomicU64,
    bytes: AtomicU64,
    packets: AtomicU64,
    last_ns: AtomicU64,
}

/// What a path has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// UDP payload forwarded, in bytes.
    pub bytes: u64,
    /// Capsules forwarded.
    pub packets: u64,
    /// When the last one was, on the clock of the caller; None before the first.
    pub last_ns: Option<u64>,
}

impl Path {
    /// Sets the limit in bytes per second; 0 lifts it.
    pub fn limit(&self, rate: u64) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// How many of `capsules`, of `stride` bytes each, may pass at `now_ns`
    /// (greater than 0, never running back); books those. Only the last may be
    /// shorter, `bytes` being the sum.
    pub fn admit(&self, now_ns: u64, stride: usize, bytes: usize) -> usize {
        let admitted = match self.rate.load(Ordering::Relaxed) {
            0 => bytes,
            rate => self.take(rate, now_ns, stride, bytes),
        };
        if admitted != 0 {
            self.bytes.fetch_add(admitted as u64, Ordering::Relaxed);
            let packets = admitted.div_ceil(stride) as u64;
            self.packets.fetch_add(packets, Ordering::Relaxed);
            self.last_ns.store(now_ns, Ordering::Relaxed);
        }
        admitted
    }

    /// The account so far.
    pub fn usage(&self) -> Usage {
        let last_ns = self.last_ns.load(Ordering::Relaxed);
        Usage {
            bytes: self.bytes.load(Ordering::Relaxed),
            packets: self.packets.load(Ordering::Relaxed),
            last_ns: (last_ns != NEVER).then_some(last_ns),
        }
    }

    fn take(&self, rate: u64, now_ns: u64, stride: usize, bytes: usize) -> usize {
        let burst_ns = BURST_NS.max(duration_ns(BURST_BYTES, rate));
        let mut full_at = self.full_at_ns.load(Ordering::Relaxed);
        loop {
            let start = full_at.max(now_ns);
            let room_ns = (now_ns + burst_ns).saturating_sub(start);
            let room = u128::from(room_ns) * u128::from(rate) / u128::from(SECOND_NS);
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let admitted = if room >= bytes {
                bytes
            } else {
                room / stride * stride
            };
            let next = start + duration_ns(admitted as u64, rate);
            match self.full_at_ns.compare_exchange_weak(
                full_at,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return admitted,
                Err(changed) => full_at = changed,
            }
        }
    }
}

/// Time that `bytes` take at `rate` bytes per second, rounded up, at most a day.
fn duration_ns(bytes: u64, rate: u64) -> u64 {
    let exact = (u128::from(bytes) * u128::from(SECOND_NS)).div_ceil(u128::from(rate));
    u64::try_from(exact)
        .unwrap_or(u64::MAX)
        .min(86_400 * SECOND_NS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_a_limit_everything_passes_and_is_booked() {
        let path = Path::default();

        let admitted = path.admit(7, 1300, 2000);

        let usage = Usage {
            bytes: 2000,
            packets: 2,
            last_ns: Some(7),
        };
        assert_eq!((admitted, path.usage()), (2000, usage));
    }

    #[test]
    fn a_path_that_carried_nothing_has_no_last_time() {
        assert_eq!(Path::default().usage(), Usage::default());
    }

    #[test]
    fn above_the_burst_whole_capsules_are_cut_off_and_not_booked() {
        let path = Path::default();
        path.limit(1_000_000);

        let admitted = path.admit(SECOND_NS, 1000, 200_500);

        assert_eq!(admitted, 100_000);
        assert_eq!(path.usage().packets, 100);
        assert_eq!(path.admit(SECOND_NS, 1000, 1000), 0);
        assert_eq!(path.admit(SECOND_NS + SECOND_NS / 1000, 1000, 1000), 1000);
    }

    #[test]
    fn even_the_slowest_path_lets_one_offload_batch_through() {
        let path = Path::default();
        path.limit(1);

        assert_eq!(path.admit(1, 1300, 65_000), 65_000);
    }

    #[test]
    fn lifting_the_limit_lets_all_pass_again() {
        let path = Path::default();
        path.limit(1);
        path.admit(1, 1000, 65_000);
        path.admit(1, 1000, 1_000);

        path.limit(0);

        assert_eq!(path.admit(1, 1000, 50_000), 50_000);
    }

    proptest! {
        #[test]
        fn no_history_exceeds_rate_times_time_plus_the_burst(
            rate in 1_u64..1_000_000_000,
            steps in prop::collection::vec((0_u64..50_000_000, 1_usize..1500, 1_usize..64), 1..200),
        ) {
            let path = Path::default();
            path.limit(rate);
            let (mut now, mut passed) = (1, 0_u128);
            for (pause_ns, stride, count) in steps {
                now += pause_ns;
                passed += path.admit(now, stride, stride * count) as u128;
            }
            let earned = |ns: u64| u128::from(ns) * u128::from(rate) / u128::from(SECOND_NS);
            let burst = earned(BURST_NS).max(u128::from(BURST_BYTES));
            prop_assert!(passed <= earned(now) + burst + 1);
        }
    }
}
