"""Asks the ordinary resolvers, byte for byte what the application asked.

UDP is tried on each server in turn, a second apart, and earlier servers may still answer; the
application's own resolver gives up after five seconds, so does this.
"""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from ntmobile.agent.dns_stub_messages import question_of
from ntmobile.runtime.protection import Protect, unprotected
from ntmobile.runtime.socket_address import socket_address
from ntmobile.wire.endpoint import Endpoint

INTERVAL_S = 1.0
TRIES = 4
TCP_TIMEOUT_S = 5.0
_RCODE_SERVFAIL, _RCODE_REFUSED = 2, 5
_TRUNCATED = 0x02


class Upstream:
    """Sends queries that the redirect lets pass, because their sockets are protected."""

    def __init__(self, protect: Protect = unprotected) -> None:
        """Protect is given every socket."""
        self._protect = protect

    async def ask(self, query: bytes, servers: Sequence[Endpoint]) -> bytes | None:
        """Returns the first good answer over UDP, else a failure that a server reported.

        None when nobody answered; the answer may be truncated.
        """
        exchange = _Exchange(query)
        failure: bytes | None = None
        waiting = list(servers)
        try:
            for attempt in range(TRIES):
                if not waiting:
                    break
                await self._send(exchange, waiting[attempt % len(waiting)])
                outcome = await exchange.outcome(INTERVAL_S)
                if outcome is None:
                    continue
                if outcome.answer is not None and not _failed(outcome.answer):
                    return outcome.answer
                failure = outcome.answer or failure
                waiting = [server for server in waiting if server != outcome.server]
        finally:
            exchange.close()
        return failure

    async def ask_tcp(self, query: bytes, servers: Sequence[Endpoint]) -> bytes | None:
        """Returns the answer of the first server that can be talked to over TCP."""
        for server in servers:
            try:
                async with asyncio.timeout(TCP_TIMEOUT_S):
                    return await self._ask_one_tcp(query, server)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                continue
        return None

    async def ask_whole(self, query: bytes, servers: Sequence[Endpoint]) -> bytes | None:
        """Like ask, and asks again over TCP when the answer was truncated."""
        answer = await self.ask(query, servers)
        if answer is not None and answer[2] & _TRUNCATED:
            return await self.ask_tcp(query, servers) or answer
        return answer

    async def _send(self, exchange: "_Exchange", server: Endpoint) -> None:
        try:
            channel = self._socket(server, socket.SOCK_DGRAM)
        except OSError:
            exchange.handle_failure(server)
            return
        try:
            channel.connect(socket_address(server))
        except OSError:
            channel.close()
            exchange.handle_failure(server)
            return
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: _Channel(exchange, server), sock=channel)

    async def _ask_one_tcp(self, query: bytes, server: Endpoint) -> bytes:
        channel = self._socket(server, socket.SOCK_STREAM)
        with closing(channel):
            await asyncio.get_running_loop().sock_connect(channel, socket_address(server))
            reader, writer = await asyncio.open_connection(sock=channel)
            try:
                writer.write(len(query).to_bytes(2) + query)
                return await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            finally:
                # Nothing of it may outlive its socket, not even an unsent query.
                writer.transport.abort()

    def _socket(self, server: Endpoint, kind: socket.SocketKind) -> socket.socket:
        family = socket.AF_INET if server.version == 4 else socket.AF_INET6
        made = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        try:
            self._protect(made.fileno())
        except OSError:
            made.close()
            raise
        return made


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of asking a server: its answer, or None when it cannot be reached."""

    server: Endpoint
    answer: bytes | None


class _Exchange:
    """One query and the sockets on which its answer may come."""

    def __init__(self, query: bytes) -> None:
        self.query = query
        self._question = (question_of(query) or b"").lower()
        self._outcomes: asyncio.Queue[_Outcome] = asyncio.Queue()
        self._channels: list[asyncio.DatagramTransport] = []

    def add(self, channel: asyncio.DatagramTransport) -> None:
        self._channels.append(channel)

    def handle_answer(self, server: Endpoint, data: bytes) -> None:
        """Drops what is no answer to this query: a guess, or one that came late."""
        answers = len(data) >= 12 and data[:2] == self.query[:2] and data[2] & 0x80
        if answers and (question_of(data) or b"").lower() in (self._question, b""):
            self._outcomes.put_nowait(_Outcome(server, data))

    def handle_failure(self, server: Endpoint) -> None:
        self._outcomes.put_nowait(_Outcome(server, None))

    async def outcome(self, timeout_s: float) -> _Outcome | None:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._outcomes.get()
        except TimeoutError:
            return None

    def close(self) -> None:
        for channel in self._channels:
            channel.close()


class _Channel(asyncio.DatagramProtocol):
    def __init__(self, exchange: _Exchange, server: Endpoint) -> None:
        self._exchange = exchange
        self._server = server

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._exchange.add(transport)
        transport.sendto(self._exchange.query)

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._exchange.handle_answer(self._server, data)

    def error_received(self, exc: Exception) -> None:
        self._exchange.handle_failure(self._server)


def _failed(answer: bytes) -> bool:
    return answer[3] & 0x0F in (_RCODE_SERVFAIL, _RCODE_REFUSED)
