"""Finds out in the background what the machine wants to know of the NAT before this node.

Ours: docs/protocol.md section 7.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from ntmobile.proto.node.events import NatWanted, NewestPortWanted, RoundTripsWanted
from ntmobile.proto.node.finding import Finding, Point
from ntmobile.proto.node.round_trips import Measured
from ntmobile.runtime.tasks import Tasks
from ntmobile.wire.endpoint import Endpoint, Host

_LOG = structlog.get_logger(__name__)
Found = Callable[[Finding | None], None]
PortFound = Callable[[int], None]
Timed = Callable[[int, Measured], None]


class Examiner(Protocol):
    """What asks the servers: agent.examination."""

    async def discover(
        self,
        points: Sequence[Point],
        own: frozenset[Host],
        glimpsed: Callable[[Finding], None] = ...,
    ) -> Finding:
        """Find out how NAT and firewall behave, glimpsed soon; raises OSError."""
        ...

    async def find_newest_port(self, server: Endpoint) -> int:
        """Find out which outer port a mapping gets that is made now; raises OSError."""
        ...

    async def find_round_trips(self, servers: Sequence[Endpoint]) -> Measured:
        """Find out how far servers are; raises OSError."""
        ...


class Surveyor:
    """One of each question at a time: a network that is left is not examined to the end."""

    def __init__(
        self,
        examination: Examiner,
        own: Callable[[], frozenset[Host]],
        found: Found,
        measured: PortFound,
        timed: Timed,
        tasks: Tasks,
    ) -> None:
        """own are the machine's addresses; found, measured and timed are called with answers."""
        self._examination = examination
        self._own = own
        self._found = found
        self._measured = measured
        self._timed = timed
        self._tasks = tasks
        self._examining: asyncio.Task[None] | None = None
        self._timing: asyncio.Task[None] | None = None

    def handle(self, wanted: NatWanted | NewestPortWanted | RoundTripsWanted) -> None:
        """Begin to find out."""
        match wanted:
            case NatWanted(servers):
                if self._examining is not None:
                    self._examining.cancel()
                self._examining = self._tasks.start(self._examine(servers), "NAT discovery")
            case NewestPortWanted(server):
                self._tasks.start(self._measure(server), "newest port")
            case RoundTripsWanted():
                if self._timing is not None:
                    self._timing.cancel()
                self._timing = self._tasks.start(self._time(wanted), "round trips")

    async def _examine(self, servers: tuple[Endpoint, ...]) -> None:
        own = frozenset(host for host in self._own() if host.version == 4)
        points = [Point(str(server.host), server) for server in servers]
        try:
            finding = await self._examination.discover(points, own, self._found)
        except OSError as error:
            _LOG.warning("NAT not examined", why=str(error))
            return self._found(None)
        _LOG.info(
            "NAT examined",
            mapping=sorted(finding.mapping),
            filtering=sorted(finding.filtering),
            ports=finding.ports,
        )
        self._found(finding)

    async def _measure(self, server: Endpoint) -> None:
        try:
            port = await self._examination.find_newest_port(server)
        except OSError as error:
            _LOG.warning("newest port not measured", why=str(error))
            port = 0
        self._measured(port)

    async def _time(self, wanted: RoundTripsWanted) -> None:
        measured: Measured = {}
        try:
            measured = await self._examination.find_round_trips(wanted.servers)
        except OSError as error:
            _LOG.warning("round trips not measured", why=str(error))
        self._timed(wanted.number, measured)
