"""When the NAT will drop the mapping that the DC sees: some do so at a fixed age, busy or not.

States::

    Unknown --a mapping is gone that had been confirmed--> Guessed, its age between two bounds
    Guessed --the next is gone at an age within them--> Known; --at another--> Guessed, that one
    Known --one dies sooner: the NAT restarted--> Known
    Known --one outlives the bounds--> Unknown

A mapping's death is seen late, by the first answer that tells another one, so ages are intervals;
asking often while one is expected to die makes them narrow. That mapping is gone before anybody
misses it: what the node sends then makes the next, and its tunnels show the peers where it is.
Better still, once the age is known, the node leaves a mapping before it dies: see `rotation`.
Source: RFC 4787, section 4.3 (which forbids such NATs). Ours: docs/protocol.md section 8.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from ntmobile.proto.node.rotation import lead_ns
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint

SHORTEST_NS = 45 * SECOND
"""A mapping that was never confirmed, or hardly, died of idleness, or the NAT restarted."""
SEEK_NS = SECOND // 4
"""Between two questions while a mapping is expected to die."""
LONGEST_WATCH_NS = 90 * SECOND
MARGIN_NS = SECOND // 2
"""What is confirmed was so when the question passed the NAT, a round trip ago at most."""


class Span(NamedTuple):
    """Between these, in nanoseconds; of an instant or of an age."""

    least: int
    most: int

    def meets(self, other: "Span") -> "Span | None":
        """Return what lies in both."""
        least, most = max(self.least, other.least), min(self.most, other.most)
        return Span(least, most) if least <= most else None


@dataclass(frozen=True, slots=True)
class _Mapping:
    seen: Endpoint
    born: Span
    confirmed: Instant


class MappingAge:
    """Of one address family, in the network where the node is."""

    def __init__(self, told_s: int | None = None) -> None:
        """Nothing is known, but for what the person told, in seconds."""
        self._told = None if told_s is None else Span(told_s * SECOND, told_s * SECOND)
        self._mapping: _Mapping | None = None
        self._left: _Mapping | None = None
        """The one that was left for another one, which has not been seen yet."""
        self._left_at = Instant(0)
        self._guess: Span | None = None
        self._age = self._told

    @property
    def is_learning(self) -> bool:
        """Whether one died so: then each confirmation of the next narrows its age."""
        return self._guess is not None and self._age is None

    @property
    def age(self) -> Span | None:
        """At which age mappings die here, where that is known."""
        return self._age

    def move(self) -> None:
        """Another network, another NAT."""
        self._mapping = self._left = self._guess = None
        self._age = self._told

    def leave_at(self) -> Instant | None:
        """When to make another mapping, because this one is going to die; None: not yet."""
        if self._mapping is None or self._age is None:
            return None
        least = self._age.least
        return Instant(self._mapping.born.least + least - lead_ns(least))

    def leave(self, now: Instant) -> None:
        """From now the node shows itself by another mapping."""
        self._mapping, self._left, self._left_at = None, self._mapping or self._left, now

    def is_elsewhere(self, mapped: Endpoint) -> bool:
        """Whether that is not where the node was seen before it left a mapping."""
        return self._left is None or self._left.seen != mapped

    def see(self, mapped: Endpoint, now: Instant) -> None:
        """The DC tells where it sees the node."""
        before, left = self._mapping, self._left
        self._left = None
        if before is None and left is not None:
            made = _Mapping(mapped, Span(self._left_at, now), now)
            self._mapping = left if left.seen == mapped else made
        elif before is None:
            self._mapping = _Mapping(mapped, Span(now, now), now)
        elif before.seen == mapped:
            self._confirm(before, now)
        elif before.seen.host != mapped.host:
            # Another uplink of the NAT, or another NAT.
            self.move()
            self.see(mapped, now)
        else:
            self._bury(before, now)
            self._mapping = _Mapping(mapped, Span(before.confirmed, now), now)

    def next_at(self, now: Instant) -> Instant | None:
        """When to ask the DC, because the mapping is expected to be gone; None: as usual."""
        if self._mapping is None or self._age is None:
            return None
        begins = Instant(self._mapping.born.least + self._age.least)
        at = max(begins, Instant(now + SEEK_NS))
        return at if at <= self._ends(self._mapping, self._age) else None

    def _confirm(self, mapping: _Mapping, now: Instant) -> None:
        self._mapping = replace(mapping, confirmed=now)
        if self._age is not None and now > mapping.born.most + self._age.most + MARGIN_NS:
            self._guess = self._age = None

    def _bury(self, mapping: _Mapping, now: Instant) -> None:
        confirmed = mapping.confirmed - MARGIN_NS
        lived = Span(confirmed - mapping.born.most, now - mapping.born.least)
        restarted = self._age is not None and lived.most < self._age.least
        if restarted or lived.least < SHORTEST_NS or lived.most - lived.least > LONGEST_WATCH_NS:
            return
        self._age = None if self._guess is None else self._guess.meets(lived)
        self._guess = self._age or lived

    def _ends(self, mapping: _Mapping, age: Span) -> Instant:
        return Instant(mapping.born.most + age.most + 2 * MARGIN_NS)
