"""One tunnel's moves: the one under way, and the last that is over.

Ours: docs/protocol.md section 8.
"""

from ntmobile.proto.node.ends import Path
from ntmobile.proto.node.events import HandoverDone
from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint


class Moving:
    """Notes when a move began and where from, until it is over."""

    def __init__(self, fqdn: str) -> None:
        """No move yet."""
        self._fqdn = fqdn
        self.since: Instant | None = None
        self._before: Endpoint | None = None
        self.last: HandoverDone | None = None

    def begin(self, path: Path | None, now: Instant) -> None:
        """The address changed while this was the path; within a move nothing is new."""
        if self.since is None:
            self.since = now
            self._before = None if path is None else path.remote

    def finish(self, path: Path | None, now: Instant) -> list[HandoverDone]:
        """Return the move if one is over: the peer has answered by this path."""
        if self.since is None or path is None:
            return []
        done = HandoverDone(self._fqdn, now, now - self.since, self._before, path.remote)
        self.last, self.since, self._before = done, None, None
        return [done]
