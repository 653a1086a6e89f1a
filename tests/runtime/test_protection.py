import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import IPv4Address

import dns.message
import pytest
from tests.ports import free_ports

from ntmobile.agent.dns_stub_upstream import Upstream
from ntmobile.agent.real_networks import first_routers
from ntmobile.runtime import dns_client, https
from ntmobile.runtime.connector import Connector
from ntmobile.runtime.protection import Protect, marking, unprotected
from ntmobile.runtime.proxy import Proxy, connect_through
from ntmobile.runtime.tasks import Tasks
from ntmobile.wire.endpoint import Endpoint


def mark_of(made: socket.socket) -> int:
    return made.getsockopt(socket.SOL_SOCKET, socket.SO_MARK)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mark sockets")
def test_marking_marks_the_socket_and_leaves_it_open() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        marking(0x6E01)(made.fileno())

        assert mark_of(made) == 0x6E01


def test_neither_no_mark_nor_no_protection_touches_a_socket() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        marking(0)(made.fileno())
        unprotected(made.fileno())

        assert mark_of(made) == 0


def test_a_descriptor_that_is_no_socket_is_refused() -> None:
    with open("/dev/null", "rb") as file, pytest.raises(OSError, match=r"socket"):
        marking(1)(file.fileno())


def refuse(descriptor: int) -> None:
    raise PermissionError(errno.EPERM, "not protected")


@pytest.fixture
def here() -> Iterator[tuple[Endpoint, socket.socket, socket.socket]]:
    """A place where somebody would hear UDP and TCP."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
    ):
        [port] = free_ports(1)
        udp.bind(("127.0.0.1", port))
        tcp.bind(("127.0.0.1", port))
        tcp.listen()
        udp.setblocking(False)
        tcp.setblocking(False)
        yield Endpoint("127.0.0.1", port), udp, tcp


async def ask_dns(there: Endpoint, protect: Protect) -> None:
    query = dns.message.make_query("example.org", "A")
    with pytest.raises(PermissionError):
        await dns_client.ask(there, query, timeout_s=60, protect=protect)


async def ask_upstream(there: Endpoint, protect: Protect) -> None:
    query = dns.message.make_query("example.org", "A").to_wire()
    assert await Upstream(protect).ask(query, [there]) is None
    assert await Upstream(protect).ask_tcp(query, [there]) is None


async def ask_https(there: Endpoint, protect: Protect) -> None:
    with pytest.raises(https.Unreachable, match="not protected"):
        async with https.connect(
            https.Place("example.org", (there,)), https.Unverified(), way=https.Way(protect)
        ):
            pass


async def ask_proxy(there: Endpoint, protect: Protect) -> None:
    proxy = Proxy(str(there.host), there.port)
    with pytest.raises(PermissionError):
        await connect_through(proxy, "example.org", 443, protect=protect)


async def connect_to_ns(there: Endpoint, protect: Protect) -> None:
    closed = asyncio.Event()
    async with Tasks() as tasks:
        connector = Connector(
            lambda stream, place: None,
            lambda stream, data: None,
            lambda stream: closed.set(),
            tasks.start,
            way=https.Way(protect),
        )
        connector.open(1, there)
        await closed.wait()


async def look_for_routers(there: Endpoint, protect: Protect) -> None:
    assert isinstance(there.host, IPv4Address)
    assert await first_routers(there.host, protect=protect) == ()


@pytest.mark.parametrize(
    "use", [ask_dns, ask_upstream, ask_https, ask_proxy, connect_to_ns, look_for_routers]
)
async def test_a_socket_that_is_not_protected_sends_nothing(
    use: Callable[[Endpoint, Protect], Awaitable[None]],
    here: tuple[Endpoint, socket.socket, socket.socket],
) -> None:
    there, udp, tcp = here

    await use(there, refuse)

    with pytest.raises(BlockingIOError):
        udp.recv(1)
    with pytest.raises(BlockingIOError):
        tcp.accept()


async def test_the_place_would_hear_what_is_protected(
    here: tuple[Endpoint, socket.socket, socket.socket],
) -> None:
    """The negative twin."""
    there, udp, _ = here
    query = dns.message.make_query("example.org", "A")

    with pytest.raises(TimeoutError):
        await dns_client.ask(there, query, timeout_s=0.01, protect=unprotected)

    assert udp.recv(512) == query.to_wire()
