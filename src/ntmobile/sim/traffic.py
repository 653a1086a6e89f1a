"""Applications that measure: a paced flow of numbered datagrams, and a stream that behaves as TCP.

Both run between the virtual addresses of two simulated nodes and check every byte end to end.
"""

from collections.abc import Callable
from hashlib import sha256
from itertools import pairwise

from ntmobile.sim.calendar import Entry
from ntmobile.sim.node import Received, SimNode
from ntmobile.sim.quality import MILLISECOND
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Host

FLOW_PORT = 9000
STREAM_PORT = 9001
SEGMENT = 1000
WINDOW = 32
"""Segments under way; enough for the simulator's delays, not a congestion control."""
FIRST_RTO_NS = SECOND
SHORTEST_RTO_NS = 200 * MILLISECOND
"""As Linux; RFC 6298 asks for a second."""
RETRIES = 15
"""As Linux's tcp_retries2: then the connection is broken."""


class Flow:
    """Datagrams at a steady pace, as of a voice call: nothing is sent again."""

    def __init__(self, sender: SimNode, to: Host, receiver: SimNode, every_ns: int) -> None:
        """Starts at once and goes on until stopped."""
        self.sent = 0
        self.arrivals: list[tuple[Instant, int]] = []
        self._sender = sender
        self._to = to
        self._every_ns = every_ns
        self._stopped = False
        receiver.listen(FLOW_PORT, self._receive)
        self._beat()

    def stop(self) -> None:
        """Send no more."""
        self._stopped = True

    @property
    def lost(self) -> int:
        """Sent and not arrived; what is on its way counts as lost."""
        return self.sent - len({number for _, number in self.arrivals})

    @property
    def duplicates(self) -> int:
        """Arrived again: always 0 through a tunnel that checks for replays."""
        return len(self.arrivals) - len({number for _, number in self.arrivals})

    @property
    def longest_gap_ns(self) -> int:
        """Longest silence between two arrivals."""
        return max((b - a for (a, _), (b, _) in pairwise(self.arrivals)), default=0)

    def _beat(self) -> None:
        if self._stopped or not self._sender.alive:
            return
        self._sender.send(self._to, FLOW_PORT, _content(self.sent))
        self.sent += 1
        self._sender.internet.calendar.after(self._every_ns, self._beat)

    def _receive(self, received: Received) -> None:
        number = int.from_bytes(received.data[:8])
        if received.data != _content(number):
            raise AssertionError(f"datagram {number} was changed on its way")
        self.arrivals.append((received.at, number))


class Stream:
    """A bulk transfer with TCP's timers: cumulative ACKs, fast retransmit, back-off.

    `delivered` grows in order only; `deliveries` has the instant of each advance.
    """

    def __init__(
        self,
        sender: SimNode,
        to: Host,
        receiver: SimNode,
        segments: int,
        *,
        window: int = WINDOW,
    ) -> None:
        """Starts at once; to is the receiver's virtual address as the sender sees it."""
        self.segments = segments
        self._window = window
        self.delivered = 0
        self.acknowledged = 0
        self.retransmitted = 0
        self.broken = False
        self.deliveries: list[Instant] = []
        self._sender, self._receiver, self._to = sender, receiver, to
        self._held: set[int] = set()
        self._next = 0
        self._duplicates = 0
        self._backoff = 0
        self._rtt_ns: int | None = None
        self._timed: tuple[int, Instant] | None = None
        self._timer: Entry | None = None
        receiver.listen(STREAM_PORT, self._receive)
        sender.listen(STREAM_PORT + 1, self._acknowledge)
        self._fill()

    @property
    def done(self) -> bool:
        """Everything arrived."""
        return self.delivered == self.segments

    @property
    def longest_gap_ns(self) -> int:
        """Longest time in which the receiving application got nothing."""
        return max((b - a for a, b in pairwise(self.deliveries)), default=0)

    def _fill(self) -> None:
        while self._next < min(self.acknowledged + self._window, self.segments):
            if self._timed is None:
                self._timed = (self._next, self._now)
            self._send(self._next)
            self._next += 1
        if self._timer is None and self.acknowledged < self._next:
            self._arm()

    def _send(self, number: int) -> None:
        self._sender.send(self._to, STREAM_PORT, _content(number), STREAM_PORT + 1)

    def _receive(self, received: Received) -> None:
        number = int.from_bytes(received.data[:8])
        if received.data != _content(number):
            raise AssertionError(f"segment {number} was changed on its way")
        if number >= self.delivered:
            self._held.add(number)
        before = self.delivered
        while self.delivered in self._held:
            self._held.discard(self.delivered)
            self.delivered += 1
        if self.delivered > before:
            self.deliveries.append(received.at)
        self._receiver.send(
            received.source, received.source_port, self.delivered.to_bytes(8), STREAM_PORT
        )

    def _acknowledge(self, received: Received) -> None:
        upto = int.from_bytes(received.data)
        if upto > self.acknowledged:
            self._progress(upto)
        elif upto == self.acknowledged < self._next:
            self._duplicates += 1
            if self._duplicates == 3:
                self.retransmitted += 1
                self._timed = None
                self._send(upto)

    def _progress(self, upto: int) -> None:
        if self._timed is not None and upto > self._timed[0]:
            sample = self._now - self._timed[1]
            known = self._rtt_ns
            self._rtt_ns = sample if known is None else (7 * known + sample) // 8
            self._timed = None
        self.acknowledged = upto
        self._next = max(self._next, upto)
        self._duplicates = self._backoff = 0
        self._disarm()
        self._fill()

    def _expire(self) -> None:
        """RFC 6298, section 5.4 to 5.6: back off, and send from the first unacknowledged on."""
        self._timer = None
        self._backoff += 1
        if self._backoff > RETRIES or not self._sender.alive:
            self.broken = True
            return
        self.retransmitted += 1
        self._timed = None
        self._next = self.acknowledged + 1
        self._send(self.acknowledged)
        self._arm()

    def _arm(self) -> None:
        rto = FIRST_RTO_NS if self._rtt_ns is None else max(2 * self._rtt_ns, SHORTEST_RTO_NS)
        delay = min(rto << self._backoff, 120 * SECOND)
        expire: Callable[[], None] = self._expire
        self._timer = self._sender.internet.calendar.after(delay, expire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def _now(self) -> Instant:
        return self._sender.now


def _content(number: int) -> bytes:
    """Return a segment that nothing else looks like."""
    head = number.to_bytes(8)
    return head + sha256(head).digest() * (SEGMENT // 32 - 1)
