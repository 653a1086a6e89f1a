"""What this node asked its DC to direct, until a Route Direction or a refusal comes.

The DC acknowledges at once and directs when it can. One that dies in between has forgotten all of
it, so what it acknowledged is asked again each second, under the same name: a DC that still works
on it just acknowledges again. Source: paper, Fig. 5. Ours: docs/protocol.md section 7.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ntmobile.proto.conversation import Conversation
from ntmobile.proto.io import Timeout
from ntmobile.proto.node.tags import Asking, DCTag, Directing
from ntmobile.time import SECOND, Instant
from ntmobile.wire.direction import DirectionRequest
from ntmobile.wire.endpoint import Endpoint

ASKED_NS = 15 * SECOND
"""A direction that did not come by then does not come."""
AGAIN_NS = SECOND
"""After an acknowledgement: a DC that is back after a restart hears within that time."""


@dataclass(slots=True)
class _Open:
    asking: Asking
    request: DirectionRequest
    transaction: int | None = None
    """While the DC has not acknowledged it."""
    again_at: Instant | None = None


class OpenDirections:
    """Direction Requests by their negotiation."""

    def __init__(self, coordinators: Callable[[], tuple[Endpoint, ...]]) -> None:
        """Nothing is asked yet; coordinators are where the DC answers now."""
        self._coordinators = coordinators
        self._conversation: Conversation[DCTag] | None = None
        self._open: dict[bytes, _Open] = {}

    def begin(self, conversation: Conversation[DCTag], now: Instant) -> None:
        """Kntmdc is a new one: what was not acknowledged is asked under it, at once."""
        self._conversation = conversation
        for opened in self._open.values():
            if opened.transaction is not None:
                self._ask(opened, now)

    def ask(self, request: DirectionRequest, now: Instant) -> None:
        """Send a Direction Request."""
        opened = _Open(Asking(request.fqdn, request.purpose, now), request)
        self._open[request.negotiation] = opened
        self._ask(opened, now)

    def acknowledge(self, negotiation: bytes, now: Instant) -> None:
        """The DC works on it."""
        if (opened := self._open.get(negotiation)) is not None:
            opened.transaction, opened.again_at = None, Instant(now + AGAIN_NS)

    def get(self, negotiation: bytes) -> Asking | None:
        """Return what was asked."""
        opened = self._open.get(negotiation)
        return None if opened is None else opened.asking

    def pop(self, negotiation: bytes) -> Asking | None:
        """Return what was asked, and ask no more."""
        opened = self._open.pop(negotiation, None)
        if opened is None:
            return None
        if opened.transaction is not None and self._conversation is not None:
            self._conversation.cancel(opened.transaction)
        return opened.asking

    def is_sought(self, fqdn: str, since: Instant) -> bool:
        """Whether a way to a peer was asked for since then."""
        asked = (opened.asking for opened in self._open.values())
        return any(each.fqdn == fqdn and each.began >= since for each in asked)

    def handle_timeout(self, now: Instant) -> list[bytes]:
        """Ask again what is due; returns what to give up now."""
        for opened in self._open.values():
            if opened.again_at is not None and now >= opened.again_at:
                self._ask(opened, now)
        return [id for id, each in self._open.items() if now - each.asking.began >= ASKED_NS]

    def poll_timeouts(self) -> Iterator[Timeout]:
        """When to ask each again, and when to give it up."""
        for opened in self._open.values():
            yield Timeout(Instant(opened.asking.began + ASKED_NS), "direction given up")
            if opened.again_at is not None:
                yield Timeout(opened.again_at, "direction asked again")

    def _ask(self, opened: _Open, now: Instant) -> None:
        assert self._conversation is not None, "a node that is registered has one"
        tag = Directing(opened.request.negotiation)
        places = self._coordinators()
        opened.transaction = self._conversation.ask(opened.request, places, now, tag)
        opened.again_at = None
