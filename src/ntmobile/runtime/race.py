"""Several ways to the same end, tried a little after one another: the first that gets there wins.

Source: RFC 8305, section 5.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

STAGGER_S = 0.25
"""The next is tried when the one before has not answered (RFC 8305, section 5)."""


class AllFailedError(Exception):
    """No way led there; `errors` says why, of each that was tried, the first to fail first."""

    def __init__(self, errors: list[Exception]) -> None:
        """Errors are what the attempts raised."""
        super().__init__("; ".join(dict.fromkeys(str(each) or repr(each) for each in errors)))
        self.errors = errors


async def race(
    attempts: Iterable[Callable[[], Coroutine[Any, Any, T]]],
    discard: Callable[[T], Coroutine[Any, Any, None]],
) -> T:
    """Return what the first attempt that succeeds returned; raises AllFailedError.

    The others are given up, and what they reach all the same is discarded.
    """
    waiting = deque(attempts)
    running: set[asyncio.Task[T]] = set()
    done: set[asyncio.Task[T]] = set()
    errors: list[Exception] = []
    loop = asyncio.get_running_loop()
    try:
        while waiting or running:
            if waiting:
                running.add(loop.create_task(waiting.popleft()()))
            done, running = await asyncio.wait(
                running,
                timeout=STAGGER_S if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in tuple(done):
                if (error := task.exception()) is None:
                    done.discard(task)
                    return task.result()
                if not isinstance(error, Exception):
                    raise error
                errors.append(error)
    finally:
        # Two may have succeeded in the same turn of the loop.
        await _give_up(running | done, discard)
    raise AllFailedError(errors)


async def _give_up(
    tasks: set[asyncio.Task[T]], discard: Callable[[T], Coroutine[Any, Any, None]]
) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(outcome, BaseException):
            await discard(outcome)
