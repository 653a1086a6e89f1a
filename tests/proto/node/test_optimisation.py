from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.proto.node.punching import Game
from tests.proto.parts import T0, drain

from ntmobile.proto.node.optimisation import (
    ATTEMPT_NS,
    FIRST_REST_NS,
    GOOD_NS,
    LONGEST_REST_NS,
    MOST_LEARNED,
    MOST_PROBES,
    ROUNDS,
    Offer,
    Optimisation,
    PathFound,
    Probe,
)
from ntmobile.proto.node.whereabouts import Surroundings
from ntmobile.proto.oracle import WINDOW, NatKind
from ntmobile.sim.nat import NatBehaviour
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.message import MAX_CANDIDATES
from ntmobile.wire.nat import Behaviour, PortAssignment

EI, AD, APD = Behaviour
HERE, THERE = Endpoint("203.0.113.7", 40000), Endpoint("203.0.113.8", 40000)
NEARER = Endpoint("192.168.1.9", 40000)
STRANGER = Endpoint("198.51.100.66", 1)
MS = SECOND // 1000
HOPELESS = NatKind(APD, APD, PortAssignment.RANDOM)


def test_nothing_is_sent_before_both_ends_have_told_where_they_are() -> None:
    search = Optimisation(Random(1))
    search.begin(Offer((HERE,)), T0)
    search.handle_timeout(T0)

    assert search.poll_probe() is None
    assert search.poll_timeout() is None

    search.handle_offer(Offer((THERE,), attempt=1), T0)
    search.handle_timeout(T0)
    assert [probe.destination for probe in drain(search.poll_probe)] == [THERE]


def test_who_hears_of_a_later_attempt_tells_anew_and_an_older_one_starts_nothing() -> None:
    search = Optimisation(Random(1))
    search.begin(Offer((HERE,)), T0)
    search.handle_offer(Offer((THERE,), attempt=7), T0)

    assert [offer.attempt for offer in drain(search.poll_offer)] == [7]
    assert round_of(after(search, T0)) != {}
    search.handle_offer(Offer((NEARER,), attempt=6), T0)
    assert NEARER not in round_of(after(search, at(50)))


def test_where_the_oracle_predicts_the_newest_port_is_measured_and_told_first() -> None:
    counting, plain = NatKind(APD, APD, PortAssignment.SEQUENTIAL), NatKind(EI, APD)
    search = Optimisation(Random(1))
    search.begin(Offer((HERE,), counting), T0)
    answer(search, Offer((THERE,), plain), T0)

    assert search.wants_port
    assert round_of(after(search, T0)) == {}
    search.renew(5000, T0)
    [told] = drain(search.poll_offer)

    assert (told.newest_port, told.attempt) == (5000, 2)
    search.handle_offer(Offer((THERE,), plain, attempt=2), T0)
    assert set(round_of(after(search, T0))) == {THERE}


def test_the_next_ports_of_a_nat_that_counts_are_probed_from_where_it_was_measured() -> None:
    counting, plain = NatKind(APD, APD, PortAssignment.SEQUENTIAL), NatKind(EI, APD)
    search = Optimisation(Random(1))
    search.begin(Offer((HERE,), plain), T0)
    answer(search, Offer((THERE,), counting), T0)
    assert round_of(after(search, T0)) == {}, "not measured yet"

    search.handle_offer(Offer((THERE,), counting, 65534, attempt=2), T0)

    ports = [each.port for each in round_of(after(search, T0)) if each != THERE]
    assert ports[:WINDOW] == [65535, *range(1024, 1023 + WINDOW)]
    assert ports[WINDOW:] == [THERE.port + step for step in range(1, WINDOW + 1)], "made before"


@pytest.mark.parametrize("measured", ["in vain", "never"])
def test_without_the_newest_port_it_is_tried_again_later(measured: str) -> None:
    counting, plain = NatKind(APD, APD, PortAssignment.SEQUENTIAL), NatKind(EI, APD)
    search = Optimisation(Random(1))
    search.begin(Offer((HERE,), counting), T0)
    answer(search, Offer((THERE,), plain), T0)

    if measured == "in vain":
        search.renew(0, T0)
    else:
        due = search.poll_timeout()
        assert due is not None
        search.handle_timeout(due.at)

    assert not search.wants_port
    due = search.poll_timeout()
    assert due is not None
    assert due.at >= T0 + FIRST_REST_NS
    search.handle_timeout(due.at)
    assert search.wants_port


def test_behind_one_nat_the_addresses_inside_are_probed_and_elsewhere_not() -> None:
    hard = NatKind(APD, APD, hairpin=False)
    for mapped, probed in ((Endpoint(HERE.host, 41000), {NEARER}), (THERE, set[Endpoint]())):
        search = Optimisation(Random(1))
        search.meet((NEARER,))
        search.begin(Offer((HERE,), hard), T0)
        answer(search, Offer((mapped,), hard), T0)
        assert set(round_of(after(search, T0))) == probed


def test_no_peer_makes_it_send_more_than_a_thousand_probes_in_half_a_minute() -> None:
    search = Optimisation(Random(1))
    search.begin(Offer((HERE,)), T0)
    sent = 0
    for attempt in range(1, 3000):
        search.handle_offer(Offer((THERE, NEARER), attempt=attempt), T0)
        sent += len(round_of(after(search, T0)))

    assert 1000 < sent <= MOST_PROBES


def test_the_shortest_of_the_ways_that_answer_soon_is_taken() -> None:
    search = searching(Offer((THERE, NEARER)))
    numbers = round_of(search)

    search.handle_answer(numbers[THERE], THERE, at(20))
    search.handle_answer(numbers[NEARER], NEARER, at(19))
    search.handle_timeout(at(200))

    assert search.poll_event() == PathFound(NEARER, NEARER, 19 * MS)
    assert search.poll_timeout() is None


def test_a_way_back_by_another_port_is_only_taken_where_there_is_no_other() -> None:
    search = searching(Offer((THERE, NEARER)))
    numbers = round_of(search)
    odd = Endpoint(THERE.host, 50000)

    search.handle_answer(numbers[THERE], odd, at(1))
    search.handle_answer(numbers[NEARER], NEARER, at(20))
    search.handle_timeout(at(200))

    assert search.poll_event() == PathFound(NEARER, NEARER, 20 * MS)


def test_where_a_probe_came_from_is_probed_at_once_and_in_every_round() -> None:
    search = searching(Offer((THERE,)))
    round_of(search)

    search.handle_probe(STRANGER, at(1))
    search.handle_probe(STRANGER, at(2))

    assert [probe.destination for probe in drain(search.poll_probe)] == [STRANGER]
    search.handle_timeout(at(50))
    assert set(round_of(search)) == {THERE, STRANGER}


def test_no_more_sources_are_learned_than_a_peer_can_have() -> None:
    search = searching(Offer((THERE,)))
    round_of(search)

    for port in range(1, 100):
        search.handle_probe(Endpoint(STRANGER.host, port), at(1))

    assert len(drain(search.poll_probe)) == MOST_LEARNED


def test_answers_to_nothing_change_nothing() -> None:
    search = searching(Offer((THERE,)))
    numbers = round_of(search)

    search.handle_answer(numbers[THERE] + 1, THERE, T0)
    search.handle_timeout(at(200))

    assert search.poll_event() is None


def test_a_search_in_vain_is_repeated_later_each_time_and_anew_in_another_network() -> None:
    search = Optimisation(Random(1))
    search.begin(Offer((HERE,)), T0)
    answer(search, Offer((THERE,)), T0)
    starts = beginnings(search, 12)
    gaps = [later - earlier for earlier, later in pairwise(starts)]

    assert gaps[0] == FIRST_REST_NS + ATTEMPT_NS
    assert all(later >= earlier for earlier, later in pairwise(gaps))
    assert gaps[-1] == LONGEST_REST_NS + ATTEMPT_NS

    search.begin(Offer((NEARER,)), starts[-1])
    answer(search, Offer((THERE,)), starts[-1])
    again = beginnings(search, 2)
    assert again[1] - again[0] == FIRST_REST_NS + ATTEMPT_NS


def found_direct() -> Optimisation:
    """A search whose third attempt found the path, at T0."""
    search = Optimisation(Random(1))
    search.begin(Offer((HERE,)), T0)
    answer(search, Offer((THERE,)), T0)
    beginnings(search, 3)
    search.stop(T0)
    drain(search.poll_offer)
    return search


def test_a_path_that_was_good_for_long_is_sought_at_once_when_it_is_lost() -> None:
    search, lost = found_direct(), Instant(T0 + GOOD_NS)

    search.lose(lost)
    answer(search, Offer((THERE,)), lost)

    assert round_of(after(search, lost)) != {}


@pytest.mark.parametrize("lost", ["soon", "by a move"])
def test_a_path_that_was_not_good_for_long_or_is_left_behind_waits_its_turn(lost: str) -> None:
    """The negative twin: a path that comes and goes, and one that a move leaves."""
    search = found_direct()

    if lost == "soon":
        search.lose(Instant(T0 + GOOD_NS - 1))
    else:
        search.leave(Instant(T0 + GOOD_NS))

    due = search.poll_timeout()
    assert due is not None
    assert due.at - T0 >= FIRST_REST_NS
    assert drain(search.poll_offer) == []


def test_who_has_moved_answers_no_offer_before_it_knows_its_new_network() -> None:
    search = found_direct()
    search.leave(T0)

    search.handle_offer(Offer((NEARER,), attempt=99), T0)
    before = drain(search.poll_offer)
    search.begin(Offer((HERE,)), T0)

    assert before == []
    assert [offer.attempt for offer in drain(search.poll_offer)] == [99]


def test_a_hopeless_pair_costs_nothing_until_a_network_changes() -> None:
    search = Optimisation(Random(1))
    search.begin(Offer((HERE,), HOPELESS), T0)
    answer(search, Offer((THERE,), HOPELESS), T0)

    assert search.poll_timeout() is None
    search.handle_offer(Offer((THERE,), NatKind(), attempt=2), T0)
    assert search.poll_timeout() is not None


def test_offers_hold_nothing_that_is_no_uplinks_address() -> None:
    virtual = (IPv4Network("100.64.0.0/10"), IPv6Network("fd00::/8"))
    here = Surroundings(is_virtual=lambda host: any(host in network for network in virtual))
    refused = ["127.0.0.1", "::1", "224.0.0.1", "ff02::1", "0.0.0.0", "169.254.1.1", "fe80::1"]
    refused += ["100.64.0.9", "fd12::1"]
    good = ["192.168.1.2", "192.168.1.2", "2001:db8::1"]
    told = [Endpoint(host, 40000) for host in (*refused, *good)]

    assert here.offered([*told, Endpoint("192.168.1.3", 0)]) == (
        Endpoint("192.168.1.2", 40000),
        Endpoint("2001:db8::1", 40000),
    )
    many = [Endpoint("192.168.1.2", port) for port in range(1, 100)]
    assert len(here.offered(many)) == MAX_CANDIDATES


@pytest.mark.parametrize(
    "kinds",
    [
        (NatKind(EI, APD), NatKind(EI, APD)),
        (NatKind(EI, APD), NatKind(APD, AD, PortAssignment.SEQUENTIAL)),
        (NatKind(AD, APD, PortAssignment.SEQUENTIAL), NatKind(APD, APD, PortAssignment.SEQUENTIAL)),
    ],
    ids=["known", "predicted", "both predicted"],
)
def test_a_fifth_of_all_packets_lost_costs_few_paths(kinds: tuple[NatKind, NatKind]) -> None:
    behaviours = [[NatBehaviour(k.mapping, k.filtering, k.ports)] for k in kinds]

    found = 0
    for seed in range(100):
        chance = Random(seed)
        game = Game(kinds, (behaviours[0], behaviours[1]), str(seed))
        game.loses = lambda _, chance=chance: chance.random() < 0.2  # type: ignore[misc]
        found += game.play().direct

    assert found >= 95


def test_what_never_arrives_is_never_found() -> None:
    kinds = (NatKind(EI, APD), NatKind(EI, APD))
    behaviour = [NatBehaviour(EI, APD)]

    game = Game(kinds, (behaviour, behaviour), loses=lambda _: True).play(10)

    assert not game.direct
    assert game.ends[0].probes == len(ROUNDS)


ACTS = st.tuples(
    st.sampled_from(["begin", "offer", "probe", "answer", "renew", "time"]),
    st.integers(0, 5 * SECOND),
    st.builds(Endpoint, st.sampled_from(["203.0.113.8", "192.168.1.9"]), st.integers(0, 65535)),
    st.none() | st.builds(NatKind, *map(st.sampled_from, (Behaviour, Behaviour, PortAssignment))),
)


@given(st.lists(ACTS, max_size=40))
def test_whatever_happens_it_neither_spins_nor_floods(
    acts: list[tuple[str, int, Endpoint, NatKind | None]],
) -> None:
    search, now, sent = Optimisation(Random(1)), T0, list[Probe]()
    for act, wait, endpoint, nat in acts:
        now = Instant(now + wait)
        match act:
            case "begin":
                search.begin(Offer((endpoint,), nat), now)
            case "renew":
                search.renew(endpoint.port, now)
            case "offer":
                attempt = wait % 9
                search.handle_offer(Offer((endpoint,), nat, endpoint.port, attempt), now)
            case "probe":
                search.handle_probe(endpoint, now)
            case "answer":
                search.handle_answer(sent[-1].number if sent else 0, endpoint, now)
        for _ in range(20):
            due = search.poll_timeout()
            if due is None or due.at > now:
                break
            search.handle_timeout(now)
        else:
            raise AssertionError("spins")
        sent += drain(search.poll_probe)
        assert search.spent <= 1024


def searching(peer: Offer) -> Optimisation:
    search = Optimisation(Random(1))
    search.begin(Offer((HERE,)), T0)
    answer(search, peer, T0)
    search.handle_timeout(T0)
    return search


def answer(search: Optimisation, peer: Offer, now: Instant) -> None:
    """The peer tells the same attempt."""
    if (offer := search.poll_offer()) is not None:
        search.handle_offer(replace(peer, attempt=offer.attempt), now)


def after(search: Optimisation, now: Instant) -> Optimisation:
    search.handle_timeout(now)
    return search


def round_of(search: Optimisation) -> dict[Endpoint, int]:
    return {probe.destination: probe.number for probe in drain(search.poll_probe)}


def beginnings(search: Optimisation, count: int) -> list[Instant]:
    """When the next attempts send their first probes."""
    starts: list[Instant] = []
    while len(starts) < count:
        due = search.poll_timeout()
        assert due is not None
        search.handle_timeout(due.at)
        answer(search, Offer((THERE,)), due.at)
        sent = drain(search.poll_probe)
        if sent and (not starts or due.at - starts[-1] > ATTEMPT_NS):
            starts.append(due.at)
    return starts


def at(milliseconds: float) -> Instant:
    return Instant(T0 + round(milliseconds * MS))
