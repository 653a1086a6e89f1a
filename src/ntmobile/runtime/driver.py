"""Runs one sans-I/O machine on asyncio: its datagrams, its timer and its requests.

After everything that goes into the machine all its outlets are drained, in order, until all are
empty; then one timer is set for what poll_timeout asks.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import structlog

from ntmobile.proto.io import Failed, Timeout, Transmit
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.tasks import Tasks
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import Reason

log = structlog.get_logger()

MAX_REQUESTS = 1024
"""Requests of one machine under way at once; more fail as busy instead of piling up."""
LONGEST_SLEEP_S = 60.0
"""Bounds what a wrong timer can cost."""
AFTER_BUG_S = 1.0
"""Keeps a timer that fails each time from turning into a busy loop."""
T = TypeVar("T")


class Machine(Protocol):
    """The part of a machine's face that every driver needs."""

    def handle_timeout(self, now: Instant) -> None:
        """Does what is due."""
        ...

    def poll_timeout(self) -> Timeout | None:
        """When to call handle_timeout."""
        ...


class Datagram(Protocol):
    """One datagram as the packet loops hand it over."""

    @property
    def source_host(self) -> bytes:
        """4 or 16 bytes."""
        ...

    @property
    def source_port(self) -> int:
        """The sender's UDP port."""
        ...

    @property
    def payload(self) -> bytes:
        """The UDP payload."""
        ...


class DatagramPort(Protocol):
    """A `_core.Port` or `_core.Relay`."""

    def fileno(self) -> int:
        """Readable while drain has something."""
        ...

    def drain(self, most: int = 256) -> Sequence[Datagram]:
        """Takes what waits."""
        ...

    def send(self, host: bytes, port: int, payload: bytes, interface: int = 0) -> int:
        """Sends one datagram; returns 0 or an errno."""
        ...


class Identified(Protocol):
    """A request of a machine."""

    @property
    def id(self) -> int:
        """Names the request in its reply."""
        ...


@dataclass(frozen=True)
class Outlet(Generic[T]):
    """One poll of a machine, and where to take what it gives."""

    poll: Callable[[], T | None]
    deliver: Callable[[T], None]


class Driver:
    """Runs a machine. Inputs: `do`, `read` and its timer; outputs: its outlets.

    Outlets are drained in the order given, so commands to the packet loops go before the
    datagrams that rely on them.
    """

    def __init__(
        self, machine: Machine, outlets: Sequence[Outlet[Any]], *, clock: Clock, tasks: Tasks
    ) -> None:
        """Starts nothing yet; `start` drains the machine and sets the timer."""
        self._machine = machine
        self.outlets = tuple(outlets)
        """May be set once more before `start`: an outlet of requests needs `perform`."""
        self._clock = clock
        self._tasks = tasks
        self._timer: asyncio.TimerHandle | None = None
        self._draining = False
        self._closed = False
        self._reading: list[int] = []
        self.counters: Counter[str] = Counter()

    def start(self) -> None:
        """Drains what the machine already has."""
        self._settle()

    def do(self, verb: Callable[[Instant], T]) -> T:
        """Calls the machine, drains it, and returns what the call returned.

        May be called from an outlet; the drain that runs takes up what it causes.
        """
        result = verb(self._clock.now())
        self._settle()
        return result

    def read(self, port: DatagramPort, handle: Callable[[Endpoint, bytes, Instant], None]) -> None:
        """From now hands every datagram of port to handle, with its source."""
        loop = asyncio.get_running_loop()
        loop.add_reader(port.fileno(), self._receive, port, handle)
        self._reading.append(port.fileno())

    def perform(
        self,
        work: Callable[[Any], Awaitable[Any]],
        answer: Callable[[int, Any, Instant], None],
    ) -> Callable[[Identified], None]:
        """Return what an outlet of requests delivers to.

        Each request runs as a task of its own; what work returns goes to answer(id, reply, now).
        Work that raises is logged and answered by Failed.
        """

        def deliver(request: Identified) -> None:
            if self.counters["requests_open"] >= MAX_REQUESTS:
                self.counters["requests_refused"] += 1
                loop = asyncio.get_running_loop()
                busy = Failed(Reason.BUSY, "too many requests under way")
                loop.call_soon(self.do, lambda now: answer(request.id, busy, now))
                return
            self.counters["requests_open"] += 1
            self._tasks.start(self._perform(work, answer, request), type(request).__name__)

        return deliver

    def close(self) -> None:
        """Stops reading, draining and the timer; tasks belong to their owner."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        for descriptor in self._reading:
            loop.remove_reader(descriptor)
        self._reading.clear()

    async def _perform(
        self,
        work: Callable[[Any], Awaitable[Any]],
        answer: Callable[[int, Any, Instant], None],
        request: Identified,
    ) -> None:
        try:
            reply = await work(request)
        except Exception as error:
            log.exception("request failed", request=type(request).__name__)
            reply = Failed(Reason.BUSY, f"internal error: {error}")
        finally:
            self.counters["requests_open"] -= 1
        self.do(lambda now: answer(request.id, reply, now))

    def _receive(
        self, port: DatagramPort, handle: Callable[[Endpoint, bytes, Instant], None]
    ) -> None:
        now = self._clock.now()
        for datagram in port.drain():
            source = Endpoint.of(datagram.source_host, datagram.source_port)
            try:
                handle(source, datagram.payload, now)
            except Exception:
                self._bug("datagram failed")
        self._settle()

    def _settle(self) -> None:
        if self._draining or self._closed:
            return
        self._draining = True
        try:
            while any([self._drain(outlet) for outlet in self.outlets]):
                pass
        finally:
            self._draining = False
        self._schedule()

    def _drain(self, outlet: Outlet[T]) -> bool:
        """Delivers all there is; whether there was anything."""
        found = False
        while (item := self._poll(outlet)) is not None:
            found = True
            try:
                outlet.deliver(item)
            except Exception:
                self._bug("delivery failed")
        return found

    def _poll(self, outlet: Outlet[T]) -> T | None:
        # A poll that fails may fail for ever: it gives nothing until something else goes in.
        try:
            return outlet.poll()
        except Exception:
            self._bug("poll failed")
            return None

    def _bug(self, what: str) -> None:
        """A machine never raises over what the world does to it: this one is ours.

        It must cost one datagram, timer or event, and not the service of all others.
        """
        self.counters["bugs"] += 1
        log.exception(what, machine=type(self._machine).__name__)

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        timeout = self._machine.poll_timeout()
        if timeout is not None:
            self._sleep((timeout.at - self._clock.now()) / SECOND)

    def _sleep(self, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(min(max(wait_s, 0.0), LONGEST_SLEEP_S), self._wake)

    def _wake(self) -> None:
        self._timer = None
        timeout = self._machine.poll_timeout()
        now = self._clock.now()
        if timeout is not None and now >= timeout.at:
            try:
                self._machine.handle_timeout(now)
            except Exception:
                self._bug("timer failed")
                self._sleep(AFTER_BUG_S)
                return
        self._settle()


def sender(port: DatagramPort, counters: Counter[str]) -> Callable[[Transmit], None]:
    """Return what an outlet of poll_transmit delivers to: sends, and counts what was refused.

    A datagram that cannot go is lost, as on any network; the machine's own timers make it good.
    """

    def send(transmit: Transmit) -> None:
        host, number = transmit.destination.host.packed, transmit.destination.port
        error = port.send(host, number, transmit.payload, transmit.interface)
        counters["send_failed" if error else "sent"] += 1

    return send
