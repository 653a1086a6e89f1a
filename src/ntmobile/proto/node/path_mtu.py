"""How large a packet a path carries: path MTU discovery by the packets themselves (RFC 8899).

Capsules are never fragmented on their way. ICMP errors are not believed, for anybody can forge
them, nor waited for, since many networks drop them. So the tunnel probes: Echo Requests padded to
the size in question, answered in the same size, so that a size that was answered passes both ways.

The size is taken to be what the own link allows until that is disproved: on a good network
nothing is ever slower for the search, and one probe is all it costs.

States::

    Untested --a sign of life on this path--> Searching --largest answered, or last round--> Found
    Found --`check`, `review`, another path--> Searching

Ours: docs/protocol.md section 7.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import assert_never

from ntmobile.proto.io import Entropy, Timeout
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import encode_control
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.tunnel import EchoRequest

OVERHEAD = 88
"""IPv6 40, UDP 8, capsule 32, tail of a segment 8: what a capsule adds at most."""
TAIL = 8
"""What of it is inside the capsule, where a packet is one segment of many."""
LINKS = (1500, 1492, 1480, 1460, 1420, 1400, 1360, 1320, 1280, 1200, 576)
"""Bytes that real links carry: Ethernet, PPPoE, tunnels, IPv6's least, IPv4's least."""
LEAST = LINKS[-1] - OVERHEAD

_MS = SECOND // 1000
ROUNDS = tuple(at * _MS for at in (0, 100, 250, 600, 1400, 2500))
"""When sizes are probed: at first the largest only, then all above what was answered."""
SWALLOWED = 4
"""In this round, though all sizes were probed three times, none was answered."""
SEARCH_NS = 4 * SECOND
CHECK_NS = 3 * SECOND
"""Between two checks of the size in use while data is unanswered."""
REVIEW_NS = 600 * SECOND
"""A larger size is tried again. Source: RFC 8899, PMTU_RAISE_TIMER."""
MOST_KNOWN = 8


@dataclass(frozen=True, slots=True)
class SizeProbe:
    """Send an Echo Request along the path, as long as an inner packet of so many bytes."""

    number: int
    size: int

    def message(self) -> EchoRequest:
        """The Echo Request."""
        whole = len(encode_control(EchoRequest(self.number, bytes(LEAST)))) - LEAST
        return EchoRequest(self.number, bytes(self.size + TAIL - whole))


@dataclass(frozen=True, slots=True)
class _Untested:
    """Nothing was heard on this path yet."""


@dataclass(frozen=True, slots=True)
class _Searching:
    """Sizes up to top are probed in rounds."""

    began: Instant
    round: int
    top: int


@dataclass(frozen=True, slots=True)
class _Found:
    """The size in use was answered, or nothing was."""

    at: Instant
    review_at: Instant


_State = _Untested | _Searching | _Found


@dataclass(slots=True)
class _Search:
    """What came out of one search."""

    sent: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Number of a probe to its size and round."""
    best: int = 0


class PathMtu:
    """The search of one tunnel, on whatever path it is. Drain `poll_probe` after each call."""

    def __init__(self, entropy: Entropy) -> None:
        """No path yet."""
        self._entropy = entropy
        self._remote: Endpoint | None = None
        self._most = 0
        self._known: dict[Endpoint, int] = {}
        self._state: _State = _Untested()
        self._search = _Search()
        self._probes: deque[SizeProbe] = deque()
        self.swallows = False
        """Small messages come through, and of all sizes nothing."""
        self.current = 0
        """Bytes of the largest inner packet to send now."""

    def begin(self, remote: Endpoint, most: int) -> None:
        """The tunnel takes this path, whose first link carries inner packets of most bytes."""
        self._remember()
        self._remote, self._most = remote, most
        self.current = min(self._known.get(remote, most), most)
        self._state, self.swallows = _Untested(), False
        self._probes.clear()

    def renew(self, *, elsewhere: bool) -> None:
        """An end moved: what was found is in doubt, and if it was this end, all of it."""
        if elsewhere:
            self._known.clear()
            self._remote = None
        self._state = _Untested()

    def start(self, now: Instant) -> None:
        """The peer was heard on this path: the search begins unless it did."""
        if isinstance(self._state, _Untested):
            self._begin(self._most, now)

    def check(self, now: Instant) -> None:
        """Data stays unanswered: does the size in use still pass?"""
        if isinstance(self._state, _Found) and now - self._state.at >= CHECK_NS:
            self._begin(self.current, now)

    def review(self, now: Instant) -> None:
        """The tunnel is in use: try a larger size again when that is due."""
        state = self._state
        if isinstance(state, _Found) and now >= state.review_at and self.current < self._most:
            self._begin(self._most, now)

    def handle_answer(self, number: int, now: Instant) -> bool:
        """An Echo Reply came; whether it was ours."""
        known = self._search.sent.pop(number, None)
        if known is None:
            return False
        size, in_round = known
        state = self._state
        if not isinstance(state, _Searching) or size <= self._search.best:
            return True
        self._search.best, self.swallows = size, False
        # Where the largest was lost twice, and this one was not, sending it would be in vain.
        if in_round > 0 or size >= self.current:
            self.current = size
        if size == state.top:
            self._conclude(now)
        return True

    def handle_timeout(self, now: Instant) -> None:
        """Probe again, or be content with what was found."""
        match self._state:
            case _Searching(began, number, top) if number == len(ROUNDS):
                if now >= began + SEARCH_NS:
                    self._conclude(now)
            case _Searching(began, number, top) if now >= began + ROUNDS[number]:
                self._probe(top, number)
                self.swallows = number >= SWALLOWED and not self._search.best
                self._state = _Searching(began, number + 1, top)
            case _:
                pass

    def poll_probe(self) -> SizeProbe | None:
        """Next probe to send along the path."""
        return self._probes.popleft() if self._probes else None

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        match self._state:
            case _Searching(began, number):
                after = ROUNDS[number] if number < len(ROUNDS) else SEARCH_NS
                return Timeout(Instant(began + after), "path MTU probes")
            case _Untested() | _Found():
                return None
            case _:
                assert_never(self._state)

    def _begin(self, top: int, now: Instant) -> None:
        self._search = _Search()
        self._probe(top, 0)
        self._state = _Searching(now, 1, top)

    def _probe(self, top: int, number: int) -> None:
        smaller = (link - OVERHEAD for link in LINKS if link - OVERHEAD < top)
        for size in (top, *smaller) if number else (top,):
            if size > self._search.best:
                probe = SizeProbe(self._entropy.getrandbits(62), size)
                self._search.sent[probe.number] = (size, number)
                self._probes.append(probe)

    def _conclude(self, now: Instant) -> None:
        self._probes.clear()
        self.current = self._search.best or self.current
        self._state = _Found(now, Instant(now + REVIEW_NS))

    def _remember(self) -> None:
        if self._remote is not None and isinstance(self._state, _Found):
            if len(self._known) >= MOST_KNOWN:
                self._known.pop(next(iter(self._known)))
            self._known[self._remote] = self.current
