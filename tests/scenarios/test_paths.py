"""Where the paper is silent: every other pair of places. Source: docs/protocol.md, section 7."""

import pytest

from ntmobile.proto.node.events import NameRefused, TunnelEstablished
from ntmobile.sim.gateway import Firewall
from ntmobile.sim.nat import HARD, NatBehaviour
from ntmobile.sim.network import Network
from ntmobile.sim.node import NodeOptions
from ntmobile.sim.packet import Packet, Transport
from ntmobile.sim.world import World


def test_a_reachable_cn_is_asked_directly() -> None:
    world = World()
    org = world.organisation()
    mn = world.node("laptop.alice", org, world.internet.home("home", HARD))
    cn = world.node("pc.bob", org)

    world.connect(mn, cn)

    assert not mn.events_of(TunnelEstablished)[0].relayed
    assert world.echo(mn, cn, b"hello")
    assert org.relay.forwarded == 0


def test_two_nodes_behind_one_nat_meet_at_their_private_addresses() -> None:
    world = World()
    org = world.organisation()
    home = world.internet.home("home", NatBehaviour(hairpin=False))
    mn, cn = world.node("laptop.alice", org, home), world.node("pc.bob", org, home)

    world.connect(mn, cn)
    crossed = list[Packet]()
    world.internet.core.taps.append(crossed.append)

    assert not mn.events_of(TunnelEstablished)[-1].relayed
    assert world.echo(mn, cn, b"hello")
    assert [packet for packet in crossed if packet.payload[:1] == b"\x04"] == []


def test_two_nodes_of_different_domains_behind_one_nat_meet_there_too() -> None:
    world = World()
    org, net = world.organisation(), world.organisation("example.net")
    home = world.internet.home("home")
    mn, cn = world.node("laptop.alice", org, home), world.node("pc.bob", net, home)

    world.connect(mn, cn)

    assert not mn.events_of(TunnelEstablished)[-1].relayed
    assert world.echo(mn, cn, b"hello")


def test_two_homes_behind_one_carrier_are_not_taken_for_one_home() -> None:
    """Both are seen at the carrier's address, yet neither private address is the other's."""
    world = World()
    org = world.organisation()
    carrier = world.internet.carrier("isp", HARD)
    mn = world.node("laptop.alice", org, world.internet.home("home1", outer=carrier))
    cn = world.node("pc.bob", org, world.internet.home("home2", outer=carrier))

    world.connect(mn, cn)

    assert world.echo(mn, cn, b"hello")


@pytest.mark.parametrize("mn_version", [4, 6])
def test_an_ipv4_only_and_an_ipv6_only_node_meet_through_a_relay(mn_version: int) -> None:
    world = World()
    org = world.organisation()
    four = world.internet.site("four", ipv6=False)
    six = world.internet.site("six", ipv4=False)
    places = {4: four, 6: six}
    mn = world.node("laptop.alice", org, places[mn_version])
    cn = world.node("pc.bob", org, places[10 - mn_version])

    world.connect(mn, cn)

    assert mn.events_of(TunnelEstablished)[0].relayed
    assert world.echo(mn, cn, b"hello")


def test_an_ipv4_only_and_an_ipv6_only_node_without_a_relay_are_told_so() -> None:
    world = World()
    org = world.organisation(relays=0)
    mn = world.node("laptop.alice", org, world.internet.site("four", ipv6=False))
    cn = world.node("pc.bob", org, world.internet.site("six", ipv4=False))

    assert isinstance(world.resolve(mn, cn.fqdn), NameRefused)


def test_nodes_behind_ipv6_firewalls_connect() -> None:
    world = World()
    org = world.organisation()
    places = [
        world.internet.home(name, None, ipv6=True, firewall=Firewall()) for name in ("h1", "h2")
    ]
    mn, cn = world.node("laptop.alice", org, places[0]), world.node("pc.bob", org, places[1])

    world.connect(mn, cn)

    assert world.echo(mn, cn, b"hello")


@pytest.mark.parametrize("who", ["mn", "cn", "both"])
def test_a_relay_only_node_tells_its_address_to_nobody(who: str) -> None:
    world = World()
    org, net = world.organisation(), world.organisation("example.net")
    hidden = NodeOptions(relay_only=True)
    shown = NodeOptions()
    mn = world.node("laptop.alice", org, options=hidden if who in ("mn", "both") else shown)
    cn = world.node("pc.bob", net, options=hidden if who in ("cn", "both") else shown)
    secret = {"mn": [mn], "cn": [cn], "both": [mn, cn]}[who]

    world.connect(mn, cn)
    assert world.echo(mn, cn, b"hello")

    for node, peer in ((mn, cn), (cn, mn)):
        if node in secret:
            ends = {e.remote.host for e in peer.events_of(TunnelEstablished)}
            addresses = {a for i in node.host.interfaces.values() for a in i.addresses}
            assert not ends & addresses


def test_udp_blocked_and_no_other_way_is_said_and_not_waited_for_ever() -> None:
    world = World()
    org = world.organisation()
    office = world.internet.home("office", blocked=(Transport.UDP,))
    node = world.stranger("laptop.alice", org, office)

    node.log_in("a long password")
    world.run_for(120)

    assert node.machine.view().state == "degraded"


def test_every_pair_of_places_connects() -> None:
    """The matrix: each kind of place with each, in both directions."""
    kinds = ("core", "easy", "hard", "carrier", "firewall", "four", "six")
    failed = []
    for a in kinds:
        for b in kinds:
            world = World(f"{a} {b}")
            org, net = world.organisation(), world.organisation("example.net")
            mn = world.node("laptop.alice", org, place(world, a, "mn"))
            cn = world.node("pc.bob", net, place(world, b, "cn"))
            world.connect(mn, cn)
            if not world.echo(mn, cn, b"hello"):
                failed.append((a, b))

    assert failed == []


def place(world: World, kind: str, name: str) -> Network | None:
    internet = world.internet
    match kind:
        case "easy":
            return internet.home(name)
        case "hard":
            return internet.home(name, HARD)
        case "carrier":
            outer = internet.carrier(f"{name} isp", HARD)
            return internet.home(name, outer=outer)
        case "firewall":
            return internet.home(name, ipv6=True, firewall=Firewall())
        case "four":
            return internet.site(name, ipv6=False)
        case "six":
            return internet.site(name, ipv4=False)
        case _:
            return None
