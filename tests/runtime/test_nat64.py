"""Source: RFC 6052, section 2.4 (the vectors); RFC 7050, section 3."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import hypothesis.strategies as st
import pytest
from hypothesis import given

from ntmobile.runtime.nat64 import LENGTHS, Prefix, prefix_of
from ntmobile.wire.endpoint import Endpoint

FOUR = Endpoint("192.0.2.33", 4330)
VECTORS = {
    "2001:db8::/32": "2001:db8:c000:221::",
    "2001:db8:100::/40": "2001:db8:1c0:2:21::",
    "2001:db8:122::/48": "2001:db8:122:c000:2:2100::",
    "2001:db8:122:300::/56": "2001:db8:122:3c0:0:221::",
    "2001:db8:122:344::/64": "2001:db8:122:344:c0:2:2100::",
    "2001:db8:122:344::/96": "2001:db8:122:344::192.0.2.33",
    "64:ff9b::/96": "64:ff9b::192.0.2.33",
}


@pytest.mark.parametrize(("prefix", "address"), VECTORS.items())
def test_the_vectors_of_the_rfc(prefix: str, address: str) -> None:
    there = Prefix(IPv6Network(prefix))

    assert there.embed(FOUR) == Endpoint(address, 4330)
    assert there.extract(Endpoint(address, 4330)) == FOUR


@given(st.sampled_from(LENGTHS), st.integers(0, 2**128 - 1), st.integers(0, 2**32 - 1))
def test_what_is_embedded_comes_out_again(length: int, bits: int, host: int) -> None:
    prefix = Prefix(IPv6Network((bits, length), strict=False))
    endpoint = Endpoint(IPv4Address(host), 7)

    inside = prefix.embed(endpoint)

    assert prefix.extract(inside) == endpoint
    if not endpoint.host.is_loopback:
        assert inside.host in prefix.network


def test_what_is_ipv6_or_loopback_is_where_it_is() -> None:
    prefix = Prefix(IPv6Network("64:ff9b::/96"))

    for endpoint in (Endpoint("2001:db8::1", 1), Endpoint("127.0.0.1", 1)):
        assert prefix.embed(endpoint) == prefix.extract(endpoint) == endpoint


@pytest.mark.parametrize("prefix", VECTORS)
@pytest.mark.parametrize("host", ["192.0.0.170", "192.0.0.171"])
def test_a_networks_prefix_shows_in_what_its_dns_says(prefix: str, host: str) -> None:
    known = Prefix(IPv6Network(prefix))
    said = known.embed(Endpoint(host, 0)).host
    assert isinstance(said, IPv6Address)

    assert prefix_of(said) == known


def test_an_address_that_holds_none_of_the_known_ones_shows_no_prefix() -> None:
    assert prefix_of(IPv6Address("2001:db8::1")) is None


def test_a_prefix_of_another_length_is_none() -> None:
    with pytest.raises(ValueError, match="length"):
        Prefix(IPv6Network("2001:db8::/33"))
