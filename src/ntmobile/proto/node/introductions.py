"""Learning whose certificates to believe, while what a DC directs waits for it.

The first time a node meets one of another domain it asks its AS for that domain's CAs: MN when it
asks for the name, CN when it is directed. A Route Direction that comes first waits, two seconds at
most; then the peer is judged by what is known. Ours: docs/protocol.md section 4.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ntmobile.proto.conversation import Asked
from ntmobile.proto.io import Call, Failed, OwnAccount, Timeout
from ntmobile.proto.node.events import AuthoritiesPinned
from ntmobile.proto.node.trust import Trust
from ntmobile.time import SECOND, Instant
from ntmobile.wire.direction import RouteDirection
from ntmobile.wire.login import AuthorityRequest, AuthorityResponse, LoginResponse
from ntmobile.wire.message import Message

MAX_ASKED = 16
"""Questions to the AS at once, and ten times as many Route Directions that wait: a DC can name any
domain."""
PATIENCE_NS = 2 * SECOND
"""As long as an early Tunnel Request is kept."""


@dataclass(frozen=True, slots=True)
class Held:
    """A Route Direction that waits."""

    asked: Asked
    route: RouteDirection
    domain: str
    until: Instant


class Introductions:
    """All that is asked of the AS about other domains, and all that waits for it."""

    def __init__(self, trust: Trust, next_id: Callable[[], int]) -> None:
        """What the AS states is learned by trust."""
        self._trust = trust
        self._next_id = next_id
        self._asked: dict[int, str] = {}
        self._held: dict[bytes, Held] = {}
        self._calls: deque[Call] = deque()
        self._events: deque[AuthoritiesPinned] = deque()

    @property
    def is_full(self) -> bool:
        """Whether nothing more can wait."""
        return len(self._held) >= 10 * MAX_ASKED

    def ask(self, domain: str | None) -> None:
        """Ask for the CAs of a domain, unless that is under way or too much is."""
        if len(self._asked) >= MAX_ASKED:
            return
        if domain is not None and domain not in self._asked.values():
            id = self._next_id()
            self._asked[id] = domain
            self._calls.append(Call(id, OwnAccount(), AuthorityRequest(domain)))

    def begin(self, own: str, response: LoginResponse, now: Instant) -> None:
        """Learn what came with a login: of the own domain, and of those it lists."""
        if self._trust.extend(response.authorities):
            self._events.append(AuthoritiesPinned(own, response.authorities))
        for other in response.neighbours:
            if self._trust.learn(other.domain, other.authorities, now):
                self._events.append(AuthoritiesPinned(other.domain, other.authorities))

    def hold(self, asked: Asked, route: RouteDirection, domain: str, now: Instant) -> None:
        """Let a Route Direction wait for the CAs of a domain."""
        until = Instant(now + PATIENCE_NS)
        self._held[route.negotiation] = Held(asked, route, domain, until)
        self.ask(domain)

    def handle_reply(self, id: int, reply: Message | Failed, now: Instant) -> list[Held] | None:
        """Take the AS's answer: what need not wait any more; None when it was not ours."""
        domain = self._asked.pop(id, None)
        if domain is None:
            return None
        known: tuple[bytes, ...] = ()
        if isinstance(reply, AuthorityResponse) and reply.domain == domain:
            known = reply.authorities
        if self._trust.learn(domain, known, now):
            self._events.append(AuthoritiesPinned(domain, known))
        return self._take(lambda held: held.domain == domain)

    def overdue(self, now: Instant) -> list[Held]:
        """What has waited long enough."""
        return self._take(lambda held: now >= held.until)

    def poll_call(self) -> Call | None:
        """Next HTTPS request to make."""
        return self._calls.popleft() if self._calls else None

    def poll_event(self) -> AuthoritiesPinned | None:
        """Next domain whose CAs were pinned."""
        return self._events.popleft() if self._events else None

    def poll_timeouts(self) -> Iterator[Timeout]:
        """All times at which something has waited long enough."""
        for held in self._held.values():
            yield Timeout(held.until, "CAs awaited")

    def _take(self, ready: Callable[[Held], bool]) -> list[Held]:
        taken = [held for held in self._held.values() if ready(held)]
        for held in taken:
            del self._held[held.route.negotiation]
        return taken
