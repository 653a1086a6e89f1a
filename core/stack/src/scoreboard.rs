//! What left and what of it arrived: RFC 6675 section 3, by segments.
//!
//! Numbers are TCP's; they wrap around.

use std::collections::VecDeque;
use std::sync::Arc;

use smoltcp::time::{Duration, Instant};

/// Where a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On its way, as far as one knows.
    Flying,
    /// With the peer, who misses something before it.
    There,
    /// Nowhere; it is to leave again.
    Lost,
}

/// One segment that the peer has not acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub start: u32,
    pub end: u32,
    /// The last number is that of a FIN, not of a byte.
    pub fin: bool,
    /// In which it left first; later ones get their bytes from it.
    pub packet: Arc<Vec<u8>>,
    /// When it left last.
    pub sent: Instant,
    /// It left more than once.
    pub again: bool,
    pub place: Place,
}

impl Segment {
    /// One that leaves in `packet` for the first time.
    pub(crate) fn new(
        packet: &Arc<Vec<u8>>,
        [start, end]: [u32; 2],
        fin: bool,
        now: Instant,
    ) -> Self {
        Self {
            start,
            end,
            fin,
            packet: Arc::clone(packet),
            sent: now,
            again: false,
            place: Place::Flying,
        }
    }

    fn bytes(&self) -> u32 {
        self.end.wrapping_sub(self.start) - u32::from(self.fin)
    }

    /// Cuts the first `size` bytes off.
    fn cut(&mut self, size: u32) -> Self {
        let mut first = self.clone();
        first.end = self.start.wrapping_add(size.max(1));
        first.fin = false;
        self.start = first.end;
        first
    }
}

/// Which segment of several left last (RFC 8985 section 6.2): by time, then by number.
pub(crate) type Order = (Instant, u32);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Scoreboard {
    segments: VecDeque<Segment>,
    there: usize,
    lost: usize,
}

/// `a` comes before `b`.
pub(crate) fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// `order` is earlier than `than`.
pub(crate) fn earlier(order: Order, than: Order) -> bool {
    order.0 < than.0 || (order.0 == than.0 && before(order.1, than.1))
}

impl Scoreboard {
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.segments.len()
    }

    /// How many are with the peer beyond what it acknowledges.
    pub(crate) fn there(&self) -> usize {
        self.there
    }

    /// How many are to leave again.
    pub(crate) fn lost(&self) -> usize {
        self.lost
    }

    /// The first number that is not acknowledged, and the one behind all that left.
    pub(crate) fn range(&self) -> Option<[u32; 2]> {
        Some([self.segments.front()?.start, self.segments.back()?.end])
    }

    /// One that is new leaves: `segment`, cut every `size` bytes.
    pub(crate) fn add(&mut self, mut segment: Segment, size: u32) {
        while segment.bytes() > size {
            self.segments.push_back(segment.cut(size));
        }
        self.segments.push_back(segment);
    }

    /// What comes before `number` is acknowledged; `each` sees what one did not know to be there.
    pub(crate) fn acknowledge(&mut self, number: u32, mut each: impl FnMut(&Segment)) {
        while let Some(segment) = self.segments.front_mut() {
            if !before(segment.start, number) {
                return;
            }
            if before(number, segment.end) {
                segment.start = number;
                return;
            }
            match segment.place {
                Place::There => self.there -= 1,
                Place::Lost => self.lost -= 1,
                Place::Flying => {}
            }
            if segment.place != Place::There {
                each(segment);
            }
            self.segments.pop_front();
        }
    }

    /// The peer has what lies from `from` to `to`.
    pub(crate) fn arrive(&mut self, [from, to]: [u32; 2], mut each: impl FnMut(&Segment)) {
        let first = self.segments.partition_point(|s| before(s.start, from));
        for segment in self.segments.range_mut(first..) {
            if before(to, segment.end) {
                return;
            }
            if segment.place == Place::There {
                continue;
            }
            self.lost -= usize::from(segment.place == Place::Lost);
            self.there += 1;
            segment.place = Place::There;
            each(segment);
        }
    }

    /// Those that left before `latest` and more than `patience` ago are lost; when the next
    /// one will be.
    pub(crate) fn expose(
        &mut self,
        latest: Order,
        patience: Duration,
        now: Instant,
    ) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for segment in &mut self.segments {
            if !earlier((segment.sent, segment.end), latest) {
                if segment.place == Place::Flying && !segment.again {
                    // All behind it left later still.
                    break;
                }
                continue;
            }
            if segment.place != Place::Flying {
                continue;
            }
            let due = segment.sent + patience;
            if due <= now {
                segment.place = Place::Lost;
                self.lost += 1;
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        next
    }

    /// The first one that is not there is lost.
    pub(crate) fn lose_first(&mut self) {
        let first = self.segments.iter_mut().find(|s| s.place != Place::There);
        if let Some(segment) = first
            && segment.place == Place::Flying
        {
            segment.place = Place::Lost;
            self.lost += 1;
        }
    }

    /// The last one that is not there is lost.
    pub(crate) fn lose_last(&mut self) {
        let mut all = self.segments.iter_mut().rev();
        let last = all.find(|s| s.place != Place::There);
        if let Some(segment) = last
            && segment.place == Place::Flying
        {
            segment.place = Place::Lost;
            self.lost += 1;
        }
    }

    /// The peer has thrown away what it had but did not acknowledge (RFC 2018 section 8).
    pub(crate) fn distrust(&mut self) {
        for segment in &mut self.segments {
            if segment.place == Place::There {
                segment.place = Place::Flying;
                segment.again = true;
            }
        }
        self.there = 0;
    }

    /// The first one is with the peer, who should have acknowledged it.
    pub(crate) fn is_strange(&self) -> bool {
        let first = self.segments.front();
        first.is_some_and(|segment| segment.place == Place::There)
    }

    /// The first lost one, which leaves now. One longer than `most` bytes becomes two.
    pub(crate) fn send_again(&mut self, most: u32, now: Instant) -> Option<&Segment> {
        if self.lost == 0 {
            return None;
        }
        let at = self.segments.iter().position(|s| s.place == Place::Lost)?;
        if self.segments[at].bytes() > most {
            let first = self.segments[at].cut(most);
            self.segments.insert(at, first);
            self.lost += 1;
        }
        let segment = &mut self.segments[at];
        segment.place = Place::Flying;
        segment.again = true;
        segment.sent = now;
        self.lost -= 1;
        Some(segment)
    }

    /// What lies in `range` has left once more, by other means.
    pub(crate) fn left_again(&mut self, [start, end]: [u32; 2], now: Instant) {
        for segment in &mut self.segments {
            let inside = before(segment.start, end) && before(start, segment.end);
            if inside && segment.place != Place::There {
                self.lost -= usize::from(segment.place == Place::Lost);
                segment.place = Place::Flying;
                segment.again = true;
                segment.sent = now;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const SIZE: u32 = 10;

    /// What happens, in numbers of segments; they are `SIZE` long.
    #[derive(Clone, Debug)]
    enum Step {
        Leave(u32),
        Arrive(u32, u32),
        Acknowledge(u32),
        LoseFirst,
        LoseLast,
        Expose(i64),
        SendAgain(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..8_u32).prop_map(Step::Leave),
            (0..12_u32, 1..6_u32).prop_map(|(from, count)| Step::Arrive(from, count)),
            (0..6_u32).prop_map(Step::Acknowledge),
            Just(Step::LoseFirst),
            Just(Step::LoseLast),
            (0..40_i64).prop_map(Step::Expose),
            (1..5_usize).prop_map(Step::SendAgain),
        ]
    }

    fn leave(board: &mut Scoreboard, start: u32, count: u32, now: Instant) {
        let range = [start, start.wrapping_add(count * SIZE)];
        board.add(Segment::new(&Arc::default(), range, false, now), SIZE);
    }

    proptest! {
        #[test]
        fn nothing_is_forgotten_and_what_is_there_does_not_leave_again(
            first in prop_oneof![any::<u32>(), (u32::MAX - 300)..],
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let mut board = Scoreboard::default();
            let (mut front, mut back) = (0, 0);
            let mut there = BTreeSet::new();
            let number = |at: u32| first.wrapping_add(at * SIZE);
            for (now, step) in steps.into_iter().enumerate() {
                let now = Instant::from_millis(now as i64);
                match step {
                    Step::Leave(count) => {
                        leave(&mut board, number(back), count, now);
                        back += count;
                    }
                    Step::Arrive(from, count) => {
                        let from = front + from;
                        let to = back.min(from + count);
                        if from < to {
                            let mut new = Vec::new();
                            board.arrive([number(from), number(to)], |s| new.push(s.start));
                            let fresh: Vec<_> = (from..to).filter(|at| there.insert(*at)).collect();
                            let fresh: Vec<_> = fresh.into_iter().map(number).collect();
                            prop_assert_eq!(new, fresh);
                        }
                    }
                    Step::Acknowledge(count) => {
                        front = back.min(front + count);
                        board.acknowledge(number(front), |_| {});
                        there = there.split_off(&front);
                    }
                    Step::LoseFirst => board.lose_first(),
                    Step::LoseLast => board.lose_last(),
                    Step::Expose(latest) => {
                        let latest = (Instant::from_millis(latest), number(back));
                        board.expose(latest, Duration::from_millis(1), now);
                    }
                    Step::SendAgain(count) => {
                        for _ in 0..count {
                            let Some(segment) = board.send_again(SIZE, now) else { break };
                            let at = segment.start.wrapping_sub(first) / SIZE;
                            prop_assert!((front..back).contains(&at) && !there.contains(&at));
                        }
                    }
                }
                let kept: Vec<_> = board.segments.iter().map(|s| [s.start, s.end]).collect();
                let all: Vec<_> = (front..back).map(|at| [number(at), number(at + 1)]).collect();
                prop_assert_eq!(kept, all);
                let count = |place| board.segments.iter().filter(|s| s.place == place).count();
                prop_assert_eq!(board.there(), there.len());
                prop_assert_eq!(board.there(), count(Place::There));
                prop_assert_eq!(board.lost(), count(Place::Lost));
            }
        }
    }

    #[test]
    fn what_left_before_the_latest_that_arrived_is_lost_in_time() {
        let mut board = Scoreboard::default();
        leave(&mut board, 0, 1, Instant::from_millis(0));
        leave(&mut board, SIZE, 1, Instant::from_millis(5));
        leave(&mut board, 2 * SIZE, 2, Instant::from_millis(8));
        let latest = (Instant::from_millis(8), 3 * SIZE);
        let patience = Duration::from_millis(20);
        board.arrive([2 * SIZE, 3 * SIZE], |_| {});

        let next = board.expose(latest, patience, Instant::from_millis(20));
        assert_eq!((board.lost(), next), (1, Some(Instant::from_millis(25))));

        let next = board.expose(latest, patience, Instant::from_millis(25));
        assert_eq!((board.lost(), next), (2, None));
    }

    #[test]
    fn one_that_is_too_long_now_leaves_again_in_parts_and_the_last_one_ends_the_stream() {
        let mut board = Scoreboard::default();
        let range = [u32::MAX - 4, 21];
        let segment = Segment::new(&Arc::default(), range, true, Instant::ZERO);
        board.add(segment, u32::MAX);
        board.lose_first();

        let mut parts = Vec::new();
        while let Some(part) = board.send_again(SIZE, Instant::ZERO) {
            parts.push((part.start, part.end, part.fin));
        }

        let expected = [(u32::MAX - 4, 5, false), (5, 15, false), (15, 21, true)];
        assert_eq!(parts, expected);
    }

    #[test]
    fn what_a_peer_has_thrown_away_leaves_again() {
        let mut board = Scoreboard::default();
        leave(&mut board, 0, 2, Instant::ZERO);
        board.arrive([0, 2 * SIZE], |_| {});
        assert!(board.is_strange());
        board.lose_first();
        assert_eq!(board.lost(), 0, "both are there");

        board.distrust();
        board.lose_first();

        assert_eq!((board.there(), board.lost()), (0, 1));
    }

    #[test]
    fn half_a_segment_is_acknowledged() {
        let mut board = Scoreboard::default();
        leave(&mut board, 0, 1, Instant::ZERO);

        board.acknowledge(4, |_| panic!("not all of it"));

        assert_eq!(board.range(), Some([4, SIZE]));
    }
}
