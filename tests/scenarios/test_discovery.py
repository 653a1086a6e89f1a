"""What a node finds out about its NAT is what the NAT is."""

from dataclasses import replace
from itertools import product

import pytest

from ntmobile.proto.node.finding import ANY, Finding, Point
from ntmobile.proto.node.lifetime import LifetimeFound
from ntmobile.sim.examination import discover, find_lifetime
from ntmobile.sim.gateway import Firewall
from ntmobile.sim.internet import ONE_WAY
from ntmobile.sim.nat import NatBehaviour
from ntmobile.sim.network import Network
from ntmobile.sim.organisation import Organisation
from ntmobile.sim.packet import Transport
from ntmobile.sim.world import World
from ntmobile.time import SECOND
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.nat import Behaviour, PortAssignment

EI, AD, APD = Behaviour
PAIRS = list(product(Behaviour, Behaviour))
KINDS = list(product(Behaviour, Behaviour, PortAssignment, (True, False)))


@pytest.mark.parametrize(("mapping", "filtering", "ports", "hairpin"), KINDS)
def test_what_is_found_is_what_the_nat_is(
    mapping: Behaviour, filtering: Behaviour, ports: PortAssignment, hairpin: bool
) -> None:
    behaviour = NatBehaviour(mapping, filtering, ports, hairpin)
    world = World(f"{behaviour}")

    found = examine(world, world.internet.home("home", behaviour))

    assert found.translated
    assert found.mapping == {mapping}
    assert found.filtering == {filtering}
    assert found.ports is ports
    told = EI in (mapping, filtering)
    assert found.hairpin is (hairpin if told else None)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("mapping", "filtering"), PAIRS)
def test_a_packet_lost_in_ten_does_not_change_the_finding(
    mapping: Behaviour, filtering: Behaviour, seed: int
) -> None:
    world = World(f"{mapping} {filtering} {seed}", replace(ONE_WAY, loss=0.1))
    home = world.internet.home("home", NatBehaviour(mapping, filtering))

    found = examine(world, home)

    assert found.mapping == {mapping}
    assert found.filtering == {filtering}


@pytest.mark.parametrize(("mapping", "filtering"), PAIRS)
def test_servers_at_one_address_leave_open_what_they_cannot_tell(
    mapping: Behaviour, filtering: Behaviour
) -> None:
    world = World(f"{mapping} {filtering}")
    org = world.organisation()
    home = world.internet.home("home", NatBehaviour(mapping, filtering))
    host = world.internet.host("laptop", home)

    found = discover(world.internet, host, points(org)[1:])

    assert found.mapping == ({APD} if mapping is APD else {EI, AD})
    assert found.filtering == ({APD} if filtering is APD else {EI, AD})


def test_a_dc_alone_tells_that_there_is_udp_and_not_which_nat() -> None:
    world = World()
    org = world.organisation()
    host = world.internet.host("laptop", world.internet.home("home"))

    found = discover(world.internet, host, points(org)[:1])

    assert found.udp
    assert (found.mapping, found.filtering) == (ANY, ANY)


def test_blocked_udp_is_found_in_time() -> None:
    world = World()
    home = world.internet.home("home", blocked=(Transport.UDP,))

    found = examine(world, home)

    assert not found.udp
    assert (found.translated, found.hairpin) == (None, None)
    assert [seen.rtt_ns for seen in found.points] == [None, None]
    assert world.now < 4_000_000_000


def test_no_nat_is_found_as_none_and_open() -> None:
    world = World()

    found = examine(world, world.internet.core)

    assert found.translated is False
    assert (found.mapping, found.filtering) == ({EI}, {EI})
    assert (found.ports, found.hairpin) == (None, None)


@pytest.mark.parametrize("filtering", Behaviour)
def test_a_firewall_before_ipv6_is_found_as_its_filtering(filtering: Behaviour) -> None:
    world = World()
    home = world.internet.home("home", ipv6=True, firewall=Firewall(filtering))

    found = examine(world, home, family=6)

    assert (found.translated, found.family) == (False, 6)
    assert (found.mapping, found.filtering) == ({EI}, {filtering})


def test_behind_two_nats_the_stricter_behaviour_is_found() -> None:
    world = World()
    carrier = world.internet.carrier("carrier", NatBehaviour(AD, EI, PortAssignment.RANDOM))
    home = world.internet.home("home", NatBehaviour(EI, APD), outer=carrier)

    found = examine(world, home)

    assert (found.mapping, found.filtering) == ({AD}, {APD})
    assert found.mapped is not None
    assert found.mapped.host in world.internet.core.prefixes[0]


def test_each_server_is_shown_with_its_round_trip_and_a_silent_one_as_silent() -> None:
    world = World()
    org = world.organisation(relays=2)
    org.relays[1].kill()
    host = world.internet.host("laptop", world.internet.home("home"))

    found = discover(world.internet, host, points(org))

    assert {seen.point.name: seen.rtt_ns for seen in found.points} == {
        "dc.example.org": 20_000_000,
        "rs.example.org": 20_000_000,
        "rs2.example.org": None,
    }
    assert (found.mapping, found.filtering) == ({EI}, {APD})


@pytest.mark.parametrize(
    ("lifetime_s", "alive_s", "dead_s"),
    [(15, 0, 20), (32, 30, 45), (60, 45, 65), (120, 95, 125), (200, 185, 305), (400, 305, None)],
)
def test_the_lifetime_of_a_mapping_is_found(
    lifetime_s: int, alive_s: int, dead_s: int | None
) -> None:
    world = World()
    org = world.organisation()
    behaviour = NatBehaviour(APD, APD, PortAssignment.RANDOM, lifetime_s=lifetime_s)
    host = world.internet.host("laptop", world.internet.home("home", behaviour))

    found = find_lifetime(world.internet, host, points(org)[1].endpoint)

    assert found == LifetimeFound(alive_s, dead_s)


@pytest.mark.parametrize(("mended_s", "found"), [(22.7, (185, 305)), (60, (0, None))])
def test_a_burst_of_loss_is_not_taken_for_a_short_lifetime(
    mended_s: float, found: tuple[int, int | None]
) -> None:
    """The negative twin is a network that is gone for longer than both tries."""
    world = World()
    org = world.organisation()
    home = world.internet.home("home", NatBehaviour(lifetime_s=200))
    host = world.internet.host("laptop", home)
    calendar = world.internet.calendar
    calendar.after(19 * SECOND, lambda: home.cut("laptop", "home"))
    calendar.after(round(mended_s * SECOND), lambda: home.mend("laptop", "home"))

    assert find_lifetime(world.internet, host, points(org)[1].endpoint) == LifetimeFound(*found)


def test_a_server_that_dies_meanwhile_is_not_taken_for_a_short_lifetime() -> None:
    world = World()
    org = world.organisation()
    host = world.internet.host("laptop", world.internet.home("home"))
    world.internet.calendar.after(70_000_000_000, org.relay.kill)

    found = find_lifetime(world.internet, host, points(org)[1].endpoint)

    assert found == LifetimeFound(65, None)


def examine(world: World, network: Network, family: int = 4) -> Finding:
    org = world.organisation()
    host = world.internet.host("laptop", network)
    return discover(world.internet, host, points(org, family))


def points(org: Organisation, family: int = 4) -> list[Point]:
    servers = [org.coordinator, *org.relays]
    sources = ((server, server.host.source_for(family)) for server in servers)
    return [
        Point(server.host.name, Endpoint(source[1], server.port))
        for server, source in sources
        if source is not None
    ]
