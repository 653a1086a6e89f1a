"""Requests and answers over connections, as a counted number of one-way delays.

A connection is not modelled byte by byte: each flight is one frame, sent again when unanswered, so
that loss, NATs, firewalls and cuts apply as they do to datagrams. HTTPS on a new connection takes
six one-way delays (TCP two, TLS 1.3 two, request, answer), on a kept one two; DNS takes two.

Frame (18 bytes, big-endian), then the body::

    connection  8   chosen by the client
    call        8   chosen by the client
    flight      1   0 for the first; even ones are the client's; 255 refuses the connection
    flights     1   how many this exchange takes in all
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from ntmobile.sim.calendar import Calendar, Entry
from ntmobile.sim.entropy import SeededEntropy
from ntmobile.sim.host import SimHost
from ntmobile.sim.packet import Transport
from ntmobile.sim.quality import MILLISECOND
from ntmobile.time import SECOND
from ntmobile.wire.endpoint import Endpoint, Host

HTTPS = 4
"""Flights before the request may go on a new connection."""
DNS = 0
FIRST_RETRY_NS = 300 * MILLISECOND
LONGEST_RETRY_NS = SECOND
PATIENCE_NS = 15 * SECOND
FIRST_CLIENT_PORT = 50_000
_FRAME = struct.Struct("!QQBB")
_RESET = 255

Done = Callable[[bytes | None], None]
"""Called with the answer's body, or None when there is no answer."""
Answer = Callable[[bytes], None]
Serve = Callable[[bytes, Endpoint, Answer], None]


@dataclass(slots=True)
class _Pending:
    to: Endpoint
    connection: int
    call: int
    flight: int
    flights: int
    body: bytes
    done: Done
    give_up: Entry
    wait_ns: int = FIRST_RETRY_NS
    retry: Entry | None = None


class Client:
    """One program's client: keeps connections, and opens new ones after a change of address."""

    def __init__(
        self,
        host: SimHost,
        calendar: Calendar,
        entropy: SeededEntropy,
        *,
        transport: Transport = Transport.TCP,
        handshake: int = HTTPS,
    ) -> None:
        """Takes one free port of the host."""
        self._host = host
        self._calendar = calendar
        self._entropy = entropy
        self._transport = transport
        self._handshake = handshake
        self._port = host.free_port(transport, FIRST_CLIENT_PORT)
        self._kept: dict[tuple[Endpoint, Host | None], int] = {}
        self._pending: dict[int, _Pending] = {}
        host.listen(transport, self._port, self._receive)

    def ask(self, to: Endpoint, body: bytes, done: Done) -> None:
        """Send a request; done is called exactly once."""
        call = self._entropy.getrandbits(64)
        kept = self._kept.get(self._place(to))
        fresh = kept is None
        connection = self._entropy.getrandbits(64) if kept is None else kept
        flights = 2 + self._handshake * fresh
        give_up = self._calendar.after(PATIENCE_NS, lambda: self._finish(call, None))
        pending = _Pending(to, connection, call, 0, flights, body, done, give_up)
        self._pending[call] = pending
        self._send(pending)

    def close(self) -> None:
        """Drop everything without calling back, as a process that dies."""
        for pending in self._pending.values():
            pending.give_up.cancel()
            if pending.retry is not None:
                pending.retry.cancel()
        self._pending.clear()
        self._host.close(self._transport, self._port)

    def _place(self, to: Endpoint) -> tuple[Endpoint, Host | None]:
        source = self._host.source_for(to.version)
        return to, None if source is None else source[1]

    def _send(self, pending: _Pending) -> None:
        last = pending.flight == pending.flights - 2
        head = _FRAME.pack(pending.connection, pending.call, pending.flight, pending.flights)
        frame = head + (pending.body if last else b"")
        self._host.send(self._transport, self._port, pending.to, frame)
        pending.retry = self._calendar.after(pending.wait_ns, lambda: self._send(pending))
        pending.wait_ns = min(2 * pending.wait_ns, LONGEST_RETRY_NS)

    def _receive(self, source: Endpoint, data: bytes, _number: int) -> None:
        if len(data) < _FRAME.size:
            return
        _, call, flight, _ = _FRAME.unpack_from(data)
        pending = self._pending.get(call)
        if pending is None or source != pending.to:
            return
        if flight == _RESET:
            self._begin_anew(pending)
        elif flight == pending.flights - 1:
            self._kept[self._place(source)] = pending.connection
            self._finish(call, data[_FRAME.size :])
        elif flight == pending.flight + 1:
            self._advance(pending, flight + 1)

    def _advance(self, pending: _Pending, flight: int) -> None:
        if pending.retry is not None:
            pending.retry.cancel()
        pending.flight = flight
        pending.wait_ns = FIRST_RETRY_NS
        self._send(pending)

    def _begin_anew(self, pending: _Pending) -> None:
        self._kept.pop(self._place(pending.to), None)
        pending.connection = self._entropy.getrandbits(64)
        pending.flights = 2 + self._handshake
        self._advance(pending, 0)

    def _finish(self, call: int, body: bytes | None) -> None:
        pending = self._pending.pop(call)
        pending.give_up.cancel()
        if pending.retry is not None:
            pending.retry.cancel()
        if body is None:
            self._kept.pop(self._place(pending.to), None)
        pending.done(body)


class Service:
    """The other end: answers the requests that come to one port."""

    def __init__(
        self,
        host: SimHost,
        port: int,
        serve: Serve,
        *,
        transport: Transport = Transport.TCP,
        handshake: int = HTTPS,
    ) -> None:
        """Serve is called once a request, with its source and what takes the answer."""
        self._host = host
        self._port = port
        self._serve = serve
        self._transport = transport
        self._handshake = handshake
        self._connections: set[int] = set()
        self._answers: dict[int, bytes | None] = {}
        host.listen(transport, port, self._receive)

    def close(self) -> None:
        """Leave the port; connections are forgotten with it."""
        self._host.close(self._transport, self._port)

    def _receive(self, source: Endpoint, data: bytes, _number: int) -> None:
        if len(data) < _FRAME.size:
            return
        connection, call, flight, flights = _FRAME.unpack_from(data)
        if flights == 2 and self._handshake and connection not in self._connections:
            self._send(source, connection, call, _RESET, flights, b"")
        elif flight != flights - 2:
            self._send(source, connection, call, flight + 1, flights, b"")
        elif call not in self._answers:
            self._connections.add(connection)
            self._answers[call] = None
            self._serve(
                data[_FRAME.size :],
                source,
                lambda body: self._answer(source, connection, call, flights, body),
            )
        elif (kept := self._answers[call]) is not None:
            self._send(source, connection, call, flights - 1, flights, kept)

    def _answer(
        self, source: Endpoint, connection: int, call: int, flights: int, body: bytes
    ) -> None:
        self._answers[call] = body
        self._send(source, connection, call, flights - 1, flights, body)

    def _send(
        self, to: Endpoint, connection: int, call: int, flight: int, flights: int, body: bytes
    ) -> None:
        frame = _FRAME.pack(connection, call, flight, flights) + body
        self._host.send(self._transport, self._port, to, frame)
