"""The handovers of a node: the newest in memory and, for the next run, in its state directory.

Memory is the truth, the disk follows, in a thread of its own: moving never waits for it. A disk
that refuses is told of once; it is tried again at the next handover and at the end.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import structlog

from ntmobile.agent import records
from ntmobile.agent.files import read_if_there, write_atomically
from ntmobile.agent.views import HandoverPathView, HandoverView
from ntmobile.proto.node.causes import OWN, Cause
from ntmobile.proto.node.events import HandoverDone
from ntmobile.runtime.clock import Clock
from ntmobile.wire.endpoint import Endpoint

FILE = "handovers.json"
MOST_HANDOVERS = 200
_LOG = structlog.get_logger(__name__)

_MILLISECOND = 1_000_000

Start = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[Any]]


class Handovers:
    """Remembers the newest; the oldest falls out."""

    def __init__(self, directory: Path, start: Start) -> None:
        """Reads what an earlier run kept; start runs a coroutine in the background.

        A damaged file is put aside, with another name, and told of; nothing fails for it.
        """
        self._path = directory / FILE
        self._start = start
        self.trouble: str | None = None
        """Why the newest are not on disk, or the older ones not here; None: all is well."""
        self._kept: deque[HandoverView] = deque(self._read(), maxlen=MOST_HANDOVERS)
        self._unwritten = False
        self._writing: asyncio.Task[Any] | None = None

    @property
    def kept(self) -> Sequence[HandoverView]:
        """Oldest first."""
        return tuple(self._kept)

    def last(self, fqdn: str) -> HandoverView | None:
        """The newest of the tunnel to a peer."""
        return next((each for each in reversed(self._kept) if each.fqdn == fqdn), None)

    def add(self, handover: HandoverView) -> None:
        """A handover is over; it is written soon."""
        self._kept.append(handover)
        self._unwritten = True
        if self._writing is None or self._writing.done():
            self._writing = self._start(self._write(), "handovers")

    async def close(self) -> None:
        """Write what is not written yet."""
        if self._writing is not None:
            with suppress(asyncio.CancelledError):
                await self._writing
        await self._write()

    async def _write(self) -> None:
        while self._unwritten:
            self._unwritten = False
            data = records.encode(self.kept)
            try:
                await asyncio.to_thread(write_atomically, self._path, data)
            except OSError as error:
                self._unwritten = True
                self._tell(f"cannot write {self._path}: {error.strerror}")
                return
            self.trouble = None

    def _read(self) -> tuple[HandoverView, ...]:
        try:
            data = read_if_there(self._path)
            return () if data is None else records.decode(tuple[HandoverView, ...], data)
        except OSError as error:
            self._tell(f"cannot read {self._path}: {error.strerror}")
        except ValueError:
            aside = self._path.with_name(f"{FILE}.damaged")
            with suppress(OSError):
                self._path.replace(aside)
            self._tell(f"{self._path} was damaged; it is {aside.name} now, and a new one begins")
        return ()

    def _tell(self, trouble: str) -> None:
        if trouble != self.trouble:
            _LOG.warning("handovers are not kept", why=trouble)
        self.trouble = trouble


def handover_view(
    event: HandoverDone,
    before: Endpoint | None,
    here: Endpoint | None,
    clock: Clock,
    resent: int,
    *,
    slept: bool = False,
) -> HandoverView:
    """One handover, by this node's addresses when it moved itself, else by the peer's.

    before and here are its own address before and after, as far as they are known.
    """
    old, new = (before, here) if event.cause in OWN else (event.old, event.new)
    return HandoverView(
        fqdn=event.fqdn,
        at=clock.iso(event.at),
        outage_ms=event.outage_ns / _MILLISECOND,
        from_=str(old) if old else None,
        to=str(new or event.new),
        cause=Cause.WOKE_UP if slept else event.cause,
        before=_path(before, event.old, relayed=event.was_relayed),
        after=_path(here, event.new, relayed=event.relayed),
        resent_capsules=resent,
    )


def _path(
    local: Endpoint | None, remote: Endpoint | None, *, relayed: bool
) -> HandoverPathView | None:
    if remote is None:
        return None
    kind: Literal["direct", "relay"] = "relay" if relayed else "direct"
    return HandoverPathView(kind=kind, local=str(local) if local else None, remote=str(remote))
