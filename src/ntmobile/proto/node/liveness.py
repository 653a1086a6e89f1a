"""Whether a path still carries: what silence makes its tunnel do.

A tunnel that sends and hears nothing probes, soon and seldom; when even that stays unanswered the
path is dead. Probes keep something under way while RS is down: the first that reaches it after a
restart draws the hint that ends the waiting. A tunnel that only heard, and hears no more, probes a
few times too: its own NAT may have lost the mapping, which nobody else can repair.

After a long silence the first thing sent is a question of its own: mappings may have died, here or
there, and no keep-alive has told. It is probed at once, and silence is believed far sooner.

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
PATIENCE_NS = 400_000_000
"""Of a direct path after its first unanswered probe: some five go out in that time, and a fifth
lost each way takes them all once in a hundred and sixty times."""
WAKING_NS = SECOND // 2
"""As DEAD_NS, with two round trips more, for what is sent after a long silence: a radio that slept
needs a third of it to wake up, at either end."""
SLEPT_NS = 3 * SECOND
"""A silence after which a path must show that it is still there."""
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
        self._waits_since = Instant(0)
        """No earlier than this something was sent that is unanswered."""
        self._is_waiting = False
        self._woken_at: Instant | None = None
        self._waking_ns = WAKING_NS

    def wake(self, heard: Instant, rtt_ns: int | None, now: Instant, *, slept: bool) -> None:
        """Something is sent after a silence; slept: or the own NAT forgot what it knew."""
        if self._is_waiting and not slept:
            return
        self._is_waiting, self._waits_since = True, now
        if slept or now - heard >= SLEPT_NS:
            self._woken_at, self._waking_ns = now, WAKING_NS + 2 * min(rtt_ns or 0, SECOND)

    @property
    def patience_ns(self) -> int:
        """How long a silent direct path is probed before the way through RS is asked too."""
        if self._woken_at is not None:
            return self._waking_ns // 2
        return PATIENCE_NS if self._is_waiting else WAKING_NS // 2

    def judge(
        self, last_tx: Instant | None, heard: Instant, rx_bytes: int, now: Instant, *, moving: bool
    ) -> Verdict:
        """last_tx is of application data, heard of anything, rx_bytes of application data."""
        if rx_bytes != self._rx_bytes:
            self._rx_bytes, self._unasked, self._asked_at = rx_bytes, 0, None
        silent_ns = now - heard
        if self._woken_at is not None:
            woken_ns = now - self._woken_at
            if heard <= self._woken_at and woken_ns < DEAD_NS:
                return Verdict.DEAD if woken_ns >= self._waking_ns else Verdict.SUSPECT
            self._woken_at = None
        if moving or (last_tx is not None and last_tx > heard):
            self._is_waiting = True
            return _judge_waiting(silent_ns if moving else self._waits(heard, now), moving=moving)
        self._dead_at, self._waits_since, self._is_waiting = None, now, False
        answered = self._asked_at is not None and heard >= self._asked_at
        asks = rx_bytes and not answered and self._unasked < MOST_UNASKED
        if asks and silent_ns >= QUIET_NS:
            self._asked_at = now
            self._unasked += 1
            return Verdict.SUSPECT
        return Verdict.WELL

    def again_ns(self, verdict: Verdict, heard: Instant, now: Instant) -> int:
        """How soon to judge again."""
        return again_ns(verdict, self._waits(heard, now))

    def note_dead(self, now: Instant) -> bool:
        """Note that the path is dead; whether that is news, or was news long enough ago."""
        fresh = self._dead_at is None or now - self._dead_at >= DEAD_AGAIN_NS
        if fresh:
            self._dead_at = now
        return fresh

    def renew(self) -> None:
        """Another path was found."""
        self._dead_at = self._woken_at = None

    def _waits(self, heard: Instant, now: Instant) -> int:
        """For how long something has been unanswered, at most."""
        return now - max(heard, self._waits_since)


def again_ns(verdict: Verdict, silent_ns: int) -> int:
    """How soon to judge again."""
    if verdict is Verdict.WELL:
        return max(STALL_NS - silent_ns, SOONEST_NS) if silent_ns < STALL_NS else LATEST_NS
    return min(max(silent_ns // 8, SUSPECT_SOONEST_NS), LATEST_NS)


def _judge_waiting(silent_ns: int, *, moving: bool) -> Verdict:
    if silent_ns >= (QUIET_NS if moving else DEAD_NS):
        return Verdict.DEAD
    return Verdict.SUSPECT if silent_ns >= STALL_NS else Verdict.WELL
