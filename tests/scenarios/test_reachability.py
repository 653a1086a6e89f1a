"""Which path DCmn directs depends on what a stranger reaches, not on who is behind a NAT."""

from ntmobile.proto.node.events import TunnelEstablished
from ntmobile.sim.gateway import Firewall
from ntmobile.sim.nat import EASY, NatBehaviour
from ntmobile.sim.network import Network
from ntmobile.sim.world import World

OPEN = NatBehaviour()
"""Endpoint-independent mapping and filtering: a full cone."""


def tunnel_between(world: World, mn: Network, cn: Network, after_s: float) -> TunnelEstablished:
    org = world.organisation("example.org")
    net = world.organisation("example.net")
    laptop = world.node("laptop.alice", org, mn)
    pc = world.node("pc.bob", net, cn)
    world.run_for(after_s)
    world.connect(laptop, pc)
    return laptop.events_of(TunnelEstablished)[-1]


def test_a_full_cone_is_reached_directly_from_behind_another_nat() -> None:
    world = World()
    homes = world.internet.home("a", nat=EASY), world.internet.home("b", nat=OPEN)

    tunnel = tunnel_between(world, *homes, after_s=1)

    assert not tunnel.relayed


def test_its_twin_that_filters_is_reached_through_the_relay() -> None:
    world = World()
    homes = world.internet.home("a", nat=EASY), world.internet.home("b", nat=EASY)

    tunnel = tunnel_between(world, *homes, after_s=1)

    assert tunnel.relayed


def test_a_firewalled_global_address_does_not_count_as_reachable() -> None:
    world = World()
    walled = [
        world.internet.home(name, nat=None, ipv6=True, firewall=Firewall()) for name in ("a", "b")
    ]

    tunnel = tunnel_between(world, *walled, after_s=5)

    assert tunnel.relayed
    assert tunnel.elapsed_ns < 100_000_000, "no direct try was wasted on it"


def test_an_open_global_address_does() -> None:
    world = World()

    tunnel = tunnel_between(world, world.internet.home("a"), world.internet.core, after_s=5)

    assert not tunnel.relayed
