"""From the relay to a direct path, where the two NATs let one through; and back."""

from dataclasses import replace
from itertools import product

import pytest

from ntmobile.proto.oracle import NatKind, Way, oracle
from ntmobile.sim.nat import EASY, HARD, NatBehaviour
from ntmobile.sim.node import NodeOptions, Received, SimNode
from ntmobile.sim.world import World
from ntmobile.wire.nat import Behaviour

KIND = {
    filtering: NatKind(filtering=filtering, ports=EASY.ports, hairpin=True)
    for filtering in (Behaviour.ADDRESS_DEPENDENT, Behaviour.ADDRESS_AND_PORT_DEPENDENT)
}
PAIRS = list(product(Behaviour, Behaviour))
SEARCHING = NodeOptions()
GLIMPSED_S = 0.4
"""Servers are asked, the offers told, the ways probed, and the shortest chosen."""
SOON_S = 5
"""The NATs are examined for two seconds and a half, and then the search takes no time."""


@pytest.mark.parametrize("a", PAIRS, ids=lambda pair: f"{pair[0]} {pair[1]}")
def test_who_needs_no_port_to_be_found_is_direct_soon_and_the_others_stay_connected(
    a: tuple[Behaviour, Behaviour],
) -> None:
    for b in PAIRS:
        world = World(f"{a} {b}")
        mn, cn = couple(world, NatBehaviour(*a), NatBehaviour(*b))
        world.connect(mn, cn)
        assert world.echo(mn, cn, b"first")
        world.run_for(SOON_S)
        sent = len(world.recorder.arrows)
        for number in range(10):
            assert world.echo(mn, cn, b"%d" % number), b
            world.run_for(0.5)

        known = oracle(NatKind(*a), NatKind(*b)).way is Way.KNOWN
        assert (relayed(mn, cn), relayed(cn, mn)) == (not known, not known), b
        # Two ends whose NATs map each way anew must not follow each other for ever.
        assert len(world.recorder.arrows) - sent < 60, b


@pytest.mark.parametrize("filtering", list(KIND))
def test_between_mappings_that_serve_any_peer_the_path_is_direct_before_the_nats_are_examined(
    filtering: Behaviour,
) -> None:
    world = World()
    mn, cn = couple(world, *[replace(EASY, filtering=filtering)] * 2)

    world.connect(mn, cn)
    world.run_for(GLIMPSED_S)

    assert not relayed(mn, cn)
    assert not relayed(cn, mn)
    world.run_for(SOON_S)
    assert not relayed(mn, cn), "what the examination finds in the end changes nothing"
    assert mn.machine.whereabouts.nat == KIND[filtering]


def test_where_a_mapping_serves_one_peer_alone_nothing_is_probed_before_the_end() -> None:
    """The negative twin: the filter of the other decides, and a blind probe spoils predictions."""
    world = World()
    hard = NatBehaviour(Behaviour.ADDRESS_DEPENDENT, Behaviour.ADDRESS_DEPENDENT)
    mn, cn = couple(world, hard, replace(EASY, filtering=Behaviour.ADDRESS_DEPENDENT))

    world.connect(mn, cn)
    world.run_for(GLIMPSED_S)
    assert relayed(mn, cn)
    world.run_for(SOON_S)
    assert not relayed(mn, cn)


def test_not_a_datagram_is_lost_nor_doubled_on_the_way_to_the_direct_path() -> None:
    world = World()
    mn, cn = couple(world, EASY, EASY)
    world.connect(mn, cn)
    arrived: list[Received] = []
    cn.listen(9, arrived.append)

    assert relayed(mn, cn)
    for number in range(800):
        mn.send(mn.address_of(cn), 9, b"%d" % number, 10)
        world.run_for(0.005)
    world.run_for(1)

    assert not relayed(mn, cn)
    assert not relayed(cn, mn)
    assert sorted(int(got.data) for got in arrived) == list(range(800))


def test_a_direct_path_outlives_the_relay() -> None:
    world = World()
    mn, cn = couple(world, EASY, EASY)
    world.connect(mn, cn)
    world.run_for(SOON_S)

    for organisation in world.organisations.values():
        organisation.relay.kill()

    assert world.echo(mn, cn, b"without a relay", limit_s=0.1)


def test_with_a_nat_that_lets_nothing_direct_through_the_relay_is_needed() -> None:
    """The negative twin."""
    world = World()
    mn, cn = couple(world, HARD, HARD)
    world.connect(mn, cn)
    world.run_for(SOON_S)

    for organisation in world.organisations.values():
        organisation.relay.kill()

    assert not world.echo(mn, cn, b"without a relay", limit_s=0.1)


def test_a_direct_path_that_dies_is_left_for_the_relay_and_found_again() -> None:
    world = World()
    mn, cn = couple(world, EASY, EASY)
    world.connect(mn, cn)
    world.run_for(SOON_S)
    assert not relayed(mn, cn)

    world.internet.gateways["mn home"].reboot()
    world.internet.gateways["cn home"].reboot()

    def goes() -> bool:
        return world.echo(mn, cn, b"again", limit_s=0.5)

    world.run_until(goes, "the tunnel to carry again", 30)
    world.run_until(lambda: not relayed(mn, cn), "the direct path", 60)
    assert world.echo(mn, cn, b"and again")


def test_after_a_move_the_path_is_direct_again() -> None:
    world = World()
    mn, cn = couple(world, EASY, EASY)
    world.connect(mn, cn)
    world.run_for(SOON_S)

    world.move(mn, world.internet.home("cafe", EASY))
    assert world.echo(mn, cn, b"from the cafe")
    world.run_for(SOON_S)

    assert not relayed(mn, cn)
    assert not relayed(cn, mn)
    assert world.echo(cn, mn, b"to the cafe")


@pytest.mark.parametrize("hidden", [0, 1])
def test_a_node_that_tells_no_address_stays_behind_its_relay(hidden: int) -> None:
    world = World()
    options = [SEARCHING, SEARCHING]
    options[hidden] = NodeOptions(relay_only=True)
    mn, cn = couple(world, EASY, EASY, *options)
    world.connect(mn, cn)
    world.run_for(40)

    assert relayed(mn, cn)
    assert relayed(cn, mn)
    assert world.echo(mn, cn, b"relayed")


def couple(
    world: World,
    mn_nat: NatBehaviour,
    cn_nat: NatBehaviour,
    mn_options: NodeOptions = SEARCHING,
    cn_options: NodeOptions = SEARCHING,
) -> tuple[SimNode, SimNode]:
    org, net = world.organisation(), world.organisation("example.net")
    mn = world.node("laptop.alice", org, world.internet.home("mn home", mn_nat), mn_options)
    cn = world.node("pc.bob", net, world.internet.home("cn home", cn_nat), cn_options)
    return mn, cn


def relayed(node: SimNode, peer: SimNode) -> bool:
    [view] = [view for view in node.machine.peers() if view.fqdn == peer.fqdn]
    return view.relayed
