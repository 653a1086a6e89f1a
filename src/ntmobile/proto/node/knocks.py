"""Knocks of strangers at a node's port, which its DC wants to hear of: a few a second at most.

Ours: docs/protocol.md section 7.
"""

from ntmobile.errors import DecodeError
from ntmobile.proto.journal import Journal
from ntmobile.time import SECOND, Instant
from ntmobile.wire.probe import Knock
from ntmobile.wire.registration import ReachabilityReport

KNOCK_NS = SECOND
MAX_KNOCKS = 4
"""Reports a second: a stranger can make the node send no more than these, and only to its DC."""


class Knocks:
    """Which knocks are worth a report."""

    def __init__(self, journal: Journal) -> None:
        """None was heard; the journal counts what is none."""
        self._rejected = journal.rejected
        self._since = Instant(0)
        self._tokens: set[int] = set()

    def take(self, data: bytes, now: Instant) -> ReachabilityReport | None:
        """Return what to tell the DC; None where enough was told, or it is no knock."""
        try:
            token = Knock.decode(data).token
        except DecodeError:
            self._rejected["malformed"] += 1
            return None
        if token >> 63:
            self._rejected["unasked knock"] += 1
            return None
        if now - self._since >= KNOCK_NS:
            self._since, self._tokens = now, set()
        if token in self._tokens or len(self._tokens) >= MAX_KNOCKS:
            return None
        self._tokens.add(token)
        return ReachabilityReport(token)
