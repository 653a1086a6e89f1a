"""Connections by the descriptor, and those that a node opens: real sockets on the loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from tests.ports import free_ports

from ntmobile.runtime.acceptor import MOST_PENDING, Acceptor, allow_descriptors
from ntmobile.runtime.connector import Connector
from ntmobile.runtime.https import Way
from ntmobile.runtime.proxy import Proxy
from ntmobile.runtime.tasks import Tasks
from ntmobile.wire.endpoint import Endpoint

PATIENCE_S = 60
HERE = Endpoint("127.0.0.1", 0)
HERE6 = Endpoint("::1", 0)


class Seen:
    """What a user of connections was told."""

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.sources: list[Endpoint] = []
        self.data: dict[int, bytes] = {}
        self.closed: list[int] = []
        self._changed = asyncio.Event()

    def open(self, stream: int, source: Endpoint) -> None:
        self.opened.append(stream)
        self.sources.append(source)
        self._changed.set()

    def receive(self, stream: int, data: bytes) -> None:
        self.data[stream] = self.data.get(stream, b"") + data
        self._changed.set()

    def close(self, stream: int) -> None:
        self.closed.append(stream)
        self._changed.set()

    async def until(self, condition: str) -> None:
        """Wait until something of that name is there."""
        async with asyncio.timeout(PATIENCE_S):
            while not getattr(self, condition):
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
async def server() -> AsyncIterator[tuple[Acceptor, Seen]]:
    seen = Seen()
    acceptor = Acceptor(seen.open, seen.receive, seen.close)
    yield acceptor, seen
    acceptor.close()


@pytest.fixture
async def client() -> AsyncIterator[tuple[Connector, Seen]]:
    seen = Seen()
    async with Tasks() as tasks:
        connector = Connector(seen.open, seen.receive, seen.close, tasks.start)
        yield connector, seen
        connector.close()


Pair = tuple[Acceptor | Connector, Seen]


@pytest.mark.parametrize("here", [HERE, HERE6])
async def test_what_one_end_writes_the_other_reads(
    server: tuple[Acceptor, Seen], client: tuple[Connector, Seen], here: Endpoint
) -> None:
    acceptor, at_server = server
    connector, at_client = client
    (place,) = acceptor.listen([here])
    connector.open(7, place)
    await at_client.until("opened")
    await at_server.until("opened")

    connector.write(7, b"from the node")
    await at_server.until("data")
    acceptor.write(at_server.opened[0], b"from the server")
    await at_client.until("data")

    assert at_server.data == {at_server.opened[0]: b"from the node"}
    assert at_client.data == {7: b"from the server"}
    assert at_server.sources[0].host == here.host


async def test_the_server_ends_a_connection_and_the_node_is_told(
    server: tuple[Acceptor, Seen], client: tuple[Connector, Seen]
) -> None:
    acceptor, at_server = server
    connector, at_client = client
    connector.open(1, acceptor.listen([HERE])[0])
    await at_server.until("opened")
    await at_client.until("opened")

    acceptor.end(at_server.opened[0])
    await at_client.until("closed")

    assert (at_client.closed, at_server.closed, len(acceptor)) == ([1], [], 0)


async def test_the_node_ends_a_connection_and_the_server_is_told(
    server: tuple[Acceptor, Seen], client: tuple[Connector, Seen]
) -> None:
    acceptor, at_server = server
    connector, at_client = client
    connector.open(1, acceptor.listen([HERE])[0])
    await at_client.until("opened")
    await at_server.until("opened")

    connector.end(1)
    await at_server.until("closed")

    assert (at_client.closed, len(acceptor)) == ([], 0)


async def test_where_nobody_listens_the_node_is_told_that_it_is_closed(
    client: tuple[Connector, Seen],
) -> None:
    """The negative twin."""
    connector, at_client = client
    [port] = free_ports(1)

    connector.open(3, Endpoint("127.0.0.1", port))
    await at_client.until("closed")

    assert (at_client.closed, at_client.opened) == ([3], [])


@pytest.fixture
async def proxy() -> AsyncIterator["HttpProxy"]:
    made = HttpProxy()
    await made.start()
    yield made
    await made.stop()


class HttpProxy:
    """An HTTP proxy on the loopback: it connects to where this machine finds the port."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.allows = True
        self._pumps = Tasks()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        await self._pumps.__aenter__()

    async def stop(self) -> None:
        self._server.close()
        await self._pumps.__aexit__(None, None, None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        target = head.split()[1].decode()
        self.asked.append(target)
        if not self.allows:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        port = int(target.rpartition(":")[2])
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        self._pumps.start(pump(reader, back), "out")
        self._pumps.start(pump(there, writer), "in")


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(4096):
            writer.write(data)
    finally:
        writer.close()


async def test_an_http_proxy_is_asked_for_the_server_by_its_name(
    server: tuple[Acceptor, Seen], proxy: HttpProxy
) -> None:
    acceptor, at_server = server
    seen = Seen()
    (place,) = acceptor.listen([HERE])
    way = Way(proxy=lambda: Proxy("127.0.0.1", proxy.port))
    async with Tasks() as tasks:
        connector = Connector(seen.open, seen.receive, seen.close, tasks.start, way=way)
        connector.open(5, place, "ns.example.org")
        await seen.until("opened")
        await at_server.until("opened")
        connector.write(5, b"through the proxy")
        await at_server.until("data")
        acceptor.write(at_server.opened[0], b"and back")
        await seen.until("data")
        connector.close()

    assert proxy.asked == [f"ns.example.org:{place.port}"]
    assert seen.data == {5: b"and back"}
    assert connector.trouble is None


async def test_where_the_proxy_refuses_and_nothing_else_leads_there_its_words_are_kept(
    proxy: HttpProxy,
) -> None:
    """The negative twin."""
    proxy.allows = False
    seen = Seen()
    nobody = Endpoint("127.0.0.1", *free_ports(1))
    way = Way(proxy=lambda: Proxy("127.0.0.1", proxy.port))
    async with Tasks() as tasks:
        connector = Connector(seen.open, seen.receive, seen.close, tasks.start, way=way)
        connector.open(5, nobody, "ns.example.org")
        await seen.until("closed")
        connector.close()

    assert connector.trouble is not None
    assert f"forbids connections to ns.example.org, port {nobody.port}" in connector.trouble


async def test_a_proxy_that_refuses_does_not_keep_a_node_from_where_it_can_go_itself(
    server: tuple[Acceptor, Seen], proxy: HttpProxy
) -> None:
    proxy.allows = False
    seen = Seen()
    (place,) = server[0].listen([HERE])
    way = Way(proxy=lambda: Proxy("127.0.0.1", proxy.port))
    async with Tasks() as tasks:
        connector = Connector(seen.open, seen.receive, seen.close, tasks.start, way=way)
        connector.open(5, place, "ns.example.org")
        await seen.until("opened")
        connector.close()

    assert (proxy.asked, connector.trouble) == ([f"ns.example.org:{place.port}"], None)


async def test_an_address_is_translated_as_nat64_asks(server: tuple[Acceptor, Seen]) -> None:
    seen = Seen()
    (place,) = server[0].listen([HERE])
    way = Way(translate=lambda endpoint: place)
    async with Tasks() as tasks:
        connector = Connector(seen.open, seen.receive, seen.close, tasks.start, way=way)
        connector.open(5, Endpoint("192.0.2.1", 4434))
        await seen.until("opened")
        connector.close()

    assert seen.sources == [Endpoint("192.0.2.1", 4434)]


async def test_who_does_not_read_is_cut_and_others_are_not(server: tuple[Acceptor, Seen]) -> None:
    acceptor, seen = server
    (place,) = acceptor.listen([HERE])
    with socket.create_connection((str(place.host), place.port)):
        await seen.until("opened")
        stream = seen.opened[0]
        for _ in range(4096):
            acceptor.write(stream, bytes(MOST_PENDING))
        await seen.until("closed")

    assert acceptor.counters["lost"] >= 1
    assert len(acceptor) == 0


async def test_what_is_written_to_a_connection_that_is_gone_vanishes(
    server: tuple[Acceptor, Seen],
) -> None:
    acceptor, _ = server

    acceptor.write(12345, b"text")
    acceptor.end(12345)


async def test_as_many_descriptors_are_allowed_as_the_system_gives() -> None:
    assert allow_descriptors() >= 1024
