"""When an end follows its peer's capsules to where they come from, and when it had better not.

Where both NATs map each destination anew, each step of one end makes the other one's capsules come
from yet another port: they would follow each other for ever. And while a direct path is searched,
probes come from anywhere. Ours: docs/protocol.md section 8.
"""

from ntmobile.time import SECOND, Instant

MOST_STEPS = 3
"""In one second; a NAT that restarts makes for one."""
PAUSE_NS = 30 * SECOND
"""The way as it is carries, or the tunnel's liveness finds another."""

TOLD_NS = 2 * SECOND
"""After a Path Update; what it overtook, or what the old uplink answers, says nothing new."""


class Chase:
    """Judges one tunnel's steps."""

    def __init__(self, now: Instant) -> None:
        """Nothing was followed yet."""
        self._first = now
        self._steps = 0
        self._paused_until = now

    def pause(self, until: Instant) -> None:
        """Follow nothing before that."""
        self._paused_until = max(self._paused_until, until)

    def note_told(self, now: Instant, *, moved: bool) -> None:
        """The peer itself told where it is; elsewhere than it was, or than it seemed just now."""
        if moved or (self._steps and now - self._first < SECOND):
            self.pause(Instant(now + TOLD_NS))

    def follows(self, now: Instant) -> bool:
        """Whether to take one more step."""
        if now < self._paused_until:
            return False
        if now - self._first >= SECOND:
            self._first, self._steps = now, 0
        self._steps += 1
        if self._steps > MOST_STEPS:
            self.pause(Instant(now + PAUSE_NS))
            return False
        return True
