"""Whether this machine slept lately: what happens then is not its networks' doing."""

from collections.abc import Callable

from ntmobile.time import SECOND, Instant

LEAST_NS = SECOND
"""Two clocks read one after the other differ by far less, on a loaded machine too."""
RECENT_NS = 60 * SECOND
"""Awake time in which links come up and tunnels find each other again."""


class Sleep:
    """Compares the time asleep at each look with that at the look before."""

    def __init__(self, slept_ns: Callable[[], int]) -> None:
        """slept_ns tells how long this machine has slept since it started."""
        self._slept_ns = slept_ns
        self._before_ns = slept_ns()
        self._woke_at: Instant | None = None

    def is_recent(self, now: Instant) -> bool:
        """Look, and say whether the machine woke up a short while ago, in time awake."""
        slept_ns = self._slept_ns()
        if slept_ns - self._before_ns >= LEAST_NS:
            self._woke_at = now
        self._before_ns = slept_ns
        return self._woke_at is not None and now - self._woke_at < RECENT_NS
