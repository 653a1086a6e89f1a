"""Blocking sockets on a loop in a thread, between two stacks."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import TypeVar

import pytest
from tests.stacks import ALICE, BOB, join

from ntmobile._core import Engine, Stack
from ntmobile.sockets.blocking import NodeDatagramSocket, NodeListener, NodeSocket
from ntmobile.sockets.connecting import begin
from ntmobile.sockets.events import Events
from ntmobile.sockets.secure import server_side
from ntmobile.sockets.server import Server
from ntmobile.wire.endpoint import Endpoint, Host

R = TypeVar("R")
MUCH = bytes(range(256)) * 20_000


class Place:
    """Alice and bob in one thread; the test is in another."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.parts = [(Engine(), Stack(seed)) for seed in (1, 2)]
        join(*self.parts)
        self.alice, self.bob = self.do(self._listen)

    def _listen(self) -> tuple[Events, Events]:
        first, second = (Events(stack, self.loop) for _, stack in self.parts)
        return first, second

    def do(self, work: Callable[[], R]) -> R:
        async def done() -> R:
            return work()

        return asyncio.run_coroutine_threadsafe(done(), self.loop).result()

    def serve(self) -> NodeListener:
        return self.do(lambda: NodeListener(self.bob, _owner, 0, 8))

    def connect(self, port: int) -> NodeSocket:
        async def made() -> NodeSocket:
            remote = Endpoint.of(BOB[0], port)
            number, local = await begin(self.alice, remote)
            return NodeSocket(self.alice, number, local, remote, "bob")

        return asyncio.run_coroutine_threadsafe(made(), self.loop).result()

    def serve_tls(self, context: ssl.SSLContext) -> Server:
        def make() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(), _echo)

        return self.do(
            lambda: Server(self.bob, server_side(context, make), _owner, port=0, backlog=8)
        )

    def bind(self, events: Events) -> NodeDatagramSocket:
        return self.do(lambda: NodeDatagramSocket(events, 0))

    def close(self) -> None:
        self.do(self.alice.close)
        self.do(self.bob.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        for engine, stack in self.parts:
            engine.close()
            stack.close()


def _owner(host: Host) -> str | None:
    return f"owner of {host}"


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.close()


def test_two_threads_exchange_much_at_once(place: Place) -> None:
    with place.serve() as listener, ThreadPoolExecutor() as pool:
        near = place.connect(listener.port)
        far, address = listener.accept()
        assert address == near.getsockname() == far.getpeername()
        assert (near.fqdn, far.fqdn) == ("bob", f"owner of {address[0]}")

        sending = [pool.submit(end.sendall, MUCH) for end in (near, far)]
        with near.makefile("rwb") as here, far.makefile("rwb") as there:
            got = [pool.submit(end.read, len(MUCH)) for end in (here, there)]
            assert [each.result() for each in got] == [MUCH, MUCH]
        assert [each.result() for each in sending] == [None, None]
        near.close()
        assert far.recv(1) == b""
        far.close()


def test_what_does_not_come_in_time_is_a_time_out(place: Place) -> None:
    with place.serve() as listener:
        near = place.connect(listener.port)
        far, _ = listener.accept()
        near.settimeout(0.01)

        with pytest.raises(TimeoutError):
            near.recv(1)

        far.sendall(b"x")
        near.settimeout(None)
        assert near.recv(1) == b"x"
        near.close()
        far.close()


def test_half_a_connection_stays_open(place: Place) -> None:
    with place.serve() as listener:
        near = place.connect(listener.port)
        far, _ = listener.accept()
        near.sendall(b"question")
        near.shutdown()

        assert (far.recv(100), far.recv(100)) == (b"question", b"")
        far.sendall(b"answer")
        assert near.recv(100) == b"answer"
        with pytest.raises(BrokenPipeError):
            near.send(b"more")
        near.close()
        far.close()


def test_closing_ends_whoever_waits(place: Place) -> None:
    with place.serve() as listener, ThreadPoolExecutor() as pool:
        near = place.connect(listener.port)
        waiting = pool.submit(near.recv, 1)
        near.close()

        with pytest.raises(OSError, match="closed"):
            waiting.result()


def test_a_node_that_closes_ends_whoever_waits(place: Place) -> None:
    with ThreadPoolExecutor() as pool:
        listener = place.serve()
        waiting = pool.submit(listener.accept)
        place.do(place.bob.close)

        with pytest.raises(OSError, match="closed"):
            waiting.result()


def test_tls_works_inside(place: Place, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    client, context = tls
    server = place.serve_tls(context)
    with place.connect(server.port).start_tls(client, "bob.example") as secured:
        secured.settimeout(60)
        # The echo waits while nobody reads it: no more at once than fits on the way.
        secured.sendall(MUCH[:200_000])
        got = b""
        while len(got) < 200_000 and (data := secured.recv(1 << 16)):
            got += data

        assert got == MUCH[:200_000]
        assert secured.ssl_object.version() == "TLSv1.3"
    place.do(server.close)


def test_a_wrong_name_ends_tls_and_the_connection(
    place: Place, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    client, context = tls
    server = place.serve_tls(context)
    connection = place.connect(server.port)

    with pytest.raises(ssl.SSLCertVerificationError):
        connection.start_tls(client, "eve.example")

    with pytest.raises(OSError, match="closed"):
        connection.recv(1)
    place.do(server.close)


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_datagrams_go_there_and_back(place: Place, family: int) -> None:
    with place.bind(place.alice) as near, place.bind(place.bob) as far:
        there, back = (str(ip_address(names[family])) for names in (BOB, ALICE))

        assert near.sendto(b"ping", (there, far.port)) == 4
        assert far.recvfrom(100) == (b"ping", (back, near.port))
        far.sendto(MUCH[:5000], (back, near.port))
        assert near.recvfrom(4000) == (MUCH[:4000], (there, far.port))


def test_a_datagram_nobody_takes_is_told_and_one_that_does_not_come_is_a_time_out(
    place: Place,
) -> None:
    with place.bind(place.alice) as near:
        near.sendto(b"anybody?", (str(ip_address(BOB[0])), 9))

        with pytest.raises(ConnectionRefusedError):
            near.recvfrom(100)
        near.settimeout(0.01)
        with pytest.raises(TimeoutError):
            near.recvfrom(100)


def test_a_datagram_port_that_closes_ends_whoever_waits(place: Place) -> None:
    with ThreadPoolExecutor(1) as threads:
        near = place.bind(place.alice)
        waiting = threads.submit(near.recvfrom, 100)
        near.close()

        with pytest.raises(OSError, match="closed"):
            waiting.result()
    assert place.do(place.alice.__len__) == 0
