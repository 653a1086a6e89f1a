from ipaddress import IPv4Address, IPv6Address, ip_address

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.agent.dns_stub_messages import (
    Answer,
    answer_addresses,
    answer_nothing,
    name_of,
    negative_of,
    parse_query,
    question_of,
    reversed_address,
    srv_ttl_of,
)

LAPTOP = "laptop.alice.ntm.example.org"
ADDRESSES = Answer(IPv4Address("100.64.0.9"), IPv6Address("fd12:3456::9"))
QUERY = dns.message.make_query(f"{LAPTOP}.", "AAAA", use_edns=0)

labels = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=6).map(".".join)


@given(st.binary(max_size=600))
def test_garbage_is_never_an_error(wire: bytes) -> None:
    for read in (parse_query, question_of, negative_of, srv_ttl_of):
        read(wire)


@given(st.data())
def test_a_damaged_query_is_never_an_error(data: st.DataObject) -> None:
    wire = bytearray(QUERY.to_wire())
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))

    query = parse_query(bytes(wire))

    if query is not None:
        answer_nothing(query)
        reversed_address(name_of(query))


@given(names)
def test_the_name_is_read_whatever_its_case(name: str) -> None:
    query = parse_query(dns.message.make_query(f"{name}.", "A").to_wire())

    assert query is not None
    assert name_of(query) == name.lower()


@given(st.ip_addresses())
def test_a_reverse_name_is_the_address_it_stands_for(
    address: IPv4Address | IPv6Address,
) -> None:
    assert reversed_address(address.reverse_pointer) == address


@pytest.mark.parametrize("name", ["0.64.100.in-addr.arpa", "x.in-addr.arpa", "8.ip6.arpa", LAPTOP])
def test_an_incomplete_reverse_name_stands_for_nothing(name: str) -> None:
    assert reversed_address(name) is None


def test_the_answer_keeps_the_case_of_the_question() -> None:
    query = parse_query(dns.message.make_query("LapTop.Alice.NTM.example.org.", "A").to_wire())
    assert query is not None

    answer = dns.message.from_wire(answer_addresses(query, ADDRESSES, LAPTOP))

    assert [r.to_text() for r in answer.answer] == [
        "LapTop.Alice.NTM.example.org. 30 IN A 100.64.0.9"
    ]


def test_each_family_gets_its_own_address() -> None:
    for kind, address in (("A", ADDRESSES.ipv4), ("AAAA", ADDRESSES.ipv6)):
        query = parse_query(dns.message.make_query(f"{LAPTOP}.", kind).to_wire())
        assert query is not None
        answer = dns.message.from_wire(answer_addresses(query, ADDRESSES, LAPTOP))
        assert ip_address(answer.answer[0][0].to_text()) == address


def test_a_response_is_no_query() -> None:
    assert parse_query(dns.message.make_response(QUERY).to_wire()) is None
