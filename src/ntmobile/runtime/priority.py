"""Who gets a processor first: the thread that decides, before those that carry packets.

A move is decided by one thread that wakes some ten times for less than a millisecond each; behind
the threads of a busy machine each time would cost it as much as the whole move may take.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

FIRST_BY = 10
"""Steps of nice(2)."""
_OTHERS = os.getpriority(os.PRIO_PROCESS, 0)


def decide_first() -> None:
    """Let the calling thread go before the others of this process, if the system allows that.

    Threads that it starts from now go first too.
    """
    _set(max(_OTHERS - FIRST_BY, -20))


def wait_turn() -> None:
    """Let the calling thread go like the others again, and those that it starts."""
    _set(_OTHERS)


@contextmanager
def as_others() -> Iterator[None]:
    """What the calling thread starts meanwhile goes like the others, whoever goes first."""
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    _set(_OTHERS)
    try:
        yield
    finally:
        _set(before)


def _set(priority: int) -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), priority)
    except PermissionError:
        return  # Not root: everybody waits for their turn.
