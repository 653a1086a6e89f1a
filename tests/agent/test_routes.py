from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TYPE_CHECKING

import pytest

from ntmobile.agent.routes import SMALLEST_MTU, Overlap, first_free, overlaps
from ntmobile.agent.tun import Tun

if TYPE_CHECKING:
    from conftest import Namespace

IPV4, IPV6 = IPv4Address("100.64.0.2"), IPv6Address("fd12:3456:789a::2")
PEER4, PEER6 = IPv4Address("100.64.0.9"), IPv6Address("fd00:9::9")
RANGES = (ip_network("100.64.0.0/10"), ip_network("fd00:9::/48"))

lab = pytest.mark.lab


@lab
async def test_the_size_of_a_peers_path_is_its_route_mtu(inside: "Namespace") -> None:
    async with Tun() as tun:
        await tun.set_addresses([IPV4, IPV6])
        for mtu in (1400, 8900, 600):
            await tun.routes.set_peer(PEER4, mtu)
            await tun.routes.set_peer(PEER6, mtu)

            for peer in (PEER4, PEER6):
                assert path_mtu(inside, peer) == max(mtu, SMALLEST_MTU)


@lab
async def test_a_known_peer_without_a_tunnel_is_routed_by_its_range(inside: "Namespace") -> None:
    async with Tun() as tun:
        await tun.set_addresses([IPV4, IPV6])
        await tun.routes.set_ranges(RANGES)
        await tun.routes.set_peer(PEER4, 1400)
        await tun.routes.remove_peer(PEER4)

        assert path_mtu(inside, PEER4) == path_mtu(inside, PEER6) == SMALLEST_MTU

        await tun.routes.set_ranges([])
        assert inside.ip("route").strip() == ""


@lab
async def test_a_route_of_somebody_else_stays_as_it_is(inside: "Namespace") -> None:
    other = "100.64.0.9 dev up0 proto static scope link metric 20000"
    inside.ip("link add up0 type veth peer name far0")
    inside.ip("link set up0 up")
    inside.ip(f"route add {other}")
    async with Tun() as tun:
        await tun.set_addresses([IPV4])
        await tun.routes.set_peer(PEER4, 1400)
        await tun.routes.remove_peer(PEER4)

    assert " ".join(inside.ip("route").split()).startswith(other)


@lab
async def test_two_devices_side_by_side_keep_their_routes_apart(inside: "Namespace") -> None:
    async with Tun() as one:
        async with Tun() as other:
            for tun in (one, other):
                await tun.routes.set_peer(PEER4, 1400)
            assert one.name != other.name

        assert one.name in inside.ip(f"route show {PEER4}")


@lab
async def test_a_real_network_in_a_virtual_range_is_found(inside: "Namespace") -> None:
    inside.ip("link add up0 type veth peer name far0")
    inside.ip("link set up0 up")
    inside.ip("addr add 100.70.1.7/16 dev up0")
    inside.ip("route add default dev up0")
    async with Tun() as tun:
        await tun.routes.set_ranges(RANGES)

        found = overlaps(RANGES, own=tun.index)

    assert [(o.virtual, o.real) for o in found] == [(RANGES[0], ip_network("100.70.0.0/16"))]


@lab
async def test_another_agents_range_is_an_overlap(inside: "Namespace") -> None:
    async with Tun() as other:
        await other.routes.set_ranges(RANGES)

        assert {o.virtual for o in overlaps(RANGES)} == set(RANGES)


def test_the_first_pool_without_an_overlap_is_taken() -> None:
    pools = [ip_network("100.64.0.0/10"), ip_network("198.18.0.0/15")]
    found = [Overlap(pools[0], ip_network("100.70.0.0/16"), interface=2)]

    assert first_free(pools, found) == pools[1]
    assert first_free(pools, []) == pools[0]
    assert first_free(pools[:1], found) is None


def path_mtu(inside: "Namespace", peer: IPv4Address | IPv6Address) -> int:
    words = inside.ip(f"route get {peer}").split()
    return int(words[words.index("mtu") + 1])
