import contextlib
import os
import signal
import socket
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

import pytest

from ntmobile.agent.links import local_addresses
from ntmobile.agent.links_netlink import read_snapshot
from ntmobile.agent.routes import SystemRefused
from ntmobile.agent.tun import QUEUE, Tun

if TYPE_CHECKING:
    from conftest import Namespace

IPV4, IPV6 = IPv4Address("100.64.0.2"), IPv6Address("fd12:3456:789a::2")
PEER4, PEER6 = IPv4Address("100.64.0.9"), IPv6Address("fd00:9::9")

DEVICE = """
import asyncio
from ipaddress import ip_address
from ntmobile.agent.tun import Tun

async def main():
    async with Tun() as tun:
        await tun.set_addresses([ip_address("100.64.0.2"), ip_address("fd12::2")])
        tun.routes.set_peer(ip_address("100.64.0.9"), 1400)
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""

lab = pytest.mark.lab


@lab
async def test_the_device_has_the_virtual_addresses_and_loses_them_with_its_context(
    inside: "Namespace",
) -> None:
    async with Tun() as tun:
        await tun.set_addresses([IPV4, IPV6])

        shown = inside.ip(f"-br addr show dev {tun.name}")
        assert shown.split()[2:] == [f"{IPV4}/32", f"{IPV6}/128"]

    assert "ntm" not in inside.ip("link")


@lab
async def test_an_address_may_change(inside: "Namespace") -> None:
    async with Tun() as tun:
        await tun.set_addresses([IPV4, IPV6])
        await tun.set_addresses([ip_address("198.18.0.2"), IPV6])

        assert tun.addresses == {ip_address("198.18.0.2"), IPV6}
        assert str(IPV4) not in inside.ip("addr")


@lab
async def test_the_source_of_a_packet_to_a_peer_is_the_virtual_address(
    inside: "Namespace",
) -> None:
    async with Tun() as tun:
        await tun.set_addresses([IPV4, IPV6])
        for peer in (PEER4, PEER6):
            tun.routes.set_peer(peer, 1400)

        for peer, own in ((PEER4, IPV4), (PEER6, IPV6)):
            family = socket.AF_INET if peer.version == 4 else socket.AF_INET6
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((str(peer), 9))
                assert sock.getsockname()[0] == str(own)


async def waiting(tun: Tun, sent: int) -> int:
    """How many of `sent` datagrams to a peer the device keeps while nobody reads it."""
    await tun.set_addresses([IPV4])
    tun.routes.set_peer(PEER4, 1400)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(sent):
            sock.sendto(bytes(1200), (str(PEER4), 9))
    os.set_blocking(tun.fd, False)
    found = 0
    with contextlib.suppress(BlockingIOError):
        while packet := os.read(tun.fd, 1 << 16):
            found += PEER4.packed in packet and len(packet) > 1200
    return found


@lab
async def test_the_device_keeps_half_a_second_of_50_mbit_until_a_loop_gets_a_processor(
    inside: "Namespace",
) -> None:
    async with Tun() as tun:
        assert await waiting(tun, 2604) == 2604


@lab
async def test_the_device_keeps_no_more_than_its_queue(inside: "Namespace") -> None:
    async with Tun() as tun:
        assert QUEUE - 100 < await waiting(tun, QUEUE + 1000) <= QUEUE


@lab
async def test_a_killed_agent_leaves_no_device(namespace: "Namespace") -> None:
    process = namespace.popen(sys.executable, "-c", DEVICE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "ready\n"
        assert "ntm0" in namespace.ip("route")
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    assert "ntm" not in namespace.ip("link")
    assert namespace.ip("route") == ""


@lab
async def test_the_device_is_no_uplink(inside: "Namespace") -> None:
    async with Tun() as tun:
        await tun.set_addresses([IPV4, IPV6])

        assert local_addresses(read_snapshot(), 4330) == ()


@lab
async def test_ipv6_works_where_it_is_off_by_default(inside: "Namespace") -> None:
    inside.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    async with Tun() as tun:
        await tun.set_addresses([IPV6])

        assert str(IPV6) in inside.ip(f"addr show dev {tun.name}")


@lab
def test_without_the_right_to_make_a_device_the_reason_is_told(inside: "Namespace") -> None:
    line = "import asyncio; from ntmobile.agent.tun import *; asyncio.run(Tun().__aenter__())"
    done = subprocess.run(
        ["setpriv", "--bounding-set=-net_admin", sys.executable, "-c", line],
        capture_output=True,
        text=True,
        check=False,
    )

    assert f"{SystemRefused.__name__}: the kernel refused to make a tunnel device" in done.stderr
