"""One TCP connection as an asyncio transport."""

import asyncio
from collections.abc import Iterable

from ntmobile.sockets.errors import system_error
from ntmobile.sockets.events import CLOSED, ENDED, READABLE, WRITABLE, Events
from ntmobile.wire.endpoint import Endpoint

MOST_READ = 1 << 18
READS_AT_ONCE = 8
"""After so many the event loop gets a turn."""
HIGH_WATER = 1 << 16
Buffer = bytes | bytearray | memoryview


class Stream(asyncio.Transport):
    """A connection that stands; reads from the stack as fast as its protocol takes it.

    `get_extra_info` knows peername, sockname and fqdn, the authenticated name of the peer.
    """

    _start_tls_compatible = True
    """For loop.start_tls."""

    def __init__(
        self,
        events: Events,
        number: int,
        protocol: asyncio.BaseProtocol,
        *,
        local: Endpoint,
        remote: Endpoint,
        fqdn: str | None,
    ) -> None:
        """Belongs to whoever made it; the protocol hears of it at once."""
        places = {"sockname": local, "peername": remote}
        # Two parts of either family: some libraries know no other form.
        names = {name: (str(each.host), each.port) for name, each in places.items()}
        super().__init__({**names, "fqdn": fqdn})
        self._events = events
        self._stack = events.stack
        self._number = number
        self._unsent = bytearray()
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._reading = True
        self._readable = True
        self._protocol_paused = False
        self._closing = False
        self._lost = False
        self._eof_written = False
        self._eof_read = False
        self._ended = False
        self.set_protocol(protocol)
        events.subscribe(number, self._handle)

    def begin(self) -> None:
        """Tell the protocol, and read what came already."""
        self._protocol.connection_made(self)
        self._events.loop.call_soon(self._read)

    # What every transport has.

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Replaces the protocol."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Returns the protocol."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether it is closed, or will be once all is written."""
        return self._closing

    def close(self) -> None:
        """Writes what waits, then ends the connection in peace."""
        if self._closing:
            return
        self._closing = True
        self._reading = False
        if not self._unsent:
            self._lose(None)

    def abort(self) -> None:
        """Breaks off at once."""
        if not self._lost:
            self._stack.abort(self._number)
            self._lose(None)

    def _force_close(self, error: Exception | None) -> None:
        """What asyncio's TLS calls when it fails."""
        self.abort()

    # Reading.

    def is_reading(self) -> bool:
        """Whether the protocol gets what arrives."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """What arrives stays in the stack; when that is full, the peer waits."""
        self._reading = False

    def resume_reading(self) -> None:
        """The protocol gets what arrives again."""
        if not self._closing and not self._reading:
            self._reading = True
            self._events.loop.call_soon(self._read)

    def _read(self) -> None:
        for _ in range(READS_AT_ONCE):
            if not self._readable or not self.is_reading() or self._eof_read:
                return
            self._read_once()
        self._events.loop.call_soon(self._read)

    def _read_once(self) -> None:
        try:
            data = self._stack.receive(self._number, MOST_READ)
        except OSError as error:
            self._readable = False
            return self._lose(error)
        if data is None:
            self._readable = False
            self._settle_end()
        elif data:
            self._give(data)
        else:
            self._eof_read = True
            self._give_eof()

    def _give(self, data: bytes) -> None:
        protocol = self._protocol
        if not isinstance(protocol, asyncio.BufferedProtocol):
            assert isinstance(protocol, asyncio.Protocol)
            protocol.data_received(data)
            return
        left = memoryview(data)
        while left:
            room = memoryview(protocol.get_buffer(len(left)))
            count = min(len(room), len(left))
            room[:count] = left[:count]
            protocol.buffer_updated(count)
            left = left[count:]

    def _give_eof(self) -> None:
        protocol = self._protocol
        assert isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol)
        if not protocol.eof_received():
            self.close()
        self._settle_end()

    # Writing.

    def write(self, data: Buffer) -> None:
        """Takes all of data; pauses the protocol while more than the high water waits."""
        if self._eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._lost or not data:
            return
        if not self._unsent:
            view = memoryview(data).cast("B")
            sent = self._send(view)
            if sent is None:
                return
            data = view[sent:]
        self._unsent += data
        self._check_high_water()

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        """Takes all of them."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Yes: the other direction stays open."""
        return True

    def write_eof(self) -> None:
        """Says that nothing more will be written, once all is."""
        if self._eof_written or self._closing:
            return
        self._eof_written = True
        if not self._unsent:
            self._shut_down()

    def get_write_buffer_size(self) -> int:
        """Bytes that the stack has not taken over."""
        return len(self._unsent)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Low and high water."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Between them the protocol is neither paused nor resumed."""
        high = (4 * low if low is not None else HIGH_WATER) if high is None else high
        low = high // 4 if low is None else low
        if not 0 <= low <= high:
            raise ValueError(f"high ({high}) must be >= low ({low}) must be >= 0")
        self._high, self._low = high, low
        self._check_high_water()

    def _write_more(self) -> None:
        while self._unsent:
            # Piece by piece: the stack takes a part, and the rest is not copied for nothing.
            sent = self._send(memoryview(self._unsent)[:MOST_READ])
            if not sent:
                break
            del self._unsent[:sent]
        self._check_low_water()
        if not self._unsent and not self._lost:
            if self._closing:
                self._lose(None)
            elif self._eof_written:
                self._shut_down()

    def _send(self, data: memoryview) -> int | None:
        """How much the stack took; None when the connection is over."""
        try:
            return self._stack.send(self._number, bytes(data))
        except OSError as error:
            self._lose(error)
            return None

    def _shut_down(self) -> None:
        try:
            self._stack.shutdown(self._number)
        except OSError as error:
            self._lose(error)

    def _check_high_water(self) -> None:
        if len(self._unsent) > self._high and not self._protocol_paused:
            self._protocol_paused = True
            self._protocol.pause_writing()

    def _check_low_water(self) -> None:
        if len(self._unsent) <= self._low and self._protocol_paused and not self._lost:
            self._protocol_paused = False
            self._protocol.resume_writing()

    # Events and the end.

    def _handle(self, what: int) -> None:
        if what & CLOSED:
            return self.abort()
        if what & WRITABLE:
            self._write_more()
        if what & READABLE and not self._lost:
            self._readable = True
            self._read()
        if what & ENDED and not self._lost:
            self._ended = True
            number = self._stack.failure(self._number)
            if number:
                self._lose(system_error(number))
            else:
                self._settle_end()

    def _settle_end(self) -> None:
        """A connection that is over both ways is lost once all of it is read."""
        if self._ended and (self._eof_read or not self._readable) and not self._lost:
            self._lose(None)

    def _lose(self, error: OSError | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._unsent.clear()
        self._events.forget(self._number)
        self._stack.leave(self._number)
        self._events.loop.call_soon(self._protocol.connection_lost, error)
