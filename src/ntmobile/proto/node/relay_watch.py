"""Whether the RS of a silent path lives: another one helps only if it does not.

A path through RS falls silent when RS dies or when the peer does. RS answers a Hole Punching by
itself, so the node shows RS where it is; an RS that leaves several of them unanswered is left.
Ours: docs/protocol.md section 8.
"""

from enum import Enum, auto

from ntmobile.time import SECOND, Instant

PATIENCE_NS = 800_000_000
"""Some four Hole Punchings: a fifth lost each way leaves all unanswered once in sixty times, and
the path, whose probes went unanswered all along, far more seldom."""
AGAIN_NS = SECOND
"""An RS that answered is asked again, if the path stays silent."""


class Step(Enum):
    """What to do about RS."""

    ASK = auto()
    WAIT = auto()
    LEAVE = auto()


class RelayWatch:
    """Asks after one tunnel's RS."""

    def __init__(self) -> None:
        """RS is not in doubt."""
        self._asked_at: Instant | None = None
        self._answered_at: Instant | None = None

    def suspect(self, now: Instant) -> Step:
        """The path is silent."""
        if self._asked_at is None:
            if self._answered_at is not None and now - self._answered_at < AGAIN_NS:
                return Step.WAIT
            self._asked_at = now
            return Step.ASK
        return Step.LEAVE if now - self._asked_at >= PATIENCE_NS else Step.WAIT

    def hear(self, now: Instant) -> None:
        """RS answered."""
        self._asked_at, self._answered_at = None, now

    def rest(self) -> None:
        """The path carries, or is another."""
        self._asked_at = self._answered_at = None
