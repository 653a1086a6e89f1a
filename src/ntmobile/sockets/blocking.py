"""Sockets for code that blocks: a node on a thread of its own, and connections for any thread.

    with ntmobile.blocking.open(state) as node:
        with node.create_connection(("pc.bob.ntm.example.net", 8080), timeout=10) as connection:
            connection.sendall(b"hello")

What is sent and received goes to the stack directly, and not through the thread of the node.
"""

import asyncio
import io
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from ntmobile.agent.views import HandoversView
from ntmobile.runtime.clock import Clock
from ntmobile.sockets.blocking_tls import SecureSocket
from ntmobile.sockets.connecting import begin
from ntmobile.sockets.events import CLOSED, ENDED, READABLE, WRITABLE, Events
from ntmobile.sockets.node import Node
from ntmobile.time import SECOND
from ntmobile.wire.endpoint import Endpoint, Host

R = TypeVar("R")
Address = tuple[str, int]
CLOCK = Clock()


def open(state: str | Path) -> "BlockingNode":
    """Return the node of a state directory that Node.login made; enter it to bring it up."""
    return BlockingNode(Path(state))


class BlockingNode:
    """`ntmobile.Node` for threads; raises what that raises."""

    def __init__(self, state: Path) -> None:
        """Entered by `with`; see `open`."""
        self._state = state
        self._loop = asyncio.new_event_loop()
        self._node = Node.open(state)
        self._thread = threading.Thread(target=self._loop.run_forever, name="ntmobile")

    def __enter__(self) -> Self:
        """Logs in by the device key and registers; raises Remedy."""
        self._thread.start()
        try:
            self._do(self._node.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the tunnels; connections that stand are gone, whoever waits on them hears it."""
        try:
            self._do(self._node.__aexit__(None, None, None))
        finally:
            self._stop()

    @property
    def fqdn(self) -> str:
        """The node's permanent name."""
        return self._node.fqdn

    def create_connection(self, address: Address, timeout: float | None = None) -> "NodeSocket":
        """As socket.create_connection; the timeout is in seconds and stays the socket's."""
        return self._do(self._connect(address, timeout))

    def create_server(self, port: int, *, backlog: int = 100) -> "NodeListener":
        """As socket.create_server, on all of the node's own addresses; 0 takes a free port."""
        return self._do(self._listen(port, backlog))

    def create_datagram_socket(self, port: int = 0) -> "NodeDatagramSocket":
        """A UDP port for both families on all of the node's own addresses; 0 takes a free one."""
        return self._do(self._bind(port))

    def resolve(self, address: Address, family: int = 0) -> Address:
        """Return a virtual address and port for a name and port; raises NameFailed."""
        host, port = address
        return str(self._do(self._node.names.hosts(host, family))[0]), port

    def handovers(self) -> HandoversView:
        """What `ntm handovers --json` prints: those of earlier runs too, oldest first."""
        return self._do(self._handovers())

    async def _handovers(self) -> HandoversView:
        return self._node.handovers()

    async def _bind(self, port: int) -> "NodeDatagramSocket":
        return NodeDatagramSocket(self._node.events, port)

    async def _connect(self, address: Address, seconds: float | None) -> "NodeSocket":
        async with asyncio.timeout(seconds):
            place = Endpoint((await self._node.names.hosts(address[0]))[0], address[1])
            number, local = await begin(self._node.events, place)
        made = NodeSocket(self._node.events, number, local, place, self._node.whois(place.host))
        made.settimeout(seconds)
        return made

    async def _listen(self, port: int, backlog: int) -> "NodeListener":
        return NodeListener(self._node.events, self._node.whois, port, backlog)

    def _do(self, work: Coroutine[Any, Any, R]) -> R:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Waiting:
    """What a thread waits for, and the node's thread tells."""

    def __init__(self, events: Events, number: int) -> None:
        self._events = events
        self._stack = events.stack
        self._number = number
        self._changed = threading.Condition()
        self._happened = 0
        self._timeout: float | None = None
        self._gone = False
        events.subscribe(number, self._handle)

    def settimeout(self, seconds: float | None) -> None:
        """As socket.settimeout."""
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        """As socket.gettimeout."""
        return self._timeout

    def _handle(self, what: int) -> None:
        with self._changed:
            self._happened |= what
            self._gone = self._gone or bool(what & CLOSED)
            self._changed.notify_all()

    def _until(self, what: int, work: Callable[[], R | None]) -> R:
        """What work returns once it is not None; tried again whenever something happened."""
        until = None if self._timeout is None else CLOCK.now() + int(self._timeout * SECOND)
        with self._changed:
            while True:
                if self._gone:
                    raise OSError("the node, or this socket, is closed")
                self._happened &= ~what
                result = work()
                if result is not None:
                    return result
                left = None if until is None else (until - CLOCK.now()) / SECOND
                if not self._changed.wait_for(
                    lambda: self._gone or bool(self._happened & (what | ENDED)), left
                ):
                    raise TimeoutError("timed out")

    def _forget(self) -> bool:
        """Close towards the node's thread; whether that was the first time."""
        with self._changed:
            first, self._gone = not self._gone, True
            self._changed.notify_all()
        if first:
            self._events.loop.call_soon_threadsafe(self._events.forget, self._number)
        return first


class NodeSocket(_Waiting):
    """A connection with the methods of socket.socket, for one thread that reads and one that
    writes; it has no descriptor."""

    def __init__(
        self, events: Events, number: int, local: Endpoint, remote: Endpoint, fqdn: str | None
    ) -> None:
        """Made by BlockingNode and NodeListener, in the node's thread."""
        super().__init__(events, number)
        self._local, self._remote = local, remote
        self.fqdn = fqdn
        """The peer's authenticated name."""

    def recv(self, bufsize: int) -> bytes:
        """As socket.recv: b"" at the end; TimeoutError, ConnectionResetError."""
        return self._until(READABLE, lambda: self._stack.receive(self._number, bufsize))

    def recv_into(self, buffer: bytearray | memoryview, nbytes: int = 0) -> int:
        """As socket.recv_into."""
        view = memoryview(buffer).cast("B")
        data = self.recv(nbytes or len(view))
        view[: len(data)] = data
        return len(data)

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """As socket.send: how many bytes were taken."""
        piece = bytes(data)

        def work() -> int | None:
            return self._stack.send(self._number, piece) or None if piece else 0

        return self._until(WRITABLE, work)

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """As socket.sendall."""
        left = memoryview(data).cast("B")
        while left:
            left = left[self.send(left[: 1 << 20]) :]

    def shutdown(self, how: int = socket.SHUT_WR) -> None:
        """As socket.shutdown; only the sending half can be shut alone."""
        if how != socket.SHUT_RD:
            self._stack.shutdown(self._number)

    def makefile(self, mode: str = "r", buffering: int = -1) -> io.BufferedRWPair:
        """As socket.makefile for "rb", "wb" and "rwb"."""
        if "b" not in mode:
            raise ValueError('only binary modes: "rb", "wb", "rwb"')
        raw = _Raw(self)
        size = io.DEFAULT_BUFFER_SIZE if buffering < 1 else buffering
        return io.BufferedRWPair(raw, raw, size)

    def start_tls(self, context: ssl.SSLContext, server_hostname: str | None) -> SecureSocket:
        """Shake hands as a client and return what replaces this; raises ssl.SSLError, OSError."""
        return SecureSocket(self, context, server_hostname)

    def getpeername(self) -> Address:
        """The peer's virtual address and port."""
        return str(self._remote.host), self._remote.port

    def getsockname(self) -> Address:
        """This node's virtual address and the port."""
        return str(self._local.host), self._local.port

    def close(self) -> None:
        """What was sent still arrives."""
        if self._forget():
            self._stack.leave(self._number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class NodeListener(_Waiting):
    """A port on which peers connect."""

    def __init__(
        self, events: Events, owner: Callable[[Host], str | None], port: int, backlog: int
    ) -> None:
        """Made by BlockingNode, in the node's thread; raises OSError (EADDRINUSE)."""
        number, self.port = events.stack.listen(port, backlog)
        self._owner = owner
        self._accepted: deque[NodeSocket] = deque()
        super().__init__(events, number)

    def accept(self) -> tuple[NodeSocket, Address]:
        """As socket.accept."""
        made = self._until(READABLE, lambda: self._accepted.popleft() if self._accepted else None)
        return made, made.getpeername()

    def close(self) -> None:
        """Gives the port back."""
        if self._forget():
            self._stack.close_listener(self._number)

    def _handle(self, what: int) -> None:
        # Here, in the node's thread: the new socket must hear of its events from the first.
        while not self._gone and (accepted := self._stack.accept(self._number)) is not None:
            number, local, remote = accepted
            here, peer = Endpoint.of(*local), Endpoint.of(*remote)
            name = self._owner(peer.host)
            self._accepted.append(NodeSocket(self._events, number, here, peer, name))
        super()._handle(what)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class NodeDatagramSocket(_Waiting):
    """A UDP port with the methods of socket.socket; addresses are virtual, of both families."""

    def __init__(self, events: Events, port: int) -> None:
        """Made by BlockingNode, in the node's thread; raises OSError (EADDRINUSE)."""
        number, self.port = events.stack.bind(port)
        super().__init__(events, number)

    def sendto(self, data: bytes | bytearray | memoryview, address: Address) -> int:
        """As socket.sendto; `BlockingNode.resolve` makes an address of a name."""
        there = Endpoint(ip_address(address[0]), address[1])
        self._stack.send_to(self._number, there.host.packed, there.port, bytes(data))
        return len(data)

    def recvfrom(self, bufsize: int) -> tuple[bytes, Address]:
        """As socket.recvfrom; raises TimeoutError, and what became of an earlier sendto."""
        source, payload = self._until(READABLE, lambda: self._stack.receive_from(self._number))
        there = Endpoint.of(*source)
        return payload[:bufsize], (str(there.host), there.port)

    def close(self) -> None:
        """Gives the port back."""
        if self._forget():
            self._stack.unbind(self._number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Raw(io.RawIOBase):
    """A NodeSocket as io sees it."""

    def __init__(self, connection: NodeSocket) -> None:
        super().__init__()
        self._connection = connection

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        return self._connection.recv_into(buffer)

    def write(self, data: Any) -> int:  # noqa: ANN401
        return self._connection.send(data)
