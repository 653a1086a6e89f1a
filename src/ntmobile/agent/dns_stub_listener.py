"""The stub's sockets: UDP and TCP of one port on loopback addresses, bounded."""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from ntmobile.agent.dns_hook_original import OriginalDestination
from ntmobile.runtime.tasks import Tasks
from ntmobile.wire.endpoint import Endpoint

MOST_QUERIES = 1024
"""At once; more are dropped, and resolvers repeat themselves."""
MOST_CONNECTIONS = 128
IDLE_S = 10.0
_SHORTEST_QUERY = 12
_PORT_TRIES = 16


@dataclass(frozen=True, slots=True)
class Query:
    """A query as it came, and the server it was meant for when a redirect brought it."""

    wire: bytes
    tcp: bool
    original: Endpoint | None


Respond = Callable[[Query], Awaitable[bytes | None]]


class Listener:
    """Hands each query to `respond` once, however often it is repeated meanwhile."""

    def __init__(self, respond: Respond, tasks: Tasks, counters: Counter[str]) -> None:
        """Counts repeated, dropped (queries) and refused (connections)."""
        self._respond = respond
        self._tasks = tasks
        self._counters = counters
        self._running: set[tuple[Endpoint, bytes]] = set()
        self._transports: list[asyncio.DatagramTransport] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._connections = 0
        self._original: OriginalDestination | None = None
        self.endpoints: tuple[Endpoint, ...] = ()

    async def open(self, addresses: Sequence[str], port: int) -> None:
        """Opens every address that exists at one port, 0 for a free one; raises OSError."""
        pairs = _bind(addresses, port)
        self.endpoints = tuple(_endpoint(udp.getsockname()) for udp, _ in pairs)
        with suppress(OSError):
            self._original = OriginalDestination()
        loop = asyncio.get_running_loop()
        for (udp, tcp), endpoint in zip(pairs, self.endpoints, strict=True):
            transport, _ = await loop.create_datagram_endpoint(
                lambda endpoint=endpoint: Datagrams(self, endpoint),  # type: ignore[misc]
                sock=udp,
            )
            self._transports.append(transport)
            self._servers.append(await asyncio.start_server(self._accept, sock=tcp))

    def close(self) -> None:
        """Frees the sockets; queries under way end with the tasks."""
        for transport in self._transports:
            transport.close()
        for server in self._servers:
            server.close()
        if self._original is not None:
            self._original.close()
        self._transports, self._servers, self._original = [], [], None

    def handle_datagram(
        self, wire: bytes, client: Endpoint, here: Endpoint, transport: asyncio.DatagramTransport
    ) -> None:
        """Takes one datagram; what is too short for a DNS header is dropped."""
        if len(wire) < _SHORTEST_QUERY:
            self._counters["dropped"] += 1
            return
        key = (client, wire)
        if key in self._running:
            self._counters["repeated"] += 1
        elif len(self._running) >= MOST_QUERIES:
            self._counters["dropped"] += 1
        else:
            self._running.add(key)
            query = Query(wire, tcp=False, original=self._find(socket.IPPROTO_UDP, client, here))
            self._tasks.start(self._answer(key, query, transport), "answer a DNS query")

    def _find(self, protocol: int, client: Endpoint, here: Endpoint) -> Endpoint | None:
        if self._original is None:
            return None
        found = self._original.find(protocol, client, here)
        return None if found in self.endpoints else found

    async def _answer(
        self, key: tuple[Endpoint, bytes], query: Query, transport: asyncio.DatagramTransport
    ) -> None:
        try:
            answer = await self._respond(query)
        finally:
            self._running.discard(key)
        if answer is not None and not transport.is_closing():
            client = key[0]
            transport.sendto(answer, (str(client.host), client.port))

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= MOST_CONNECTIONS:
            self._counters["refused"] += 1
            writer.close()
        else:
            self._tasks.start(self._serve(reader, writer), "serve DNS over TCP")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            with suppress(TimeoutError, ConnectionError, asyncio.IncompleteReadError):
                await self._converse(reader, writer)
        finally:
            self._connections -= 1
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _endpoint(writer.get_extra_info("peername"))
        here = _endpoint(writer.get_extra_info("sockname"))
        original = self._find(socket.IPPROTO_TCP, client, here)
        while True:
            async with asyncio.timeout(IDLE_S):
                wire = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            if len(wire) < _SHORTEST_QUERY:
                return
            answer = await self._respond(Query(wire, tcp=True, original=original))
            if answer is None:
                return
            writer.write(len(answer).to_bytes(2) + answer)
            await writer.drain()


class Datagrams(asyncio.DatagramProtocol):
    """Hands a transport's datagrams to a listener."""

    def __init__(self, listener: Listener, here: Endpoint) -> None:
        """Here is where the datagrams come to."""
        self._listener = listener
        self._here = here
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        """Takes the transport, by which the answers go."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Takes a query."""
        assert self._transport is not None
        self._listener.handle_datagram(data, _endpoint(addr), self._here, self._transport)


def _endpoint(name: tuple[Any, ...]) -> Endpoint:
    return Endpoint(ip_address(name[0]), name[1])


def _bind(addresses: Sequence[str], port: int) -> list[tuple[socket.socket, socket.socket]]:
    """Binds UDP and TCP of each address to one port; an address that is missing is left out."""
    for _ in range(_PORT_TRIES - 1):
        try:
            return _bind_at(addresses, port)
        except OSError as error:
            # A free port of one address may be taken on the next: draw again.
            if port or error.errno != errno.EADDRINUSE:
                raise
    return _bind_at(addresses, port)


def _bind_at(addresses: Sequence[str], port: int) -> list[tuple[socket.socket, socket.socket]]:
    made: list[socket.socket] = []
    pairs: list[tuple[socket.socket, socket.socket]] = []
    try:
        for address in addresses:
            with suppress(_Missing):
                made.append(_bound(address, port, socket.SOCK_DGRAM))
                port = made[-1].getsockname()[1]
                made.append(_bound(address, port, socket.SOCK_STREAM))
                pairs.append((made[-2], made[-1]))
        if not pairs:
            raise OSError(errno.EADDRNOTAVAIL, f"none of {', '.join(addresses)} is here")
    except OSError:
        for each in made:
            each.close()
        raise
    return pairs


class _Missing(Exception):
    """The address, or its whole family, does not exist on this machine."""


def _bound(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        made = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    except OSError:
        raise _Missing from None
    try:
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise _Missing from None
        raise
    return made
