"""Why a tunnel went another way, as each end tells it. Ours: docs/protocol.md section 8."""

from ipaddress import IPv4Address

import pytest

from ntmobile.proto.node.causes import Cause
from ntmobile.proto.node.events import HandoverDone
from ntmobile.sim.nat import EASY, HARD
from ntmobile.sim.node import SimNode
from ntmobile.sim.quality import MILLISECOND
from ntmobile.sim.traffic import Flow
from ntmobile.sim.world import World
from ntmobile.time import SECOND


def causes(node: SimNode) -> list[Cause]:
    return [done.cause for done in node.events_of(HandoverDone)]


def a_pair(*, relayed: bool) -> tuple[World, SimNode, SimNode]:
    """Two nodes that send to each other; the first one behind a NAT, the second perhaps."""
    world = World()
    org, net = world.organisation(), world.organisation("example.net")
    mn = world.node("laptop.alice", org, world.internet.home("mn home", HARD if relayed else EASY))
    cn = world.node("pc.bob", net, world.internet.home("cn home", HARD) if relayed else None)
    world.connect(mn, cn)
    Flow(mn, mn.address_of(cn), cn, 20 * MILLISECOND)
    Flow(cn, cn.address_of(mn), mn, 20 * MILLISECOND)
    world.run_for(3)
    return world, mn, cn


@pytest.mark.parametrize("relayed", [True, False])
def test_a_mover_tells_of_its_new_network(relayed: bool) -> None:
    world, mn, cn = a_pair(relayed=relayed)

    world.move(mn, world.internet.home("cafe", HARD))
    world.run_for(3)

    [done] = mn.events_of(HandoverDone)
    assert done.cause is Cause.NEW_NETWORK
    assert (done.was_relayed, done.relayed) == (relayed, relayed)
    # Where RS is in between, the peer's path leads to RS before and after.
    assert causes(cn) == ([] if relayed else [Cause.PEER_MOVED])


def test_the_nat_of_a_direct_path_reboots_and_the_other_end_tells_so() -> None:
    world, _, cn = a_pair(relayed=False)

    world.internet.gateways["mn home"].reboot(IPv4Address("203.0.113.200"))
    world.run_for(5)

    [done] = cn.events_of(HandoverDone)
    assert done.cause is Cause.NAT_REBOOTED
    assert done.old is not None
    assert done.old != done.new


def test_the_nat_of_a_relayed_path_reboots_and_its_node_tells_so() -> None:
    world, mn, _ = a_pair(relayed=True)

    world.internet.gateways["mn home"].reboot()
    world.run_for(5)

    [done] = mn.events_of(HandoverDone)
    assert done.cause is Cause.NAT_REBOOTED
    assert done.relayed
    assert done.was_relayed
    assert done.outage_ns < 3 * SECOND


def test_an_rs_that_dies_is_told_of_by_both_ends() -> None:
    world = World()
    org, net = world.organisation(relays=2), world.organisation("example.net")
    mn = world.node("laptop.alice", org, world.internet.home("mn home", HARD))
    cn = world.node("pc.bob", net, world.internet.home("cn home", HARD))
    world.connect(mn, cn)
    Flow(mn, mn.address_of(cn), cn, 20 * MILLISECOND)
    Flow(cn, cn.address_of(mn), mn, 20 * MILLISECOND)
    world.run_for(3)
    [before] = [peer.remote for peer in mn.machine.peers()]

    org.relay.kill()
    world.run_for(5)

    for node in (mn, cn):
        [done] = node.events_of(HandoverDone)
        assert done.cause is Cause.RELAY_DIED
        assert done.relayed
        assert (done.old, done.new == before) == (before, False)


def test_while_nothing_happens_nobody_tells_of_anything() -> None:
    """The negative twin."""
    world, mn, cn = a_pair(relayed=True)

    world.run_for(60)

    assert (causes(mn), causes(cn)) == ([], [])
