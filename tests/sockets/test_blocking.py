"""Blocking sockets on a loop in a thread, between two stacks."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from tests.stacks import BOB, join

from ntmobile._core import Engine, Stack
from ntmobile.sockets.blocking import NodeListener, NodeSocket
from ntmobile.sockets.connecting import begin
from ntmobile.sockets.events import Events
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
