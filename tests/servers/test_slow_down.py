from hypothesis import given
from hypothesis import strategies as st

from ntmobile.servers.slow_down import (
    FORGET_NS,
    FREE_TRIES,
    LONGEST_WAIT_S,
    MOST,
    SlowDown,
    prefix_of,
)
from ntmobile.time import SECOND, Instant

HERE = "192.0.2.1"
T0 = Instant(0)


def test_a_few_mistakes_cost_nothing() -> None:
    slow_down = SlowDown()

    assert [slow_down.begin("alice", HERE, T0) for _ in range(FREE_TRIES)] == [0] * FREE_TRIES


def test_waits_double_up_to_a_minute() -> None:
    slow_down = SlowDown()
    now = 0
    waits = []
    for _ in range(FREE_TRIES + 8):
        wait_s = slow_down.begin("alice", HERE, Instant(now))
        if wait_s:
            waits.append(wait_s)
            now += wait_s * SECOND
            assert slow_down.begin("alice", HERE, Instant(now)) == 0

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_tries_that_come_too_early_are_not_counted() -> None:
    slow_down = SlowDown()
    guess(slow_down, "alice", HERE)

    waits = {slow_down.begin("alice", HERE, T0) for _ in range(100)}

    assert waits == {1}


def test_the_user_is_not_locked_out_elsewhere_nor_others_here() -> None:
    slow_down = SlowDown()
    guess(slow_down, "alice", HERE)

    assert slow_down.begin("alice", "192.0.2.200", T0) > 0
    assert slow_down.begin("alice", "198.51.100.1", T0) == 0
    assert slow_down.begin("bob", HERE, T0) == 0


def test_success_clears_the_slate() -> None:
    slow_down = SlowDown()
    guess(slow_down, "alice", HERE)

    slow_down.succeeded("alice", HERE)

    assert slow_down.begin("alice", HERE, T0) == 0
    assert len(slow_down) == 1


def test_silence_clears_the_slate() -> None:
    slow_down = SlowDown()
    guess(slow_down, "alice", HERE)

    later = Instant(FORGET_NS + 1)

    assert slow_down.begin("alice", HERE, later) == 0
    assert slow_down.begin("alice", HERE, later) == 0


def test_a_flood_of_names_takes_bounded_memory() -> None:
    slow_down = SlowDown()

    for number in range(MOST + 100):
        slow_down.begin(f"user{number}", HERE, T0)

    assert len(slow_down) == MOST


def test_a_source_is_its_network() -> None:
    assert prefix_of("192.0.2.77") == prefix_of("::ffff:192.0.2.1") != prefix_of("192.0.3.77")
    assert prefix_of("2001:db8::1") == prefix_of("2001:db8::ffff") != prefix_of("2001:db8:0:1::1")


@given(st.lists(st.integers(0, 120 * SECOND), max_size=60))
def test_no_pace_of_guessing_waits_longer_than_a_minute(pauses: list[int]) -> None:
    slow_down = SlowDown()
    now = 0
    for pause in pauses:
        now += pause
        assert 0 <= slow_down.begin("alice", HERE, Instant(now)) <= LONGEST_WAIT_S


def guess(slow_down: SlowDown, user: str, source: str) -> None:
    for _ in range(FREE_TRIES):
        assert slow_down.begin(user, source, T0) == 0
