"""A node leaves its port before a NAT drops the mapping of age, and nobody waits."""

from dataclasses import replace
from itertools import pairwise

import pytest

from ntmobile.proto.node.causes import Cause
from ntmobile.proto.node.events import HandoverDone, RegistrationLost, TunnelClosed
from ntmobile.sim.nat import EASY, HARD, NatBehaviour
from ntmobile.sim.node import NodeOptions, SimNode
from ntmobile.sim.packet import Transport
from ntmobile.sim.quality import MILLISECOND
from ntmobile.sim.traffic import Flow
from ntmobile.sim.world import World
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.nat import PortAssignment

AGE_S = 300
HOUR_S = 3600
PACED_MS = 100
LEARNED = 2
"""Deaths after which the age is known."""
OPEN = NatBehaviour()


def ageing(nat: NatBehaviour, age_s: int = AGE_S) -> NatBehaviour:
    return replace(nat, ports=PortAssignment.RANDOM, age_limit_s=age_s)


class Pair:
    """Two nodes that send each other a datagram ten times a second."""

    def __init__(
        self,
        mn_nat: NatBehaviour,
        cn_nat: NatBehaviour,
        age_s: int | None = None,
        paced_ms: int = PACED_MS,
    ) -> None:
        self.paced_ns = paced_ms * MILLISECOND
        self.world = World()
        org = self.world.organisation()
        options = NodeOptions(mapping_age_s=age_s)
        home = self.world.internet.home
        self.mn = self.world.node("laptop.alice", org, home("mn home", mn_nat), options)
        self.cn = self.world.node("pc.bob", org, home("cn home", cn_nat), options)
        self.world.connect(self.mn, self.cn)
        self.flows = [self.flow(self.mn, self.cn), self.flow(self.cn, self.mn)]

    def flow(self, source: SimNode, sink: SimNode) -> Flow:
        return Flow(source, source.address_of(sink), sink, self.paced_ns)

    def waits(self, since_s: float) -> list[int]:
        """Return, in ms, the pauses of more than half a period after that time, of both ways."""
        times = [[at for at, _ in flow.arrivals if at > since_s * 1e9] for flow in self.flows]
        return [
            round((later - sooner) / MILLISECOND)
            for each in times
            for sooner, later in pairwise(each)
            if later - sooner > 1.5 * self.paced_ns
        ]

    def lost(self, since_s: float) -> int:
        """Return how many datagrams did not arrive after that time, of both ways."""
        numbers = [[n for at, n in flow.arrivals if at > since_s * 1e9] for flow in self.flows]
        return sum(max(each) - min(each) + 1 - len(set(each)) for each in numbers)


KINDS = {
    "direct, to one that lets all in": (EASY, OPEN),
    "direct, to one that filters": (EASY, EASY),
    "through RS": (HARD, HARD),
    "from one that maps each peer apart": (HARD, OPEN),
}


@pytest.mark.parametrize("kind", KINDS)
def test_mappings_that_die_of_age_cost_nothing_once_the_age_is_known(kind: str) -> None:
    mn_nat, cn_nat = KINDS[kind]
    pair = Pair(ageing(mn_nat, 100), cn_nat)

    pair.world.run_for(600)

    known_s = LEARNED * 100 + 60
    assert pair.waits(0), "the first deaths are noticed when they are there"
    assert pair.waits(known_s) == []
    assert pair.lost(known_s) == 0
    assert not pair.mn.events_of(TunnelClosed)


def test_an_hour_of_mappings_that_live_five_minutes_costs_nothing_once_that_is_known() -> None:
    pair = Pair(ageing(EASY), EASY, paced_ms=400)

    pair.world.run_for(HOUR_S)

    known_s = LEARNED * AGE_S + 60
    assert pair.waits(known_s) == []
    assert pair.lost(known_s) == 0


def test_mappings_that_die_at_both_ends_cost_nothing_either() -> None:
    pair = Pair(ageing(EASY, 120), ageing(EASY, 100))

    pair.world.run_for(700)

    known_s = LEARNED * 120 + 60
    assert pair.waits(known_s) == []
    assert pair.lost(known_s) == 0


def test_a_node_that_minds_no_age_pauses_at_each_death() -> None:
    """The negative twin."""
    pair = Pair(ageing(EASY, 100), EASY, age_s=0)

    pair.world.run_for(700)

    assert len(pair.waits(LEARNED * 100 + 60)) >= 4


def test_an_age_that_the_person_tells_costs_nothing_from_the_beginning() -> None:
    pair = Pair(ageing(EASY, 40), EASY, age_s=40)

    pair.world.run_for(200)

    assert pair.waits(10) == []
    assert pair.lost(10) == 0
    noted = {event.cause for event in pair.mn.events_of(HandoverDone)}
    assert noted.isdisjoint({Cause.NAT_REBOOTED, Cause.PATH_DIED, Cause.RELAY_DIED})


def test_where_mappings_live_no_second_port_is_ever_opened() -> None:
    """The negative twin."""
    pair = Pair(EASY, EASY)

    pair.world.run_for(400)

    assert pair.waits(10) == []
    assert len(pair.mn.ports) == 0


def test_a_node_has_two_ports_at_most_however_often_they_change() -> None:
    pair = Pair(ageing(EASY, 40), EASY, age_s=40)
    opened = set()
    for _ in range(20):
        pair.world.run_for(10)
        opened.add(len(pair.mn.ports))

    assert opened == {0, 1}, "beside the node's first"


def test_a_node_whose_second_port_gets_nowhere_keeps_its_registration_and_its_peer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A firewall that lets out one port only."""
    pair = Pair(ageing(EASY, 100), EASY, age_s=100)
    first, send = pair.mn.port, pair.mn.host.send

    def blocked(
        transport: Transport, port: int, to: Endpoint, payload: bytes, number: int = 0
    ) -> bool:
        return send(transport, port, to, payload, number) if port == first else True

    monkeypatch.setattr(pair.mn.host, "send", blocked)
    pair.world.run_for(98)

    assert pair.waits(10) == []
    assert pair.lost(10) == 0
    assert not pair.mn.events_of(RegistrationLost)
