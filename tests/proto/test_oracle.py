"""What the oracle foretells, and that it comes true between the simulator's NATs."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.proto.oracle import (
    ALL_PORTS,
    LIKELY,
    OPEN,
    Budget,
    NatKind,
    Verdict,
    Way,
    behind,
    birthday,
    oracle,
)
from ntmobile.sim.nat import NatBehaviour
from ntmobile.wire.nat import Behaviour, PortAssignment
from tests.proto.node.punching import SERVERS, Game

EI, AD, APD = Behaviour
PRESERVING, SEQUENTIAL, RANDOM = PortAssignment
PAIRS = list(product(Behaviour, Behaviour))
LONG_S = 160
"""Two guesses: the second is made after two minutes."""
KINDS = st.builds(NatKind, *map(st.sampled_from, (Behaviour, Behaviour, PortAssignment)))
TABLE = {
    # Rows and columns: mapping.filtering, each endpoint-independent, address-dependent,
    # address-and-port-dependent. k known, p predicted, g guessed, -: not worth it.
    (RANDOM, RANDOM): """
        kkkkkkkkk
        kkkkkkkkk
        kkkgggggg
        kkgkk-kk-
        kkgk--k--
        kkg------
        kkgkk-kk-
        kkgk--k--
        kkg------""",
    (SEQUENTIAL, RANDOM): """
        kkkkkkkkk
        kkkkkkkkk
        kkkgggggg
        kkpkkpkkp
        kkpkppkpp
        kkp------
        kkpkkpkk-
        kkpkppkp-
        kkp------""",
    (SEQUENTIAL, SEQUENTIAL): """
        kkkkkkkkk
        kkkkkkkkk
        kkkpppppp
        kkpkkpkkp
        kkpkppkpp
        kkppppppp
        kkpkkpkkp
        kkpkppkpp
        kkppppppp""",
}
LETTERS = {Way.KNOWN: "k", Way.PREDICTED: "p", Way.GUESSED: "g", Way.HOPELESS: "-"}


@pytest.mark.parametrize("ports", TABLE, ids=lambda p: " and ".join(p))
def test_the_matrix_of_81_pairs(ports: tuple[PortAssignment, PortAssignment]) -> None:
    rows = [
        "".join(LETTERS[oracle(NatKind(*a, ports[0]), NatKind(*b, ports[1])).way] for b in PAIRS)
        for a in PAIRS
    ]

    assert rows == TABLE[ports].split()


@pytest.mark.parametrize("a", PAIRS, ids=lambda pair: f"{pair[0]} {pair[1]}")
def test_where_it_says_direct_two_ends_get_there_and_elsewhere_they_send_nothing(
    a: tuple[Behaviour, Behaviour],
) -> None:
    for b, pa, pb in product(PAIRS, PortAssignment, PortAssignment):
        verdict, game = played(NatKind(*a, pa), NatKind(*b, pb))

        spent = sum(end.probes for end in game.ends)
        assert game.direct is verdict.direct, (a, b, pa, pb)
        assert spent > 0 if verdict.direct else spent == 0
        guesses = max(end.opened for end in game.ends) // Budget().mappings
        assert spent <= Budget().probes * max(guesses, 1)
        most = Budget().mappings * max(guesses, 1) + len(SERVERS)
        assert all(len(end.nats[0]) <= most for end in game.ends)
        assert (guesses > 0) is (verdict.way is Way.GUESSED)


@pytest.mark.parametrize("a", PAIRS, ids=lambda pair: f"{pair[0]} {pair[1]}")
def test_where_it_says_no_trying_all_the_same_does_not_help(a: tuple[Behaviour, Behaviour]) -> None:
    for b in PAIRS:
        one, other = NatKind(*a, RANDOM), NatKind(*b, RANDOM)
        if oracle(one, other).direct:
            continue
        counting = (replace(one, ports=SEQUENTIAL), replace(other, ports=SEQUENTIAL))
        for believed in ((None, None), counting):
            game = Game(believed, (nats(one), nats(other))).play()

            assert not game.direct, b
            assert sum(end.probes for end in game.ends) > 0


@given(KINDS, KINDS)
def test_it_does_not_matter_who_asks(a: NatKind, b: NatKind) -> None:
    one, other = oracle(a, b), oracle(b, a)

    assert (one.way, one.in_step) == (other.way, other.in_step)
    assert one.probability == pytest.approx(other.probability)


@given(KINDS, KINDS, st.sampled_from(["mapping", "filtering"]))
def test_a_laxer_nat_never_makes_it_worse(a: NatKind, b: NatKind, what: str) -> None:
    laxer = replace(a, **{what: EI})  # type: ignore[arg-type]

    assert oracle(laxer, b).probability >= oracle(a, b).probability


@given(KINDS, KINDS)
def test_no_verdict_costs_more_than_the_budget(a: NatKind, b: NatKind) -> None:
    for kind in (a, replace(a, choice=2000)):
        verdict = oracle(kind, b)

        assert verdict.probes <= Budget().probes
        assert verdict.mappings <= Budget().mappings
        assert verdict.direct is (verdict.probability >= LIKELY)
        assert verdict.direct is (verdict.way is not Way.HOPELESS)


def test_an_end_without_nat_is_reached_by_everybody() -> None:
    for pair, ports in product(PAIRS, PortAssignment):
        assert oracle(OPEN, NatKind(*pair, ports)).way is Way.KNOWN


def test_blocked_udp_has_no_direct_path() -> None:
    verdict = oracle(OPEN, replace(OPEN, udp=False))

    assert not verdict.direct
    assert verdict.reason == "UDP is blocked"


@pytest.mark.parametrize("hairpin", [True, False])
def test_two_ends_behind_one_carriers_nat_need_it_to_turn_packets_round(hairpin: bool) -> None:
    home = NatKind(EI, APD, PRESERVING)
    kind = behind(home, NatKind(EI, APD, RANDOM, hairpin=hairpin))

    assert oracle(kind, kind, same_nat=True).direct is hairpin


@pytest.mark.parametrize(
    ("choice", "guesses", "way"),
    [(64512, 1, Way.HOPELESS), (64512, 2, Way.GUESSED), (32768, 1, Way.GUESSED)],
)
def test_one_guess_among_all_ports_is_not_likely_enough_and_two_are(
    choice: int, guesses: int, way: Way
) -> None:
    hard = NatKind(APD, APD, RANDOM, choice=choice)

    verdict = oracle(hard, NatKind(EI, APD, PRESERVING), Budget(guesses=guesses))

    assert verdict.way is way
    assert str(choice) in verdict.reason


def test_random_ports_on_both_sides_are_never_guessed() -> None:
    hard = NatKind(APD, APD, RANDOM, choice=2048)

    assert oracle(hard, hard).way is Way.HOPELESS


@given(st.integers(2, 300), st.integers(1, 60), st.integers(1, 60))
def test_the_birthday_is_the_product_of_its_chances(
    choice: int, mappings: int, guesses: int
) -> None:
    missed = 1.0
    for tried in range(guesses):
        missed *= max(choice - mappings - tried, 0) / max(choice - tried, 1)

    assert birthday(choice, mappings, guesses) == pytest.approx(1 - missed, abs=1e-9)


@given(KINDS, KINDS, KINDS, KINDS, st.integers(0, 1 << 30))
def test_behind_a_carrier_too_it_comes_true(
    home_a: NatKind, carrier_a: NatKind, home_b: NatKind, carrier_b: NatKind, seed: int
) -> None:
    a, b = behind(home_a, carrier_a), behind(home_b, carrier_b)
    verdict = oracle(a, b)
    game = Game((a, b), (nats(home_a, carrier_a), nats(home_b, carrier_b)), str(seed))
    game.play(used_s=8 * LONG_S if verdict.way is Way.GUESSED else 0)

    assert game.direct is verdict.direct


def test_guesses_hit_as_often_as_the_birthday_says() -> None:
    kinds = NatKind(EI, APD, RANDOM), NatKind(APD, APD, RANDOM)
    once = birthday(ALL_PORTS, Budget().mappings, Budget().probes - Budget().mappings)

    games = [Game(kinds, (nats(kinds[0]), nats(kinds[1])), f"{n}").play(1, 25) for n in range(60)]
    hits = sum(game.direct for game in games)

    assert once == pytest.approx(0.953, abs=0.001)
    assert 52 <= hits < 60, "57 on average, by fixed seeds"


def played(a: NatKind, b: NatKind, seed: int = 0) -> tuple[Verdict, Game]:
    verdict = oracle(a, b)
    game = Game((a, b), (nats(a), nats(b)), str(seed))
    return verdict, game.play(used_s=0 if verdict.way is Way.KNOWN else LONG_S)


def nats(*kinds: NatKind) -> list[NatBehaviour]:
    return [NatBehaviour(kind.mapping, kind.filtering, kind.ports) for kind in kinds]
