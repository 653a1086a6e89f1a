"""Of several RS the one nearest to both ends carries, as they measured it."""

from collections.abc import Callable

import pytest

from ntmobile.proto.node.events import TunnelClosed
from ntmobile.sim.nat import HARD, NatBehaviour
from ntmobile.sim.network import Network
from ntmobile.sim.node import SimNode
from ntmobile.sim.organisation import Organisation
from ntmobile.sim.packet import Packet
from ntmobile.sim.quality import MILLISECOND, Quality
from ntmobile.sim.traffic import Flow
from ntmobile.sim.world import World
from ntmobile.time import SECOND
from ntmobile.wire.endpoint import Endpoint, Host
from ntmobile.wire.nat import Behaviour
from ntmobile.wire.stun import is_stun

NEAR_MS, FAR_MS = 5, 60
"""One way, from the core to the RS."""


def a_world(*delays_ms: int) -> tuple[World, Organisation]:
    """A domain with an RS so far from the core each, in the operator's order."""
    world = World()
    networks = tuple(site(world, number, ms) for number, ms in enumerate(delays_ms))
    return world, world.organisation(relay_networks=networks)


def site(world: World, number: int, delay_ms: int) -> Network:
    network = world.internet.site(f"site {number}")
    network.quality = Quality(delay_ms * MILLISECOND)
    return network


def behind_hard_nats(world: World, org: Organisation, *names: str) -> list[SimNode]:
    homes = (world.internet.home(f"home of {name}", HARD) for name in names)
    nodes = [world.node(name, org, home) for name, home in zip(names, homes, strict=True)]
    world.run_for(2)
    return nodes


def relay_of(node: SimNode, peer: SimNode) -> Host | None:
    """Where the tunnel of the two leads."""
    found = [each for each in node.machine.peers() if each.fqdn == peer.fqdn]
    return found[0].remote.host if found and found[0].relayed and found[0].remote else None


def host(org: Organisation, number: int) -> Host:
    return org.settings.relays[number].endpoints[0].host


def test_the_nearest_relay_carries_though_the_operator_named_a_far_one_first() -> None:
    world, org = a_world(FAR_MS, NEAR_MS)
    mn, cn = behind_hard_nats(world, org, "laptop.alice", "pc.bob")

    world.connect(mn, cn)

    assert relay_of(mn, cn) == relay_of(cn, mn) == host(org, 1)
    assert world.echo(mn, cn, b"hello")


def test_where_no_round_trip_could_be_measured_the_operators_order_stays() -> None:
    """The negative twin: an RS is sent no STUN by anybody."""
    world, org = a_world(FAR_MS, NEAR_MS)
    places = {host(org, 0), host(org, 1)}
    world.internet.core.dislikes = lambda packet: is_question(packet, places)
    mn, cn = behind_hard_nats(world, org, "laptop.alice", "pc.bob")

    world.connect(mn, cn)

    assert relay_of(mn, cn) == host(org, 0)


def is_question(packet: Packet, places: set[Host]) -> bool:
    return is_stun(packet.payload) and packet.destination.host in places


@pytest.mark.parametrize(("to_cn_ms", "chosen"), [(5, 1), (100, 0)])
def test_the_sum_of_both_ends_decides(to_cn_ms: int, chosen: int) -> None:
    """CN is by the second RS, so near that it outweighs what MN has further to it, or not."""
    world, org = a_world(10, 40)
    cn_home = world.internet.home("home of pc", HARD)
    cn_home.quality = Quality(to_cn_ms * MILLISECOND)
    [mn] = behind_hard_nats(world, org, "laptop.alice")
    cn = world.node("pc.bob", org, cn_home)
    world.run_for(2)
    forge(cn, lambda relay: to_cn_ms if relay == host(org, 1) else 100)

    world.connect(mn, cn)

    assert relay_of(mn, cn) == host(org, chosen)


def forge(node: SimNode, far_ms: Callable[[Host], int]) -> None:
    """Let a node tell its DC these round trips instead of those it measures, at its next move."""
    take = node.machine.handle_round_trips

    def told(number: int, measured: dict[Endpoint, int | None], now: object) -> None:
        forged = {server: far_ms(server.host) * MILLISECOND for server in measured}
        take(number, forged, now)  # type: ignore[arg-type]

    node.machine.handle_round_trips = told  # type: ignore[method-assign, assignment]
    home = node.host.interfaces[next(iter(node.host.interfaces))].network
    node.host.unplug(next(iter(node.host.interfaces)))
    node.host.plug(home)
    node.report_links()
    node.internet.calendar.run_to(node.internet.now + 3_000 * MILLISECOND)  # type: ignore[arg-type]


def test_a_forged_figure_moves_the_forgers_own_tunnels_to_another_relay_and_nobody_elses() -> None:
    world, org = a_world(FAR_MS, NEAR_MS)
    liar, cn, other = behind_hard_nats(world, org, "liar.mallory", "pc.bob", "laptop.alice")

    forge(liar, lambda relay: 0 if relay == host(org, 0) else 3_600_000)
    world.connect(liar, cn)
    world.connect(other, cn)

    assert relay_of(liar, cn) == host(org, 0)
    assert world.echo(liar, cn, b"carried all the same")
    assert relay_of(other, cn) == host(org, 1)


def test_a_relay_that_is_silent_is_not_chosen_however_near_it_was() -> None:
    world, org = a_world(FAR_MS, NEAR_MS)
    mn, cn = behind_hard_nats(world, org, "laptop.alice", "pc.bob")
    world.connect(mn, cn)
    assert relay_of(mn, cn) == host(org, 1)

    flow = Flow(mn, mn.address_of(cn), cn, 100 * MILLISECOND)
    world.run_for(1)

    org.relays[1].kill()
    world.run_for(20)

    assert relay_of(mn, cn) == host(org, 0)
    assert flow.arrivals[-1][0] > world.now - SECOND
    assert not mn.events_of(TunnelClosed)


def test_in_another_network_it_is_measured_anew() -> None:
    world, org = a_world(30, 35)
    by_the_second = world.internet.home("by the second", HARD)
    mn, cn = behind_hard_nats(world, org, "laptop.alice", "pc.bob")
    first = [each.rtt_ns for each in mn.machine.view().relays]
    by_the_second.quality = Quality(20 * MILLISECOND)

    world.move(mn, by_the_second)
    world.run_for(3)

    second = [each.rtt_ns for each in mn.machine.view().relays]
    assert first == [80 * MILLISECOND, 90 * MILLISECOND]
    assert second == [120 * MILLISECOND, 130 * MILLISECOND]
    assert cn.machine.view().relays != mn.machine.view().relays


def test_a_dc_that_restarted_is_told_again() -> None:
    world, org = a_world(FAR_MS, NEAR_MS)
    mn, cn = behind_hard_nats(world, org, "laptop.alice", "pc.bob")
    org.restart_coordinator()
    world.run_for(90)

    world.connect(mn, cn)

    assert relay_of(mn, cn) == host(org, 1)


def test_a_node_of_another_domain_measures_the_relays_of_who_wanted_it() -> None:
    """At the first tunnel only MN knows; from then on CN, whose way to the first RS is long."""
    world, org = a_world(20, 25)
    net = world.organisation("example.net")
    mn = world.node("laptop.alice", org, world.internet.home("home of laptop", HARD))
    cn = world.node("pc.bob", net, world.internet.home("home of pc", HARD))
    world.run_for(2)
    forge(cn, lambda relay: 100 if relay == host(org, 0) else 10)
    world.connect(mn, cn)
    first = relay_of(mn, cn)
    world.run_for(65)
    mn.call(lambda now: mn.machine.close_tunnel(cn.fqdn, now))
    world.run_for(1)

    world.connect(mn, cn)

    assert (first, relay_of(mn, cn)) == (host(org, 0), host(org, 1))


def test_choosing_costs_no_message_on_the_way_to_a_tunnel() -> None:
    def messages(*delays_ms: int) -> list[tuple[str, str, str]]:
        world, org = a_world(*delays_ms)
        mn, cn = behind_hard_nats(world, org, "laptop.alice", "pc.bob")
        began = world.now
        world.connect(mn, cn)
        arrows = world.recorder.since(began)
        return [(arrow.message, arrow.sender, arrow.receiver) for arrow in arrows]

    assert messages(NEAR_MS) == messages(NEAR_MS, FAR_MS)


def test_what_is_measured_opens_no_filter_of_the_nodes_own_port() -> None:
    """Else a knock of an RS that was asked got in, and the node seemed reachable to strangers."""
    world, org = a_world(FAR_MS, NEAR_MS)
    by_address = NatBehaviour(filtering=Behaviour.ADDRESS_DEPENDENT)
    node = world.node("laptop.alice", org, world.internet.home("home", by_address))

    world.run_for(1300)

    assert [each.rtt_ns for each in node.machine.view().relays] == [
        2 * (10 + ms) * MILLISECOND for ms in (FAR_MS, NEAR_MS)
    ]
    assert "Reachability Report" not in {arrow.message for arrow in world.recorder.arrows}


def test_its_twin_that_lets_strangers_in_reports_the_knock() -> None:
    world, org = a_world(FAR_MS, NEAR_MS)
    world.node("laptop.alice", org, world.internet.home("home", NatBehaviour()))

    world.run_for(5)

    assert "Reachability Report" in {arrow.message for arrow in world.recorder.arrows}
