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
    SLEPT_NS,
    STALL_NS,
    SUSPECT_SOONEST_NS,
    WAKING_NS,
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


def woken(after_ns: int, *, silent_ns: int = SLEPT_NS, heard_ns: int = 0) -> Verdict:
    """What is thought of a path so long after data woke it, all its packets sent at once."""
    liveness, woke = Liveness(), Instant(T0 + silent_ns)
    liveness.wake(T0, None, woke, slept=False)
    heard = Instant(woke + heard_ns) if heard_ns else T0
    return liveness.judge(woke, heard, 0, Instant(woke + after_ns), moving=False)


def test_what_is_sent_after_a_long_silence_is_probed_at_once_and_given_up_soon() -> None:
    assert woken(0) is Verdict.SUSPECT
    assert woken(WAKING_NS - 1) is Verdict.SUSPECT
    assert woken(WAKING_NS) is Verdict.DEAD


def test_after_a_short_silence_the_path_has_its_usual_time_from_the_first_packet_on() -> None:
    """The negative twin: the silence before is nobody's fault."""
    assert woken(0, silent_ns=SLEPT_NS - 1) is Verdict.WELL
    assert woken(STALL_NS, silent_ns=SLEPT_NS - 1) is Verdict.SUSPECT
    assert woken(DEAD_NS, silent_ns=SLEPT_NS - 1) is Verdict.DEAD


def test_an_answer_ends_the_hurry() -> None:
    assert woken(WAKING_NS, heard_ns=20_000_000) is Verdict.WELL


def test_a_long_way_has_two_round_trips_more() -> None:
    liveness, woke, rtt_ns = Liveness(), Instant(T0 + SLEPT_NS), SECOND // 5
    liveness.wake(T0, rtt_ns, woke, slept=False)

    early = liveness.judge(woke, T0, 0, Instant(woke + WAKING_NS + 2 * rtt_ns - 1), moving=False)
    late = liveness.judge(woke, T0, 0, Instant(woke + WAKING_NS + 2 * rtt_ns), moving=False)

    assert [early, late] == [Verdict.SUSPECT, Verdict.DEAD]


def test_a_second_packet_into_the_same_silence_does_not_begin_the_waiting_anew() -> None:
    liveness, woke = Liveness(), Instant(T0 + SLEPT_NS)
    for wait_ns in (0, SECOND // 4, WAKING_NS - 1):
        liveness.wake(T0, None, Instant(woke + wait_ns), slept=False)

    verdict = liveness.judge(woke, T0, 0, Instant(woke + WAKING_NS), moving=False)

    assert verdict is Verdict.DEAD


def test_a_nat_that_forgot_is_asked_about_for_a_while_though_nothing_was_sent() -> None:
    liveness = Liveness()
    liveness.wake(T0, None, T0, slept=True)

    verdicts = [
        liveness.judge(None, T0, 0, Instant(T0 + ns), moving=False)
        for ns in (0, WAKING_NS, DEAD_NS)
    ]

    assert verdicts == [Verdict.SUSPECT, Verdict.DEAD, Verdict.WELL]


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
