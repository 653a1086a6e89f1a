"""Writes what a DC must remember into the store, in batches, and waits out a full disk."""

import asyncio
from collections import Counter, deque
from dataclasses import replace

import structlog

from ntmobile.proto.coordinator.settings import Audit, StoredNode
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.tasks import Tasks
from ntmobile.store import Decision, Registration, Store, StoreUnavailable

log = structlog.get_logger()

RETRY_S = 1.0
MOST_DECISIONS = 10_000
"""Decisions kept while the store does not work; older ones are lost and counted."""
BATCH = 1000
LAST_TRY_S = 0.7
"""At the end; `ntm serve` stops within two seconds."""


class Keeper:
    """Takes registrations and decisions at any rate; the latest of each node is what counts."""

    def __init__(self, store: Store, clock: Clock, tasks: Tasks) -> None:
        """Writes in a task of its own."""
        self._store = store
        self._clock = clock
        self._nodes: dict[str, StoredNode] = {}
        self._decisions: deque[Decision] = deque(maxlen=MOST_DECISIONS)
        self._wanted = asyncio.Event()
        self._failing = False
        self.counters: Counter[str] = Counter()
        self._task = tasks.start(self._run(), "store writer")

    def keep_node(self, node: StoredNode) -> None:
        """Write a node's registration soon."""
        self._nodes[node.fqdn] = node
        self._wanted.set()

    def keep_decision(self, audit: Audit) -> None:
        """Append a decision to the audit soon."""
        if len(self._decisions) == MOST_DECISIONS:
            self.counters["decisions lost"] += 1
        reason = str(audit.reason or "")
        verdict = "allowed" if audit.allowed else "refused"
        at = self._clock.wall_of(audit.at)
        self._decisions.append(Decision(at, verdict, audit.mn, audit.cn, reason))
        self._wanted.set()

    async def restore(self) -> tuple[StoredNode, ...]:
        """The registrations that are still good, on this process's clock.

        Raises StoreUnavailable.
        """
        stored = await self._store.registrations.valid(self._clock.wall())
        return tuple(on_clock(each, self._clock) for each in stored)

    async def close(self) -> None:
        """Write what is left, if the store lets us in time."""
        self._task.cancel()
        await asyncio.wait([self._task])
        try:
            async with asyncio.timeout(LAST_TRY_S):
                while self._nodes or self._decisions:
                    await self._write()
        except (StoreUnavailable, TimeoutError) as error:
            unwritten = len(self._nodes)
            log.error("registrations not written", nodes=unwritten, why=str(error))

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._nodes or self._decisions:
                try:
                    await self._write()
                except StoreUnavailable as error:
                    self._tell(str(error))
                    await asyncio.sleep(RETRY_S)
                else:
                    self._tell(None)

    async def _write(self) -> None:
        nodes = dict(list(self._nodes.items())[:BATCH])
        if nodes:
            await self._store.registrations.put(
                Registration(node, self._clock.wall_of(node.expires)) for node in nodes.values()
            )
            # One that changed meanwhile stays.
            self._nodes = {f: n for f, n in self._nodes.items() if nodes.get(f) is not n}
            self.counters["registrations"] += len(nodes)
        decisions = list(self._decisions)[:BATCH]
        if decisions:
            await self._store.audit.add(decisions)
            for decision in decisions:
                if self._decisions and self._decisions[0] is decision:
                    self._decisions.popleft()
            self.counters["decisions"] += len(decisions)

    def _tell(self, trouble: str | None) -> None:
        if trouble is not None:
            self.counters["failures"] += 1
        if trouble is not None and not self._failing:
            log.error("the store cannot be written; going on without", why=trouble)
        elif trouble is None and self._failing:
            log.info("the store can be written again")
        self._failing = trouble is not None


def on_clock(registration: Registration, clock: Clock) -> StoredNode:
    """Return a stored node whose expiry is on this process's clock."""
    return replace(registration.node, expires=clock.instant_of(registration.expires_at))
