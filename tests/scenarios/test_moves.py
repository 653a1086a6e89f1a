"""Moving: the tunnel, its keys and its application's data live on. Source: docs/protocol.md, 8."""

from random import Random

import pytest

from ntmobile.proto.node.events import HandoverDone, TunnelClosed
from ntmobile.sim.nat import HARD
from ntmobile.sim.network import Network
from ntmobile.sim.node import SimNode
from ntmobile.sim.quality import MILLISECOND
from ntmobile.sim.traffic import Flow, Stream
from ntmobile.sim.world import World
from ntmobile.time import SECOND

pytestmark = pytest.mark.paper("Abstract", "Overview")

RTT_NS = 20 * MILLISECOND
COMBINATIONS = [("core", "home"), ("home", "core"), ("home", "other"), ("core", "site")]


@pytest.mark.parametrize(("origin", "goal"), COMBINATIONS)
@pytest.mark.parametrize("mover_sends", [True, False], ids=["uploading", "downloading"])
def test_a_stream_survives_a_move_and_pauses_for_less_than_a_round_trip_and_50_ms(
    origin: str, goal: str, mover_sends: bool
) -> None:
    world, mn, cn = a_pair(origin)
    stream = a_stream(world, mn, cn, mover_sends=mover_sends)
    world.run_for(1)

    world.move(mn, a_place(world, goal))
    world.run_until(lambda: stream.done, "the stream", limit_s=60)

    assert not mn.events_of(TunnelClosed)
    assert stream.longest_gap_ns < 2 * RTT_NS + 50 * MILLISECOND


@pytest.mark.parametrize("mover_sends", [True, False], ids=["uploading", "downloading"])
def test_both_ends_may_move_at_the_same_time(mover_sends: bool) -> None:
    world, mn, cn = a_pair("core", "home")
    stream = a_stream(world, mn, cn, mover_sends=mover_sends)
    world.run_for(1)

    world.move(mn, a_place(world, "site"))
    world.move(cn, world.internet.home("cn new home"))
    world.run_until(lambda: stream.done, "the stream", limit_s=60)

    assert stream.longest_gap_ns < 5 * SECOND


@pytest.mark.parametrize("pause_ms", range(10, 130, 15))
def test_a_second_move_does_not_wait_for_the_answer_to_the_first(pause_ms: int) -> None:
    """What the DC directs for the first place goes there, and nobody is there any more."""
    world, mn, cn = a_pair("core", "home")
    stream = a_stream(world, mn, cn, mover_sends=False)
    world.run_for(1)

    world.move(mn, a_place(world, "site"))
    world.run_for(pause_ms / 1000)
    world.move(mn, a_place(world, "other"))
    world.run_until(lambda: stream.done, "the stream", limit_s=60)

    assert stream.longest_gap_ns < SECOND


@pytest.mark.parametrize("seed", range(40))
def test_two_that_roam_at_the_same_time_find_each_other_within_a_second(seed: int) -> None:
    """Each leaves while news of the other's move, or the answer to its own, is under way."""
    world, choice = World(seed), Random(seed)
    org, net = world.organisation(), world.organisation("example.net")
    homes = [world.internet.home(name) for name in ("mn home", "mn cafe", "cn home", "cn cafe")]
    mn = world.node("laptop.alice", org, homes[0])
    cn = world.node("pc.bob", net, homes[2])
    elsewhere = {mn: [homes[1], world.internet.core], cn: [homes[3], world.internet.core]}
    at = {mn: homes[0], cn: homes[2]}
    world.connect(mn, cn)

    for _ in range(12):
        for end, places in elsewhere.items():
            goal = places.pop(choice.randrange(2))
            places.append(at[end])
            at[end] = goal
            world.move(end, goal)
            world.run_for(choice.choice([0, 0.02, 0.05, 0.1]))
        flows = (
            Flow(mn, mn.address_of(cn), cn, 20 * MILLISECOND),
            Flow(cn, cn.address_of(mn), mn, 20 * MILLISECOND),
        )
        world.run_until(lambda flows=flows: all(f.arrivals for f in flows), "both", limit_s=1)
        for flow in flows:
            flow.stop()
        world.run_for(choice.choice([0.1, 0.3, 0.6, 1.0]))


@pytest.mark.parametrize("hole_s", [1, 10, 60])
def test_after_a_hole_the_stream_goes_on_within_a_round_trip_and_200_ms(hole_s: int) -> None:
    world, mn, cn = a_pair("home")
    stream = a_stream(world, mn, cn, mover_sends=False)
    world.run_for(1)

    world.move(mn, a_place(world, "other"), gap_s=hole_s)
    world.run_until(lambda: stream.done, "the stream", limit_s=200)

    assert stream.longest_gap_ns - hole_s * SECOND < RTT_NS + 200 * MILLISECOND


def test_a_flow_loses_nothing_that_was_sent_before_or_after_the_move() -> None:
    world, mn, cn = a_pair("home")
    flow = Flow(cn, cn.address_of(mn), mn, 10 * MILLISECOND)
    world.run_for(2)

    world.move(mn, a_place(world, "other"))
    world.run_for(2)
    flow.stop()
    world.run_for(1)

    assert flow.lost == 0
    assert flow.duplicates == 0


def test_a_move_is_reported_with_its_outage() -> None:
    world, mn, cn = a_pair("core")
    world.run_for(1)

    world.move(mn, a_place(world, "home"))
    world.run_for(3)

    (done,) = mn.events_of(HandoverDone)
    assert done.fqdn == cn.fqdn
    assert 0 < done.outage_ns <= RTT_NS + 50 * MILLISECOND


def test_a_node_that_moves_ten_times_is_still_there() -> None:
    world, mn, cn = a_pair("core")
    for number in range(10):
        behaviour = HARD if number % 2 else None
        place = (
            world.internet.site(f"site{number}")
            if behaviour is None
            else world.internet.home(f"home{number}", behaviour)
        )
        world.move(mn, place)
        world.run_for(5)

    assert world.echo(mn, cn, b"still here")


def test_the_negative_twin_a_network_without_a_way_out_stops_the_stream() -> None:
    world, mn, cn = a_pair("core")
    stream = a_stream(world, mn, cn, mover_sends=True)
    world.run_for(1)

    world.move(mn, world.internet.island("island"))
    world.run_for(10)
    before = stream.delivered
    world.run_for(60)

    assert stream.delivered == before


def a_pair(mn_place: str, cn_place: str = "core") -> tuple[World, SimNode, SimNode]:
    world = World()
    org, net = world.organisation(), world.organisation("example.net")
    mn = world.node("laptop.alice", org, a_place(world, mn_place))
    cn_network = world.internet.home("cn home") if cn_place == "home" else None
    cn = world.node("pc.bob", net, cn_network)
    world.connect(mn, cn)
    world.run_for(5)
    return world, mn, cn


def a_place(world: World, kind: str) -> Network:
    match kind:
        case "home" | "other":
            return world.internet.home(kind)
        case "site":
            return world.internet.site(kind)
        case _:
            return world.internet.core


def a_stream(world: World, mn: SimNode, cn: SimNode, *, mover_sends: bool) -> Stream:
    sender, receiver = (mn, cn) if mover_sends else (cn, mn)
    return Stream(sender, sender.address_of(receiver), receiver, 3000)
