"""Datagrams in a WebSocket: one binary message is one datagram, at both ends the same.

Each end has a loopback UDP socket that stands for the other: whoever has datagrams for the other
end sends them there, and what comes out comes from there. So the packet loops, which read and write
UDP in batches, need not know. Segmentation offload keeps the batches together.

Ours: docs/protocol.md section 3. Source: RFC 6455.
"""

import asyncio
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import OPEN, Protocol

from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.web import MAX_MESSAGE

PING_S = 20.0
"""Less than NATs and proxies forget a silent connection after; also how a dead one is noticed."""
SILENCE_S = 30.0
"""Nothing was heard, not even the answer to a ping: the connection is dead."""
MOST_WAITING = 512 * 1024
"""Bytes that wait for the TCP connection; more datagrams are lost, as in a router's queue."""
NOT_SENT = 128 * 1024
"""Of them in the kernel, where nobody can count them."""
BUFFER = 4 << 20
READS_AT_ONCE = 32
MOST_SEGMENTS = 64
MOST_BYTES = 65_000
"""Of one send that the kernel cuts into datagrams. Source: UDP_MAX_SEGMENTS of Linux."""
_UDP_SEGMENT, _UDP_GRO = 103, 104
_SO_RCVBUFFORCE = 33
_ANCILLARY = socket.CMSG_SPACE(4)


def loopback_socket(host: str, to: Endpoint) -> socket.socket:
    """Return a UDP socket on a loopback address that hears only `to`; raises OSError."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        try:
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER)
        except PermissionError:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        made.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        made.bind((host, 0))
        made.connect((str(to.host), to.port))
    except OSError:
        made.close()
        raise
    return made


class Carrier(asyncio.Protocol):
    """One WebSocket with its loopback socket, from the handshake to the end.

    counters: in, out (datagrams), crowded (lost because TCP is slower), refused.
    """

    def __init__(
        self,
        protocol: Protocol,
        udp: socket.socket,
        *,
        ended: Callable[[], None],
        admits: Callable[[bytes], bool] = lambda datagram: True,
        pings: bool,
    ) -> None:
        """Owns udp; ended is called once. pings: this end asks whether the other is there."""
        self.protocol = protocol
        self.counters: Counter[str] = Counter()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the handshake is; the error of a refusal or of the connection."""
        self.holds: object = None
        """Kept as long as the WebSocket: a stream writer that nobody holds closes what it wrote."""
        self._udp = udp
        self._ended = ended
        self._admits = admits
        self._pings = pings
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._heard_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._reading = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection over; what the protocol has to say is said."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        tcp = transport.get_extra_info("socket")
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT)
        self._timer = self._loop.call_later(PING_S, self._check)
        self._flush()
        self._begin_if_open()

    def data_received(self, data: bytes) -> None:
        """Hands datagrams on."""
        self._heard_at = self._loop.time()
        self.protocol.receive_data(data)
        datagrams: list[bytes] = []
        for event in self.protocol.events_received():
            match event:
                case Frame(Opcode.BINARY, message, True) if self._admits(bytes(message)):
                    datagrams.append(bytes(message))
                case Frame(Opcode.BINARY | Opcode.TEXT | Opcode.CONT):
                    self.counters["refused"] += 1
                case Response():
                    self._settle()
                case _:
                    pass
        self._send_udp(datagrams)
        self._flush()
        self._begin_if_open()
        if self.protocol.handshake_exc is not None or self.protocol.close_expected():
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The WebSocket is no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._reading:
            self._loop.remove_reader(self._udp.fileno())
        self._reading = False
        self._udp.close()
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionResetError("the connection was closed"))
        if not self.opened.cancelled():
            self.opened.exception()  # Nobody need ask.
        self._ended()

    def eof_received(self) -> None:
        """The other end is gone."""

    def close(self) -> None:
        """Sends what waits, says goodbye and ends."""
        if self.protocol.state is OPEN and self._reading:
            self._read_udp()
            self.protocol.send_close(1001)
            self._flush()
        self.abort()

    def abort(self) -> None:
        """Ends at once, after what was written."""
        if self._transport is not None:
            self._transport.close()

    def _settle(self) -> None:
        if self.protocol.handshake_exc is not None and not self.opened.done():
            self.opened.set_exception(self.protocol.handshake_exc)

    def _begin_if_open(self) -> None:
        if self.protocol.state is OPEN and not self.opened.done():
            self.opened.set_result(None)
            self._loop.add_reader(self._udp.fileno(), self._read_udp)
            self._reading = True

    def _read_udp(self) -> None:
        transport = self._transport
        assert transport is not None
        for _ in range(READS_AT_ONCE):
            try:
                data, ancillary, _, _ = self._udp.recvmsg(MAX_MESSAGE, _ANCILLARY)
            except BlockingIOError:
                break
            except OSError:
                continue  # An ICMP report about an earlier send; reading it clears it.
            stride = _stride(ancillary) or max(len(data), 1)
            if transport.get_write_buffer_size() > MOST_WAITING:
                self.counters["crowded"] += -(-len(data) // stride)
                continue
            for start in range(0, len(data), stride):
                self.protocol.send_binary(data[start : start + stride])
            self.counters["out"] += -(-len(data) // stride)
            self._flush()

    def _send_udp(self, datagrams: list[bytes]) -> None:
        for run in runs(datagrams):
            stride = struct.pack("=H", len(run[0]))
            offload = [(socket.IPPROTO_UDP, _UDP_SEGMENT, stride)] if len(run) > 1 else []
            try:
                self._udp.sendmsg(run, offload)
            except OSError:
                # The loop behind it does not keep up, or an ICMP report: lost, as on any network.
                self.counters["crowded"] += len(run)
            else:
                self.counters["in"] += len(run)

    def _flush(self) -> None:
        assert self._transport is not None
        data = b"".join(self.protocol.data_to_send())
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _check(self) -> None:
        """Ask whether the other end is there; end when it is not."""
        if self._loop.time() - self._heard_at > SILENCE_S + (0 if self._pings else PING_S):
            assert self._transport is not None
            self._transport.abort()
            return
        if self._pings and self.protocol.state is OPEN:
            self.protocol.send_ping(b"")
            self._flush()
        self._timer = self._loop.call_later(PING_S, self._check)


def runs(datagrams: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Group datagrams, in order, for one send each: of one length, the last perhaps shorter."""
    run: list[bytes] = []
    size = 0
    for datagram in datagrams:
        fits = (
            run
            and len(run[-1]) == len(run[0]) >= len(datagram)
            and len(run) < MOST_SEGMENTS
            and size + len(datagram) <= MOST_BYTES
        )
        if run and not fits:
            yield run
            run, size = [], 0
        run.append(datagram)
        size += len(datagram)
    if run:
        yield run


def _stride(ancillary: Iterable[tuple[int, int, bytes]]) -> int | None:
    for level, kind, value in ancillary:
        if (level, kind) == (socket.IPPROTO_UDP, _UDP_GRO):
            return int.from_bytes(value[:4], sys.byteorder)
    return None
