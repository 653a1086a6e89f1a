import errno
from ipaddress import ip_address

import pytest

from ntmobile.errors import Remedy
from ntmobile.servers.binding import explaining, local_endpoints, reachable, udp_hosts
from ntmobile.wire.endpoint import Endpoint

MINE = ip_address("127.0.0.1")
PROVIDERS = ip_address("203.0.113.10")


def test_an_address_of_this_machine_is_listened_on_alone() -> None:
    assert local_endpoints([MINE], 443) == (Endpoint("127.0.0.1", 443),)


def test_an_address_behind_the_providers_nat_becomes_the_wildcard_of_its_family() -> None:
    found = local_endpoints([MINE, PROVIDERS, ip_address("::1")], 443)

    assert found == (Endpoint("0.0.0.0", 443), Endpoint("::1", 443))


@pytest.mark.parametrize(
    ("addresses", "ipv4", "ipv6"),
    [
        (["127.0.0.1"], "127.0.0.1", None),
        (["127.0.0.1", "::1"], "127.0.0.1", "::1"),
        (["127.0.0.1", "127.0.0.2", "::1"], None, "::1"),
        (["203.0.113.10", "::1"], None, "::1"),
        ([], None, None),
    ],
    ids=["one", "one a family", "several of a family", "behind the provider's nat", "none"],
)
def test_a_udp_port_is_at_the_one_address_of_its_family(
    addresses: list[str], ipv4: str | None, ipv6: str | None
) -> None:
    expected = [None if each is None else ip_address(each).packed for each in (ipv4, ipv6)]

    hosts = udp_hosts(map(ip_address, addresses))

    assert [hosts.ipv4, hosts.ipv6] == expected


def test_a_wildcard_is_reached_through_loopback() -> None:
    assert reachable(Endpoint("0.0.0.0", 53)) == Endpoint("127.0.0.1", 53)
    assert reachable(Endpoint("::", 53)) == Endpoint("::1", 53)
    assert reachable(Endpoint("127.0.0.1", 53)) == Endpoint("127.0.0.1", 53)


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.EADDRINUSE, "ss -lnp"), (errno.EACCES, "CAP_NET_BIND_SERVICE")],
)
def test_a_port_that_cannot_be_opened_says_what_to_do(number: int, advice: str) -> None:
    with (
        pytest.raises(Remedy, match="cannot open TCP port 443") as raised,
        explaining("TCP port 443", "[as] https"),
    ):
        raise OSError(number, "no")

    assert advice in raised.value.remedy
    assert "[as] https in server.toml" in raised.value.remedy
