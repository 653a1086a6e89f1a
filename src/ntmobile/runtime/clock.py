"""The machine's clocks: monotonic Instants for machines, and the wall clock for what is stored."""

import time

from ntmobile.time import SECOND, Instant


class Clock:
    """Tells the time; the only place that reads it."""

    def now(self) -> Instant:
        """Nanoseconds that never run backwards, comparable within this process only."""
        return Instant(time.monotonic_ns())

    def wall(self) -> float:
        """Seconds since 1970; may jump."""
        return time.time()  # noqa: TID251

    def wall_of(self, instant: Instant) -> float:
        """The wall-clock time of an Instant, to store it across a restart."""
        return self.wall() + (instant - self.now()) / SECOND

    def instant_of(self, wall: float) -> Instant:
        """The Instant of a stored wall-clock time; below now when it has passed."""
        return Instant(self.now() + round((wall - self.wall()) * SECOND))
