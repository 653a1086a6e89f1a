"""Twelve pairs of real NATs: direct wherever the oracle says so, connected everywhere."""

from collections.abc import Iterator

import pytest

from ntmobile.lab import Behaviour, Filtering, Lab, Mapping, Ports, unavailable
from ntmobile.lab.ntm import World
from ntmobile.lab.pairs import Matrix, name
from ntmobile.proto.oracle import Budget, Way

pytestmark = pytest.mark.lab
EI, AD, APD = Mapping
ANYONE, HOSTS, PORTS = Filtering
COUNTING = Behaviour(APD, PORTS, Ports.SEQUENTIAL)
HERE = (Behaviour(EI, PORTS), COUNTING, Behaviour(APD, PORTS, Ports.RANDOM))
THERE = (Behaviour(EI, ANYONE), Behaviour(EI, PORTS, Ports.RANDOM), Behaviour(AD, HOSTS), COUNTING)
PAIRS = [(here, there) for here in HERE for there in THERE]


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    if (reason := unavailable()) is not None:
        pytest.skip(f"no lab here: {reason}")
    with Lab() as lab:
        yield Matrix(World(lab), HERE, THERE)


@pytest.mark.parametrize(
    ("here", "there"), PAIRS, ids=[f"{name(here)} - {name(there)}" for here, there in PAIRS]
)
def test_direct_wherever_the_oracle_says_so_and_connected_everywhere(
    matrix: Matrix, here: Behaviour, there: Behaviour
) -> None:
    met = matrix.meet(here, there)

    assert met.connected
    assert met.direct is met.verdict.direct, met
    guesses = max(met.guesses, 1)
    assert met.probes <= Budget().probes * guesses
    assert met.mappings <= Budget().mappings * guesses
    if met.verdict.way is Way.HOPELESS:
        assert (met.probes, met.mappings) == (0, 0), "what is in vain is not tried once"
    else:
        assert met.mappings > 0, "the NATs do see what passes them"


def test_a_hopeless_pair_costs_its_nats_nothing_later_either(matrix: Matrix) -> None:
    """A back-off later, for those that met first: what the NATs saw in the last two minutes."""
    hopeless = [pair for pair in PAIRS if matrix.foretold(*pair).way is Way.HOPELESS]

    prices = [matrix.price(*pair) for pair in hopeless]

    assert hopeless
    assert [(price.mappings, price.datagrams) for price in prices] == [(0, 0)] * len(hopeless)


def test_all_that_may_be_foretold_is_among_them(matrix: Matrix) -> None:
    verdicts = [matrix.foretold(*pair) for pair in PAIRS]

    assert {each.way for each in verdicts} == set(Way)
    assert any(each.in_step for each in verdicts)
