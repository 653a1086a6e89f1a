"""The whole matrix of NATs, with nodes that find out what theirs do: direct wherever the oracle
says so, connected everywhere, and no probe where it says no."""

from itertools import product
from random import Random

import pytest
from tests.scenarios.test_direct import couple, relayed

from ntmobile.proto.oracle import NatKind, Way, behind, oracle
from ntmobile.sim.nat import NatBehaviour
from ntmobile.sim.node import SimNode
from ntmobile.sim.world import World
from ntmobile.wire.nat import Behaviour, PortAssignment

PAIRS = list(product(Behaviour, Behaviour))
SEQUENTIAL, RANDOM = PortAssignment.SEQUENTIAL, PortAssignment.RANDOM
PORTS = (SEQUENTIAL, RANDOM)
SOON_S = 12
"""The first attempt, the discovery of both NATs, and the attempt that knows them."""
LATER_S = 120
"""The first three back-offs would be over."""


@pytest.mark.parametrize(
    "ports", [(RANDOM, RANDOM), (SEQUENTIAL, RANDOM), (SEQUENTIAL, SEQUENTIAL)]
)
@pytest.mark.parametrize("a", PAIRS, ids=lambda pair: f"{pair[0]} {pair[1]}")
def test_direct_wherever_the_oracle_says_so_and_no_probe_where_it_says_no(
    a: tuple[Behaviour, Behaviour], ports: tuple[PortAssignment, PortAssignment]
) -> None:
    for b in PAIRS:
        world = World(f"{a} {b} {ports}")
        mn, cn = couple(world, NatBehaviour(*a, ports[0]), NatBehaviour(*b, ports[1]))
        world.connect(mn, cn)
        assert world.echo(mn, cn, b"first"), b

        world.run_for(SOON_S)

        verdict = oracle(NatKind(*a, ports[0]), NatKind(*b, ports[1]))
        if verdict.way is Way.GUESSED:
            assert relayed(mn, cn), "nobody guesses for a tunnel that is not used"
            use(world, mn, cn)
        assert (relayed(mn, cn), relayed(cn, mn)) == (not verdict.direct,) * 2, (b, verdict)
        assert world.echo(mn, cn, b"second"), b
        if not verdict.direct:
            spent = probes(world)
            world.run_for(LATER_S)
            assert probes(world) == spent, b
            assert world.echo(cn, mn, b"third"), b


@pytest.mark.parametrize("seed", range(24))
def test_behind_carriers_too_whatever_they_and_the_homes_do(seed: int) -> None:
    chance = Random(seed)
    world = World(seed)
    org = world.organisation()
    nodes, kinds = list[SimNode](), list[NatKind]()
    for name in ("laptop", "pc"):
        home, carrier = (
            NatBehaviour(chance.choice(PAIRS)[0], chance.choice(PAIRS)[1], chance.choice(PORTS))
            for _ in range(2)
        )
        outer = world.internet.carrier(f"{name} carrier", carrier)
        network = world.internet.home(f"{name} home", home, outer=outer)
        told = (NatKind(each.mapping, each.filtering, each.ports) for each in (home, carrier))
        kinds.append(behind(*told))
        nodes.append(world.node(f"{name}.alice", org, network))
    mn, cn = nodes
    world.connect(mn, cn)
    assert world.echo(mn, cn, b"first")

    world.run_for(SOON_S)

    verdict = oracle(*kinds)
    if verdict.way is Way.GUESSED:
        use(world, mn, cn)
    assert relayed(mn, cn) is relayed(cn, mn) is not verdict.direct, verdict
    assert world.echo(cn, mn, b"second")


def use(world: World, mn: SimNode, cn: SimNode) -> None:
    """Send something every second until the path is direct; two guesses take that long."""
    for _ in range(160):
        assert world.echo(mn, cn, b"used")
        world.run_for(1)
        if not (relayed(mn, cn) or relayed(cn, mn)):
            return


def probes(world: World) -> int:
    """How many were sent so far; each shows the paper's way, as a step of the sender's."""
    return sum(arrow.message.startswith("Path Challenge") for arrow in world.recorder.arrows)
