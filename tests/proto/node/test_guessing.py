from random import Random

from hypothesis import given
from hypothesis import strategies as st
from tests.proto.node.punching import Game
from tests.proto.parts import T0, drain

from ntmobile.proto.node.ends import Path
from ntmobile.proto.node.events import CloseSockets
from ntmobile.proto.node.guessing import (
    BURST,
    BURST_NS,
    FIRST_REST_NS,
    LEAST_REST_NS,
    LONGEST_REST_NS,
    MAPPINGS,
    SLACK_NS,
    TRIES,
    TURN_NS,
    USED_NS,
    Guess,
    Occasion,
    Shot,
    Turns,
    opening,
    seeking,
)
from ntmobile.proto.node.optimisation import Offer, Optimisation
from ntmobile.proto.node.own_sockets import OwnSockets
from ntmobile.proto.oracle import Budget, NatKind
from ntmobile.sim.nat import EASY, HARD
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint

HERE, THERE = Endpoint("203.0.113.7", 40000), Endpoint("203.0.113.8", 40000)
EASILY = NatKind(EASY.mapping, EASY.filtering, EASY.ports)
HARDLY = NatKind(HARD.mapping, HARD.filtering, HARD.ports)


def test_one_attempt_costs_the_budget_and_no_more() -> None:
    opened, tried = fired(opening(THERE, 1, T0)), fired(seeking(THERE.host, Random(1), T0))

    assert [shot for shots in opened.values() for shot in shots] == [
        Shot(THERE, socket) for socket in range(1, MAPPINGS + 1)
    ]
    ports = [shot.destination.port for shots in tried.values() for shot in shots]
    assert len(ports) == len(set(ports)) == TRIES
    assert min(ports) >= 1024
    assert len(ports) + MAPPINGS == Budget().probes
    assert max(opened) < min(tried), "the mappings are there before the first try"


@given(st.integers(1, 10 * SECOND))
def test_a_timer_that_comes_late_makes_no_larger_burst(late_ns: int) -> None:
    guess = seeking(THERE.host, Random(1), T0)
    now = Instant(guess.next_at + late_ns)

    assert len(guess.due(now)) == BURST
    assert guess.due(now) == ()
    assert guess.next_at <= now + BURST_NS


def test_only_a_tunnel_that_is_used_for_a_while_is_guessed_for() -> None:
    used, now_and_then = Occasion(Turns()), Occasion(Turns())
    seconds = USED_NS // SECOND

    assert [used.note_use(at(n)) for n in range(seconds + 1)] == [False] * seconds + [True]
    assert not any(now_and_then.note_use(at(6 * n)) for n in range(100))


def test_each_guess_is_followed_by_a_longer_rest_which_another_network_ends_but_for_a_minute() -> (
    None
):
    occasion, now, rests = Occasion(Turns()), T0, list[int]()
    for _ in range(9):
        occasion.take(now)
        began = now
        while not occasion.consents(now):
            now = Instant(now + SECOND)
        rests.append(now - began + SLACK_NS)

    assert rests[:3] == [FIRST_REST_NS, 2 * FIRST_REST_NS, 4 * FIRST_REST_NS]
    assert rests[-1] == LONGEST_REST_NS
    occasion.take(now)
    occasion.renew()
    assert not occasion.consents(Instant(now + LEAST_REST_NS - SLACK_NS - 1))
    assert occasion.consents(Instant(now + LEAST_REST_NS))


def test_the_tunnels_of_a_node_guess_one_after_the_other() -> None:
    turns = Turns()
    one, other = Occasion(turns), Occasion(turns)
    one.take(T0)

    assert not other.consents(Instant(T0 + TURN_NS - 1))
    assert other.consents(Instant(T0 + TURN_NS))


def test_a_peer_that_does_not_agree_is_sent_nothing() -> None:
    """An older one does not know the word; the twin below agrees."""
    search = asking()

    search.handle_offer(Offer((THERE,), HARDLY, attempt=2), at(11))

    search.handle_timeout(at(14))
    assert drain(search.poll_probe) == []
    assert search.poll_sockets() is None


def test_who_was_not_agreed_with_agrees_at_once_and_asks_again_after_half_a_minute() -> None:
    search = asking()
    search.handle_offer(Offer((THERE,), HARDLY, attempt=2), at(11))

    search.handle_offer(Offer((THERE,), HARDLY, attempt=3, guess=True), at(12))
    assert [offer.guess for offer in drain(search.poll_offer)] == [True]

    search = asking()
    search.handle_offer(Offer((THERE,), HARDLY, attempt=2), at(11))
    for second in range(11, 41):
        search.note_use(at(second))
    assert drain(search.poll_offer) == []
    search.note_use(at(41))
    assert [offer.guess for offer in drain(search.poll_offer)] == [True]


def test_a_peer_that_agrees_is_guessed_at() -> None:
    search = asking()

    search.handle_offer(Offer((THERE,), HARDLY, attempt=2, guess=True), at(11))

    search.handle_timeout(at(14))
    probes = drain(search.poll_probe)
    assert len(probes) == BURST
    assert {probe.destination.host for probe in probes} == {THERE.host}


def test_who_is_asked_agrees_once_in_a_while() -> None:
    search = met(HARDLY, EASILY)

    search.handle_offer(Offer((THERE,), EASILY, attempt=2, guess=True), at(1))
    assert [offer.guess for offer in drain(search.poll_offer)] == [True]
    assert search.poll_sockets() == range(1, MAPPINGS + 1)
    search.handle_offer(Offer((THERE,), EASILY, attempt=3, guess=True), at(60))
    assert [offer.guess for offer in drain(search.poll_offer)] == [False]
    assert tuple(search.sockets) == ()


def test_a_peer_that_moved_is_guessed_at_again_after_a_minute() -> None:
    search, elsewhere = met(HARDLY, EASILY), Endpoint("203.0.113.9", 40000)
    search.handle_offer(Offer((THERE,), EASILY, attempt=2, guess=True), at(1))
    drain(search.poll_offer)

    for attempt, second, agrees in ((3, 50, False), (4, 62, True)):
        offer = Offer((elsewhere,), EASILY, attempt=attempt, guess=True)
        search.handle_offer(offer, at(second))

        assert [offer.guess for offer in drain(search.poll_offer)] == [agrees]


def test_who_has_random_ports_at_both_ends_neither_asks_nor_agrees() -> None:
    search = met(HARDLY, HARDLY)

    for second in range(30):
        search.note_use(at(second))
    assert drain(search.poll_offer) == []
    search.handle_offer(Offer((THERE,), HARDLY, attempt=2, guess=True), at(31))
    assert [offer.guess for offer in drain(search.poll_offer)] == [False]


def test_the_winning_socket_is_the_paths_and_all_others_are_let_go() -> None:
    game = Game((EASILY, HARDLY), ([EASY], [HARD]), "0").play(1, 30)
    easy, hard = game.ends

    assert easy.found is not None
    assert hard.found is not None
    assert easy.found.socket == 0
    assert hard.found.socket > 0
    assert hard.found.remote == easy.mapped
    assert not tuple(hard.machine.sockets)


def test_sockets_that_neither_the_search_nor_a_path_needs_are_closed_once() -> None:
    sockets = OwnSockets(7)
    sockets.open(range(1, 5))

    assert sockets.keep((None,), range(1, 5)) is None
    assert sockets.keep((Path(THERE, False, socket=3), None), ()) == CloseSockets(7, (3,))
    assert sockets.keep((Path(THERE, False, socket=3),), ()) is None
    assert sockets.keep((Path(THERE, True),), ()) == CloseSockets(7, ())


def met(own: NatKind, peer: NatKind) -> Optimisation:
    search = Optimisation(Random(1))
    search.begin(Offer((HERE,), own), T0)
    search.handle_offer(Offer((THERE,), peer, attempt=1), T0)
    drain(search.poll_offer)
    return search


def asking() -> Optimisation:
    search = met(EASILY, HARDLY)
    for second in range(11):
        search.note_use(at(second))
    assert [(offer.attempt, offer.guess) for offer in drain(search.poll_offer)] == [(2, True)]
    return search


def at(seconds: float) -> Instant:
    return Instant(T0 + round(seconds * SECOND))


def fired(guess: Guess) -> dict[Instant, tuple[Shot, ...]]:
    """All bursts, by when they leave."""
    bursts = {}
    while guess.next_at < guess.ends:
        now = guess.next_at
        if shots := guess.due(now):
            bursts[now] = shots
    return bursts
