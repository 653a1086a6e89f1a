import asyncio
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from ntmobile.agent.links import Links, local_addresses
from ntmobile.agent.links_netlink import Address, DefaultRoute, Link, Snapshot, read_snapshot
from ntmobile.lab.waiting import wait_until
from ntmobile.proto.node.events import LocalAddress
from ntmobile.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from conftest import Namespace

PORT = 4330
ETH = Link(2, "eth0", kind="", mtu=1500, running=True, loopback=False)
WLAN = Link(3, "wlan0", kind="", mtu=1400, running=True, loopback=False)


def test_the_uplink_of_the_best_default_route_is_preferred() -> None:
    state = Snapshot(
        (ETH, WLAN),
        (at(2, "192.0.2.7"), at(3, "198.51.100.7")),
        (DefaultRoute(4, 2, metric=600), DefaultRoute(4, 3, metric=100)),
    )

    assert local_addresses(state, PORT) == (
        LocalAddress(Endpoint("198.51.100.7", PORT), interface=3, mtu=1400, preferred=True),
        LocalAddress(Endpoint("192.0.2.7", PORT), interface=2, mtu=1500, preferred=False),
    )


def test_each_family_has_its_own_preferred_uplink() -> None:
    state = Snapshot(
        (ETH, WLAN),
        (at(2, "192.0.2.7"), at(3, "198.51.100.7"), at(2, "2001:db8::7"), at(3, "2001:db8:1::7")),
        (DefaultRoute(4, 2, metric=0), DefaultRoute(6, 3, metric=1024)),
    )

    preferred = {str(a.endpoint.host) for a in local_addresses(state, PORT) if a.preferred}

    assert preferred == {"192.0.2.7", "2001:db8:1::7"}


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.3.4", "fe80::1", "::1", "224.0.0.5"])
def test_addresses_that_no_peer_could_use_are_left_out(host: str) -> None:
    assert local_addresses(Snapshot((ETH,), (at(2, host),), ()), PORT) == ()


def test_a_tentative_address_is_left_out() -> None:
    tentative = Address(2, ip_address("2001:db8::7"), usable=False)

    assert local_addresses(Snapshot((ETH,), (tentative,), ()), PORT) == ()


@pytest.mark.parametrize(
    "link",
    [
        Link(2, "eth0", kind="", mtu=1500, running=False, loopback=False),
        Link(2, "ntm0", kind="tun", mtu=1280, running=True, loopback=False),
        Link(2, "docker0", kind="bridge", mtu=1500, running=True, loopback=False),
    ],
    ids=lambda link: link.name,
)
def test_a_link_that_is_no_uplink_is_left_out(link: Link) -> None:
    assert local_addresses(Snapshot((link,), (at(2, "192.0.2.7"),), ()), PORT) == ()


def test_a_bridge_that_carries_the_default_route_is_an_uplink() -> None:
    bridge = Link(2, "br0", kind="bridge", mtu=1500, running=True, loopback=False)
    state = Snapshot((bridge,), (at(2, "192.0.2.7"),), (DefaultRoute(4, 2, metric=0),))

    assert [str(a.endpoint.host) for a in local_addresses(state, PORT)] == ["192.0.2.7"]


@pytest.mark.lab
async def test_a_move_to_another_interface_is_reported(inside: "Namespace") -> None:
    uplink(inside, "up0", "192.0.2.7/24", "192.0.2.1")
    watch = Watch()
    async with Links(watch, port=PORT):
        assert await watch.next() == ["192.0.2.7*"]

        inside.ip("link del up0")
        assert await watch.next() == []

        uplink(inside, "wlan9", "198.51.100.7/24", "198.51.100.1")
        await watch.until(["198.51.100.7*"])


@pytest.mark.lab
async def test_what_is_no_change_of_address_is_not_reported(inside: "Namespace") -> None:
    uplink(inside, "up0", "192.0.2.7/24", "192.0.2.1")
    inside.ip("addr add 2001:db8::7/64 dev up0 valid_lft 600 preferred_lft 300 nodad")
    watch = Watch()
    async with Links(watch, port=PORT):
        first = await watch.next()

        inside.ip("addr change 2001:db8::7/64 dev up0 valid_lft 1200 preferred_lft 900 nodad")
        inside.ip("route add 203.0.113.9/32 via 192.0.2.1")
        inside.ip("link set up0 txqueuelen 99")
        inside.ip("addr add 192.0.2.8/24 dev up0")

        # The fourth change is the first that is reported: the three before it were seen as none.
        assert await watch.next() == sorted([*first, "192.0.2.8*"])
        assert watch.waiting == 0


@pytest.mark.lab
async def test_an_address_under_duplicate_detection_comes_when_it_is_usable(
    inside: "Namespace",
) -> None:
    uplink(inside, "up0", "192.0.2.7/24", "192.0.2.1")
    watch, host = Watch(), ip_address("2001:db8::7")
    async with Links(watch, port=PORT):
        await watch.next()

        inside.ip(f"addr add {host}/64 dev up0")

        [found] = [each for each in read_snapshot().addresses if each.host == host]
        assert not found.usable
        assert await watch.next() == ["192.0.2.7*", "2001:db8::7"]
        assert "tentative" not in inside.ip("addr show dev up0 scope global")


@pytest.mark.lab
async def test_an_overflow_of_notifications_loses_no_change(inside: "Namespace") -> None:
    uplink(inside, "up0", "192.0.2.7/24", "192.0.2.1")
    watch = Watch()
    async with Links(watch, port=PORT):
        await watch.next()

        # The event loop does not run meanwhile, so the queue of notifications overflows.
        batch = "\n".join(f"addr {verb} 10.1.1.1/32 dev lo" for _ in range(1500) for verb in VERBS)
        inside.run("sh", "-c", f"ip -b - <<'END'\n{batch}\naddr add 192.0.2.8/24 dev up0\nEND")

        assert await watch.next() == ["192.0.2.7*", "192.0.2.8*"]


@pytest.mark.lab
async def test_nothing_is_reported_after_the_end(inside: "Namespace") -> None:
    watch = Watch()
    async with Links(watch, port=PORT):
        await watch.next()

    uplink(inside, "up0", "192.0.2.7/24", "192.0.2.1")
    await asyncio.sleep(0)

    assert watch.waiting == 0


VERBS = ("add", "del")


class Watch:
    """Keeps reports as sorted texts, a star after what is preferred."""

    def __init__(self) -> None:
        self._reports: asyncio.Queue[list[str]] = asyncio.Queue()

    def __call__(self, addresses: tuple[LocalAddress, ...]) -> None:
        texts = sorted(f"{a.endpoint.host}{'*' * a.preferred}" for a in addresses)
        self._reports.put_nowait(texts)

    @property
    def waiting(self) -> int:
        return self._reports.qsize()

    async def next(self) -> list[str]:
        async with asyncio.timeout(60):
            return await self._reports.get()

    async def until(self, wanted: list[str]) -> None:
        while await self.next() != wanted:
            pass


def at(index: int, host: str) -> Address:
    return Address(index, ip_address(host), usable=True)


def uplink(inside: "Namespace", name: str, address: str, router: str) -> None:
    inside.ip(f"link add {name} type veth peer name {name}-far")
    inside.ip(f"link set {name}-far up")
    inside.ip(f"link set {name} up")
    # The kernel notices a carrier a moment later.
    wait_until(lambda: name in (each.name for each in read_snapshot().links if each.running), name)
    inside.ip(f"addr add {address} dev {name}")
    inside.ip(f"route add default via {router} dev {name}")
