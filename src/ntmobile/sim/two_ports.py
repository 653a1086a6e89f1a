"""A node's two UDP ports, of which one sends. Ours: docs/protocol.md section 8."""

from ntmobile.proto.node.events import OTHER_PORT
from ntmobile.wire.endpoint import Endpoint


class TwoPorts:
    """Which of them the numbers 0 and OTHER_PORT mean; the second is opened when it is wanted."""

    def __init__(self) -> None:
        """The first one sends."""
        self.spare: int | None = None
        """The second one's number on the host."""
        self._spare_sends = False

    def change(self, spare: int) -> None:
        """They change their numbers."""
        self.spare, self._spare_sends = spare, not self._spare_sends

    def sending(self, destination: Endpoint, socket: int = 0) -> int | None:
        """Return the second port's number on the host if what leaves there leaves from it."""
        means_spare = self._spare_sends is (socket == 0)
        return self.spare if means_spare and destination.version == 4 else None

    def number(self, source: Endpoint, *, spare: bool) -> int:
        """Return the number of the one that something came to from there."""
        return OTHER_PORT if spare is not self._spare_sends and source.version == 4 else 0
