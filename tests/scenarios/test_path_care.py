"""A direct path that fails, in whatever way, is left for the relay at once, and not for ever."""

import pytest

from ntmobile.proto.node.events import TunnelClosed
from ntmobile.sim.nat import EASY
from ntmobile.sim.node import SimNode
from ntmobile.sim.packet import Packet
from ntmobile.sim.quality import MILLISECOND, Quality
from ntmobile.sim.traffic import Flow, Stream
from ntmobile.sim.world import World
from ntmobile.time import SECOND

HOMES = ("mn home", "cn home")
LONG = 300
"""Bytes of a packet that no control message but a padded one has."""


@pytest.mark.parametrize("sender", ["mn", "cn"])
def test_a_direct_path_that_falls_silent_is_left_for_the_relay_within_a_second_and_a_half(
    sender: str,
) -> None:
    world, mn, cn = direct()
    source, goal = (mn, cn) if sender == "mn" else (cn, mn)
    flow = Flow(source, source.address_of(goal), goal, 20 * MILLISECOND)
    world.run_for(1)
    for organisation in world.organisations.values():
        organisation.coordinator.kill()

    world.internet.core.cut(*HOMES)
    world.run_for(5)

    assert relayed(mn, cn)
    assert relayed(cn, mn)
    assert flow.longest_gap_ns < 1_500 * MILLISECOND


def test_with_the_relays_dead_too_only_the_direct_path_itself_brings_it_back() -> None:
    """The negative twin."""
    world, mn, cn = direct()
    flow = Flow(mn, mn.address_of(cn), cn, 20 * MILLISECOND)
    world.run_for(1)
    for organisation in world.organisations.values():
        organisation.relay.kill()

    world.internet.core.cut(*HOMES)
    world.run_for(1)
    arrived = len(flow.arrivals)
    world.run_for(5)
    assert len(flow.arrivals) == arrived
    world.internet.core.mend(*HOMES)
    world.run_for(5)

    assert flow.arrivals[-1][0] > world.now - SECOND
    assert not mn.events_of(TunnelClosed)


def test_the_way_through_the_relay_is_still_there_after_half_an_hour_on_a_direct_path() -> None:
    world, mn, cn = direct()
    flow = Flow(mn, mn.address_of(cn), cn, 500 * MILLISECOND)
    world.run_for(1800)
    for organisation in world.organisations.values():
        organisation.coordinator.kill()

    world.internet.core.cut(*HOMES)
    world.run_for(5)

    assert relayed(mn, cn)
    assert flow.arrivals[-1][0] > world.now - SECOND


def test_a_path_that_carries_probes_and_swallows_data_is_left() -> None:
    world, mn, cn = direct()
    stream = Stream(mn, mn.address_of(cn), cn, 100_000)
    world.run_for(1)

    places = {
        peer.remote.host for peer in (*mn.machine.peers(), *cn.machine.peers()) if peer.remote
    }

    def swallowed(packet: Packet) -> bool:
        return {packet.source.host, packet.destination.host} <= places and packet.size > LONG

    world.internet.core.dislikes = swallowed
    world.run_for(10)

    assert relayed(mn, cn)
    assert stream.deliveries[-1] > world.now - SECOND
    assert stream.longest_gap_ns < 5 * SECOND


def test_a_path_that_comes_and_goes_every_second_is_tried_seldom_and_costs_little() -> None:
    world, mn, cn = direct()
    flow = Flow(mn, mn.address_of(cn), cn, 20 * MILLISECOND)
    changes, before = 0, False

    for second in range(240):
        (world.internet.core.cut if second % 2 else world.internet.core.mend)(*HOMES)
        world.run_for(1)
        changes += relayed(mn, cn) is not before
        before = relayed(mn, cn)

    assert changes <= 12, "no more than three a minute"
    assert flow.lost < flow.sent // 20


@pytest.mark.parametrize(("good_s", "again"), [(70, True), (20, False)])
def test_a_path_that_was_good_for_a_minute_is_sought_again_at_once(
    good_s: int, again: bool
) -> None:
    """One that was not waits its turn: the negative twin."""
    world, mn, cn = direct()
    Flow(mn, mn.address_of(cn), cn, 20 * MILLISECOND)
    Flow(cn, cn.address_of(mn), mn, 20 * MILLISECOND)
    world.run_for(good_s)

    world.internet.core.cut(*HOMES)
    world.run_until(lambda: relayed(mn, cn) and relayed(cn, mn), "both through RS", 3)
    world.internet.core.mend(*HOMES)
    world.run_for(4)

    assert relayed(mn, cn) is not again
    assert relayed(cn, mn) is not again


def test_a_path_that_is_lost_each_minute_changes_no_more_than_three_times_in_one() -> None:
    world, mn, cn = direct()
    Flow(mn, mn.address_of(cn), cn, 20 * MILLISECOND)
    changes, before = 0, False

    for second in range(480):
        (world.internet.core.cut if second % 63 > 60 else world.internet.core.mend)(*HOMES)
        world.run_for(1)
        changes += relayed(mn, cn) is not before
        before = relayed(mn, cn)

    assert changes <= 24


def test_a_fifth_lost_does_not_make_a_direct_path_silent() -> None:
    """The negative twin: a flow that only its probes answer."""
    world, mn, cn = direct(Quality(10 * MILLISECOND, loss=0.2))
    Flow(mn, mn.address_of(cn), cn, 20 * MILLISECOND)

    changes, before = 0, False
    for _ in range(120):
        world.run_for(1)
        changes += relayed(mn, cn) is not before
        before = relayed(mn, cn)

    assert changes <= 4


def direct(quality: Quality | None = None) -> tuple[World, SimNode, SimNode]:
    """Two nodes behind NATs whose tunnel has found its direct path."""
    world = World() if quality is None else World(0, quality)
    org, net = world.organisation(), world.organisation("example.net")
    mn = world.node("laptop.alice", org, world.internet.home(HOMES[0], EASY))
    cn = world.node("pc.bob", net, world.internet.home(HOMES[1], EASY))
    world.connect(mn, cn)
    world.run_until(lambda: not relayed(mn, cn) and not relayed(cn, mn), "a direct path", 120)
    return world, mn, cn


def relayed(one: SimNode, other: SimNode) -> bool:
    """Whether one end's path to the other goes through RS."""
    [view] = [view for view in one.machine.peers() if view.fqdn == other.fqdn]
    return view.relayed
