"""The RS that a tunnel's negotiations led through: two ends whose DCs choose apart meet at either.

Ours: docs/protocol.md section 8.
"""

from collections.abc import Iterator

from ntmobile.proto.node.ends import Path
from ntmobile.wire.endpoint import Endpoint

MOST_RELAYS = 4


class Relays:
    """The newest RS of one tunnel; of each one address a family."""

    def __init__(self) -> None:
        """None is known yet."""
        self._known: tuple[tuple[Endpoint, ...], ...] = ()

    def __contains__(self, place: Endpoint) -> bool:
        return bool(self.at(place))

    def __iter__(self) -> Iterator[Endpoint]:
        return (place for relay in self._known for place in relay)

    def meet(self, relay: tuple[Endpoint, ...]) -> None:
        """Note an RS that a negotiation leads through."""
        if relay:
            others = tuple(known for known in self._known if known != relay)
            self._known = (relay, *others)[:MOST_RELAYS]

    def knows(self, relay: tuple[Endpoint, ...], *, beside: tuple[Endpoint, ...]) -> bool:
        """Whether these are the addresses of one of these RS, and of another than `beside`."""
        return relay in self._known and relay != beside

    def at(self, place: Endpoint) -> tuple[Endpoint, ...]:
        """All addresses of the RS that has this one; none where there is no RS."""
        return next((relay for relay in self._known if place in relay), ())

    def keeps_to(self, present: Endpoint, other: Endpoint) -> bool:
        """Whether to stay at the RS of one address though the peer's capsules come from the other.

        Of two RS that both carry, both ends keep to the one whose address is the smaller: each
        following the other they would change places for ever.
        """
        here, there = self.at(present), self.at(other)
        return bool(here and there) and _rank(here) < _rank(there)

    def is_straggler(self, source: Endpoint, path: Path) -> bool:
        """Whether to stay on a path though a capsule came through RS from elsewhere."""
        if source not in self:
            return False
        return not path.relayed or self.keeps_to(path.remote, source)

    def far_end(
        self, last: Path, direct: tuple[Endpoint, ...], families: set[int]
    ) -> Endpoint | None:
        """The far end of a path, or where the same end is known in a family that is left.

        direct is where the peer is reached without RS.
        """
        others = self.at(last.remote) if last.relayed else direct
        ways = (last.remote, *others)
        return next((way for way in ways if way.version in families), None)


def _rank(relay: tuple[Endpoint, ...]) -> bytes:
    return min(endpoint.pack() for endpoint in relay)
