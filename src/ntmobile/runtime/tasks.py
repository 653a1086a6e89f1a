"""Background tasks that are never lost: referenced while they run, logged when they fail."""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

import structlog

log = structlog.get_logger()


class Tasks:
    """Owns tasks; `close`, or leaving the context, cancels those that still run."""

    def __init__(self) -> None:
        """Starts empty."""
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Runs a coroutine; a failure is logged under its name and ends nothing else."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    def repeat(self, work: Callable[[], Coroutine[Any, Any, Any]], every_s: float) -> None:
        """Runs work now and then every so many seconds, also after it failed."""
        self.start(self._repeat(work, every_s), work.__qualname__)

    async def close(self) -> None:
        """Cancels what runs and waits until all of it has ended."""
        own = asyncio.current_task()
        while running := [task for task in self._running if task is not own]:
            for task in running:
                task.cancel()
            await asyncio.wait(running)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task failed", task=task.get_name(), exc_info=error)

    async def _repeat(self, work: Callable[[], Coroutine[Any, Any, Any]], every_s: float) -> None:
        while True:
            try:
                await work()
            except Exception:
                log.exception("task failed", task=work.__qualname__)
            await asyncio.sleep(every_s)
