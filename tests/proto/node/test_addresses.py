"""Ours: docs/protocol.md section 5."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.proto.parts import ALICE, BOB, CAROL

from ntmobile.proto.node.addresses import ALIAS_OFFSET, POOLS, Addresses
from ntmobile.proto.node.settings import Pin

FOUR, FOUR_TOO = IPv4Address("100.64.0.17"), IPv4Address("100.64.0.18")
SIX, SIX_TOO = IPv6Address("fd00::17"), IPv6Address("fd00::18")
ALIASES = IPv6Network("fd4e:544d:6f62::/48")


def test_a_peer_gets_its_own_addresses_where_they_are_free() -> None:
    addresses = Addresses((), ())

    assert addresses.meet(BOB, FOUR, SIX) == (FOUR, SIX)
    assert addresses.name(FOUR) == addresses.name(SIX) == BOB
    assert addresses.of(BOB) == (FOUR, SIX)
    assert addresses.of(CAROL) is None


def test_of_two_domains_that_propose_the_same_address_the_second_gets_an_alias() -> None:
    addresses = Addresses((), ())
    addresses.meet(BOB, FOUR, SIX)

    four, six = addresses.meet(CAROL, FOUR, SIX)

    assert four == POOLS[0].network_address + ALIAS_OFFSET
    assert six in ALIASES
    assert addresses.name(FOUR) == BOB
    assert addresses.name(four) == addresses.name(six) == CAROL


def test_a_peer_keeps_what_it_has_whatever_it_proposes_later() -> None:
    addresses = Addresses((), ())
    addresses.meet(BOB, FOUR, SIX)

    assert addresses.meet(BOB, FOUR_TOO, SIX_TOO) == (FOUR, SIX)


def test_a_peer_never_gets_this_nodes_own_address() -> None:
    addresses = Addresses((), ())
    addresses.take_own(FOUR, SIX)

    four, six = addresses.meet(BOB, FOUR, SIX)

    assert four != FOUR
    assert six != SIX


def test_the_own_address_steps_aside_for_a_remembered_peer() -> None:
    addresses = Addresses((), (Pin(BOB, bytes(32), FOUR, SIX_TOO),))

    own = addresses.take_own(FOUR, SIX)

    assert own[0] not in (FOUR,)
    assert own[1] == SIX
    assert addresses.meet(BOB, FOUR_TOO, SIX_TOO) == (FOUR, SIX_TOO)


def test_a_peer_that_was_met_first_cannot_take_this_nodes_ipv6_from_under_it() -> None:
    addresses = Addresses((), ())
    addresses.meet(BOB, FOUR_TOO, SIX)

    own = addresses.take_own(FOUR, SIX)

    assert own[1] in ALIASES
    assert addresses.name(own[1]) is None
    assert addresses.take_own(FOUR, SIX) == own, "and it stays so"


def test_the_own_address_is_kept_when_the_dc_proposes_another() -> None:
    addresses = Addresses((), ())
    first = addresses.take_own(FOUR, SIX)

    assert addresses.take_own(FOUR_TOO, SIX) == first


def test_a_real_network_that_overlaps_moves_everything_to_the_next_pool() -> None:
    addresses = Addresses((IPv4Network("100.100.0.0/16"), IPv6Network("2001:db8::/32")), ())

    inside = addresses.meet(BOB, IPv4Address("100.100.1.1"), SIX)[0]
    outside = addresses.meet(CAROL, FOUR, SIX_TOO)[0]

    assert inside in POOLS[1]
    assert outside == FOUR, "not in the way of the real network, so it stays"


def test_when_every_pool_is_in_use_here_there_is_no_address() -> None:
    addresses = Addresses(POOLS, ())

    with pytest.raises(OverflowError):
        addresses.meet(BOB, FOUR, SIX)


def test_an_address_that_belongs_to_nobody_has_no_name() -> None:
    addresses = Addresses((), ())
    addresses.take_own(FOUR, SIX)

    assert addresses.name(FOUR) is None, "our own is not a peer"
    assert addresses.name(SIX_TOO) is None


fours = st.integers(0, 6).map(lambda n: IPv4Address("100.64.0.16") + n)
sixes = st.integers(0, 3).map(lambda n: IPv6Address("fd00::") + n)
networks = st.sampled_from(
    [
        IPv4Network("100.64.0.16/30"),
        IPv4Network("100.64.0.0/10"),
        IPv4Network("198.18.0.0/15"),
        IPv4Network("192.168.0.0/16"),
    ]
)
names = st.sampled_from([BOB, CAROL, "x.y.example.com", "z.y.example.com"])


@given(
    st.frozensets(networks, max_size=3),
    st.lists(st.tuples(names, fours, sixes), max_size=12),
    fours,
    sixes,
    st.integers(0, 12),
)
def test_no_two_ever_share_an_address_and_none_lies_in_a_real_network(
    avoid: frozenset[IPv4Network],
    meetings: list[tuple[str, IPv4Address, IPv6Address]],
    own_four: IPv4Address,
    own_six: IPv6Address,
    own_at: int,
) -> None:
    addresses = Addresses(tuple(avoid), ())
    held: dict[str, tuple[IPv4Address, IPv6Address]] = {}
    for number, (fqdn, four, six) in enumerate(meetings):
        if number == own_at:
            held[ALICE] = addresses.take_own(own_four, own_six)
        got = addresses.meet(fqdn, four, six)
        assert held.setdefault(fqdn, got) == got, "stable"

    every = [address for pair in held.values() for address in pair]
    assert len(set(every)) == len(every)
    assert not [a for a in every if any(a in network for network in avoid)]
    for fqdn, pair in held.items():
        if fqdn != ALICE:
            assert [addresses.name(address) for address in pair] == [fqdn] * 2


CARRIER = (IPv4Network("100.64.0.0/10"),)


def test_when_a_real_network_appears_everybody_steps_aside_whom_nobody_uses() -> None:
    addresses = Addresses((), ())
    addresses.take_own(FOUR, SIX)
    addresses.meet(BOB, FOUR_TOO, SIX_TOO)

    addresses.avoid(CARRIER)
    moved = addresses.step_aside(())

    assert moved == (BOB,)
    here = addresses.of(BOB)
    assert here is not None
    assert here[0] in POOLS[1]
    assert here[1] == SIX_TOO, "nothing real is there"
    assert addresses.own is not None
    assert addresses.own[0] in POOLS[1]
    assert addresses.own[0] != here[0]
    assert addresses.name(FOUR_TOO) is None
    assert addresses.name(here[0]) == BOB


def test_who_is_in_use_stays_and_so_does_this_node_until_nobody_is() -> None:
    addresses = Addresses((), ())
    own = addresses.take_own(FOUR, SIX)
    bob = addresses.meet(BOB, FOUR_TOO, SIX_TOO)
    addresses.avoid(CARRIER)

    assert addresses.step_aside((BOB,)) == ()
    assert (addresses.own, addresses.of(BOB)) == (own, bob)

    assert addresses.step_aside(()) == (BOB,)
    assert addresses.own != own
    assert addresses.take_own(FOUR, SIX) == addresses.own, "the DC's proposal changes nothing"


def test_where_nothing_real_is_hidden_nobody_moves() -> None:
    addresses = Addresses((), ())
    own = addresses.take_own(FOUR, SIX)
    bob = addresses.meet(BOB, FOUR_TOO, SIX_TOO)

    addresses.avoid((IPv4Network("198.18.0.0/15"),))

    assert addresses.step_aside(()) == ()
    assert (addresses.own, addresses.of(BOB)) == (own, bob)


def test_what_another_identity_of_this_machine_has_is_not_given_to_a_peer() -> None:
    addresses = Addresses((), (), frozenset({FOUR_TOO, SIX_TOO}))

    ipv4, ipv6 = addresses.meet(BOB, FOUR_TOO, SIX_TOO)

    assert ipv4 != FOUR_TOO
    assert ipv4 in POOLS[0], "a single address takes no pool away"
    assert ipv6 != SIX_TOO


def test_a_third_identity_gets_yet_another_alias_for_the_same_peer() -> None:
    first = Addresses((), ()).meet(BOB, FOUR_TOO, SIX_TOO)
    second = Addresses((), (), frozenset(first)).meet(BOB, FOUR_TOO, SIX_TOO)

    third = Addresses((), (), frozenset({*first, *second})).meet(BOB, FOUR_TOO, SIX_TOO)

    assert first == (FOUR_TOO, SIX_TOO)
    assert len({*first, *second, *third}) == 6


def test_who_is_idle_steps_aside_for_another_identity_and_who_is_in_use_stays() -> None:
    taken: set[IPv4Address | IPv6Address] = set()
    addresses = Addresses((), (), taken)
    own = addresses.take_own(FOUR, SIX)
    addresses.meet(BOB, FOUR_TOO, SIX_TOO)

    taken |= {FOUR, FOUR_TOO}

    assert addresses.step_aside((BOB,)) == ()
    assert addresses.own == own
    assert addresses.step_aside(()) == (BOB,)
    assert addresses.own is not None
    assert addresses.own[0] not in (FOUR, FOUR_TOO)
    assert addresses.own[1] == SIX


def test_two_identities_that_meet_peers_at_the_same_time_never_choose_one_address() -> None:
    first = Addresses((), ())
    second = Addresses((), (), first)

    met = (first.meet(BOB, FOUR, SIX), second.meet(CAROL, FOUR, SIX))

    assert met[0] == (FOUR, SIX)
    assert not set(met[0]) & set(met[1])


def test_addresses_that_nobody_else_has_are_kept() -> None:
    addresses = Addresses((), (), {IPv4Address("100.64.9.9")})
    own = addresses.take_own(FOUR, SIX)
    bob = addresses.meet(BOB, FOUR_TOO, SIX_TOO)

    assert addresses.step_aside(()) == ()
    assert (addresses.own, addresses.of(BOB)) == (own, bob)
