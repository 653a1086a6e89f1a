"""NATs that drop a UDP mapping so long after its creation, however busy it is."""

from dataclasses import replace
from itertools import pairwise

import pytest

from ntmobile.proto.node.events import TunnelClosed
from ntmobile.sim.nat import EASY, NatBehaviour
from ntmobile.sim.node import NodeOptions
from ntmobile.sim.quality import MILLISECOND
from ntmobile.sim.traffic import Flow
from ntmobile.sim.world import World
from ntmobile.wire.nat import PortAssignment

AGE_S = 150
DEATHS = 7
AGEING = replace(EASY, ports=PortAssignment.RANDOM, age_limit_s=AGE_S)
"""The next mapping has another port."""
KEEPING = replace(AGEING, age_limit_s=None)
PACED_MS = 100


def gaps_ms(mn_nat: NatBehaviour, cn_nat: NatBehaviour) -> tuple[World, list[int]]:
    """Send to a node that has nothing to say; return the longer waits of it, in their order."""
    world = World()
    org = world.organisation()
    # It only looks out for the deaths; that it leaves before them is test_rotation's.
    looks_out = NodeOptions(mapping_age_s=0)
    mn = world.node("laptop.alice", org, world.internet.home("mn home", mn_nat), looks_out)
    cn = world.node("pc.bob", org, world.internet.home("cn home", cn_nat))
    world.connect(mn, cn)
    flow = Flow(cn, cn.address_of(mn), mn, PACED_MS * MILLISECOND)
    world.run_for(DEATHS * AGE_S + 60)
    assert not mn.events_of(TunnelClosed)
    times = [at for at, _ in flow.arrivals]
    waits = [(later - sooner) / MILLISECOND for sooner, later in pairwise(times)]
    return world, [round(wait) for wait in waits if wait > 2 * PACED_MS]


@pytest.mark.parametrize("peer", [NatBehaviour(), EASY], ids=["that lets all in", "that filters"])
def test_who_only_listens_waits_for_seconds_twice_and_then_for_less_than_one(
    peer: NatBehaviour,
) -> None:
    """Nobody but the node can tell where its new mapping is, and it has no cause to speak."""
    _, waits = gaps_ms(AGEING, peer)

    assert max(waits[:3]) > 1500
    assert len(waits) >= DEATHS - 1
    assert max(waits[3:]) < 1000


def test_a_nat_that_keeps_its_mappings_is_asked_nothing_more() -> None:
    """The negative twin."""
    world, waits = gaps_ms(KEEPING, EASY)

    assert waits == []
    kept = [arrow for arrow in world.recorder.arrows if arrow.message == "UDP Keep Alive"]
    assert len(kept) <= 2 * (DEATHS * AGE_S + 70) / 20
