"""Which of several RS the DC directs, by what the nodes told of their round trips.

Ours: docs/protocol.md section 7.
"""

from dataclasses import replace

from tests.proto.coordinator.rig import PLACES, SETTINGS, Rig
from tests.proto.coordinator.test_directions import OTHER_RS, foreign, pair
from tests.proto.parts import ALICE, BOB, CAROL, RS, information

from ntmobile.proto.coordinator.settings import Relay
from ntmobile.wire.direction import NodeInformationRequest, NodeInformationResponse, RouteDirection
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import KeepAliveAnswer, RegistrationResponse, UdpKeepAlive
from ntmobile.wire.round_trip import RoundTrip

TWO_RS = replace(SETTINGS, relays=(Relay("rs", (RS,)), Relay("other", (OTHER_RS,))))


def far(rs_ms: int, other_ms: int) -> tuple[RoundTrip, ...]:
    return RoundTrip(RS, rs_ms), RoundTrip(OTHER_RS, other_ms)


def test_who_registers_is_named_the_relays_where_there_are_several() -> None:
    several, one = Rig(TWO_RS), Rig()
    answers = [rig.register(rig.distribute(ALICE, 1)) for rig in (several, one)]

    assert isinstance(answers[0], RegistrationResponse)
    assert isinstance(answers[1], RegistrationResponse)
    assert answers[0].relays == ((RS,), (OTHER_RS,))
    assert answers[1].relays == ()


def test_relays_that_are_added_are_named_in_the_next_answer_to_a_keep_alive() -> None:
    rig = Rig()
    mn, _ = pair(rig)
    rig.dc.set_relays(TWO_RS.relays)

    first, second = rig.ask(mn, UdpKeepAlive(True)), rig.ask(mn, UdpKeepAlive(True))

    assert isinstance(first, KeepAliveAnswer)
    assert isinstance(second, KeepAliveAnswer)
    assert (first.relays, second.relays) == (((RS,), (OTHER_RS,)), ())


def test_the_relay_nearest_to_both_ends_is_directed() -> None:
    rig = Rig(TWO_RS)
    mn, cn = pair(rig)
    rig.ask(mn, UdpKeepAlive(True, far(10, 20)))
    rig.ask(cn, UdpKeepAlive(True, far(50, 20)))

    rig.direction(mn, CAROL)

    assert rig.acknowledge(mn, RouteDirection).relay == (OTHER_RS,)


def test_a_keep_alive_without_round_trips_forgets_none_and_another_network_does() -> None:
    rig = Rig(TWO_RS)
    mn, _ = pair(rig)
    rig.ask(mn, UdpKeepAlive(True, far(50, 20)))

    rig.ask(mn, UdpKeepAlive(True))
    rig.direction(mn, CAROL)
    here = rig.acknowledge(mn, RouteDirection).relay
    mn.place = Endpoint("198.51.100.200", 40000)
    rig.register(mn)
    rig.direction(mn, CAROL, 2)
    elsewhere = rig.acknowledge(mn, RouteDirection).relay

    assert (here, elsewhere) == ((OTHER_RS,), (RS,))


def test_of_another_domains_node_its_dc_tells_how_far_it_is() -> None:
    rig = Rig(TWO_RS)
    mn = foreign(rig)
    assert rig.foreign is not None
    transmit, request = rig.foreign.take(NodeInformationRequest)
    assert request.relays == ((RS,), (OTHER_RS,))
    told = NodeInformationResponse(information(BOB, mapped=(PLACES[BOB],)), far(50, 20))

    rig.reply(rig.foreign, transmit, told)

    assert rig.acknowledge(mn, RouteDirection).relay == (OTHER_RS,)
