"""Ours: docs/protocol.md section 5."""

from ipaddress import IPv4Address, ip_network
from typing import TYPE_CHECKING

import pytest

from ntmobile.agent.real_networks import POOLS, SHARED, first_routers, real_networks
from ntmobile.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from conftest import Namespace

pytestmark = pytest.mark.lab


def uplink(inside: "Namespace", address: str) -> None:
    inside.ip("link add up0 type veth peer name far0")
    inside.ip("link set up0 up")
    inside.ip(f"addr add {address} dev up0")


async def test_where_nothing_is_near_nothing_is_avoided(inside: "Namespace") -> None:
    uplink(inside, "192.168.1.7/24")
    servers = [Endpoint("192.0.2.53", 53), Endpoint("2001:db8::53", 53)]

    assert real_networks((), servers, [IPv4Address("192.168.1.1")]) == ()


async def test_any_part_of_the_shared_range_means_all_of_it(inside: "Namespace") -> None:
    uplink(inside, "100.70.1.7/16")

    assert real_networks((), [], []) == (SHARED,)


async def test_of_the_private_range_only_what_is_here_counts(inside: "Namespace") -> None:
    uplink(inside, "10.1.2.3/24")

    assert real_networks((), [], []) == (ip_network("10.1.2.0/24"),)


async def test_another_agents_peer_is_one_address_and_no_carrier(inside: "Namespace") -> None:
    uplink(inside, "192.168.1.7/24")
    inside.ip("route add 100.64.0.9/32 dev up0")

    assert real_networks((), [], []) == (ip_network("100.64.0.9/32"),)


@pytest.mark.parametrize("near", ["servers", "routers"])
async def test_a_name_server_or_a_router_in_the_shared_range_shows_the_carrier(
    inside: "Namespace", near: str
) -> None:
    address = IPv4Address("100.64.0.1")
    servers = [Endpoint(address, 53)] if near == "servers" else []

    assert real_networks((), servers, [address] if near == "routers" else []) == (SHARED,)


async def test_without_a_way_out_there_are_no_routers(inside: "Namespace") -> None:
    assert await first_routers(IPv4Address("192.0.2.1")) == ()


def test_the_shared_range_is_the_first_pool() -> None:
    assert POOLS[0] == SHARED
