"""TCP connections that a machine asks for, over asyncio: few, so that each may have a transport."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from ntmobile.runtime.protection import Protect, unprotected
from ntmobile.runtime.socket_address import socket_address
from ntmobile.wire.endpoint import Endpoint

CONNECT_S = 10.0
USER_TIMEOUT_MS = 10_000
"""What was written and is not acknowledged for that long breaks the connection (RFC 5482)."""


class Connector:
    """Opens connections by the numbers that its user gives them.

    Never bound to a local address: the system picks the uplink, as for the node's UDP socket.
    """

    def __init__(
        self,
        opened: Callable[[int, Endpoint], None],
        received: Callable[[int, bytes], None],
        closed: Callable[[int], None],
        start: Callable[[Coroutine[Any, Any, None], str], object],
        *,
        protect: Protect = unprotected,
    ) -> None:
        """Start runs a task; protect is given each socket."""
        self._opened = opened
        self._received = received
        self._closed = closed
        self._start = start
        self._protect = protect
        self._wanted: set[int] = set()
        self._transports: dict[int, asyncio.Transport] = {}

    def open(self, stream: int, destination: Endpoint) -> None:
        """Connect; the user is told when it stands, or that it is closed."""
        self._wanted.add(stream)
        self._start(self._connect(stream, destination), "connection to NS")

    def write(self, stream: int, data: bytes) -> None:
        """Send bytes; on a connection that is gone they vanish."""
        if (transport := self._transports.get(stream)) is not None:
            transport.write(data)

    def end(self, stream: int) -> None:
        """Close a connection; its user hears no more of it."""
        self._wanted.discard(stream)
        if (transport := self._transports.pop(stream, None)) is not None:
            transport.abort()

    def close(self) -> None:
        """Close all; what is being opened is closed once it stands."""
        for stream in list(self._wanted):
            self.end(stream)

    async def _connect(self, stream: int, destination: Endpoint) -> None:
        connecting = _socket(destination, self._protect)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.sock_connect(connecting, socket_address(destination))
                if stream not in self._wanted:
                    connecting.close()
                    return
                await loop.create_connection(lambda: _Connection(self, stream), sock=connecting)
        except OSError:  # a TimeoutError is one
            connecting.close()
            self._lose(stream)
        except BaseException:
            connecting.close()
            raise
        else:
            if stream in self._transports:
                self._opened(stream, destination)

    def _take(self, stream: int, transport: asyncio.Transport) -> None:
        if stream in self._wanted:
            self._transports[stream] = transport
        else:
            transport.abort()

    def _hand_on(self, stream: int, data: bytes) -> None:
        if stream in self._wanted:
            self._received(stream, data)

    def _lose(self, stream: int) -> None:
        self._transports.pop(stream, None)
        if stream in self._wanted:
            self._wanted.discard(stream)
            self._closed(stream)


class _Connection(asyncio.Protocol):
    def __init__(self, connector: Connector, stream: int) -> None:
        self._connector = connector
        self._stream = stream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._connector._take(self._stream, transport)

    def data_received(self, data: bytes) -> None:
        self._connector._hand_on(self._stream, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connector._lose(self._stream)


def _socket(destination: Endpoint, protect: Protect) -> socket.socket:
    family = socket.AF_INET6 if destination.version == 6 else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        protect(made.fileno())
    except OSError:
        made.close()
        raise
    return made
