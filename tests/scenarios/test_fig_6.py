"""MN is reachable, CN is behind a NAT: CN sends the Tunnel Request. Source: paper, Fig. 6."""

import pytest

from ntmobile.proto.node.events import TunnelEstablished
from ntmobile.sim.figures import CN, MN, figure_6
from ntmobile.sim.nat import HARD
from ntmobile.sim.world import World

pytestmark = pytest.mark.paper("Fig. 6")


@pytest.mark.paper("Direction Request", "Route Direction", "Tunnel Request")
def test_the_tunnel_stands_six_one_way_delays_after_the_query() -> None:
    """The paper's order takes eight."""
    figure = figure_6()
    print(figure.draw())

    assert figure.delays == 6


@pytest.mark.paper(
    "Direction Request",
    "Node Information Request",
    "Node Information Response",
    "Route Direction",
    "Tunnel Request",
    "Kdcdc",
    "Ktun",
    "Ktmp",
)
def test_the_messages_are_those_of_the_figure() -> None:
    figure = figure_6()

    before_the_answer = [
        (a.message, figure.columns[a.sender], figure.columns[a.receiver])
        for a in figure.arrows
        if a.arrived <= figure.end and a.message != "NTM ACK"
    ]

    assert before_the_answer == [
        ("Direction Request", "MN", "DCmn"),
        ("Node Information Request", "DCmn", "DCcn"),
        ("Node Information Response", "DCcn", "DCmn"),
        ("Route Direction", "DCmn", "MN"),
        ("Route Direction", "DCmn", "DCcn"),
        ("Route Direction", "DCcn", "CN"),
        ("Tunnel Request", "CN", "MN"),
    ]


def test_the_tunnel_is_direct_and_no_relay_hears_of_it() -> None:
    figure = figure_6()

    for name, peer in ((MN, CN), (CN, MN)):
        node = figure.world.nodes[name]
        (event,) = [e for e in node.events_of(TunnelEstablished) if e.fqdn == peer]
        assert not event.relayed
    assert not any(line[2].startswith("rs.") for line in _hosts(figure.world, figure.start))


def test_the_hardest_nat_before_cn_changes_nothing() -> None:
    world = World()
    org, net = world.organisation(), world.organisation("example.net")
    mn = world.node("laptop.alice", org)
    cn = world.node("pc.bob", net, world.internet.home("home", HARD))

    world.connect(mn, cn)

    assert not mn.events_of(TunnelEstablished)[0].relayed


def test_a_cn_that_cannot_be_heard_at_mn_gets_a_relay_instead() -> None:
    """The negative twin: the direct way is cut, so the Tunnel Request never arrives."""
    world = World()
    org, net = world.organisation(), world.organisation("example.net")
    mn = world.node("laptop.alice", org)
    cn = world.node("pc.bob", net, world.internet.home("home"))
    world.internet.core.cut(MN, "home")

    world.connect(mn, cn)

    assert mn.events_of(TunnelEstablished)[0].relayed


def _hosts(world: World, start: int) -> list[tuple[str, str, str]]:
    arrows = [a for a in world.recorder.arrows if a.sent >= start]
    return [(a.sender, a.message, a.receiver) for a in arrows]
