"""What this node asked its DC to direct, until a Route Direction or a refusal comes.

Source: paper, Fig. 5. Ours: docs/protocol.md section 7.
"""

from collections.abc import Iterator

from ntmobile.proto.io import Timeout
from ntmobile.proto.node.tags import Asking
from ntmobile.time import SECOND, Instant

ASKED_NS = 15 * SECOND
"""A direction that did not come by then does not come."""


class OpenDirections:
    """Direction Requests by their negotiation."""

    def __init__(self) -> None:
        """Nothing is asked yet."""
        self._open: dict[bytes, Asking] = {}

    def add(self, negotiation: bytes, asking: Asking) -> None:
        """A Direction Request leaves."""
        self._open[negotiation] = asking

    def get(self, negotiation: bytes) -> Asking | None:
        """Return what was asked."""
        return self._open.get(negotiation)

    def pop(self, negotiation: bytes) -> Asking | None:
        """Return what was asked, and forget it."""
        return self._open.pop(negotiation, None)

    def is_sought(self, fqdn: str, since: Instant) -> bool:
        """Whether a way to a peer was asked for since then."""
        return any(each.fqdn == fqdn and each.began >= since for each in self._open.values())

    def overdue(self, now: Instant) -> list[bytes]:
        """Return what to give up now."""
        return [id for id, each in self._open.items() if now - each.began >= ASKED_NS]

    def poll_timeouts(self) -> Iterator[Timeout]:
        """When to give each up."""
        for each in self._open.values():
            yield Timeout(Instant(each.began + ASKED_NS), "direction given up")
