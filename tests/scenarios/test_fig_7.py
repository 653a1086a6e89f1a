"""Both behind NATs: through RS. Source: paper, Fig. 7."""

import pytest

from ntmobile.proto.node.events import NameRefused, TunnelEstablished
from ntmobile.sim.figures import CN, MN, figure_7
from ntmobile.sim.internet import ONE_WAY
from ntmobile.sim.nat import EASY, HARD, NatBehaviour
from ntmobile.sim.quality import MILLISECOND, Quality
from ntmobile.sim.world import World
from ntmobile.wire.registration import Reason

pytestmark = pytest.mark.paper("Fig. 7")


def test_the_tunnel_stands_ten_one_way_delays_after_the_query() -> None:
    """The paper's order takes fourteen."""
    figure = figure_7()
    print(figure.draw())

    assert figure.delays == 10


@pytest.mark.paper(
    "Relay Direction",
    "NTM ACK",
    "Hole Punching",
    "Tunnel Request",
    "Tunnel Response",
    "Kdcrs",
    "Ktun",
)
def test_the_messages_are_those_of_the_figure() -> None:
    figure = figure_7()

    seen = {(sender, message, to) for sender, message, to in figure.messages}

    assert seen >= {
        ("MN", "Direction Request", "DCmn"),
        ("DCmn", "Node Information Request", "DCcn"),
        ("DCcn", "Node Information Response", "DCmn"),
        ("DCmn", "Relay Direction", "RS"),
        ("RS", "NTM ACK", "DCmn"),
        ("DCmn", "Route Direction", "DCcn"),
        ("DCcn", "Route Direction", "CN"),
        ("CN", "Hole Punching", "RS"),
        ("CN", "NTM ACK", "DCcn"),
        ("DCcn", "NTM ACK", "DCmn"),
        ("DCmn", "Route Direction", "MN"),
        ("MN", "Tunnel Request", "RS"),
        ("RS", "Tunnel Request", "CN"),
        ("CN", "Tunnel Response", "RS"),
        ("RS", "Tunnel Response", "MN"),
    }


def test_both_ends_know_that_they_are_relayed() -> None:
    figure = figure_7()

    for name, peer in ((MN, CN), (CN, MN)):
        node = figure.world.nodes[name]
        (event,) = [e for e in node.events_of(TunnelEstablished) if e.fqdn == peer]
        assert event.relayed


@pytest.mark.paper("Capsule", "Kmncn", "Hole Punching", "Tunnel Response")
@pytest.mark.parametrize("mn_nat", [EASY, HARD], ids=["easy", "hard"])
@pytest.mark.parametrize("cn_nat", [EASY, HARD], ids=["easy", "hard"])
def test_datagrams_cross_in_both_directions_whatever_the_nats(
    mn_nat: NatBehaviour, cn_nat: NatBehaviour
) -> None:
    world = World()
    org, net = world.organisation(), world.organisation("example.net")
    mn = world.node("laptop.alice", org, world.internet.home("mn home", mn_nat))
    cn = world.node("pc.bob", net, world.internet.home("cn home", cn_nat))

    world.connect(mn, cn)

    assert world.echo(mn, cn, b"hello")


@pytest.mark.parametrize("slower_ms", [0, 3, 6, 9, 20])
def test_an_end_that_is_farther_from_rs_makes_nobody_ask_twice(slower_ms: int) -> None:
    """Its Tunnel Response may overtake the proof of where it is: RS keeps it until then."""
    world = World()
    org, net = world.organisation(), world.organisation("example.net")
    far = Quality(delay_ns=slower_ms * MILLISECOND)
    mn = world.node("laptop.alice", org, world.internet.home("mn home", EASY))
    friend, cn = (
        world.node(name, net, world.internet.home(f"{name} home", EASY, quality=far))
        for name in ("phone.bob", "pc.bob")
    )
    world.connect(mn, friend)
    start = world.now

    world.connect(mn, cn)

    assert world.now - start <= 12 * ONE_WAY.delay_ns + 8 * far.delay_ns


def test_without_a_relay_there_is_no_way_and_the_query_says_so() -> None:
    """The negative twin: no RS in MN's domain."""
    world = World()
    org, net = world.organisation(relays=0), world.organisation("example.net")
    mn = world.node("laptop.alice", org, world.internet.home("mn home", HARD))
    cn = world.node("pc.bob", net, world.internet.home("cn home", HARD))

    answer = world.resolve(mn, cn.fqdn)

    assert isinstance(answer, NameRefused)
    assert answer.reason is Reason.NO_RELAY
