"""A node behind a WebSocket, as its DC sees it. Ours: docs/protocol.md sections 3 and 7."""

from dataclasses import replace

import pytest
from tests.proto.coordinator.rig import DOMAIN, OTHER_DC, PLACES, SETTINGS, Player, Rig
from tests.proto.coordinator.test_registry import asked, request, stored
from tests.proto.parts import ALICE, BOB, CAROL, HERE, RS, identity

from ntmobile.proto.coordinator.decision import Decision, decide
from ntmobile.proto.coordinator.registry import Accepted, register
from ntmobile.proto.coordinator.settings import Relay
from ntmobile.wire.direction import (
    NodeInformation,
    NodeInformationRequest,
    Purpose,
    ReachabilityProbe,
    Role,
    RouteDirection,
)
from ntmobile.wire.endpoint import WEB_HOST, Endpoint
from ntmobile.wire.registration import NtmAck, RegistrationResponse
from ntmobile.wire.web import WebPlace

WEB = Endpoint(WEB_HOST, 40001)
WEB_TOO = Endpoint(WEB_HOST, 40002)
WEB6 = Endpoint("2001:db8::7", 40000)
KEY = bytes(range(32))
NAME = "rs.example.org"
AWAY = Endpoint("203.0.113.200", 4331)
BLOCKED = replace(SETTINGS, relays=(Relay(NAME, (RS,), 8443),), domain_key=KEY)


def node(fqdn: str, *mapped: Endpoint, **rest: tuple[Endpoint, ...]) -> NodeInformation:
    whole = {"local": (), "reachable": (), **rest}
    about = stored()
    return NodeInformation(
        fqdn,
        about.virtual_ipv4,
        about.virtual_ipv6,
        identity(fqdn).public,
        mapped,
        whole["local"],
        whole["reachable"],
    )


def web_node(rig: Rig, fqdn: str, number: int, place: Endpoint = WEB) -> Player:
    made = rig.distribute(fqdn, number)
    made.place = place
    assert isinstance(rig.register(made), RegistrationResponse)
    return made


@pytest.mark.parametrize(
    ("mn", "cn"),
    [
        (node(ALICE, WEB), node(CAROL, PLACES[CAROL], reachable=(PLACES[CAROL],))),
        (node(ALICE, PLACES[ALICE], reachable=(PLACES[ALICE],)), node(CAROL, WEB)),
        (node(ALICE, WEB), node(CAROL, WEB_TOO)),
        (node(ALICE, WEB), node(CAROL, WEB6, reachable=(WEB6,))),
    ],
    ids=["MN", "CN", "both", "the other has IPv6 only"],
)
def test_where_udp_is_blocked_at_an_end_the_path_goes_through_rs(
    mn: NodeInformation, cn: NodeInformation
) -> None:
    both = Relay("both", (RS, Endpoint("2001:db8::9", 4330)))

    assert decide(mn, cn, (both,), Purpose.CONNECT) == Decision(Role.MN, (), both)


def test_two_nodes_at_websockets_are_not_taken_to_be_behind_one_nat() -> None:
    inside = Endpoint("192.168.1.2", 500)
    mn, cn = node(ALICE, WEB), node(CAROL, WEB_TOO, local=(inside,))

    assert decide(mn, cn, (Relay("rs", (RS,)),), Purpose.CONNECT) == Decision(
        Role.MN, (), Relay("rs", (RS,))
    )


def test_a_websocket_takes_the_place_of_all_families_and_udp_takes_it_back() -> None:
    both = stored(instance=b"\x01" * 16, sequence=1, mapped=(HERE, WEB6))

    by_web = register(both, request(sequence=2), asked(source=WEB, proven=True))
    assert isinstance(by_web, Accepted)
    assert by_web.stored.mapped == (WEB,)

    own = (HERE, WEB6)
    by_udp = register(
        by_web.stored, request(sequence=3, endpoints=own), asked(source=WEB6, proven=True)
    )
    assert isinstance(by_udp, Accepted)
    assert by_udp.stored.mapped == (WEB6,)


def test_the_end_that_reaches_no_udp_is_told_where_rs_takes_websockets_and_the_other_is_not() -> (
    None
):
    rig = Rig(BLOCKED)
    mn, cn = web_node(rig, ALICE, 1), rig.node(CAROL, 2, local=(PLACES[CAROL],))

    assert rig.direction(mn, CAROL) == NtmAck()

    to_cn, to_mn = rig.acknowledge(cn, RouteDirection), rig.acknowledge(mn, RouteDirection)
    assert to_mn.relay == to_cn.relay == (RS,)
    assert to_mn.relay_web == WebPlace(NAME, KEY, 8443)
    assert to_mn.relay_web.domain == "example.org"
    assert to_cn.relay_web is None
    assert to_mn.peer.reachable == to_mn.peer.local == ()


def test_nobody_is_told_which_websocket_a_node_has() -> None:
    rig = Rig(BLOCKED)
    mn = web_node(rig, ALICE, 1)
    cn = rig.node(CAROL, 2)

    rig.direction(mn, CAROL)

    assert rig.acknowledge(cn, RouteDirection).peer.mapped == (Endpoint(WEB_HOST, 0),)


def test_another_domain_learns_that_udp_is_blocked_too() -> None:
    rig = Rig(BLOCKED)
    mn = web_node(rig, ALICE, 1)

    rig.direction(mn, BOB)
    rig.found()

    assert rig.foreign is not None
    assert rig.foreign.place == OTHER_DC
    _, inquiry = rig.foreign.take(NodeInformationRequest)
    assert inquiry.mn.mapped == (Endpoint(WEB_HOST, 0),)


def test_nobody_knocks_at_a_websocket() -> None:
    rig = Rig(replace(BLOCKED, relays=(Relay(NAME, (AWAY,)),)))

    web_node(rig, ALICE, 1)

    assert not [r for r in rig.players if ReachabilityProbe.__name__ in r.kinds()]


def test_a_direction_with_long_names_and_many_groups_still_fits_one_datagram() -> None:
    """The rig refuses any longer one."""
    long = "r" * 63 + "." + DOMAIN
    rig = Rig(replace(BLOCKED, relays=(Relay(long, (RS, Endpoint("2001:db8::9", 4330))),)))
    groups = tuple(f"{number}-{'g' * 60}" for number in range(32))
    cn = web_node(rig, ALICE, 1)
    many = tuple(Endpoint(f"2001:db8::{n}", 1) for n in range(1, 9))
    mn = rig.distribute(CAROL, 2, groups)
    assert isinstance(rig.register(mn, (PLACES[CAROL], *many)), RegistrationResponse)

    rig.direction(mn, ALICE)

    assert rig.acknowledge(cn, RouteDirection).relay_web is not None
