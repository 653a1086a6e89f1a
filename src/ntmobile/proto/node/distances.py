"""How far the domain's RS are from where the node is now.

Measured when the DC names several, in each network anew, and hourly (sooner while one is silent);
told to the DC alone, which chooses the RS that is the nearest to both ends of a tunnel. One RS is
no choice: then nothing is asked and nothing told. Ours: docs/protocol.md section 7.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from ntmobile.proto.node.events import RoundTripsWanted
from ntmobile.proto.node.round_trips import Measured
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.round_trip import LONGEST_MS, RoundTrip, RoundTrips

AGAIN_NS = 3600 * SECOND
FIRST_AGAIN_NS = 60 * SECOND
"""While an RS is silent; doubles up to an hour."""
_MILLISECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Distance:
    """One RS and how far it is."""

    relay: tuple[Endpoint, ...]
    rtt_ns: int | None
    """None: it did not answer."""


class Distances:
    """Of one node. After a verb, ask `poll_want`."""

    def __init__(self) -> None:
        """No RS is known."""
        self._relays: tuple[tuple[Endpoint, ...], ...] = ()
        self._measured: Measured = {}
        self._number = 0
        self._again_at: Instant | None = None
        """None while being measured, and where there is nothing to measure."""
        self._wait_ns = FIRST_AGAIN_NS
        self._wants: deque[RoundTripsWanted] = deque()

    def __iter__(self) -> Iterator[Distance]:
        """All RS, in the DC's order, once they were measured."""
        if self._measured:
            for relay in self._relays:
                times = [self._measured.get(place) for place in relay]
                yield Distance(
                    relay, min((time for time in times if time is not None), default=None)
                )

    @property
    def told(self) -> RoundTrips:
        """What the DC is told: nothing where no RS answers, as where UDP is blocked."""
        found = tuple(self)
        if all(each.rtt_ns is None for each in found):
            return ()
        return tuple(RoundTrip(each.relay[0], _milliseconds(each.rtt_ns)) for each in found)

    def move(self) -> None:
        """Another network: nothing is known of it."""
        self._number += 1
        self._relays, self._measured = (), {}
        self._again_at, self._wait_ns = None, FIRST_AGAIN_NS

    def learn(self, relays: tuple[tuple[Endpoint, ...], ...], families: frozenset[int]) -> None:
        """The DC names these RS; the node has addresses of these families."""
        relays = tuple(relay for relay in relays if relay)
        if relays != self._relays:
            self.move()
            self._relays = relays
            self._want(families)

    def refresh(self, families: frozenset[int], now: Instant) -> None:
        """The node is awake and sending anyway: measure again what is old."""
        if self._again_at is not None and now >= self._again_at:
            self._again_at = None
            self._want(families)

    def take(self, number: int, measured: Measured, now: Instant) -> bool:
        """Answers RoundTripsWanted; False for that of a network the node has left."""
        if number != self._number:
            return False
        self._measured = measured
        silent = any(each.rtt_ns is None for each in self)
        self._again_at = Instant(now + (self._wait_ns if silent else AGAIN_NS))
        self._wait_ns = min(2 * self._wait_ns, AGAIN_NS) if silent else FIRST_AGAIN_NS
        return True

    def poll_want(self) -> RoundTripsWanted | None:
        """Next thing to measure."""
        return self._wants.popleft() if self._wants else None

    def _want(self, families: frozenset[int]) -> None:
        if len(self._relays) < 2:
            return
        places = (place for relay in self._relays for place in relay if place.version in families)
        self._wants.append(RoundTripsWanted(self._number, tuple(places)))


def _milliseconds(rtt_ns: int | None) -> int:
    return LONGEST_MS if rtt_ns is None else min(round(rtt_ns / _MILLISECOND), LONGEST_MS)
