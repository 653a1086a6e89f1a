"""What of the peer's capsules arrived, as a Path Update tells it.

Ours: docs/protocol.md section 8.
"""

from ntmobile.proto.node.events import Observations
from ntmobile.time import SECOND, Instant
from ntmobile.wire.tunnel import ReceiveState

BEFORE_NS = 2 * SECOND
"""A move brings new keys while what it lost was under the old ones."""
MOST_BITMAP = 1024
"""Bytes of bitmap in one message, both epochs together: it must fit a capsule."""


class Received:
    """Looks up one tunnel's receive state, and remembers it over a change of keys."""

    def __init__(self, index: int, observations: Observations) -> None:
        """index is this end's receiver index."""
        self._index = index
        self._observations = observations
        self._before: tuple[ReceiveState, Instant] | None = None

    def remember(self, now: Instant) -> None:
        """Keys change: what arrived under those before is soon no more to be looked up."""
        states = self._observations.receive_state(self._index)
        self._before = (states[0], now) if states else None

    def states(self, now: Instant) -> tuple[ReceiveState, ...]:
        """Of the newest epoch heard, and of the one before if that is news yet."""
        states = self._observations.receive_state(self._index)
        if not states or self._before is None:
            return states
        (newest, *_), (before, at) = states, self._before
        if before.epoch == newest.epoch or now - at > BEFORE_NS:
            return (newest,)
        room = MOST_BITMAP - len(newest.bitmap)
        return newest, ReceiveState(before.epoch, before.highest, before.bitmap[:room])
