"""Ours: docs/protocol.md section 7."""

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.wire.strategies import round_trips

from ntmobile.proto.coordinator.nearest import distances, outside, several, told_of
from ntmobile.proto.coordinator.settings import Relay
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.round_trip import LONGEST_MS, RoundTrip

PLACES = [Endpoint(f"192.0.2.{number}", 4330) for number in range(1, 4)]
ONE, TWO, THREE = RELAYS = tuple(Relay(f"rs{place.host}", (place,)) for place in PLACES)
SIX = Endpoint("2001:db8::1", 4330)


def far(*ms: int | None) -> tuple[RoundTrip, ...]:
    """What an end tells of the RS, in their order; None: nothing."""
    pairs = zip(PLACES, ms, strict=False)
    return tuple(RoundTrip(place, each) for place, each in pairs if each is not None)


def sums(*ends: tuple[RoundTrip, ...]) -> list[int]:
    found = distances(RELAYS, ends)
    return [found[relay.name] for relay in RELAYS]


def test_the_round_trips_of_both_ends_are_added() -> None:
    assert sums(far(1, 20, 30), far(50, 2, 30)) == [51, 22, 60]


def test_of_an_end_that_tells_nothing_nothing_is_known_and_the_other_decides() -> None:
    assert sums(far(1, 20, 30), ()) == [1, 20, 30]
    assert sums((), ()) == [0, 0, 0]


def test_an_end_that_knows_one_relay_only_says_nothing_of_which_is_nearer() -> None:
    assert sums(far(5, None, None), ()) == [0, 0, 0]


def test_one_left_out_among_several_is_as_far_as_can_be() -> None:
    assert sums(far(5, None, 9), ()) == [5, LONGEST_MS, 9]


def test_any_address_of_an_rs_names_it_and_others_name_nothing() -> None:
    both = Relay("both", (PLACES[0], SIX))
    told = (RoundTrip(SIX, 7), RoundTrip(PLACES[1], 9), RoundTrip(Endpoint("198.51.100.1", 1), 0))

    assert distances((both, TWO), (told,)) == {"both": 7, TWO.name: 9}


def test_only_where_there_is_a_choice_relays_are_named_and_no_more_than_eight() -> None:
    many = tuple(Relay(f"rs{n}", (Endpoint(f"192.0.2.{n}", 4330),)) for n in range(1, 20))

    assert several((ONE,)) == several(()) == ()
    assert several((ONE, TWO)) == ((PLACES[0],), (PLACES[1],))
    assert len(several(many)) == 8


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "100.64.0.1", "169.254.0.1"),
        *("0.0.0.0", "224.0.0.1", "::1", "fe80::1", "fd00::1", "ff02::1", "::"),
    ],
)
def test_another_domain_has_nobody_ask_inside_a_network(host: str) -> None:
    inner = Endpoint(host, 4330)

    assert outside(((inner,),)) == ()
    assert outside(((inner, PLACES[0]), (PLACES[1],))) == ((PLACES[0],), (PLACES[1],))


def test_who_asks_for_some_relays_is_told_of_those() -> None:
    assert told_of(((PLACES[1], SIX),), far(1, 2, 3)) == far(None, 2, None)


@given(st.lists(round_trips, max_size=2))
def test_whatever_is_told_no_sum_is_beyond_two_of_the_longest(
    told: list[tuple[RoundTrip, ...]],
) -> None:
    found = distances(RELAYS, told)

    assert found.keys() == {relay.name for relay in RELAYS}
    assert all(0 <= each <= 2 * LONGEST_MS for each in found.values())
