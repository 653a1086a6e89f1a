import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from tests.ports import free_ports

from ntmobile.agent import dns_stub_listener
from ntmobile.agent.dns_stub_listener import Listener, Query
from ntmobile.runtime.tasks import Tasks

BOTH = ("127.0.0.1", "::1")
GUARD_S = 60
ONE = b"\x00\x01" + bytes(10)


async def test_one_port_serves_both_families_by_udp_and_tcp() -> None:
    async with listening(BOTH) as (listener, _):
        assert [str(e.host) for e in listener.endpoints] == list(BOTH)
        assert len({e.port for e in listener.endpoints}) == 1
        for endpoint in listener.endpoints:
            family = socket.AF_INET if endpoint.version == 4 else socket.AF_INET6
            with udp(str(endpoint.host), endpoint.port, family) as client:
                assert await exchange(client, ONE) == ONE
            assert await over_tcp(str(endpoint.host), endpoint.port, [ONE]) == [ONE]


async def test_an_address_that_is_not_here_is_left_out() -> None:
    async with listening(("192.0.2.1", "127.0.0.1", "2001:db8::1")) as (listener, _):
        assert [str(e.host) for e in listener.endpoints] == ["127.0.0.1"]


async def test_without_any_address_that_is_here_there_is_an_error() -> None:
    with pytest.raises(OSError, match=r"none of 192\.0\.2\.1 is here"):
        async with listening(("192.0.2.1",)):
            pass


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open() -> None:
    [port] = free_ports(1)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            async with listening(("127.0.0.1",), port):
                pass

    async with listening(("127.0.0.1",), port) as (listener, _):
        assert listener.endpoints[0].port == port


async def test_one_connection_carries_many_queries() -> None:
    queries = [bytes([0, n]) + bytes(10 + n) for n in range(20)]
    async with listening() as (listener, _):
        assert await over_tcp("127.0.0.1", listener.endpoints[0].port, queries) == queries


async def test_what_is_too_short_for_a_query_is_dropped() -> None:
    async with listening() as (listener, server):
        port = listener.endpoints[0].port
        with udp("127.0.0.1", port) as client:
            await asyncio.get_running_loop().sock_sendall(client, ONE[:11])
            await until(lambda: server.counters["dropped"] == 1)
        assert await over_tcp("127.0.0.1", port, [ONE[:11]]) == []
        assert server.queries == []


async def test_more_queries_than_the_bound_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_stub_listener, "MOST_QUERIES", 2)
    async with listening() as (listener, server):
        server.hold.clear()
        with udp("127.0.0.1", listener.endpoints[0].port) as client:
            for number in range(3):
                await asyncio.get_running_loop().sock_sendall(client, bytes([number]) + ONE)
            await until(lambda: server.counters["dropped"] == 1)
            server.hold.set()
            await until(lambda: len(server.queries) == 2)

            assert await exchange(client, ONE) in {b"\x00" + ONE, b"\x01" + ONE}


async def test_more_connections_than_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_stub_listener, "MOST_CONNECTIONS", 1)
    async with listening() as (listener, server):
        port = listener.endpoints[0].port
        server.hold.clear()
        first = asyncio.get_running_loop().create_task(over_tcp("127.0.0.1", port, [ONE]))
        await until(lambda: len(server.queries) == 1)

        assert await over_tcp("127.0.0.1", port, [ONE]) == []
        assert server.counters["refused"] == 1
        server.hold.set()
        assert await first == [ONE]


async def test_the_end_frees_the_port_although_a_query_is_unanswered() -> None:
    [port] = free_ports(1)
    async with listening(("127.0.0.1",), port) as (_, server):
        server.hold.clear()
        with udp("127.0.0.1", port) as client:
            await asyncio.get_running_loop().sock_sendall(client, ONE)
            await until(lambda: len(server.queries) == 1)

    async with listening(("127.0.0.1",), port):
        pass


class Server:
    """Answers each query with itself, once it may."""

    def __init__(self) -> None:
        self.queries: list[Query] = []
        self.counters: Counter[str] = Counter()
        self.hold = asyncio.Event()
        self.hold.set()

    async def respond(self, query: Query) -> bytes:
        self.queries.append(query)
        await self.hold.wait()
        return query.wire


@asynccontextmanager
async def listening(
    addresses: tuple[str, ...] = ("127.0.0.1",), port: int = 0
) -> AsyncIterator[tuple[Listener, Server]]:
    server = Server()
    async with Tasks() as tasks:
        listener = Listener(server.respond, tasks, server.counters)
        await listener.open(addresses, port)
        yield listener, server
        listener.close()


def udp(host: str, port: int, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    client = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    client.connect((host, port))
    return client


async def exchange(client: socket.socket, wire: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(GUARD_S):
        await loop.sock_sendall(client, wire)
        return await loop.sock_recv(client, 4096)


async def over_tcp(host: str, port: int, wires: list[bytes]) -> list[bytes]:
    """What came before the server closed, or as many as were asked."""
    reader, writer = await asyncio.open_connection(host, port)
    answers: list[bytes] = []
    try:
        writer.write(b"".join(len(wire).to_bytes(2) + wire for wire in wires))
        async with asyncio.timeout(GUARD_S):
            for _ in wires:
                size = int.from_bytes(await reader.readexactly(2))
                answers += [await reader.readexactly(size)]
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()
    return answers


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(GUARD_S):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0)
