"""The machine's clocks: monotonic Instants for machines, and the wall clock for what is stored."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime

from ntmobile.time import SECOND, Instant


class Clock:
    """Tells the time; the only place that reads it."""

    def now(self) -> Instant:
        """Nanoseconds that never run backwards, comparable within this process only."""
        return Instant(time.monotonic_ns())

    def slept_ns(self) -> int:
        """How long this machine has slept since it started: Instants stand still meanwhile."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self.now()

    def wall(self) -> float:
        """Seconds since 1970; may jump."""
        return time.time()  # noqa: TID251

    def wall_of(self, instant: Instant) -> float:
        """The wall-clock time of an Instant, to store it across a restart."""
        return self.walls_of((instant,))[0]

    def iso(self, instant: Instant) -> str:
        """The wall-clock time of an Instant for a person, as `iso` tells it."""
        return iso(self.wall_of(instant))

    def walls_of(self, instants: Iterable[Instant]) -> list[float]:
        """The same of several by one look at both clocks: order and distances stay."""
        # Of three looks the one with the least time between the two clocks: another process may
        # have run there.
        looks = [(self.now(), self.wall(), self.now()) for _ in range(3)]
        before, wall, after = min(looks, key=lambda look: look[2] - look[0])
        middle = (before + after) // 2
        return [wall + (instant - middle) / SECOND for instant in instants]

    def instant_of(self, wall: float) -> Instant:
        """The Instant of a stored wall-clock time; below now when it has passed."""
        return Instant(self.now() + round((wall - self.wall()) * SECOND))


def iso(wall: float, timespec: str = "milliseconds") -> str:
    """Return seconds since 1970 as ISO 8601 in UTC."""
    moment = datetime.fromtimestamp(wall, UTC)
    return moment.isoformat(timespec=timespec).replace("+00:00", "Z")
