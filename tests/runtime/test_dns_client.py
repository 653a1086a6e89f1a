import asyncio
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import TypeVar

import dns.message
import pytest

from ntmobile.lab import Lab, unavailable
from ntmobile.lab.namespace import enter_network
from ntmobile.lab.waiting import wait_until
from ntmobile.runtime.dns_client import ask
from ntmobile.runtime.socket_address import socket_address
from ntmobile.wire.endpoint import Endpoint

T = TypeVar("T")
QUERY = dns.message.make_query("ntm.example.org.", "SOA")
LINK_LOCAL = "fe80::53"


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (Endpoint("192.0.2.53", 53), ("192.0.2.53", 53)),
        (Endpoint("2001:db8::53", 53), ("2001:db8::53", 53)),
        (Endpoint("fe80::53%7", 53), ("fe80::53", 53, 0, 7)),
        (Endpoint("fe80::53%lo", 53), ("fe80::53", 53, 0, socket.if_nametoindex("lo"))),
    ],
)
def test_a_link_local_host_keeps_its_interface(
    endpoint: Endpoint, expected: tuple[str | int, ...]
) -> None:
    assert socket_address(endpoint) == expected


def test_an_interface_that_is_gone_is_an_oserror() -> None:
    with pytest.raises(OSError, match="interface"):
        socket_address(Endpoint("fe80::53%gone0", 53))


@pytest.mark.lab
def test_a_resolver_with_a_link_local_address_is_asked() -> None:
    if (reason := unavailable()) is not None:
        pytest.skip(f"no lab here: {reason}")
    with Lab() as lab:
        machine = lab.host("machine")
        machine.ip("link add up0 type veth peer name far0", "link set far0 up", "link set up0 up")
        # The kernel notices the carrier later, and what is on the way meanwhile is lost.
        state = machine.path("/sys/class/net/up0/operstate")
        wait_until(lambda: state.read_text() == "up\n", "up0's carrier")
        machine.ip(f"addr add {LINK_LOCAL}/64 dev up0 nodad")
        # Later still the address is its own; till then what goes there leaves by the wire.
        way = ["ip", "-6", "route", "get", LINK_LOCAL, "oif", "up0"]
        wait_until(lambda: machine.run(way).stdout.startswith("local "), "the address as local")

        answer = inside(f"/run/netns/{machine.netns}", lambda: asked(f"{LINK_LOCAL}%up0"))

    assert answer.id == QUERY.id


async def asked(host: str) -> dns.message.Message:
    """The answer of a server that listens on a link-local address only."""
    loop = asyncio.get_running_loop()
    resolver = Endpoint(ip_address(host), 53)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as listening:
        listening.setblocking(False)
        listening.bind(socket_address(resolver))

        async def answer() -> None:
            _, source = await loop.sock_recvfrom(listening, 512)
            wire = dns.message.make_response(QUERY).to_wire()
            await loop.sock_sendto(listening, wire, source)

        _, answered = await asyncio.gather(answer(), ask(resolver, QUERY, timeout_s=60))
    return answered


def inside(network: str, act: Callable[[], Coroutine[None, None, T]]) -> T:
    """Run in a thread of its own, as a thread that entered a namespace stays there."""

    def run() -> T:
        enter_network(network)
        return asyncio.run(act())

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()
