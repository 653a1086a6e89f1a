"""Both ends of a relayed tunnel move at once, and neither hears where the other is.

RS sends nothing to a place that has no proof yet, so what the one tells the other is lost until
both have theirs. Source: docs/protocol.md, section 8.
"""

import pytest

from ntmobile.proto.node.holding import LEAD_NS
from ntmobile.sim.nat import HARD
from ntmobile.sim.node import NodeOptions, SimNode
from ntmobile.sim.quality import MILLISECOND, Quality
from ntmobile.sim.traffic import Flow
from ntmobile.sim.world import World
from ntmobile.time import Instant

pytestmark = pytest.mark.paper("Abstract", "Overview")

ONE_WAY_NS = 12_500_000
"""From each end to RS: 50 ms there and back."""
BEAT_NS = MILLISECOND


@pytest.mark.parametrize("apart_ms", [0, 1, 3, 6, 10, 13, 16, 20, 30, 40, 55])
def test_data_are_there_again_after_a_round_trip_and_a_half_whoever_of_both_was_later(
    apart_ms: int,
) -> None:
    """The later one is on no network meanwhile, and so is the first for a while before."""
    world, (first, later), flows = two_behind_nats()

    unplug(first)
    world.run_for(0.03)
    world.move(first, world.internet.home("new 0", HARD))
    unplug(later)
    world.run_for(apart_ms / 1000)
    world.move(later, world.internet.home("new 1", HARD))
    since = world.now
    settle(world, flows)

    longest_ns = 6 * ONE_WAY_NS + LEAD_NS + 2 * BEAT_NS
    assert all(pause_ns(flow, since) <= longest_ns for flow in flows)
    assert [(flow.lost, flow.duplicates) for flow in flows] == [(0, 0)] * 2


@pytest.mark.parametrize("mover", [0, 1])
def test_the_negative_twin_where_one_moves_its_peer_sends_again_when_it_is_first_told(
    mover: int,
) -> None:
    world, ends, flows = two_behind_nats()

    world.move(ends[mover], world.internet.home("new", HARD))
    since = world.now
    settle(world, flows)

    assert 4 * ONE_WAY_NS < pause_ns(flows[1 - mover], since) < 5 * ONE_WAY_NS
    assert [(flow.lost, flow.duplicates) for flow in flows] == [(0, 0)] * 2


def two_behind_nats() -> tuple[World, tuple[SimNode, SimNode], tuple[Flow, Flow]]:
    """Two ends whose data flow through RS, and stay there; the flow that each of them sends."""
    world = World(1, Quality(delay_ns=ONE_WAY_NS))
    org, net = world.organisation(), world.organisation("example.net")
    stays = NodeOptions(optimise=False)
    one = world.node("laptop.alice", org, world.internet.home("one", HARD), stays)
    other = world.node("pc.bob", net, world.internet.home("other", HARD), stays)
    world.connect(one, other)
    world.run_for(6)
    flows = (
        Flow(one, one.address_of(other), other, BEAT_NS),
        Flow(other, other.address_of(one), one, BEAT_NS),
    )
    world.run_for(2)
    return world, (one, other), flows


def unplug(end: SimNode) -> None:
    for number in list(end.host.interfaces):
        end.host.unplug(number)
    end.report_links()


def settle(world: World, flows: tuple[Flow, Flow]) -> None:
    """Let the move end, and what is under way arrive."""
    world.run_for(1)
    for flow in flows:
        flow.stop()
    world.run_for(0.5)


def pause_ns(flow: Flow, since: Instant) -> int:
    """Return the longest pause after that, of what an application that wants all in order gets."""
    arrived = {number for at, number in flow.arrivals if at < since}
    following, last, longest = 0, since, 0
    for at, number in flow.arrivals:
        arrived.add(number)
        if following in arrived and at >= since:
            longest, last = max(longest, at - last), at
        while following in arrived:
            following += 1
    return longest
