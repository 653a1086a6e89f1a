"""Ours: docs/protocol.md section 8."""

import hypothesis.strategies as st
from hypothesis import given
from tests.proto.parts import T0, after

from ntmobile.proto.node.liveness import (
    DEAD_AGAIN_NS,
    DEAD_NS,
    LATEST_NS,
    MOST_UNASKED,
    QUIET_NS,
    STALL_NS,
    SUSPECT_SOONEST_NS,
    Liveness,
    Verdict,
    again_ns,
)
from ntmobile.time import SECOND, Instant


def judged(
    silent_ns: int, *, sent: bool = True, moving: bool = False, rx_bytes: int = 0
) -> Verdict:
    """What is thought of a path that has been silent for so long."""
    now = Instant(T0 + silent_ns)
    last_tx = Instant(T0 + 1) if sent else None
    return Liveness().judge(last_tx, T0, rx_bytes, now, moving=moving)


def test_who_sends_and_hears_nothing_probes_and_then_gives_the_path_up() -> None:
    assert judged(STALL_NS - 1) is Verdict.WELL
    assert judged(STALL_NS) is Verdict.SUSPECT
    assert judged(DEAD_NS - 1) is Verdict.SUSPECT
    assert judged(DEAD_NS) is Verdict.DEAD


def test_who_sent_nothing_and_heard_nothing_suspects_nothing() -> None:
    assert judged(100 * SECOND, sent=False) is Verdict.WELL


def test_a_node_on_its_way_elsewhere_gives_up_sooner() -> None:
    assert judged(QUIET_NS - 1, moving=True) is Verdict.SUSPECT
    assert judged(QUIET_NS, moving=True) is Verdict.DEAD


def test_who_heard_data_and_hears_no_more_asks_a_few_times_and_never_gives_up() -> None:
    liveness = Liveness()

    verdicts = [
        liveness.judge(None, T0, 1000, Instant(T0 + QUIET_NS + n * SECOND), moving=False)
        for n in range(10)
    ]

    assert verdicts == [Verdict.SUSPECT] * MOST_UNASKED + [Verdict.WELL] * (10 - MOST_UNASKED)


def test_one_answer_satisfies_who_hears_no_more_until_more_is_heard() -> None:
    liveness = Liveness()
    asked = Instant(T0 + QUIET_NS)
    assert liveness.judge(None, T0, 1000, asked, moving=False) is Verdict.SUSPECT

    answered = after(asked, 0.02)
    later = [liveness.judge(None, answered, 1000, after(asked, n), moving=False) for n in (3, 9)]
    more = liveness.judge(None, after(asked, 10), 2000, after(asked, 12), moving=False)

    assert later == [Verdict.WELL, Verdict.WELL]
    assert more is Verdict.SUSPECT


def test_a_dead_path_is_news_again_after_a_while_or_on_another_path() -> None:
    liveness = Liveness()

    news = [liveness.note_dead(Instant(T0 + ns)) for ns in (0, 1, DEAD_AGAIN_NS, SECOND)]
    liveness.renew()

    assert news == [True, False, True, False]
    assert liveness.note_dead(Instant(T0 + SECOND))


@given(st.sampled_from(Verdict), st.integers(0, 3600 * SECOND))
def test_judging_again_is_never_hurried_and_never_long_in_coming(
    verdict: Verdict, silent_ns: int
) -> None:
    assert SUSPECT_SOONEST_NS <= again_ns(verdict, silent_ns) <= LATEST_NS


def test_many_probes_go_out_before_a_path_is_given_up() -> None:
    silent_ns, probes = 0, 0
    while (verdict := judged(silent_ns)) is not Verdict.DEAD:
        probes += verdict is Verdict.SUSPECT
        silent_ns += again_ns(verdict, silent_ns)

    assert probes >= 8
