"""A Tunnel Request that a relay passes on when both ends have long agreed without it.

Ours: docs/protocol.md section 4.
"""

import pytest

from ntmobile.keys.table import KeyAct
from ntmobile.sim.nat import HARD
from ntmobile.sim.node import SimNode
from ntmobile.sim.organisation import endpoints
from ntmobile.sim.packet import Packet
from ntmobile.sim.quality import MILLISECOND
from ntmobile.sim.traffic import Flow
from ntmobile.sim.world import World
from ntmobile.wire.datagram import Header, Kind, Sender


class SlowRelay:
    """RS as it restarts: of the first negotiations after that it keeps what the ends say."""

    def __init__(self, world: World) -> None:
        (organisation,) = world.organisations.values()
        self._world = world
        self._places = endpoints(organisation.relay.host)
        self._names: set[bytes] = set()
        self._before = self._negotiations()
        self._held: list[Packet] = []
        self._passed: list[Packet] = []
        world.internet.core.dislikes = self._keeps
        organisation.restart_relay(forgets=True)

    def pass_on(self, node: SimNode) -> int:
        """What is for that node leaves now, the rest never; returns how much that is."""
        places = {endpoint.host for endpoint in node.machine.view().mapped}
        self._passed = [packet for packet in self._held if packet.destination.host in places]
        for packet in self._passed:
            self._world.internet.inject(packet)
        return len(self._passed)

    def _negotiations(self) -> set[str]:
        return {line.record.identifier for line in self._world.recorder.of_key("Ktun")}

    def _keeps(self, packet: Packet) -> bool:
        if packet.source not in self._places or packet.payload[0] != Kind.SIGNALLING:
            return False
        header = Header.decode(packet.payload)
        if header.sender is Sender.RS or packet in self._passed:
            return False
        is_new = header.identifier.hex() not in self._before
        if is_new and len(self._names) < 2:  # each end asked for a way
            self._names.add(header.identifier)
        if header.identifier in self._names:
            self._held.append(packet)
        return header.identifier in self._names


@pytest.mark.parametrize("late_s", [0.25, 1.25, 4.25])
def test_a_tunnel_request_that_comes_late_costs_the_tunnel_nothing(late_s: float) -> None:
    world, mn, cn, relay = a_move_while_rs_restarts()
    world.run_for(late_s)
    flows = [Flow(a, a.address_of(b), b, 10 * MILLISECOND) for a, b in ((mn, cn), (cn, mn))]
    world.run_for(0.1)

    assert relay.pass_on(cn)
    world.run_for(20)

    assert [flow.longest_gap_ns for flow in flows] == [10 * MILLISECOND] * 2


def test_after_it_the_keys_change_as_ever() -> None:
    world, mn, cn, relay = a_move_while_rs_restarts()
    world.run_for(1)
    assert relay.pass_on(cn)
    flows = [Flow(a, a.address_of(b), b, 50 * MILLISECOND) for a, b in ((mn, cn), (cn, mn))]

    world.run_for(300)
    for flow in flows:
        flow.stop()
    world.run_for(1)

    assert [flow.lost for flow in flows] == [0, 0]
    owned, erased = (
        {(line.host, line.record.identifier) for line in world.recorder.of_key("Kmncn", act)}
        for act in (KeyAct.OWNED, KeyAct.ERASED)
    )
    assert len(owned) >= 8
    assert len(owned - erased) == 2, "one epoch at each end: what nobody shared is gone"


def a_move_while_rs_restarts() -> tuple[World, SimNode, SimNode, SlowRelay]:
    """Both ends behind NATs: RS forgot them, holds what they say, and MN moves meanwhile."""
    world = World()
    internet, organisation = world.internet, world.organisation()
    mn = world.node("laptop.alice", organisation, internet.home("mn home", HARD))
    cn = world.node("pc.bob", organisation, internet.home("cn home", HARD))
    world.connect(mn, cn)
    world.run_for(20)
    relay = SlowRelay(world)
    flow = Flow(mn, mn.address_of(cn), cn, 20 * MILLISECOND)
    world.run_for(0.5)
    world.move(mn, internet.home("cafe", HARD))
    world.run_for(0.1)
    flow.stop()
    return world, mn, cn, relay
