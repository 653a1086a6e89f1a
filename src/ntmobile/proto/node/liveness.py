"""Whether a path still carries: what silence makes its tunnel do.

A tunnel that sends and hears nothing probes, soon and seldom; when even that stays unanswered the
path is dead. Probes keep something under way while RS is down: the first that reaches it after a
restart draws the hint that ends the waiting. A tunnel that only heard, and hears no more, probes a
few times too: its own NAT may have lost the mapping, which nobody else can repair.

Ours: docs/protocol.md section 8.
"""

from enum import Enum, auto

from ntmobile.time import SECOND, Instant

STALL_NS = 750_000_000
"""Sending, and hearing nothing for this long: ask the path whether it lives."""
QUIET_NS = 1_500_000_000
"""As long for a tunnel that hears no more and has nothing to say, or is on its way elsewhere."""
DEAD_NS = 3 * SECOND
"""Still nothing: a new path is negotiated. Some ten probes went out by then: a fifth lost on each
leg through RS hardly ever looks like this."""
DEAD_AGAIN_NS = 2 * SECOND
SOONEST_NS = 250_000_000
SUSPECT_SOONEST_NS = 100_000_000
LATEST_NS = SECOND
"""Between two judgements: while a path is suspected an eighth of the silence, within these."""
MOST_UNASKED = 3
"""Probes of a tunnel with nothing to say, each time its peer falls silent."""


class Verdict(Enum):
    """What is to be thought of a path."""

    WELL = auto()
    SUSPECT = auto()
    """Probe it."""
    DEAD = auto()
    """Probe it, and look for another."""


class Liveness:
    """Judges one path by what was sent and heard."""

    def __init__(self) -> None:
        """Nothing is suspected."""
        self._dead_at: Instant | None = None
        self._asked_at: Instant | None = None
        self._unasked = 0
        self._rx_bytes = 0

    def judge(
        self, last_tx: Instant | None, heard: Instant, rx_bytes: int, now: Instant, *, moving: bool
    ) -> Verdict:
        """last_tx is of application data, heard of anything, rx_bytes of application data."""
        if rx_bytes != self._rx_bytes:
            self._rx_bytes, self._unasked, self._asked_at = rx_bytes, 0, None
        silent_ns = now - heard
        if moving or (last_tx is not None and last_tx > heard):
            return _judge_waiting(silent_ns, moving=moving)
        self._dead_at = None
        answered = self._asked_at is not None and heard >= self._asked_at
        asks = rx_bytes and not answered and self._unasked < MOST_UNASKED
        if asks and silent_ns >= QUIET_NS:
            self._asked_at = now
            self._unasked += 1
            return Verdict.SUSPECT
        return Verdict.WELL

    def note_dead(self, now: Instant) -> bool:
        """Note that the path is dead; whether that is news, or was news long enough ago."""
        fresh = self._dead_at is None or now - self._dead_at >= DEAD_AGAIN_NS
        if fresh:
            self._dead_at = now
        return fresh

    def renew(self) -> None:
        """Another path was found."""
        self._dead_at = None


def again_ns(verdict: Verdict, silent_ns: int) -> int:
    """How soon to judge again."""
    if verdict is Verdict.WELL:
        return max(STALL_NS - silent_ns, SOONEST_NS) if silent_ns < STALL_NS else LATEST_NS
    return min(max(silent_ns // 8, SUSPECT_SOONEST_NS), LATEST_NS)


def _judge_waiting(silent_ns: int, *, moving: bool) -> Verdict:
    if silent_ns >= (QUIET_NS if moving else DEAD_NS):
        return Verdict.DEAD
    return Verdict.SUSPECT if silent_ns >= STALL_NS else Verdict.WELL
