"""Ours: docs/protocol.md section 7."""

from dataclasses import replace

import pytest
from tests.proto.coordinator.rig import PLACES, SETTINGS, Player, Rig
from tests.proto.coordinator.test_carriage import inquiry
from tests.proto.parts import ALICE, CAROL, DC

from ntmobile.proto.coordinator.reachability import KNOCK_AGAIN_NS, LIFETIME_NS
from ntmobile.proto.coordinator.settings import Relay
from ntmobile.time import SECOND
from ntmobile.wire.direction import NodeInformationResponse, ReachabilityProbe
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import (
    MAX_RELAYS_TOLD,
    NtmAck,
    ReachabilityReport,
    ServersRequest,
    ServersResponse,
    UdpKeepAlive,
)

PUBLIC = (PLACES[ALICE],)
PLACES_OF_RS = (Endpoint("192.0.2.60", 4330), Endpoint("2001:db8::60", 4330))


def test_every_new_address_is_knocked_at_by_an_rs_on_another_host() -> None:
    rig = Rig()

    rig.node(ALICE, 1)

    assert probe(rig).target == PUBLIC


def test_an_rs_on_the_dcs_own_host_is_no_stranger() -> None:
    rig = Rig(replace(SETTINGS, relays=(Relay("rs", (Endpoint(DC.host, 4331),)),)))

    rig.node(ALICE, 1)

    assert [r for r in rig.players if "ReachabilityProbe" in r.kinds()] == []


@pytest.mark.parametrize("local", [PUBLIC, ()], ids=["public", "behind a NAT that lets all in"])
def test_an_address_where_the_knock_got_in_is_reachable(local: tuple[Endpoint, ...]) -> None:
    rig = Rig()
    node = rig.node(ALICE, 1, **({"local": local} if local else {}))
    token = probe(rig).token

    assert rig.ask(node, ReachabilityReport(token)) == NtmAck()
    rig.pass_time(5)

    assert reachable(rig) == PUBLIC


def test_an_own_address_where_the_knock_is_lost_is_not_reachable() -> None:
    """A firewall: not translated, and yet a stranger does not get in."""
    rig = Rig()
    rig.node(ALICE, 1, local=PUBLIC)
    assert reachable(rig) == PUBLIC, "a wrong guess costs two tries, so it begins with yes"

    rig.pass_time(5)

    assert reachable(rig) == ()


def test_a_node_cannot_report_the_knock_that_another_was_given() -> None:
    rig = Rig()
    rig.node(ALICE, 1)
    token = probe(rig).token
    carol = rig.node(CAROL, 2)

    rig.ask(carol, ReachabilityReport(token))

    assert reachable(rig) == ()
    assert rig.ask(rig.players[0], ReachabilityReport(token)) == NtmAck()
    assert reachable(rig) == PUBLIC


def test_an_invented_token_proves_nothing() -> None:
    rig = Rig()
    node = rig.node(ALICE, 1)

    rig.ask(node, ReachabilityReport(12345))

    assert reachable(rig) == ()


def test_a_report_that_comes_too_late_proves_nothing() -> None:
    rig = Rig()
    node = rig.node(ALICE, 1)
    token = probe(rig).token

    rig.pass_time(LIFETIME_NS / SECOND + 0.1)
    rig.ask(node, ReachabilityReport(token))

    assert reachable(rig) == ()


def test_the_same_address_is_not_knocked_at_twice_in_a_row() -> None:
    rig = Rig()
    node = rig.node(ALICE, 1)
    probe(rig)

    rig.register(node)

    assert rig.relay is not None
    assert "ReachabilityProbe" not in rig.relay.kinds()


def test_an_rs_that_was_down_does_not_matter_for_ever() -> None:
    rig = Rig()
    node = rig.node(ALICE, 1, local=PUBLIC)
    probe(rig)
    rig.pass_time(KNOCK_AGAIN_NS / SECOND)

    rig.ask(node, UdpKeepAlive(answer=True))
    assert reachable(rig) == (), "not taken back before the knock got in"
    rig.ask(node, ReachabilityReport(probe(rig).token))

    assert reachable(rig) == PUBLIC


def test_where_a_knock_got_in_nobody_knocks_again() -> None:
    rig = Rig()
    node = rig.node(ALICE, 1)
    rig.ask(node, ReachabilityReport(probe(rig).token))
    rig.pass_time(KNOCK_AGAIN_NS / SECOND)

    rig.ask(node, UdpKeepAlive(answer=True))

    assert rig.relay is not None
    assert "ReachabilityProbe" not in rig.relay.kinds()


OPENED = Endpoint(PLACES[ALICE].host, 50500)


def test_a_port_that_a_router_opened_after_the_registration_is_knocked_at_at_once() -> None:
    for opened in (OPENED, PLACES[ALICE]):
        rig = Rig()
        node = rig.node(ALICE, 1)
        assert probe(rig).target == PUBLIC
        assert reachable(rig) == ()

        rig.register(node, opened=(opened,))
        knocked = probe(rig)
        assert reachable(rig) == (), "a router may say what it likes"
        rig.ask(node, ReachabilityReport(knocked.token))

        assert (knocked.target, reachable(rig)) == ((opened,), (opened,))


def test_a_port_that_the_router_closed_counts_no_more() -> None:
    rig = Rig()
    node = rig.node(ALICE, 1)
    probe(rig)
    rig.register(node, opened=(OPENED,))
    rig.ask(node, ReachabilityReport(probe(rig).token))
    assert reachable(rig) == (OPENED,)

    rig.register(node)

    assert reachable(rig) == ()


def test_nobody_is_knocked_at_elsewhere_than_where_the_node_is_seen() -> None:
    rig = Rig()
    node = rig.node(ALICE, 1)
    probe(rig)

    rig.register(node, opened=(PLACES[CAROL],))

    assert rig.relay is not None
    assert "ReachabilityProbe" not in rig.relay.kinds()
    assert reachable(rig) == ()


def probe(rig: Rig) -> ReachabilityProbe:
    assert rig.relay is not None
    return rig.acknowledge(rig.relay, ReachabilityProbe)


def reachable(rig: Rig) -> tuple[Endpoint, ...]:
    """What another domain is told of ALICE."""
    dcmn: Player = next((p for p in rig.players if p.name.startswith("DC of")), None) or rig.share()
    answer = rig.ask(dcmn, inquiry())
    assert isinstance(answer, NodeInformationResponse)
    return answer.cn.reachable


def test_a_node_that_asks_is_told_the_relays_and_as_many_as_fit() -> None:
    relays = tuple(Relay("r" * 200 + str(n), PLACES_OF_RS) for n in range(20))
    rig = Rig(replace(SETTINGS, relays=relays))
    node = rig.node(ALICE, 1)

    answer = rig.ask(node, ServersRequest())

    assert isinstance(answer, ServersResponse)
    assert len(answer.relays) == MAX_RELAYS_TOLD
    assert {place.endpoints for place in answer.relays} == {PLACES_OF_RS}
