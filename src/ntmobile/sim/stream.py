"""Connections that carry bytes in order, as TCP does, over the simulated networks.

Every write is one segment, numbered, acknowledged, and sent again until it is; a connection breaks
when a segment stays unacknowledged, when the other side does not know it (a reset), or when it is
closed. NATs, firewalls, losses and cuts apply to each segment. An idle connection sends nothing.

Segment (14 bytes, big-endian), then the data::

    connection  8   chosen by the client
    kind        1   see Kind
    number      4   of this side's segment, from 1; of an ACK: all up to this one arrived
    spare       1
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from ntmobile.sim.calendar import Calendar, Entry
from ntmobile.sim.host import SimHost
from ntmobile.sim.packet import Transport
from ntmobile.sim.quality import MILLISECOND
from ntmobile.time import SECOND
from ntmobile.wire.endpoint import Endpoint

FIRST_RETRY_NS = 200 * MILLISECOND
LONGEST_RETRY_NS = 2 * SECOND
GIVE_UP_NS = 15 * SECOND
FIRST_STREAM_PORT = 20_000
_SEGMENT = struct.Struct("!QBIx")


class Kind(IntEnum):
    """What a segment is."""

    OPEN = 1
    DATA = 2
    ACK = 3
    RESET = 4


@dataclass(slots=True)
class _Unacknowledged:
    segment: bytes
    since: int
    wait_ns: int = FIRST_RETRY_NS
    retry: Entry | None = None


@dataclass(slots=True)
class _Connection:
    number: int
    """As this end's user knows it."""
    identifier: int
    remote: Endpoint
    port: int
    """Of this end."""
    open: bool = False
    sent: int = 0
    received: int = 0
    early: dict[int, bytes] = field(default_factory=dict)
    waiting: dict[int, _Unacknowledged] = field(default_factory=dict)


@dataclass(frozen=True)
class StreamUser:
    """Who is told what happens to connections, by the number this end gave them."""

    opened: Callable[[int, Endpoint], None]
    received: Callable[[int, bytes], None]
    closed: Callable[[int], None]


class Streams:
    """All connections of one program. `segments` counts what this end sent."""

    def __init__(
        self, host: SimHost, calendar: Calendar, user: StreamUser, listen: int | None = None
    ) -> None:
        """Accepts connections on port listen; without, it only connects."""
        self._host = host
        self._calendar = calendar
        self._user = user
        self._listen = listen
        self._by_number: dict[int, _Connection] = {}
        self._by_identifier: dict[int, _Connection] = {}
        self._accepted = 0
        self.segments = 0
        if listen is not None:
            host.listen(Transport.TCP, listen, lambda *got: self._receive(listen, *got))

    def connect(self, number: int, to: Endpoint, identifier: int) -> None:
        """Open a connection from a port of its own; identifier is random."""
        port = self._host.free_port(Transport.TCP, FIRST_STREAM_PORT + identifier % 20_000)
        self._host.listen(Transport.TCP, port, lambda *got: self._receive(port, *got))
        connection = _Connection(number, identifier, to, port)
        self._by_number[number] = self._by_identifier[identifier] = connection
        self._send(connection, Kind.OPEN, b"")

    def write(self, number: int, data: bytes) -> None:
        """Send bytes; on a connection that is gone they vanish."""
        if (connection := self._by_number.get(number)) is not None:
            self._send(connection, Kind.DATA, data)

    def end(self, number: int) -> None:
        """Close a connection; the user hears no more of it."""
        connection = self._by_number.get(number)
        if connection is not None:
            self._emit(connection.port, connection.remote, connection.identifier, Kind.RESET, 0)
            self._forget(connection)

    def close(self, *, silently: bool = True) -> None:
        """The program ends: silently as a host that lost power, or as one whose kernel resets."""
        for connection in list(self._by_number.values()):
            if silently:
                self._forget(connection)
            else:
                self.end(connection.number)
        if self._listen is not None:
            self._host.close(Transport.TCP, self._listen)

    def _send(self, connection: _Connection, kind: Kind, data: bytes) -> None:
        connection.sent += 1
        segment = _SEGMENT.pack(connection.identifier, kind, connection.sent) + data
        waiting = _Unacknowledged(segment, self._calendar.now)
        connection.waiting[connection.sent] = waiting
        self._try(connection, waiting)

    def _try(self, connection: _Connection, waiting: _Unacknowledged) -> None:
        if self._calendar.now - waiting.since >= GIVE_UP_NS:
            return self._break(connection)
        self.segments += 1
        self._host.send(Transport.TCP, connection.port, connection.remote, waiting.segment)
        waiting.retry = self._calendar.after(
            waiting.wait_ns, lambda: self._try(connection, waiting)
        )
        waiting.wait_ns = min(2 * waiting.wait_ns, LONGEST_RETRY_NS)
        return None

    def _receive(self, port: int, source: Endpoint, data: bytes, _interface: int) -> None:
        if len(data) < _SEGMENT.size:
            return
        identifier, kind, number = _SEGMENT.unpack_from(data)
        connection = self._by_identifier.get(identifier)
        if connection is None and kind == Kind.OPEN and port == self._listen:
            connection = self._accept(identifier, source)
        if connection is None:
            if kind != Kind.RESET:
                self._emit(port, source, identifier, Kind.RESET, 0)
            return
        match kind:
            case Kind.RESET:
                self._break(connection)
            case Kind.ACK:
                self._acknowledge(connection, number)
            case Kind.OPEN | Kind.DATA:
                self._take(connection, kind, number, data[_SEGMENT.size :])
            case _:
                pass

    def _accept(self, identifier: int, source: Endpoint) -> _Connection:
        assert self._listen is not None
        self._accepted += 1
        connection = _Connection(self._accepted, identifier, source, self._listen, open=True)
        self._by_number[connection.number] = self._by_identifier[identifier] = connection
        return connection

    def _take(self, connection: _Connection, kind: int, number: int, data: bytes) -> None:
        if number > connection.received:
            connection.early[number] = data
        arrived: list[bytes] = []
        while connection.received + 1 in connection.early:
            connection.received += 1
            arrived.append(connection.early.pop(connection.received))
        self._emit(
            connection.port, connection.remote, connection.identifier, Kind.ACK, connection.received
        )
        for each in arrived:
            if kind == Kind.OPEN:
                self._user.opened(connection.number, connection.remote)
            else:
                self._user.received(connection.number, each)

    def _acknowledge(self, connection: _Connection, number: int) -> None:
        for acknowledged in [sent for sent in connection.waiting if sent <= number]:
            retry = connection.waiting.pop(acknowledged).retry
            if retry is not None:
                retry.cancel()
        if not connection.open:
            connection.open = True
            self._user.opened(connection.number, connection.remote)

    def _break(self, connection: _Connection) -> None:
        if connection.number in self._by_number:
            self._forget(connection)
            self._user.closed(connection.number)

    def _forget(self, connection: _Connection) -> None:
        self._by_number.pop(connection.number, None)
        self._by_identifier.pop(connection.identifier, None)
        for waiting in connection.waiting.values():
            if waiting.retry is not None:
                waiting.retry.cancel()
        if connection.port != self._listen:
            self._host.close(Transport.TCP, connection.port)

    def _emit(self, port: int, to: Endpoint, identifier: int, kind: Kind, number: int) -> None:
        self.segments += 1
        self._host.send(Transport.TCP, port, to, _SEGMENT.pack(identifier, kind, number))
