from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TYPE_CHECKING

import pytest

from ntmobile.agent.routes import SMALLEST_MTU, SystemRefused, overlaps
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
            tun.routes.set_peer(PEER4, mtu)
            tun.routes.set_peer(PEER6, mtu)

            for peer in (PEER4, PEER6):
                assert path_mtu(inside, peer) == max(mtu, SMALLEST_MTU[peer.version])


@lab
async def test_where_the_kernel_has_no_ipv6_peers_are_routed_by_ipv4(inside: "Namespace") -> None:
    async with Tun() as tun:
        inside.run("sysctl", "-qw", f"net.ipv6.conf.{tun.name}.disable_ipv6=1")
        await tun.set_addresses([IPV4, IPV6])
        tun.routes.set_peer(PEER6, 1400)
        tun.routes.set_peer(PEER4, 1400)

        assert path_mtu(inside, PEER4) == 1400
        assert str(PEER6) not in inside.ip("-6 route")


@lab
async def test_a_refused_route_says_what_to_do_and_names_nobody(inside: "Namespace") -> None:
    async with Tun() as tun:
        inside.ip(f"link del {tun.name}")

        with pytest.raises(SystemRefused) as raised:
            tun.routes.set_peer(PEER4, 1400)

    assert raised.value.remedy == "run ntm up as root; ntm bugreport"
    assert str(PEER4) not in str(raised.value)


@lab
async def test_a_route_of_somebody_else_stays_as_it_is(inside: "Namespace") -> None:
    other = "100.64.0.9 dev up0 proto static scope link metric 20000"
    inside.ip("link add up0 type veth peer name far0")
    inside.ip("link set up0 up")
    inside.ip(f"route add {other}")
    async with Tun() as tun:
        await tun.set_addresses([IPV4])
        tun.routes.set_peer(PEER4, 1400)

    assert " ".join(inside.ip("route").split()).startswith(other)


@lab
async def test_two_devices_side_by_side_keep_their_routes_apart(inside: "Namespace") -> None:
    async with Tun() as one:
        async with Tun() as other:
            for tun in (one, other):
                tun.routes.set_peer(PEER4, 1400)
            assert one.name != other.name

        assert one.name in inside.ip(f"route show {PEER4}")


@lab
async def test_a_real_network_in_a_virtual_range_is_found(inside: "Namespace") -> None:
    inside.ip("link add up0 type veth peer name far0")
    inside.ip("link set up0 up")
    inside.ip("addr add 100.70.1.7/16 dev up0")
    inside.ip("route add default dev up0")
    async with Tun() as tun:
        tun.routes.set_peer(PEER4, 1400)

        found = overlaps(RANGES, own=[tun.index])

    assert [(o.virtual, o.real) for o in found] == [(RANGES[0], ip_network("100.70.0.0/16"))]


@lab
async def test_another_agents_peer_is_an_overlap(inside: "Namespace") -> None:
    async with Tun() as other:
        other.routes.set_peer(PEER4, 1400)

        assert {o.virtual for o in overlaps(RANGES)} == {RANGES[0]}


def path_mtu(inside: "Namespace", peer: IPv4Address | IPv6Address) -> int:
    words = inside.ip(f"route get {peer}").split()
    return int(words[words.index("mtu") + 1])


@lab
async def test_a_route_that_is_dropped_leaves_the_address_to_others_and_not_twice(
    inside: "Namespace",
) -> None:
    async with Tun() as tun:
        for peer in (PEER4, PEER6):
            tun.routes.set_peer(peer, 1400)
            tun.routes.drop(peer)
            tun.routes.drop(peer)
            assert peer not in tun.routes

        assert str(PEER4) not in inside.ip("route")
        assert str(PEER6) not in inside.ip("-6 route")
