"""The Path Updates of one tunnel: which of the peer's are news, which ask for data again.

Ours: docs/protocol.md section 8.
"""

from ntmobile.proto.node.control import Pending
from ntmobile.proto.node.purpose import RESEND_AGAIN_NS, Purpose
from ntmobile.time import Instant
from ntmobile.wire.tunnel import PathUpdate, ReceiveState


class Updates:
    """Numbers those of this end, and judges those of the other."""

    def __init__(self, now: Instant) -> None:
        """None was sent or heard."""
        self._sent = self._heard = 0
        self._resent_at = self._answered_at = now

    def make(self, states: tuple[ReceiveState, ...], number: int, *, again: bool) -> PathUpdate:
        """Return one that tells what arrived; again: the peer may have had what it asks for."""
        self._sent += not again
        return PathUpdate(self._sent, states, number)

    def take(self, update: PathUpdate, now: Instant) -> tuple[bool, bool]:
        """Whether one of the peer's is newer than all before, and whether data are sent again.

        Copies come while the answer is late: what they ask for is on its way.
        """
        is_newer = update.sequence > self._heard
        asks = is_newer or now - self._resent_at >= RESEND_AGAIN_NS
        if asks:
            self._resent_at = now
        self._heard = max(self._heard, update.sequence)
        return is_newer, asks

    def take_answer(self, pending: Pending[Purpose], now: Instant) -> bool:
        """Whether data are sent again for the peer's answer to this.

        What was asked before the last answer came was answered before the data arrived that were
        sent again for that one: it misses the same.
        """
        asks = pending.tries > 1 or pending.began >= self._answered_at
        if asks:
            self._answered_at = now
        return asks
