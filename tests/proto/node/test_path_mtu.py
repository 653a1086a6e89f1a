"""Ours: docs/protocol.md section 7. Source: RFC 8899."""

from dataclasses import dataclass, field
from random import Random

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.proto.parts import HERE, T0, THERE, drain

from ntmobile.proto.node.path_mtu import (
    CHECK_NS,
    LEAST,
    LINKS,
    OVERHEAD,
    REVIEW_NS,
    SEARCH_NS,
    TAIL,
    PathMtu,
)
from ntmobile.time import Instant
from ntmobile.wire.datagram import encode_control

FULL = 1500 - OVERHEAD
SIZES = [link - OVERHEAD for link in LINKS]
RTT_NS = 30_000_000


@dataclass
class Path:
    """Carries inner packets of so many bytes, answers, and loses some."""

    carries: int
    loss: float = 0.0
    rtt_ns: int = RTT_NS
    now: Instant = T0
    seed: int = 0
    probes: int = 0
    largest: int = 0
    """Of those that were answered."""
    sizes: PathMtu = field(default_factory=lambda: PathMtu(Random(1)))
    used: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.answers: list[tuple[int, int]] = []

    def run(self, until_ns: int) -> None:
        """Let so much time pass."""
        end = Instant(self.now + until_ns)
        while True:
            for probe in drain(self.sizes.poll_probe):
                self.probes += 1
                if probe.size <= self.carries and self.random.random() >= self.loss:
                    self.largest = max(self.largest, probe.size)
                    self.answers.append((self.now + self.rtt_ns, probe.number))
            due = self.sizes.poll_timeout()
            times = [at for at, _ in self.answers] + ([] if due is None else [due.at])
            if not times or min(times) > end:
                break
            self.now = Instant(max(self.now, min(times)))
            arrived = sorted(each for each in self.answers if each[0] <= self.now)
            self.answers = [each for each in self.answers if each[0] > self.now]
            for _, number in arrived:
                assert self.sizes.handle_answer(number, self.now)
            self.sizes.handle_timeout(self.now)
            self.used.append(self.sizes.current)
        self.now = end


def searching(path: Path, most: int = FULL) -> Path:
    path.sizes.begin(THERE, most)
    path.sizes.start(path.now)
    return path


def test_on_a_good_path_one_probe_is_all_and_nothing_is_ever_smaller() -> None:
    path = searching(Path(FULL))

    path.run(SEARCH_NS)

    assert path.probes == 1
    assert set(path.used) == {FULL}


def test_nothing_is_probed_before_the_peer_was_heard_on_the_path() -> None:
    sizes = PathMtu(Random(1))

    sizes.begin(THERE, FULL)

    assert sizes.poll_probe() is None
    assert sizes.poll_timeout() is None


@pytest.mark.parametrize("carries", SIZES)
def test_a_smaller_path_is_fitted_within_two_rounds(carries: int) -> None:
    path = searching(Path(carries))

    path.run(100_000_000 + RTT_NS)

    assert path.sizes.current == carries


@given(st.integers(LEAST, 9000 - OVERHEAD), st.integers(LEAST, 9000 - OVERHEAD), st.integers())
def test_what_is_found_is_the_largest_size_known_that_passes(
    carries: int, most: int, seed: int
) -> None:
    path = searching(Path(carries, seed=seed), most)

    path.run(SEARCH_NS)

    fitting = [size for size in (most, *SIZES) if size <= min(carries, most)]
    assert path.sizes.current == max(fitting)


@given(st.sampled_from(SIZES), st.sampled_from((0.2, 0.36)), st.integers(0, 500))
def test_loss_never_makes_it_too_large_once_the_search_is_over(
    carries: int, loss: float, seed: int
) -> None:
    path = searching(Path(carries, loss, seed=seed))

    path.run(SEARCH_NS)

    assert path.sizes.current == (path.largest or FULL)
    assert path.largest <= carries


def test_a_path_of_long_delay_is_not_taken_for_a_small_one() -> None:
    path = searching(Path(FULL, rtt_ns=900_000_000))

    path.run(SEARCH_NS)

    assert set(path.used) == {FULL}


def test_a_path_that_answers_nothing_keeps_its_size() -> None:
    path = searching(Path(0))

    path.run(SEARCH_NS)

    assert path.sizes.current == FULL
    assert path.sizes.poll_timeout() is None


def test_a_black_hole_that_opens_later_is_found_when_data_stays_unanswered() -> None:
    path = searching(Path(FULL))
    path.run(SEARCH_NS)
    path.carries = 1400 - OVERHEAD
    path.run(CHECK_NS)
    assert path.sizes.current == FULL

    path.sizes.check(path.now)
    path.run(100_000_000 + RTT_NS)

    assert path.sizes.current == 1400 - OVERHEAD


def test_checks_are_spaced_and_cost_one_probe_each_where_nothing_is_wrong() -> None:
    path = searching(Path(FULL))
    path.run(SEARCH_NS)

    for _ in range(100):
        path.sizes.check(path.now)
        path.run(CHECK_NS // 10)

    assert path.probes <= 1 + 11


def test_a_path_that_grew_is_used_after_the_review_and_not_before() -> None:
    path = searching(Path(1400 - OVERHEAD))
    path.run(SEARCH_NS)
    path.carries = FULL

    path.sizes.review(path.now)
    path.run(REVIEW_NS)
    assert path.sizes.current == 1400 - OVERHEAD
    path.sizes.review(path.now)
    path.run(RTT_NS)

    assert path.sizes.current == FULL


def test_a_path_that_was_measured_before_is_taken_up_at_its_size() -> None:
    path = searching(Path(1400 - OVERHEAD))
    path.run(SEARCH_NS)

    path.sizes.begin(HERE, FULL)
    assert path.sizes.current == FULL
    path.sizes.begin(THERE, FULL)

    assert path.sizes.current == 1400 - OVERHEAD


def test_after_a_move_nothing_that_was_measured_counts() -> None:
    path = searching(Path(1400 - OVERHEAD))
    path.run(SEARCH_NS)

    path.sizes.renew(elsewhere=True)
    path.sizes.begin(THERE, FULL)

    assert path.sizes.current == FULL


@given(st.integers(LEAST, 9000 - OVERHEAD))
def test_a_probe_is_as_long_as_the_longest_capsule_of_that_size(size: int) -> None:
    sizes = PathMtu(Random(1))
    sizes.begin(THERE, size)
    sizes.start(T0)
    probe = sizes.poll_probe()

    assert probe is not None
    assert len(encode_control(probe.message())) == size + TAIL


def test_an_echo_reply_of_somebody_else_is_left_to_him() -> None:
    path = searching(Path(FULL))

    assert not path.sizes.handle_answer(4711, path.now)
