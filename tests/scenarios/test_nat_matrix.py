"""Every mapping and filtering behaviour of RFC 4787 against every other: all 81 pairs connect."""

from dataclasses import replace
from itertools import product

import pytest

from ntmobile.sim.nat import NatBehaviour
from ntmobile.sim.world import World
from ntmobile.wire.nat import Behaviour, PortAssignment

pytestmark = pytest.mark.paper("Abstract")

KINDS = [NatBehaviour(mapping=m, filtering=f) for m, f in product(Behaviour, Behaviour)]


@pytest.mark.parametrize("ports", list(PortAssignment))
def test_every_pair_of_nats_connects(ports: PortAssignment) -> None:
    failed = []
    for number, (a, b) in enumerate(product(KINDS, KINDS)):
        world = World(number)
        org, net = world.organisation(), world.organisation("example.net")
        homes = [
            world.internet.home(name, replace(kind, ports=ports))
            for name, kind in (("mn home", a), ("cn home", b))
        ]
        mn = world.node("laptop.alice", org, homes[0])
        cn = world.node("pc.bob", net, homes[1])
        world.connect(mn, cn)
        if not (world.echo(mn, cn, b"hello") and world.echo(cn, mn, b"hello")):
            failed.append((a, b))

    assert failed == []


def test_a_nat_that_lets_nothing_out_is_the_negative_twin() -> None:
    world = World()
    org = world.organisation()
    home = world.internet.home("home", NatBehaviour(capacity=0))
    node = world.stranger("laptop.alice", org, home)

    node.log_in("a long password")
    world.run_for(60)

    assert node.machine.view().state != "up"
