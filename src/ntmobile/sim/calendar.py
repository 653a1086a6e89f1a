"""Virtual time: what is due, in the order (time, order of planning)."""

import heapq
from collections.abc import Callable
from itertools import count

from ntmobile.errors import StateError
from ntmobile.time import Instant


class Entry:
    """Something planned; `cancel` makes it not happen."""

    __slots__ = ("action", "at")

    def __init__(self, at: Instant, action: Callable[[], None]) -> None:
        """Made by Calendar only."""
        self.at = at
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Take it off; a second time, or after it happened, does nothing."""
        self.action = None


class Calendar:
    """The only clock of a simulation; two entries of one instant happen in the order planned."""

    def __init__(self, start: Instant = Instant(0)) -> None:  # noqa: B008
        """Starts at that instant with nothing planned."""
        self.now = start
        self._order = count()
        self._entries: list[tuple[Instant, int, Entry]] = []

    def at(self, when: Instant, action: Callable[[], None]) -> Entry:
        """Plan an action; raises StateError for a time gone by."""
        if when < self.now:
            raise StateError(f"{when} is before {self.now}")
        entry = Entry(when, action)
        heapq.heappush(self._entries, (when, next(self._order), entry))
        return entry

    def after(self, delay_ns: int, action: Callable[[], None]) -> Entry:
        """Plan an action that many nanoseconds from now."""
        return self.at(Instant(self.now + delay_ns), action)

    def step(self, limit: Instant | None = None) -> bool:
        """Let the next thing happen; False when nothing is due (by limit, included)."""
        while self._entries:
            when, _, entry = self._entries[0]
            if entry.action is not None and limit is not None and when > limit:
                return False
            heapq.heappop(self._entries)
            if entry.action is not None:
                self.now = when
                action, entry.action = entry.action, None
                action()
                return True
        return False

    def run_until(self, done: Callable[[], bool], limit: Instant) -> bool:
        """Run until done says so, checked after every step; False when limit came first."""
        while not done():
            if not self.step(limit):
                self.now = max(self.now, limit)
                return done()
        return True

    def run_to(self, limit: Instant) -> None:
        """Run everything due up to and including that instant."""
        self.run_until(lambda: False, limit)
