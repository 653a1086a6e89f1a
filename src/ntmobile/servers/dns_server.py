"""The zone's DNS server on UDP and TCP."""

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv4Address, ip_address

import structlog

from ntmobile.proto.rate import RateLimit, Verdict
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.listener import listening_socket
from ntmobile.runtime.tasks import Tasks
from ntmobile.servers.dns import Responder
from ntmobile.wire.endpoint import Endpoint, Host

log = structlog.get_logger()

MAX_STREAMS = 500
MAX_STREAMS_A_SOURCE = 20
STREAM_IDLE_S = 10.0
MAX_QUESTIONS = 100
"""Of one TCP connection."""
MAX_QUERY = 4096
RECEIVE_BUFFER = 1 << 20
COOKIE_OPTION = bytes((0, 10, 0, 24))
"""The head of a COOKIE option that carries a server cookie of our length."""
_LENGTH = struct.Struct("!H")


class DnsServer:
    """Serves one Responder; counters add up what became of the questions."""

    def __init__(self, responder: Responder, clock: Clock, tasks: Tasks) -> None:
        """Opens nothing yet."""
        self.responder = responder
        self._clock = clock
        self._tasks = tasks
        self._rate = RateLimit()
        self._endings: list[asyncio.BaseTransport | asyncio.Server] = []
        self._streams: Counter[str] = Counter()
        self.counters: Counter[str] = Counter()

    async def listen(self, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
        """Opens UDP and TCP on each and return them (port 0 becomes a free one).

        Raises OSError.
        """
        return tuple([await self._listen(endpoint) for endpoint in endpoints])

    def close(self) -> None:
        """Stops answering."""
        for ending in self._endings:
            ending.close()
        self._endings.clear()

    def answer_datagram(self, data: bytes, source: Host) -> bytes | None:
        """The answer to a datagram, unless it is to be dropped."""
        has_cookie = COOKIE_OPTION in data
        if not has_cookie and (verdict := self._judge(source)) is not Verdict.SEND:
            # Judged before it is parsed: a flood costs little.
            return self._limited(data, verdict)
        now_s = int(self._clock.wall())
        answered = self.responder.respond(data, str(source), now_s, stream=False)
        if answered is None:
            return None
        if not has_cookie or answered.proven:
            return answered.wire
        verdict = self._judge(source)
        return answered.wire if verdict is Verdict.SEND else self._limited(data, verdict)

    def _judge(self, source: Host) -> Verdict:
        verdict = self._rate.judge(source, self._clock.now())
        self.counters[verdict.value] += 1
        return verdict

    def _limited(self, data: bytes, verdict: Verdict) -> bytes | None:
        return self.responder.truncated(data) if verdict is Verdict.TRUNCATE else None

    async def _listen(self, endpoint: Endpoint) -> Endpoint:
        loop = asyncio.get_running_loop()
        stream = listening_socket(endpoint)
        number = stream.getsockname()[1]
        server = await asyncio.start_server(self._take, sock=stream, limit=MAX_QUERY)
        self._endings.append(server)
        datagrams = _datagram_socket(Endpoint(endpoint.host, number))
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=datagrams)
        self._endings.append(transport)
        return Endpoint(endpoint.host, number)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.start(self._accept(reader, writer), "DNS over TCP")

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        source = str(peer[0]) if peer else ""
        self._streams[source] += 1
        try:
            crowded = self._streams[source] > MAX_STREAMS_A_SOURCE
            if crowded or self._streams.total() > MAX_STREAMS:
                self.counters["streams refused"] += 1
                return
            await self._serve(reader, writer, source)
        except (OSError, EOFError, TimeoutError):
            # It went away, or said nothing for too long.
            pass
        finally:
            self._streams[source] -= 1
            self._streams += Counter()
            writer.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: str
    ) -> None:
        for _ in range(MAX_QUESTIONS):
            async with asyncio.timeout(STREAM_IDLE_S):
                [size] = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                if size > MAX_QUERY:
                    return
                data = await reader.readexactly(size)
                now_s = int(self._clock.wall())
                answered = self.responder.respond(data, source, now_s, stream=True)
                if answered is None:
                    return
                writer.write(_LENGTH.pack(len(answered.wire)) + answered.wire)
                await writer.drain()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        source = ip_address(addr[0].partition("%")[0])
        answer = self._server.answer_datagram(data, source)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)

    def error_received(self, exc: Exception) -> None:
        # An ICMP error about an answer; the asker's trouble.
        self._server.counters["unreachable"] += 1


def _datagram_socket(endpoint: Endpoint) -> socket.socket:
    family = socket.AF_INET if isinstance(endpoint.host, IPv4Address) else socket.AF_INET6
    opened = socket.socket(family, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        if endpoint.version == 6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        opened.bind((str(endpoint.host), endpoint.port))
    except OSError:
        opened.close()
        raise
    return opened
