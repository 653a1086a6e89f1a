"""Ours: docs/protocol.md section 7."""

import hypothesis.strategies as st
from hypothesis import given
from tests.proto.parts import T0, after, drain

from ntmobile.proto.node.distances import Distances
from ntmobile.proto.node.events import RoundTripsWanted
from ntmobile.time import SECOND
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.round_trip import LONGEST_MS, RoundTrip

MS = SECOND // 1000
NEAR = (Endpoint("192.0.2.9", 4330), Endpoint("2001:db8::9", 4330))
FAR = (Endpoint("192.0.2.8", 4330),)
BOTH = frozenset({4, 6})


def measured() -> Distances:
    far = Distances()
    far.learn((NEAR, FAR), BOTH)
    [want] = drain(far.poll_want)
    assert far.take(want.number, {NEAR[0]: 7 * MS, NEAR[1]: 5 * MS, FAR[0]: 80 * MS}, T0)
    return far


def test_several_relays_are_measured_and_one_is_not() -> None:
    several, one = Distances(), Distances()

    several.learn((NEAR, FAR), BOTH)
    one.learn((NEAR,), BOTH)

    assert drain(several.poll_want) == [RoundTripsWanted(1, (*NEAR, *FAR))]
    assert drain(one.poll_want) == []


def test_only_addresses_of_the_nodes_own_families_are_asked() -> None:
    far = Distances()

    far.learn((NEAR, FAR), frozenset({6}))

    assert drain(far.poll_want) == [RoundTripsWanted(1, (NEAR[1],))]


def test_the_nearest_address_of_an_rs_counts_and_the_first_names_it() -> None:
    assert measured().told == (RoundTrip(NEAR[0], 5), RoundTrip(FAR[0], 80))


def test_a_relay_that_is_silent_is_as_far_as_can_be() -> None:
    far = measured()

    far.take(1, {NEAR[0]: None, NEAR[1]: None, FAR[0]: 3 * SECOND}, T0)

    assert far.told == (RoundTrip(NEAR[0], LONGEST_MS), RoundTrip(FAR[0], LONGEST_MS))
    assert [each.rtt_ns for each in far] == [None, 3 * SECOND]


def test_where_none_answers_nothing_is_told() -> None:
    far = measured()

    far.take(1, {NEAR[0]: None, NEAR[1]: None, FAR[0]: None}, T0)

    assert far.told == ()


def test_another_network_is_measured_anew_and_an_answer_from_the_one_before_is_dropped() -> None:
    far = measured()

    far.move()
    far.learn((NEAR, FAR), BOTH)

    assert far.told == ()
    [want] = drain(far.poll_want)
    assert not far.take(1, {NEAR[0]: MS, FAR[0]: MS}, T0)
    assert far.take(want.number, {NEAR[0]: MS, FAR[0]: MS}, T0)
    assert far.told == (RoundTrip(NEAR[0], 1), RoundTrip(FAR[0], 1))


def test_the_same_relays_named_again_are_not_measured_again_before_an_hour() -> None:
    far = measured()

    far.learn((NEAR, FAR), BOTH)
    far.refresh(BOTH, after(T0, 3599))
    assert drain(far.poll_want) == []
    far.refresh(BOTH, after(T0, 3600))
    far.refresh(BOTH, after(T0, 3601))

    assert len(drain(far.poll_want)) == 1


def test_while_one_is_silent_it_is_asked_again_sooner_and_ever_more_seldom() -> None:
    far, now, waits = measured(), T0, []
    far.take(1, {NEAR[0]: MS, FAR[0]: None}, now)

    for _ in range(8):
        began = now
        while not drain(far.poll_want):
            now = after(now, 20)
            far.refresh(BOTH, now)
        waits.append((now - began) // SECOND)
        far.take(1, {NEAR[0]: MS, FAR[0]: None}, now)

    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]


times = st.none() | st.integers(0, 2**40)


@given(st.dictionaries(st.sampled_from([*NEAR, *FAR]), times))
def test_whatever_was_measured_what_is_told_is_within_its_bounds(
    found: dict[Endpoint, int | None],
) -> None:
    far = measured()

    far.take(1, found, T0)

    assert len(far.told) in (0, 2)
    assert all(0 <= each.ms <= LONGEST_MS for each in far.told)
