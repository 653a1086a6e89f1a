"""HTTPS server: an ASGI application on several ports, bounded against strangers.

uvicorn's protocol runs on listeners of our own, because its own server takes over the process's
signals, polls, and bounds neither silent connections nor those of one source.
"""

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h11
import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from ntmobile.runtime.websocket_server import Doors
from ntmobile.wire.endpoint import Endpoint

log = structlog.get_logger()

MAX_CONNECTIONS = 2000
MAX_PER_SOURCE = 200
"""Many nodes share one address behind a carrier's NAT."""
HANDSHAKE_S = 5.0
FIRST_REQUEST_S = 10.0
IDLE_S = 15
BACKLOG = 1024
TURNS = 4
"""Of the event loop, from accepting a connection to the first step of its handshake."""
STOP_S = 1.0
HEADER_LIMIT = 16 * 1024


class Listener:
    """Serves one application over TLS; counters: refused (too many), silent (asked nothing)."""

    def __init__(
        self, application: ASGIApp, certificate: Path, key: Path, doors: Doors | None = None
    ) -> None:
        """Certificate (with its chain) and key are PEM files; raises OSError or ssl.SSLError.

        Doors take over the connections that become WebSockets.
        """
        self.doors = Doors() if doors is None else doors
        self._files = (certificate, key)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.set_alpn_protocols(["http/1.1"])
        self._config = uvicorn.Config(
            application,
            http=H11Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_S,
            h11_max_incomplete_event_size=HEADER_LIMIT,
        )
        self._config.load()
        self._state = ServerState()
        self._servers: list[asyncio.Server] = []
        self._sources: Counter[str] = Counter()
        self.counters: Counter[str] = Counter()
        # What strangers send wrong is counted here and not worth a line of log each.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self.reload()

    def reload(self) -> None:
        """Reads the certificate again, for connections from now on."""
        self._context.load_cert_chain(*self._files)

    async def listen(self, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
        """Opens TCP ports and return them (port 0 becomes a free one); raises OSError."""
        opened = [await self._listen(endpoint) for endpoint in endpoints]
        return tuple(opened)

    async def close(self) -> None:
        """Stops listening, lets answers under way finish for a second, then cuts."""
        await self._accept_no_more()
        for server in self._servers:
            server.close()
        self.doors.close()
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=STOP_S)
        for connection in list(self._state.connections):
            transport: Any = connection.transport
            transport.abort()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    async def _accept_no_more(self) -> None:
        # A server that is closed between accepting a connection and the first step of its TLS
        # leaves that connection open for ever.
        loop = asyncio.get_running_loop()
        for server in self._servers:
            for listening in server.sockets:
                loop.remove_reader(listening.fileno())
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def _listen(self, endpoint: Endpoint) -> Endpoint:
        server = await asyncio.get_running_loop().create_server(
            lambda: _Bounded(self._config, self._state, self._sources, self.counters, self.doors),
            sock=listening_socket(endpoint),
            ssl=self._context,
            ssl_handshake_timeout=HANDSHAKE_S,
            ssl_shutdown_timeout=STOP_S,
            backlog=BACKLOG,
        )
        self._servers.append(server)
        return Endpoint(endpoint.host, server.sockets[0].getsockname()[1])


def listening_socket(endpoint: Endpoint) -> socket.socket:
    """Return a bound TCP socket; an IPv6 one takes no IPv4. Raises OSError."""
    family = socket.AF_INET6 if endpoint.version == 6 else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if endpoint.version == 6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((str(endpoint.host), endpoint.port))
    except OSError:
        listening.close()
        raise
    return listening


class _Bounded(H11Protocol):
    """uvicorn's HTTP/1.1, that cuts connections over a bound and those that ask nothing."""

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServerState,
        sources: Counter[str],
        counters: Counter[str],
        doors: Doors,
    ) -> None:
        super().__init__(config, state, {})
        self._doors = doors
        self._sources = sources
        self._counters = counters
        self._source = ""
        self._silence: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._source = self.client[0] if self.client else ""
        self._sources[self._source] += 1
        crowded = self._sources[self._source] > MAX_PER_SOURCE
        if crowded or len(self.connections) > MAX_CONNECTIONS:
            self._counters["refused"] += 1
            transport.abort()
            return
        self._silence = self.loop.call_later(FIRST_REQUEST_S, self._cut_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._leave()

    def _should_upgrade(self) -> bool:
        return self._get_upgrade() == b"websocket" and self._doors.leads(self.scope["path"])

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """The connection is the doors' from now, if they take it."""
        lines = [event.method + b" " + event.target + b" HTTP/1.1", *_lines(event.headers)]
        request = b"\r\n".join([*lines, b"", b""])
        self.connections.discard(self)
        if self._doors.enter(self.scope["path"], self._source, request, self.transport):
            self._leave()
        else:
            self.transport.close()

    def _leave(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self._sources[self._source] -= 1
        if self._sources[self._source] <= 0:
            del self._sources[self._source]

    def _cut_silent(self) -> None:
        if self.cycle is None:
            self._counters["silent"] += 1
            self.transport.abort()


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    return [name + b": " + value for name, value in headers]
