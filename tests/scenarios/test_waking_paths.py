"""What NATs forget while nobody speaks is found out with the first packet, not seconds later.

Ours: docs/protocol.md, section 8.
"""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from ntmobile.sim.nat import EASY, HARD, NatBehaviour
from ntmobile.sim.node import SimNode
from ntmobile.sim.quality import MILLISECOND
from ntmobile.sim.traffic import Flow
from ntmobile.sim.world import World
from ntmobile.time import SECOND, Instant

KINDS = [HARD, EASY]
NAMES = ["relayed", "direct"]


@pytest.mark.parametrize("idle_s", [30, 200])
@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_the_own_nat_has_another_address_and_the_first_packet_takes_half_a_second(
    kind: NatBehaviour, idle_s: int
) -> None:
    world, mn, cn = a_pair(kind)
    world.run_for(idle_s)

    reboot(world, "mn")

    assert first_arrival_ns(world, mn, cn) < 500 * MILLISECOND


@pytest.mark.parametrize("idle_s", [150, 400])
@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_mappings_that_died_in_a_long_silence_cost_the_first_packet_under_a_second(
    kind: NatBehaviour, idle_s: int
) -> None:
    """Keep-alives inside a tunnel end two minutes after its data; those to the DC do not."""
    world, mn, cn = a_pair(replace(kind, lifetime_s=30))
    world.run_for(idle_s)

    assert first_arrival_ns(world, mn, cn) < SECOND


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_the_nats_of_both_rebooted_and_data_waits_for_nothing_but_the_peers_next_keep_alive(
    kind: NatBehaviour,
) -> None:
    """Until then nobody can reach it; DC and RS hear of it with that very datagram."""
    world, mn, cn = a_pair(kind)
    world.run_for(200)
    began = world.now

    reboot(world, "mn", "cn")
    arrived = Instant(began + first_arrival_ns(world, mn, cn))

    assert arrived - shown_at(world, cn, began) < SECOND


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_what_a_node_hears_of_its_rebooted_nat_it_tells_rs_and_its_peers_before_there_is_data(
    kind: NatBehaviour,
) -> None:
    world, mn, cn = a_pair(kind)
    world.run_for(200)

    reboot(world, "cn")
    world.run_for(25)

    assert first_arrival_ns(world, mn, cn) < 100 * MILLISECOND


@pytest.mark.parametrize("idle_s", [5, 30, 100])
@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_a_path_that_is_still_there_is_not_asked_after_at_the_dc(
    kind: NatBehaviour, idle_s: int
) -> None:
    """The negative twin."""
    world, mn, cn = a_pair(kind)
    world.run_for(idle_s)
    began = world.now

    assert first_arrival_ns(world, mn, cn) < 25 * MILLISECOND
    world.run_for(5)

    assert not [arrow for arrow in world.recorder.since(began) if "Direction" in arrow.message]


@pytest.mark.parametrize("asked_before_ms", [0, 65, 145])
@pytest.mark.parametrize("kind", KINDS, ids=["relayed", "direct"])
def test_an_outage_amid_a_set_up_is_over_two_seconds_after_its_end(
    kind: NatBehaviour, asked_before_ms: int
) -> None:
    """The peer was told at its beginning, and has given up before the node hears where to go."""
    world, mn, cn = strangers(kind)
    mn.resolve(cn.fqdn)
    world.run_for(asked_before_ms / 1000)

    world.internet.gateways["mn home"].up = False
    world.run_for(8)
    world.internet.gateways["mn home"].up = True

    stands = f"a tunnel at {mn.fqdn} and at {cn.fqdn}"
    world.run_until(lambda: bool(mn.machine.peers() and cn.machine.peers()), stands, 2.5)
    world.run_for(20)
    assert world.echo(mn, cn, b"still here")


def strangers(kind: NatBehaviour) -> tuple[World, SimNode, SimNode]:
    """Two nodes behind such NATs who have never spoken."""
    world = World()
    org, net = world.organisation(), world.organisation("example.net")
    mn = world.node("laptop.alice", org, world.internet.home("mn home", kind))
    cn = world.node("pc.bob", net, world.internet.home("cn home", kind))
    return world, mn, cn


def a_pair(kind: NatBehaviour) -> tuple[World, SimNode, SimNode]:
    """Two nodes behind such NATs who have spoken, and speak no more."""
    world, mn, cn = strangers(kind)
    world.connect(mn, cn)
    world.run_for(10)
    for one, other in ((mn, cn), (cn, mn)):
        flow = Flow(one, one.address_of(other), other, 20 * MILLISECOND)
        world.run_for(1)
        flow.stop()
        [view] = one.machine.peers()
        assert view.relayed is (kind.ports is HARD.ports)
    return world, mn, cn


def reboot(world: World, *names: str) -> None:
    """Their NATs forget everything and come back with other addresses."""
    for number, name in enumerate(names):
        world.internet.gateways[f"{name} home"].reboot(IPv4Address(f"203.0.113.{200 + number}"))


def first_arrival_ns(world: World, sender: SimNode, receiver: SimNode) -> int:
    """How long the first packet that gets through is on its way, or was waited for."""
    began = world.now
    flow = Flow(sender, sender.address_of(receiver), receiver, 20 * MILLISECOND)
    world.run_until(lambda: bool(flow.arrivals), "the first packet")
    flow.stop()
    return flow.arrivals[0][0] - began


def shown_at(world: World, node: SimNode, since: Instant) -> Instant:
    """When a node sent its DC a datagram for the first time since then."""
    return next(
        arrow.sent for arrow in world.recorder.since(since) if arrow.sender == node.host.name
    )
