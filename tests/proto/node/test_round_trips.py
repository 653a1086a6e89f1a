"""Ours: docs/protocol.md section 7."""

from random import Random

import hypothesis.strategies as st
from hypothesis import given
from tests.proto.parts import T0, drain

from ntmobile.proto.node.questions import Sending
from ntmobile.proto.node.round_trips import SAMPLES, RoundTripTimes
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.stun import BindingRequest, BindingResponse

NEAR, FAR = Endpoint("192.0.2.1", 4330), Endpoint("2001:db8::9", 4330)
MAPPED = Endpoint("203.0.113.7", 38317)
MS = SECOND // 1000


def answer(sending: Sending) -> bytes:
    request = BindingRequest.decode(sending.transmit.payload)
    return BindingResponse(request.transaction, MAPPED).encode()


def run(machine: RoundTripTimes, delays: dict[Endpoint, list[int | None]]) -> int:
    """Answer each server's questions after these delays, None for never; return when it ended."""
    now, coming = T0, list[tuple[int, bytes]]()
    machine.start(now)
    while True:
        for sending in drain(machine.poll_sending):
            left = delays[sending.transmit.destination]
            delay = left.pop(0) if left else None
            if delay is not None:
                coming.append((now + delay, answer(sending)))
        if machine.poll_finding() is not None:
            return now
        coming.sort()
        due = machine.poll_timeout()
        assert due is not None
        if coming and coming[0][0] <= due.at:
            at, data = coming.pop(0)
            now = Instant(at)
            machine.handle_datagram(0, data, now)
        else:
            now = due.at
            machine.handle_timeout(now)


def test_the_least_of_a_few_answers_of_each_server_counts() -> None:
    machine = RoundTripTimes((NEAR, FAR), Random(1))

    run(machine, {NEAR: [9 * MS, 4 * MS, 5 * MS], FAR: [80 * MS, 81 * MS, 90 * MS]})

    assert machine.poll_finding() == {NEAR: 4 * MS, FAR: 80 * MS}


def test_a_silent_server_has_no_round_trip_and_keeps_nobody_waiting_for_long() -> None:
    machine = RoundTripTimes((NEAR, FAR), Random(1))

    ended = run(machine, {NEAR: [4 * MS] * SAMPLES, FAR: []})

    assert machine.poll_finding() == {NEAR: 4 * MS, FAR: None}
    assert ended < T0 + 5 * SECOND


def test_a_lost_answer_is_asked_for_again_and_its_round_trip_is_that_of_its_try() -> None:
    machine = RoundTripTimes((NEAR,), Random(1))

    run(machine, {NEAR: [None, 4 * MS, None, 6 * MS, 7 * MS]})

    assert machine.poll_finding() == {NEAR: 4 * MS}


def test_what_answers_nothing_that_was_asked_counts_nothing() -> None:
    machine = RoundTripTimes((NEAR,), Random(1))
    machine.start(T0)

    for data in (b"", b"garbage", BindingResponse(bytes(12), MAPPED).encode()):
        machine.handle_datagram(0, data, T0)

    assert machine.poll_finding() is None


delays = st.lists(st.none() | st.integers(1, 150 * MS), max_size=30)


@given(delays, delays)
def test_whatever_is_lost_it_ends_with_the_least_of_what_came(
    near: list[int | None], far: list[int | None]
) -> None:
    machine = RoundTripTimes((NEAR, FAR), Random(1))

    run(machine, {NEAR: list(near), FAR: list(far)})

    found = machine.poll_finding()
    assert found is not None
    for server, told in ((NEAR, near), (FAR, far)):
        assert found[server] is None or found[server] in told
