"""Killing servers: what stands goes on, what is new waits, nobody has to help."""

from itertools import product

import pytest

from ntmobile.proto.node.events import NameResolved, TunnelClosed
from ntmobile.proto.node.liveness import STALL_NS
from ntmobile.proto.node.relay_watch import PATIENCE_NS
from ntmobile.sim.nat import HARD
from ntmobile.sim.node import SimNode
from ntmobile.sim.organisation import Organisation
from ntmobile.sim.quality import MILLISECOND, Quality
from ntmobile.sim.traffic import Flow, Stream
from ntmobile.sim.world import World
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Kind


def test_a_direct_tunnel_works_for_hours_without_any_server() -> None:
    world, mn, cn = a_world(behind_nats=False)
    world.connect(mn, cn)
    for organisation in world.organisations.values():
        organisation.coordinator.kill()
        organisation.account.kill()
        organisation.relay.kill()

    flow = Flow(mn, mn.address_of(cn), cn, 10_000 * MILLISECOND)
    world.run_for(3 * 3600)
    flow.stop()
    world.run_for(1)

    assert flow.lost == 0
    assert not mn.events_of(TunnelClosed)


@pytest.mark.parametrize("domain", ["example.org", "example.net"])
def test_a_dc_that_restarts_forgets_no_registration_and_new_tunnels_come_up(domain: str) -> None:
    world, mn, cn = a_world(behind_nats=True)

    world.organisations[domain].restart_coordinator()

    world.connect(mn, cn)
    assert world.echo(mn, cn, b"hello")


DOWN_MS = (0, 300, 700, 1100, 1600, 2200, 3000, 5000)
"""How long RS is away: within every timer of the nodes and of the DC, and beyond them."""


@pytest.mark.parametrize("sender", ["mn", "cn"])
@pytest.mark.parametrize("loss", [0.0, 0.05, 0.2])
def test_a_relayed_flow_goes_on_as_soon_as_its_relay_is_back_whenever_that_died(
    sender: str, loss: float
) -> None:
    for number, (phase_ms, down_ms) in enumerate(product(range(0, 1000, 250), DOWN_MS)):
        gap_s = seconds_until_back(number, sender, loss, phase_ms, down_ms, forgets=False)
        assert gap_s < 1, (number, phase_ms, down_ms)


@pytest.mark.parametrize("sender", ["mn", "cn"])
@pytest.mark.parametrize(("loss", "limit_s"), [(0.0, 1.1), (0.05, 5.0)])
def test_one_that_lost_its_disk_too_is_directed_anew_at_once(
    sender: str, loss: float, limit_s: float
) -> None:
    """By the DC of mn, or of cn."""
    for number, (phase_ms, down_ms) in enumerate(product(range(0, 1000, 125), DOWN_MS)):
        gap_s = seconds_until_back(number, sender, loss, phase_ms, down_ms, forgets=True)
        assert gap_s < limit_s, (number, phase_ms, down_ms)


@pytest.mark.parametrize("down_ms", DOWN_MS)
@pytest.mark.parametrize("forgets", [False, True])
def test_a_stream_goes_on_soon_after_its_relay_is_back(down_ms: int, *, forgets: bool) -> None:
    """Though TCP's timer has backed off: what was lost is sent again on the new path."""
    world, mn, cn = a_world(behind_nats=True)
    world.connect(mn, cn)
    stream = Stream(mn, mn.address_of(cn), cn, 100_000)
    world.run_for(2)

    ready = restart_relay(world, down_ms, forgets=forgets)
    world.run_for(3)

    first = next(at for at in stream.deliveries if at > ready)
    assert first - ready < 1_700 * MILLISECOND
    assert stream.deliveries[-1] > world.now - 500 * MILLISECOND


def test_where_no_hint_gets_through_silence_tells_the_same_seconds_later() -> None:
    """The negative twin."""
    world, mn, cn = a_world(behind_nats=True)
    world.connect(mn, cn)
    flow = Flow(mn, mn.address_of(cn), cn, 100 * MILLISECOND)
    world.run_for(3)
    world.internet.core.dislikes = lambda packet: packet.payload[:1] == bytes((Kind.HINT,))

    ready = restart_relay(world, 0, forgets=True)
    world.run_for(20)

    assert not mn.events_of(TunnelClosed)
    first = next(at for at, _ in flow.arrivals if at > ready + 50 * MILLISECOND)
    assert STALL_NS + PATIENCE_NS < first - ready < 6_000 * MILLISECOND


def test_another_relay_takes_over_from_one_that_died() -> None:
    world = World()
    org, net = world.organisation(relays=2), world.organisation("example.net")
    mn = world.node("laptop.alice", org, world.internet.home("mn home", HARD))
    cn = world.node("pc.bob", net, world.internet.home("cn home", HARD))
    world.connect(mn, cn)
    flow = Flow(mn, mn.address_of(cn), cn, 100 * MILLISECOND)
    world.run_for(3)

    org.relay.kill()
    world.run_for(40)

    assert org.relays[1].forwarded > 0
    assert flow.arrivals[-1][0] > world.now - 1_000 * MILLISECOND
    assert flow.longest_gap_ns < 2 * SECOND, "0.75 of silence, 0.8 of RS's, and the way to the DC"


def test_a_fifth_lost_on_each_leg_is_no_death_and_the_relay_stays() -> None:
    """The negative twin: a flow that only its probes answer.

    Once in half an hour of that so much is lost in a row that RS does seem dead; not in this run.
    """
    world = World(2, Quality(10 * MILLISECOND, loss=0.2))
    org, net = world.organisation(relays=2), world.organisation("example.net")
    mn = world.node("laptop.alice", org, world.internet.home("mn home", HARD))
    cn = world.node("pc.bob", net, world.internet.home("cn home", HARD))
    world.connect(mn, cn)

    flow = Flow(mn, mn.address_of(cn), cn, 50 * MILLISECOND)
    world.run_for(120)

    assert org.relays[1].forwarded == 0
    assert flow.longest_gap_ns < SECOND


def test_a_tunnel_asked_for_while_a_relay_is_dead_is_led_through_another_at_once() -> None:
    """Nobody has to ask again: the DC directs the same negotiation anew."""
    world = World()
    org, net = world.organisation(relays=2), world.organisation("example.net")
    mn = world.node("laptop.alice", org, world.internet.home("mn home", HARD))
    cn = world.node("pc.bob", net, world.internet.home("cn home", HARD))
    org.relay.kill()
    began = world.now

    answer = world.resolve(mn, cn.fqdn)

    assert isinstance(answer, NameResolved)
    assert world.now - began < 2_500 * MILLISECOND
    world.run_for(0.5)
    assert world.echo(mn, cn, b"hello")


def test_where_the_own_dc_has_no_living_relay_the_peers_dc_has() -> None:
    world, mn, cn = a_world(behind_nats=True)
    world.connect(mn, cn)
    stream = Stream(mn, mn.address_of(cn), cn, 100_000)
    world.run_for(2)

    world.organisations["example.org"].relay.kill()
    world.run_for(20)

    assert stream.deliveries[-1] > world.now - 500 * MILLISECOND
    assert stream.longest_gap_ns < 8 * SECOND


def test_with_all_relays_dead_a_relayed_flow_stops_and_goes_on_when_it_is_back() -> None:
    """The negative twin of those above."""
    world, mn, cn = a_world(behind_nats=True)
    world.connect(mn, cn)
    flow = Flow(mn, mn.address_of(cn), cn, 100 * MILLISECOND)
    world.run_for(3)

    org: Organisation = world.organisations["example.org"]
    for each in world.organisations.values():
        each.relay.kill()
    world.run_for(1)
    arrived = len(flow.arrivals)
    world.run_for(60)
    assert len(flow.arrivals) == arrived
    org.restart_relay()
    world.run_for(20)

    assert flow.arrivals[-1][0] > world.now - 1_000 * MILLISECOND


def test_a_node_that_crashes_and_starts_again_is_reached_by_its_old_peer() -> None:
    world, mn, cn = a_world(behind_nats=True)
    world.connect(mn, cn)

    again = world.restart(cn)
    world.await_registration(again)
    flow = Flow(mn, mn.address_of(cn), again, 500 * MILLISECOND)
    world.run_for(20)

    assert flow.arrivals
    assert flow.arrivals[-1][0] > world.now - 2_000 * MILLISECOND


def test_a_key_of_the_nodes_that_ran_out_is_renewed_without_anybody_asking() -> None:
    world = World()
    org = world.organisation(kntmdc_s=600)
    mn, cn = world.node("laptop.alice", org), world.node("pc.bob", org)

    world.run_for(3000)

    world.connect(mn, cn)
    assert world.echo(mn, cn, b"hello")


def a_world(
    *, behind_nats: bool, seed: int = 0, quality: Quality | None = None
) -> tuple[World, SimNode, SimNode]:
    world = World(seed) if quality is None else World(seed, quality)
    internet = world.internet
    org, net = world.organisation(), world.organisation("example.net")
    homes = [internet.home(name, HARD) if behind_nats else None for name in ("mn home", "cn home")]
    mn = world.node("laptop.alice", org, homes[0])
    cn = world.node("pc.bob", net, homes[1])
    return world, mn, cn


def seconds_until_back(
    seed: int, sender: str, loss: float, phase_ms: int, down_ms: int, *, forgets: bool
) -> float:
    """How long after its relay is back a relayed flow goes on."""
    jitter_ns = 3 * MILLISECOND if loss else 0
    world, mn, cn = a_world(
        behind_nats=True, seed=seed, quality=Quality(10 * MILLISECOND, jitter_ns, loss=loss)
    )
    world.connect(mn, cn)
    source, goal = (mn, cn) if sender == "mn" else (cn, mn)
    flow = Flow(source, source.address_of(goal), goal, 20 * MILLISECOND)
    world.run_for(2 + phase_ms / 1000)
    ready = restart_relay(world, down_ms, forgets=forgets)
    arrived = len(flow.arrivals)
    world.run_until(lambda: len(flow.arrivals) > arrived, "the flow", limit_s=60)
    assert not mn.events_of(TunnelClosed)
    return (world.now - ready) / SECOND


def restart_relay(world: World, down_ms: int, *, forgets: bool) -> Instant:
    """Kill the RS of the path and start it a while later; returns when."""
    org = world.organisations["example.org"]
    org.relay.kill()
    world.run_for(down_ms / 1000)
    org.restart_relay(forgets=forgets)
    return world.now


@pytest.mark.parametrize(("skew_s", "federates"), [(-280, True), (280, True), (400, False)])
def test_clocks_may_differ_by_less_than_five_minutes(skew_s: int, federates: bool) -> None:
    world, mn, cn = a_world(behind_nats=False)
    world.run_for(1000)
    world.organisations["example.org"].coordinator.skew_ns = skew_s * SECOND

    mn.resolve(cn.fqdn)
    world.run_for(20)

    assert bool(mn.events_of(NameResolved)) is federates
    refused = world.organisations["example.net"].coordinator.refused
    assert bool(refused) is not federates
