"""Ours: docs/protocol.md section 8."""

import hypothesis.strategies as st
from hypothesis import given
from tests.proto.parts import T0

from ntmobile.proto.node.relay_watch import AGAIN_NS, PATIENCE_NS, RelayWatch, Step
from ntmobile.time import Instant


def test_an_rs_that_answers_nothing_is_left_and_not_before() -> None:
    watch = RelayWatch()

    assert watch.suspect(T0) is Step.ASK
    assert watch.suspect(Instant(T0 + PATIENCE_NS - 1)) is Step.WAIT
    assert watch.suspect(Instant(T0 + PATIENCE_NS)) is Step.LEAVE


def test_an_rs_that_answers_is_kept_and_asked_again_if_the_silence_lasts() -> None:
    watch = RelayWatch()
    watch.suspect(T0)

    watch.hear(T0)

    assert watch.suspect(Instant(T0 + AGAIN_NS - 1)) is Step.WAIT
    assert watch.suspect(Instant(T0 + AGAIN_NS)) is Step.ASK


def test_a_path_that_carries_again_takes_all_doubt_away() -> None:
    watch = RelayWatch()
    watch.suspect(T0)

    watch.rest()

    assert watch.suspect(Instant(T0 + PATIENCE_NS)) is Step.ASK


@given(st.lists(st.tuples(st.integers(0, PATIENCE_NS), st.booleans()), max_size=40))
def test_nothing_is_left_before_it_was_silent_for_long(acts: list[tuple[int, bool]]) -> None:
    watch, now, unanswered_since = RelayWatch(), T0, None

    for wait_ns, answers in acts:
        now = Instant(now + wait_ns)
        if answers:
            watch.hear(now)
            unanswered_since = None
        step = watch.suspect(now)
        if step is Step.ASK:
            unanswered_since = now
        if step is Step.LEAVE:
            assert unanswered_since is not None
            assert now - unanswered_since >= PATIENCE_NS
