"""Ours: docs/protocol.md sections 4 and 8."""

import itertools

import hypothesis.strategies as st
from hypothesis import given
from tests.proto.parts import T0, THERE, after

from ntmobile.proto.node.control import (
    FIRST_RETRY_NS,
    LONGEST_RETRY_NS,
    TRIES,
    ControlRequests,
)
from ntmobile.time import Instant
from ntmobile.wire.tunnel import TunnelKeepAlive

MESSAGE = TunnelKeepAlive()


def test_a_request_is_due_again_until_it_was_tried_often_enough() -> None:
    requests: ControlRequests[str] = ControlRequests()
    requests.open(1, MESSAGE, "move", T0)
    sent, lost, times = 1, [], [T0]
    while (due := requests.poll_timeout()) is not None:
        again, lost = requests.due(due.at)
        sent += len(again)
        times.append(due.at)

    assert sent == TRIES
    assert [pending.purpose for pending in lost] == ["move"]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert waits[0] == FIRST_RETRY_NS
    assert waits == sorted(waits)
    assert max(waits) == LONGEST_RETRY_NS


def test_an_answer_ends_it_and_a_second_one_is_of_no_use() -> None:
    requests: ControlRequests[str] = ControlRequests()
    opened = requests.open(7, MESSAGE, "ping", T0, destination=THERE, interface=3)

    assert requests.close(7) == opened
    assert requests.close(7) is None
    assert (opened.destination, opened.interface) == (THERE, 3)
    assert requests.poll_timeout() is None


def test_all_of_one_purpose_can_be_forgotten_and_the_others_stay() -> None:
    requests: ControlRequests[str] = ControlRequests()
    for number, purpose in enumerate(("move", "ping", "move")):
        requests.open(number, MESSAGE, purpose, T0)

    requests.drop("move")

    again, _ = requests.due(after(T0, 1))
    assert [pending.purpose for pending in again] == ["ping"]


def test_nothing_is_due_before_its_time() -> None:
    requests: ControlRequests[str] = ControlRequests()
    requests.open(1, MESSAGE, "move", T0)

    assert requests.due(Instant(T0 + FIRST_RETRY_NS - 1)) == ([], [])


acts = st.lists(st.tuples(st.sampled_from(["open", "close", "drop", "wait"]), st.integers(0, 3)))


@given(acts)
def test_whatever_happens_each_request_ends_once_and_time_always_goes_on(
    history: list[tuple[str, int]],
) -> None:
    requests: ControlRequests[int] = ControlRequests()
    now, alive, ended = T0, set(), 0
    opened = 0
    for act, number in history:
        match act:
            case "open" if number not in alive:
                requests.open(number, MESSAGE, number, now)
                alive.add(number)
                opened += 1
            case "close":
                ended += requests.close(number) is not None
                alive.discard(number)
            case "drop":
                ended += number in alive
                requests.drop(number)
                alive.discard(number)
            case "wait" if (due := requests.poll_timeout()) is not None:
                assert due.at > now
                now = due.at
                _, lost = requests.due(now)
                ended += len(lost)
                alive -= {pending.purpose for pending in lost}
    while (due := requests.poll_timeout()) is not None:
        ended += len(requests.due(due.at)[1])

    assert ended == opened
