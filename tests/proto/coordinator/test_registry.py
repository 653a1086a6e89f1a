"""Source: paper, Fig. 3. Ours: docs/protocol.md sections 2, 3 and 5."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.proto.parts import (
    ALICE,
    BOB,
    CAROL,
    HERE,
    HERE6,
    STRANGER,
    T0,
    THERE,
    after,
    conversation,
    identity,
    key,
)

from ntmobile.keys.table import Kntmdc
from ntmobile.proto.conversation import Asked
from ntmobile.proto.coordinator.registry import (
    CREATED_FIRST,
    KNOCK_LOST_NS,
    Accepted,
    Node,
    Registry,
    Unproven,
    domain_prefix,
    register,
    stored_of,
)
from ntmobile.proto.coordinator.settings import StoredNode
from ntmobile.wire.datagram import Header, Sender
from ntmobile.wire.direction import Cipher
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import Reason, RegistrationRequest, Superseded

pytestmark = pytest.mark.paper("Fig. 3")

FIRST, SECOND_ONE = b"\x01" * 16, b"\x02" * 16
INSIDE = Endpoint("192.168.1.2", 500)


def test_the_first_registration_of_a_proven_source_stands() -> None:
    verdict = register(stored(), request(), asked(proven=True))

    assert isinstance(verdict, Accepted)
    assert (verdict.stored.mapped, verdict.stored.local) == ((HERE,), (INSIDE,))
    assert not verdict.superseded


def test_a_source_never_seen_must_prove_itself_first() -> None:
    assert register(stored(), request(), asked()) == Unproven()
    known = stored(instance=FIRST, sequence=1, mapped=(HERE,))
    assert register(known, request(sequence=2), asked(source=STRANGER)) == Unproven()


def test_a_known_source_of_the_same_instance_need_not_prove_itself_again() -> None:
    known = stored(instance=FIRST, sequence=1, mapped=(HERE,))

    assert isinstance(register(known, request(sequence=2), asked()), Accepted)


def test_another_instance_must_prove_itself_even_from_the_known_source() -> None:
    known = stored(instance=FIRST, started=1, sequence=1, mapped=(HERE,))

    verdict = register(known, request(instance=SECOND_ONE, started=2), asked())

    assert verdict == Unproven()


def test_a_sequence_that_falls_back_is_refused() -> None:
    known = stored(instance=FIRST, sequence=2, mapped=(HERE,))

    assert register(known, request(sequence=1), asked(proven=True)) is Reason.SUPERSEDED


@pytest.mark.parametrize("order", [(HERE, HERE6), (HERE6, HERE)])
def test_both_families_of_one_round_count_whichever_arrives_first(
    order: tuple[Endpoint, Endpoint],
) -> None:
    held = stored()
    for source in order:
        message = request(sequence=3, endpoints=(INSIDE, HERE6))
        verdict = register(held, message, asked(source=source, proven=True))
        assert isinstance(verdict, Accepted)
        held = verdict.stored

    assert set(held.mapped) == set(order)


def test_another_nodes_name_is_refused_under_ones_own_key() -> None:
    assert register(stored(), request(fqdn=CAROL), asked(proven=True)) is Reason.NOT_ALLOWED


def test_of_two_copies_the_one_started_later_wins_and_the_other_hears_it() -> None:
    known = stored(instance=FIRST, started=5, sequence=9, mapped=(HERE,))

    newer = register(known, request(instance=SECOND_ONE, started=6), asked(proven=True))
    older = register(known, request(instance=SECOND_ONE, started=4), asked(proven=True))

    assert isinstance(newer, Accepted)
    assert newer.superseded
    assert newer.stored.instance == SECOND_ONE
    assert older == Superseded(SECOND_ONE)


def test_the_other_familys_mapped_address_is_kept_while_the_node_has_that_family() -> None:
    known = stored(instance=FIRST, sequence=1, mapped=(HERE6,))

    both = register(known, request(sequence=2, endpoints=(INSIDE, HERE6)), asked(proven=True))
    one = register(known, request(sequence=2, endpoints=(INSIDE,)), asked(proven=True))

    assert isinstance(both, Accepted)
    assert isinstance(one, Accepted)
    assert both.stored.mapped == (HERE, HERE6)
    assert one.stored.mapped == (HERE,)


def test_a_newer_copy_does_not_inherit_the_older_ones_addresses() -> None:
    known = stored(instance=FIRST, started=1, sequence=1, mapped=(HERE6,))
    newer = request(instance=SECOND_ONE, started=2, endpoints=(INSIDE, HERE6))

    verdict = register(known, newer, asked(proven=True))

    assert isinstance(verdict, Accepted)
    assert verdict.stored.mapped == (HERE,)


places = st.sampled_from([HERE, HERE6, THERE, STRANGER])
requests = st.builds(
    lambda instance, sequence, source, proven, fqdn: (
        request(instance=bytes((instance,)) * 16, started=instance, sequence=sequence, fqdn=fqdn),
        asked(source=source, proven=proven),
    ),
    st.integers(1, 3),
    st.integers(0, 9),
    places,
    st.booleans(),
    st.sampled_from([ALICE, ALICE, ALICE, BOB]),
)


@given(st.lists(requests, max_size=30))
def test_whatever_is_asked_neither_sequence_nor_instance_falls_back_and_sources_are_proven(
    history: list[tuple[RegistrationRequest, Asked]],
) -> None:
    held, proven = stored(), set()
    for message, heard in history:
        if heard.proven:
            proven.add((message.instance, heard.source))
        verdict = register(held, message, heard)
        if not isinstance(verdict, Accepted):
            continue
        new = verdict.stored
        assert (new.started, new.sequence) >= (held.started, held.sequence)
        assert all((new.instance, place) in proven for place in new.mapped)
        assert len({place.version for place in new.mapped}) == len(new.mapped)
        assert new.fqdn == ALICE
        held = new


def test_names_and_keys_find_their_node_until_it_is_removed() -> None:
    registry, node = Registry("example.org", POOL), a_node(stored())
    registry.add(node)

    assert registry.named(ALICE) is node
    assert registry.keyed(node.stored.identifier) is node
    assert registry.named(CAROL) is None

    registry.remove(ALICE)
    assert registry.named(ALICE) is registry.keyed(node.stored.identifier) is None
    assert len(registry) == 0


def test_a_renewed_key_and_the_one_before_both_find_the_node_until_that_is_forgotten() -> None:
    registry, old = Registry("example.org", POOL), a_node(stored())
    registry.add(old)
    new = a_node(replace(stored(), identifier=key(number=2).identifier), number=2)
    new.previous = old.conversation

    registry.add(new)

    assert registry.keyed(key().identifier) is registry.keyed(key(number=2).identifier) is new
    forgotten = registry.forget_previous(new)
    assert forgotten is old.conversation.key
    assert registry.keyed(key().identifier) is None
    assert registry.keyed(key(number=2).identifier) is new


def test_every_name_gets_another_address_until_the_pool_is_empty() -> None:
    registry = Registry("example.org", IPv4Network("100.64.0.0/27"))
    given_out = [fill(registry, f"n{number}.a.example.org") for number in range(16)]

    assert len(set(given_out)) == 16
    assert min(given_out) == IPv4Address("100.64.0.0") + CREATED_FIRST
    with pytest.raises(OverflowError):
        registry.allot("one.more.example.org")
    registry.remove("n3.a.example.org")
    assert registry.allot("one.more.example.org")[0] == given_out[3]


def test_virtual_ipv6_lies_in_the_domains_prefix_and_depends_on_the_name_alone() -> None:
    prefix = IPv6Network((int.from_bytes(domain_prefix("example.org") + bytes(10)), 48))

    first = Registry("example.org", POOL).allot(ALICE)[1]

    assert first in prefix
    assert prefix.subnet_of(IPv6Network("fd00::/8"))
    assert Registry("example.org", POOL).allot(ALICE)[1] == first
    assert Registry("example.org", POOL).allot(CAROL)[1] != first


def test_a_node_that_stays_silent_is_not_registered_any_more() -> None:
    node = a_node(stored())

    assert not node.is_registered(T0, 90)
    node.last_seen = T0
    assert node.is_registered(after(T0, 90), 90)
    assert not node.is_registered(after(T0, 90.001), 90)


def test_a_relay_only_node_tells_families_and_no_address() -> None:
    told = a_node(stored(mapped=(HERE, HERE6), local=(HERE,), relay_only=True)).information(
        T0, private=True
    )

    assert [str(place.host) for place in told.mapped] == ["0.0.0.0", "::"]
    assert (told.local, told.reachable) == ((), ())


def test_private_addresses_are_told_only_when_said_so() -> None:
    node = a_node(stored(mapped=(HERE,), local=(INSIDE,)))

    assert node.information(T0, private=True).local == (INSIDE,)
    assert node.information(T0, private=False).local == ()


def test_without_aes_the_other_cipher_comes_first() -> None:
    told = a_node(stored(aes=False)).information(T0, private=False)

    assert told.ciphers[0] is Cipher.CHACHA20_POLY1305


@pytest.mark.parametrize(
    ("prepare", "seconds", "reachable"),
    [
        pytest.param(lambda _: None, 0, True, id="its own address, never knocked at"),
        pytest.param(lambda node: knock(node), 1, True, id="a knock is on its way"),
        pytest.param(lambda node: knock(node), 3, False, id="the knock was lost"),
        pytest.param(lambda node: node.proven.add(HERE), 3, True, id="the knock got in"),
    ],
)
def test_an_own_address_counts_as_reachable_until_a_knock_is_lost(
    prepare: Callable[[Node], None], seconds: float, reachable: bool
) -> None:
    node = a_node(stored(mapped=(HERE,), local=(HERE,)))
    prepare(node)

    assert node.is_reachable(HERE, after(T0, seconds)) is reachable
    assert KNOCK_LOST_NS == 2_000_000_000


def test_a_translated_address_is_reachable_only_once_proven() -> None:
    node = a_node(stored(mapped=(HERE,), local=(INSIDE,)))

    assert not node.is_reachable(HERE, T0)
    node.proven.add(HERE)
    assert node.is_reachable(HERE, T0)


def test_what_was_found_out_of_an_address_is_forgotten_when_the_node_loses_it() -> None:
    node = a_node(stored(mapped=(HERE,), local=(HERE,)))
    knock(node)
    node.proven.add(HERE)

    node.move(stored(mapped=(THERE,), local=(INSIDE,)))
    node.move(stored(mapped=(HERE,), local=(INSIDE,)))

    assert not node.is_reachable(HERE, T0)
    assert node.knocked == {}


def test_after_a_restart_only_keys_that_are_still_good_are_kept() -> None:
    good, over = stored(), replace(stored(), expires=after(T0, 1))

    assert list(stored_of([good, over], after(T0, 2))) == [good]


POOL = IPv4Network("100.64.0.0/10")


def stored(**changes: object) -> StoredNode:
    address = IPv4Address("100.64.0.16")
    base = StoredNode(
        ALICE,
        identity(ALICE).public,
        (),
        key().secret,
        key().identifier,
        after(T0, 86400),
        address,
        Registry("example.org", POOL).allot(ALICE)[1],
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def a_node(what: StoredNode, number: int = 1) -> Node:
    return Node(what, conversation(Sender.DC, key(Kntmdc, number)))  # type: ignore[arg-type]


def knock(node: Node) -> None:
    node.knocked[HERE] = node.knocked_again[HERE] = T0


def fill(registry: Registry, fqdn: str) -> IPv4Address:
    ipv4, ipv6 = registry.allot(fqdn)
    registry.add(a_node(replace(stored(), fqdn=fqdn, virtual_ipv4=ipv4, virtual_ipv6=ipv6)))
    return ipv4


def request(
    *,
    fqdn: str = ALICE,
    instance: bytes = FIRST,
    started: int = 1,
    sequence: int = 1,
    endpoints: tuple[Endpoint, ...] = (INSIDE,),
) -> RegistrationRequest:
    return RegistrationRequest(fqdn, instance, started, sequence, endpoints)


def asked(*, source: Endpoint = HERE, proven: bool = False) -> Asked:
    header = Header(Sender.NODE, key().identifier, bytes(8), 0)
    return Asked(1, request(), Sender.NODE, source, 0, proven, header)
