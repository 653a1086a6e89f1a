import time
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.agent.links_netlink import (
    RTM_NEWROUTE,
    Address,
    DefaultRoute,
    Link,
    Route,
    concerns_uplinks,
    read_routes,
    read_snapshot,
)
from ntmobile.agent.netlink import HEADER
from ntmobile.lab.waiting import wait_until

if TYPE_CHECKING:
    from conftest import Namespace

lab = pytest.mark.lab


@lab
def test_links_tell_their_kind_mtu_and_carrier(inside: "Namespace") -> None:
    inside.ip("link add up0 mtu 1400 type veth peer name far0")
    inside.ip("link add br0 type bridge")
    inside.ip("link set up0 up")
    inside.ip("link set far0 up")
    # The kernel notices a carrier, or its loss, a moment later.
    wait_until(lambda: running("up0"), "the carrier")

    links = {link.name: link for link in read_snapshot().links}

    index = links["up0"].index
    assert links["up0"] == Link(index, "up0", "veth", mtu=1400, running=True, loopback=False)
    assert (links["br0"].kind, links["br0"].running) == ("bridge", False)
    assert links["lo"].loopback

    inside.ip("link set far0 down")
    wait_until(lambda: not running("up0"), "the carrier to be lost")


@lab
def test_addresses_tell_whether_they_are_usable(inside: "Namespace") -> None:
    inside.ip("link add up0 type veth peer name far0")
    inside.ip("addr add 192.0.2.7 peer 192.0.2.1 dev up0")
    inside.ip("addr add 2001:db8::7/64 dev up0 nodad")
    inside.ip("addr add 2001:db8::8/64 dev up0 nodad preferred_lft 0")

    index = next(link.index for link in read_snapshot().links if link.name == "up0")
    found = [address for address in read_snapshot().addresses if address.index == index]

    assert sorted(found, key=lambda a: str(a.host)) == [
        Address(index, IPv4Address("192.0.2.7"), usable=True),
        Address(index, IPv6Address("2001:db8::7"), usable=True),
        Address(index, IPv6Address("2001:db8::8"), usable=False),
    ]


@lab
def test_every_hop_of_a_default_route_counts(inside: "Namespace") -> None:
    up = [uplink(inside, number) for number in (1, 2, 3)]
    inside.ip("route add default nexthop via 198.51.101.1 nexthop via 198.51.102.1")
    inside.ip("route add default via 198.51.103.1 metric 50")
    inside.ip("route add unreachable default metric 99")
    inside.ip("route add default via 198.51.103.1 table 99")

    assert set(read_snapshot().defaults) == {
        DefaultRoute(4, up[0], metric=0),
        DefaultRoute(4, up[1], metric=0),
        DefaultRoute(4, up[2], metric=50),
    }


@lab
def test_routes_are_read_apart_from_default_routes(inside: "Namespace") -> None:
    up = uplink(inside, 1)
    inside.ip("route add default via 198.51.101.1")
    inside.ip("route add 203.0.113.0/25 via 198.51.101.1")
    inside.ip("-6 route add 2001:db8:9::/48 dev up1")

    expected = {
        Route(ip_network("198.51.101.0/24"), up),
        Route(ip_network("203.0.113.0/25"), up),
        Route(ip_network("2001:db8:9::/48"), up),
    }
    assert expected <= set(read_routes())
    assert all(route.destination.prefixlen for route in read_routes())


@lab
def test_thousands_of_routes_do_not_delay_the_notice_of_a_move(
    inside: "Namespace", tmp_path: Path
) -> None:
    uplink(inside, 1)
    routes = (f"route add 10.1.{n // 250}.{n % 250} dev up1\n" for n in range(5000))
    (tmp_path / "batch").write_text("".join(routes))
    inside.ip(f"-b {tmp_path / 'batch'}")

    began = time.process_time()
    for _ in range(10):
        assert read_snapshot()

    # 40 us a route, what decoding each costs, would be 2 s.
    assert time.process_time() - began < 1.0


@given(st.binary(max_size=200))
def test_garbage_is_never_an_error(data: bytes) -> None:
    concerns_uplinks(data)


@given(st.integers(1, 32))
def test_a_route_to_a_peer_concerns_no_uplink(length: int) -> None:
    body = bytes([2, length]) + bytes(10)
    message = HEADER.pack(HEADER.size + len(body), RTM_NEWROUTE, 0, 0, 0) + body
    default = HEADER.pack(HEADER.size + len(body), RTM_NEWROUTE, 0, 0, 0) + bytes([2]) + bytes(11)

    assert not concerns_uplinks(message)
    assert concerns_uplinks(message + default)


def running(name: str) -> bool:
    return next(link.running for link in read_snapshot().links if link.name == name)


def uplink(inside: "Namespace", number: int) -> int:
    inside.ip(f"link add up{number} type veth peer name far{number}")
    inside.ip(f"link set far{number} up")
    inside.ip(f"link set up{number} up")
    inside.ip(f"addr add 198.51.10{number}.7/24 dev up{number}")
    return next(link.index for link in read_snapshot().links if link.name == f"up{number}")
