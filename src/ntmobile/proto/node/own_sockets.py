"""The sockets that one tunnel has of its own, beside the node's port.

Each has a mapping of its own at a NAT; see `guessing`. They are closed as soon as neither the
search nor a path of the tunnel needs them. Ours: docs/protocol.md section 7.
"""

from collections.abc import Iterable

from ntmobile.proto.node.ends import Path
from ntmobile.proto.node.events import CloseSockets, OpenSockets


class OwnSockets:
    """Which are open, by their numbers; 0 is never one of them."""

    def __init__(self, index: int) -> None:
        """Of the tunnel of this index: none."""
        self._index = index
        self._open: frozenset[int] = frozenset()

    def open(self, numbers: range) -> OpenSockets:
        """Return the command that opens these too."""
        self._open |= frozenset(numbers)
        return OpenSockets(self._index, numbers.start, len(numbers))

    def keep(self, paths: Iterable[Path | None], searched: Iterable[int]) -> CloseSockets | None:
        """Return the command that closes all others, if any is open."""
        kept = self._open & {*(path.socket for path in paths if path is not None), *searched}
        if kept == self._open:
            return None
        self._open = kept
        return CloseSockets(self._index, tuple(sorted(kept)))
