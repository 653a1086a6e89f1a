"""What a node knows of how it may be reached, and what it has found out and tells."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.proto.parts import drain

from ntmobile.proto.node.events import NatWanted, NewestPortWanted
from ntmobile.proto.node.finding import ANY, Finding, Point, PointSeen
from ntmobile.proto.node.optimisation import Offer
from ntmobile.proto.node.whereabouts import Whereabouts, candidates, kind_of, offer_of
from ntmobile.proto.oracle import NatKind
from ntmobile.wire.datagram import decode_control, encode_control
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.nat import Behaviour, PortAssignment
from ntmobile.wire.tunnel import Candidates

EI, AD, APD = Behaviour
MAPPED, OPENED = Endpoint("203.0.113.7", 40000), Endpoint("203.0.113.7", 50000)
DC, RS = Endpoint("192.0.2.1", 4330), Endpoint("192.0.2.2", 4331)
IPV6 = Endpoint("2001:db8::7", 40000)
SEEN = (PointSeen(Point("dc", DC), 1),)
KINDS = st.builds(
    NatKind, *map(st.sampled_from, (Behaviour, Behaviour, PortAssignment)), st.booleans()
)


def found(
    mapping: frozenset[Behaviour] = ANY, filtering: frozenset[Behaviour] = ANY, *, udp: bool = True
) -> Finding:
    mapped = MAPPED if udp else None
    return Finding(4, SEEN, mapped, True, mapping, filtering, PortAssignment.SEQUENTIAL, True)


def at_home() -> Whereabouts:
    here = Whereabouts()
    here.show_mapped((MAPPED, IPV6))
    return here


def test_a_network_is_examined_once_and_the_next_one_again() -> None:
    here = at_home()
    for _ in range(2):
        here.examine((DC, RS, DC))
    assert drain(here.poll_want) == [NatWanted((DC, RS))]

    here.move()
    here.examine((DC, RS))
    assert drain(here.poll_want) == [NatWanted((DC, RS))]


def test_a_nat_that_forgot_shows_in_each_family_by_itself_and_a_move_is_none() -> None:
    here = Whereabouts()

    news = [here.is_remapped(place) for place in (MAPPED, IPV6, MAPPED, OPENED, IPV6)]
    here.move()

    assert news == [False, False, False, True, False]
    assert not here.is_remapped(MAPPED)


@pytest.mark.parametrize(("mapped", "server"), [((IPV6,), DC), ((MAPPED,), IPV6), ((), DC)])
def test_where_there_is_no_ipv4_there_is_nothing_to_find_out(
    mapped: tuple[Endpoint, ...], server: Endpoint
) -> None:
    here = Whereabouts()
    here.show_mapped(mapped)
    here.examine((server,))

    assert here.poll_want() is None
    assert not here.is_examining


@pytest.mark.parametrize("finding", [found(), found(udp=False), None])
def test_whatever_comes_of_it_the_peers_are_told_then(finding: Finding | None) -> None:
    here = at_home()
    assert here.poll_news()
    here.examine((DC,))
    assert here.is_examining
    assert not here.poll_news()

    here.handle_finding(finding)

    assert not here.is_examining
    assert here.poll_news()
    assert not here.poll_news()


def test_the_laxest_of_what_is_left_open_is_told() -> None:
    kind = kind_of(found(frozenset({AD, APD}), frozenset({APD})))

    assert kind == NatKind(AD, APD, PortAssignment.SEQUENTIAL, True)
    assert kind_of(found(udp=False)) is None


def test_behind_a_port_that_the_router_opened_there_is_no_nat() -> None:
    here = at_home()
    here.handle_finding(found(frozenset({APD}), frozenset({APD})))
    closed = here.nat
    assert here.show_opened(OPENED)
    assert not here.show_opened(OPENED), "that is no news"

    assert closed == NatKind(APD, APD, PortAssignment.SEQUENTIAL)
    assert (here.told, here.nat) == ((OPENED, MAPPED, IPV6), NatKind())
    assert here.show_opened(None)
    assert (here.told, here.nat) == ((MAPPED, IPV6), closed)


def test_a_port_of_a_router_behind_another_nat_is_told_to_nobody() -> None:
    here = at_home()
    here.show_opened(Endpoint("100.64.0.9", 50000))

    assert (here.told, here.opened, here.nat) == ((MAPPED, IPV6), (), None)


def test_the_newest_port_is_asked_for_once_at_a_time_and_told_once() -> None:
    here = at_home()
    here.handle_newest_port(1)
    assert here.poll_newest_port() is None, "nobody asked"

    here.measure(DC)
    here.measure(DC)
    assert drain(here.poll_want) == [NewestPortWanted(DC)]

    here.handle_newest_port(5000)
    assert (here.poll_newest_port(), here.poll_newest_port()) == (5000, None)
    here.measure(DC)
    assert drain(here.poll_want) == [NewestPortWanted(DC)]


@given(
    st.builds(
        Offer,
        st.tuples(st.just(MAPPED)),
        st.none() | KINDS,
        st.integers(0, 65535),
        st.integers(0, 1 << 40),
    )
)
def test_an_offer_arrives_as_it_was_told(offer: Offer) -> None:
    message = decode_control(encode_control(candidates(5, offer)))

    assert isinstance(message, Candidates)
    arrived = offer_of(message, message.endpoints)
    assert (arrived.endpoints, arrived.nat, arrived.attempt) == (
        offer.endpoints,
        offer.nat,
        offer.attempt,
    )
    assert arrived.newest_port == (0 if offer.nat is None else offer.newest_port)


def test_candidates_of_a_node_that_knows_no_more_than_addresses_are_understood() -> None:
    message = decode_control(encode_control(Candidates(5, (MAPPED,))))

    assert isinstance(message, Candidates)
    assert offer_of(message, message.endpoints) == Offer((MAPPED,))
