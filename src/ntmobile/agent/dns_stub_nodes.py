"""Names of nodes: one negotiation answers all queries for a name.

A and AAAA of a name come side by side, and resolvers repeat themselves; each name is resolved
once, and the result serves whoever asks while it runs and for a moment longer.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from ntmobile.agent.dns_stub_messages import Answer, Refused
from ntmobile.runtime.tasks import Tasks

UNDECIDED_S = 4.0
"""Then SERVFAIL, just before a C library's own resolver would give up at five seconds."""
LONGEST_S = 30.0
"""A negotiation that takes longer is given up."""
SHARED_S = 1.0
"""How long a result is given to others who ask."""

log = structlog.get_logger()

Outcome = Answer | Refused | None
"""None: undecided."""


class NodeNames:
    """Shares each call of `resolve` among those who ask for the same name."""

    def __init__(self, resolve: Callable[[str], Awaitable[Answer | Refused]], tasks: Tasks) -> None:
        """Resolve may raise: that name is then undecided."""
        self._resolve = resolve
        self._tasks = tasks
        self._running: dict[str, asyncio.Task[Outcome]] = {}

    async def find(self, fqdn: str) -> Outcome:
        """Returns what the node's machine decided within four seconds, None when it did not."""
        task = self._running.get(fqdn)
        if task is None:
            task = self._tasks.start(self._find(fqdn), "resolve a node's name")
            self._running[fqdn] = task
            task.add_done_callback(lambda _: self._forget_later(fqdn))
        done, _ = await asyncio.wait([task], timeout=UNDECIDED_S)
        return task.result() if done and not task.cancelled() else None

    def forget(self) -> None:
        """Whoever asks from now is answered anew: what was decided may be wrong by now."""
        self._running.clear()

    async def _find(self, fqdn: str) -> Outcome:
        try:
            async with asyncio.timeout(LONGEST_S):
                return await self._resolve(fqdn)
        except TimeoutError:
            return None
        except Exception:
            log.exception("resolving failed")
            return None

    def _forget_later(self, fqdn: str) -> None:
        task = self._running.get(fqdn)

        def forget() -> None:
            if self._running.get(fqdn) is task:
                self._running.pop(fqdn, None)

        asyncio.get_running_loop().call_later(SHARED_S, forget)
