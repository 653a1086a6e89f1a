"""Clocks that tests set wrong."""

from ntmobile.runtime.clock import Clock
from ntmobile.time import SECOND, Instant


class Uneven(Clock):
    """Between its two readings passes ever less: every conversion says an earlier time."""

    def __init__(self) -> None:
        self.readings = 0

    def now(self) -> Instant:
        return Instant(1000 * SECOND)

    def wall(self) -> float:
        self.readings += 1
        return 5000 - self.readings / 1000
