"""TCP connections that a machine asks for, over asyncio: few, so that each may have a transport.

They leave the network as all HTTPS of the node does: through NAT64, or an HTTP proxy's CONNECT.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from ntmobile.runtime.https import DIRECTLY, Place, Way, reach
from ntmobile.runtime.proxy import Proxy, ProxyError
from ntmobile.runtime.race import AllFailedError, race
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
        way: Way = DIRECTLY,
    ) -> None:
        """Start runs a task."""
        self._opened = opened
        self._received = received
        self._closed = closed
        self._start = start
        self._way = way
        self.trouble: str | None = None
        """What the HTTP proxy said to the last connection; None since one stood, or without one."""
        self._wanted: set[int] = set()
        self._transports: dict[int, asyncio.Transport] = {}

    def open(self, stream: int, destination: Endpoint, name: str = "") -> None:
        """Connect; the user is told when it stands, or that it is closed.

        name is the server's host name, by which an HTTP proxy is asked for it.
        """
        self._wanted.add(stream)
        place = Place(name or str(destination.host), (destination,))
        self._start(self._connect(stream, place), "connection to NS")

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

    async def _connect(self, stream: int, place: Place) -> None:
        loop = asyncio.get_running_loop()
        raw: socket.socket | None = None
        try:
            async with asyncio.timeout(CONNECT_S):
                raw = await self._reach(place)
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
                if stream not in self._wanted:
                    raw.close()
                    return
                await loop.create_connection(lambda: _Connection(self, stream), sock=raw)
        except (OSError, AllFailedError):  # a TimeoutError is an OSError
            _close(raw)
            self._lose(stream)
        except BaseException:
            _close(raw)
            raise
        else:
            if stream in self._transports:
                self.trouble = None
                self._opened(stream, place.endpoints[0])

    async def _reach(self, place: Place) -> socket.socket:
        attempts = self._way.attempts(place)
        return await race((partial(self._try, each, place) for each in attempts), _discard)

    async def _try(self, attempt: Endpoint | Proxy, place: Place) -> socket.socket:
        try:
            return await reach(attempt, place, self._way)
        except ProxyError as error:
            # At once: the addresses themselves may be tried for longer than the user waits.
            self.trouble = str(error)
            raise

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


async def _discard(raw: socket.socket) -> None:
    raw.close()


def _close(raw: socket.socket | None) -> None:
    if raw is not None:
        raw.close()
