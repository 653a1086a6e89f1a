"""Requests inside control capsules: sent again until answered, like a transaction, without ids.

Each is known by a number that its answer echoes. Ours: docs/protocol.md sections 4 and 8.
"""

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from ntmobile.proto.io import Timeout
from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.tunnel import Control

FIRST_RETRY_NS = 50_000_000
"""A move must not wait: twice as long every time."""
LONGEST_RETRY_NS = 1_000_000_000
TRIES = 8

Purpose = TypeVar("Purpose")


@dataclass(frozen=True, slots=True)
class Pending(Generic[Purpose]):
    """One request that waits for its answer."""

    message: Control
    destination: Endpoint | None
    interface: int
    purpose: Purpose
    began: Instant
    tries: int
    most: int
    retry_at: Instant


class ControlRequests(Generic[Purpose]):
    """The open in-band requests of one tunnel."""

    def __init__(self) -> None:
        """None is open."""
        self._open: dict[int, Pending[Purpose]] = {}

    def open(
        self,
        number: int,
        message: Control,
        purpose: Purpose,
        now: Instant,
        *,
        destination: Endpoint | None = None,
        interface: int = 0,
        tries: int = TRIES,
        wait_ns: int = FIRST_RETRY_NS,
    ) -> Pending[Purpose]:
        """Note a request, whose first try waits so long; the caller sends it now."""
        pending = Pending(
            message,
            destination,
            interface,
            purpose,
            now,
            1,
            tries,
            Instant(now + wait_ns),
        )
        self._open[number] = pending
        return pending

    def close(self, number: int) -> Pending[Purpose] | None:
        """The answer with this number came, or nobody waits for it any more."""
        return self._open.pop(number, None)

    def drop(self, *purposes: Purpose) -> None:
        """Forget all requests of these purposes."""
        for number in [n for n, pending in self._open.items() if pending.purpose in purposes]:
            del self._open[number]

    def due(self, now: Instant) -> tuple[list[Pending[Purpose]], list[Pending[Purpose]]]:
        """Return those to send again, and those given up."""
        again: list[Pending[Purpose]] = []
        lost: list[Pending[Purpose]] = []
        for number, pending in list(self._open.items()):
            if now < pending.retry_at:
                continue
            if pending.tries >= pending.most:
                lost.append(self._open.pop(number))
                continue
            wait = min(FIRST_RETRY_NS << pending.tries, LONGEST_RETRY_NS)
            self._open[number] = replace(
                pending, tries=pending.tries + 1, retry_at=Instant(now + wait)
            )
            again.append(pending)
        return again, lost

    def poll_timeout(self) -> Timeout | None:
        """When the next is due."""
        times = [pending.retry_at for pending in self._open.values()]
        return Timeout(min(times), "control capsule retry") if times else None
