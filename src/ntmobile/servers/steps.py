"""The newest steps of one server's sequences: logged as they come, kept for `ntm admin trace`."""

from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import structlog

from ntmobile.proto.journal import Step
from ntmobile.proto.testimony import Seen
from ntmobile.runtime.clock import Clock

KEPT = 4096
"""Of one role: about half a megabyte."""

log = structlog.get_logger()


class Steps:
    """Where a role's steps go; the oldest fall out."""

    def __init__(self, clock: Clock) -> None:
        """Nothing happened yet."""
        self._clock = clock
        self._kept: deque[Step] = deque(maxlen=KEPT)

    def __iter__(self) -> Iterator[Step]:
        return iter(tuple(self._kept))

    def add(self, step: Step) -> None:
        """Where an outlet of steps delivers to."""
        self._kept.append(step)
        log_step(step)


def log_step(step: Step) -> None:
    """Log a step, without the names in it."""
    log.debug("step", message=step.message, there=step.there, sent=step.sent, of=step.detail)


def seen(roles: Iterable[Steps], clock: Clock) -> tuple[Seen, ...]:
    """Return the steps of several roles, oldest first, with the time of day."""
    steps = sorted((step for role in roles for step in role), key=lambda step: step.at)
    walls = clock.walls_of(step.at for step in steps)
    return tuple(_as_seen(step, wall) for step, wall in zip(steps, walls, strict=True))


def _as_seen(step: Step, wall: float) -> Seen:
    moment = datetime.fromtimestamp(wall, UTC)
    at = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return Seen(at, step.message, step.here, step.there, step.sent, step.detail, step.names)
