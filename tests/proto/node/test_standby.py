"""Ours: docs/protocol.md section 8."""

import hypothesis.strategies as st
from hypothesis import given
from tests.proto.parts import T0, THERE, after

from ntmobile.proto.node.ends import Path
from ntmobile.proto.node.standby import ASK_AGAIN_NS, PATIENCE_NS, WARM_NS, Standby
from ntmobile.time import Instant

RELAY = Path(THERE, relayed=True)


def standing() -> Standby:
    standby = Standby()
    standby.keep(RELAY, T0)
    return standby


def asked() -> Standby:
    standby = standing()
    assert not standby.suspect(100, T0)
    assert not standby.suspect(100, Instant(T0 + PATIENCE_NS - 1))
    assert standby.suspect(100, Instant(T0 + PATIENCE_NS))
    return standby


def test_a_silent_path_is_left_when_the_relay_answers_and_it_brought_nothing() -> None:
    assert asked().leaves(100)


def test_data_that_came_meanwhile_keeps_the_path() -> None:
    assert not asked().leaves(101)


def test_a_word_that_came_by_it_keeps_the_path() -> None:
    standby = asked()

    standby.hear()

    assert not standby.leaves(100)


def test_only_data_speaks_for_the_path_where_nobody_knows_which_way_a_word_came() -> None:
    standby = asked()

    standby.count(100)
    assert standby.leaves(100)
    standby.count(101)

    assert not standby.leaves(101)


def test_an_answer_over_the_relay_that_nobody_asked_for_leaves_nothing() -> None:
    standby = standing()
    standby.suspect(100, T0)

    assert not standby.leaves(100)


def test_the_relay_is_asked_again_and_not_at_once() -> None:
    standby = asked()
    first = T0 + PATIENCE_NS

    assert not standby.suspect(100, Instant(first + ASK_AGAIN_NS - 1))
    assert standby.suspect(100, Instant(first + ASK_AGAIN_NS))


def test_who_has_no_relay_asks_none_and_keeps_nothing_warm() -> None:
    standby = Standby()

    assert not any(standby.suspect(0, after(T0, second)) for second in range(10))
    assert not standby.is_cold(after(T0, 3600))


@given(st.lists(st.integers(0, 2 * WARM_NS), min_size=1, max_size=30))
def test_the_relay_is_kept_warm_every_twenty_seconds_at_most(waits: list[int]) -> None:
    standby, now, sent = standing(), T0, T0

    for wait_ns in waits:
        now = Instant(now + wait_ns)
        due = now - sent >= WARM_NS
        assert standby.is_cold(now) is due
        sent = now if due else sent
