"""Whether a tunnel's data wait: on its way through RS from an address that RS was not shown yet.

RS would drop them, and what comes after the proof would overtake what is sent again. So they stay
in the log until RS leads the node in, and leave behind the Path Update and the proof.

Ours: docs/protocol.md section 8.
"""

from ntmobile.proto.io import Timeout
from ntmobile.time import Instant


class Holding:
    """What one tunnel's path holds back."""

    def __init__(self) -> None:
        """Nothing."""
        self.holds = False
        """Data wait."""
        self._let_go_at: Instant | None = None
        self._told_at: Instant | None = None

    def begin(self, *, hold: bool) -> None:
        """There is another path; does it hold data?"""
        self.holds, self._let_go_at, self._told_at = hold, None, None

    def let_go(self) -> bool:
        """Data wait no longer; whether they did."""
        held, self.holds, self._let_go_at = self.holds, False, None
        return held

    def note_told(self, now: Instant) -> None:
        """The peer is told through an RS that has no proof yet; data may follow behind that."""
        self._told_at = self._let_go_at = now

    def expects_answer(self, rtt_ns: int | None, now: Instant) -> bool:
        """Whether the answer to what the peer was told comes through, now that RS acknowledges.

        RS had the proof before the answer could get there, or asked for none: the address is the
        one it knew.
        """
        if self._told_at is None:
            return self.holds
        return now - self._told_at <= (rtt_ns or 0)

    def is_over(self, now: Instant) -> bool:
        """Whether it is time to let go."""
        return self._let_go_at is not None and now >= self._let_go_at

    def poll_timeout(self) -> Timeout | None:
        """When data need wait no longer."""
        return None if self._let_go_at is None else Timeout(self._let_go_at, "data may leave")
