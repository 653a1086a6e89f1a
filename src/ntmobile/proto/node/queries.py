"""Applications that wait for a name: answered when its tunnel stands, or soon after it is allowed.

Once the peer is authorised the answer comes within 2 s, tunnel ready or not (packets wait for it);
undecided for long, the name is refused. Ours: docs/protocol.md section 6.
"""

from collections import deque
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from ntmobile.proto.io import Timeout
from ntmobile.proto.node.events import NameRefused, NameResolved
from ntmobile.time import SECOND, Instant
from ntmobile.wire.registration import Reason

AUTHORISED_NS = 2 * SECOND
UNDECIDED_NS = 12 * SECOND
"""Longer than a resolver waits: its next try finds the same negotiation under way."""


@dataclass(slots=True)
class _Waiting:
    give_up_at: Instant
    queries: list[int] = field(default_factory=list)
    addresses: tuple[IPv4Address, IPv6Address] | None = None
    answer_at: Instant | None = None


class Queries:
    """All names somebody waits for."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._waiting: dict[str, _Waiting] = {}
        self._events: deque[NameResolved | NameRefused] = deque()

    def names(self) -> tuple[str, ...]:
        """The names that are waited for."""
        return tuple(self._waiting)

    def add(self, query: int, fqdn: str, now: Instant) -> None:
        """Somebody waits for this name."""
        waiting = self._waiting.setdefault(fqdn, _Waiting(Instant(now + UNDECIDED_NS)))
        waiting.queries.append(query)

    def authorise(
        self, fqdn: str, addresses: tuple[IPv4Address, IPv6Address], now: Instant
    ) -> None:
        """The peer may be talked to: its addresses are known."""
        waiting = self._waiting.get(fqdn)
        if waiting is not None and waiting.answer_at is None:
            waiting.addresses = addresses
            waiting.answer_at = Instant(now + AUTHORISED_NS)

    def resolve(self, fqdn: str, addresses: tuple[IPv4Address, IPv6Address]) -> None:
        """Answer all who wait for the name."""
        waiting = self._waiting.pop(fqdn, None)
        for query in () if waiting is None else waiting.queries:
            self._events.append(NameResolved(query, fqdn, *addresses))

    def refuse(self, fqdn: str, reason: Reason) -> None:
        """Refuse all who wait for the name."""
        waiting = self._waiting.pop(fqdn, None)
        for query in () if waiting is None else waiting.queries:
            self._events.append(NameRefused(query, fqdn, reason))

    def handle_timeout(self, now: Instant) -> None:
        """Answer and refuse what is due."""
        for fqdn, waiting in list(self._waiting.items()):
            if waiting.answer_at is not None and waiting.addresses and now >= waiting.answer_at:
                self.resolve(fqdn, waiting.addresses)
            elif now >= waiting.give_up_at:
                self.refuse(fqdn, Reason.TIMED_OUT)

    def poll_event(self) -> NameResolved | NameRefused | None:
        """Next answer."""
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        times = [waiting.answer_at or waiting.give_up_at for waiting in self._waiting.values()]
        return Timeout(min(times), "name answer") if times else None
