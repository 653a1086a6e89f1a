"""Examines this machine's network on real sockets, which are opened for that and closed after."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TypeVar

from ntmobile._core import Port
from ntmobile.proto.io import Entropy
from ntmobile.proto.node.discovery import SOCKETS, Discovery
from ntmobile.proto.node.finding import Finding, Point
from ntmobile.proto.node.lifetime import LIFETIME_SOCKETS, Lifetime, LifetimeFound
from ntmobile.proto.node.newest_port import NEWEST_PORT_SOCKETS, NewestPort
from ntmobile.proto.node.questions import Examiner
from ntmobile.proto.node.round_trips import ROUND_TRIP_SOCKETS, Measured, RoundTripTimes
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.protection import Protect, unprotected
from ntmobile.time import SECOND
from ntmobile.wire.endpoint import Endpoint, Host

QUEUE = 64
R = TypeVar("R")


class Examination:
    """Asks servers from fresh ports of this machine."""

    def __init__(self, clock: Clock, entropy: Entropy, *, protect: Protect = unprotected) -> None:
        """Protect is given each socket, as of all the node's."""
        self._clock = clock
        self._entropy = entropy
        self._protect = protect

    async def discover(
        self,
        points: Sequence[Point],
        own: frozenset[Host],
        glimpsed: Callable[[Finding], None] = lambda _: None,
    ) -> Finding:
        """Find out how NAT and firewall behave; points are of one family. Raises OSError.

        Takes a few round trips, and two seconds where something does not come in; glimpsed is
        called with what may be gone by meanwhile.
        """
        with ExitStack() as stack:
            ports = self._open(SOCKETS, stack)
            unspecified = "::" if points[0].endpoint.version == 6 else "0.0.0.0"
            sockets = [Endpoint(unspecified, port.port) for port in ports]
            machine = Discovery(points, sockets, own, self._entropy)

            def look() -> None:
                if (glimpse := machine.poll_glimpse()) is not None:
                    glimpsed(glimpse)

            return await self._run(machine, ports, look)

    async def find_newest_port(self, server: Endpoint) -> int:
        """Find out which outer port a mapping gets that is made now; 0 without an answer.

        Raises OSError.
        """
        with ExitStack() as stack:
            ports = self._open(NEWEST_PORT_SOCKETS, stack)
            return await self._run(NewestPort(server, self._entropy), ports)

    async def find_round_trips(self, servers: Sequence[Endpoint]) -> Measured:
        """Find out how far servers are. Raises OSError."""
        with ExitStack() as stack:
            ports = self._open(ROUND_TRIP_SOCKETS, stack)
            return await self._run(RoundTripTimes(servers, self._entropy), ports)

    async def find_lifetime(self, server: Endpoint) -> LifetimeFound:
        """Find out how long idle mappings live: up to five minutes. Raises OSError."""
        with ExitStack() as stack:
            ports = self._open(LIFETIME_SOCKETS, stack)
            return await self._run(Lifetime(server, self._entropy), ports)

    def _open(self, count: int, stack: ExitStack) -> list[Port]:
        ports: list[Port] = []
        for _ in range(count):
            ports.append(port := Port(queue=QUEUE))
            stack.callback(port.close)
            for descriptor in port.sockets():
                self._protect(descriptor)
        return ports

    async def _run(
        self,
        machine: Examiner[R],
        ports: Sequence[Port],
        look: Callable[[], None] = lambda: None,
    ) -> R:
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()
        with ExitStack() as stack:
            for number, port in enumerate(ports):
                take = self._taker(machine, number, port, woken)
                loop.add_reader(port.fileno(), take)
                stack.callback(loop.remove_reader, port.fileno())
            machine.start(self._clock.now())
            while (finding := machine.poll_finding()) is None:
                self._send(machine, ports)
                look()
                woken.clear()
                try:
                    async with asyncio.timeout(self._wait_s(machine)):
                        await woken.wait()
                except TimeoutError:
                    machine.handle_timeout(self._clock.now())
        return finding

    def _taker(
        self, machine: Examiner[R], number: int, port: Port, woken: asyncio.Event
    ) -> Callable[[], None]:
        def take() -> None:
            for datagram in port.drain():
                machine.handle_datagram(number, datagram.payload, self._clock.now())
            woken.set()

        return take

    def _send(self, machine: Examiner[R], ports: Sequence[Port]) -> None:
        while (sending := machine.poll_sending()) is not None:
            there = sending.transmit.destination
            # What cannot go is lost, as on any network: the silence is the finding.
            ports[sending.socket].send(there.host.packed, there.port, sending.transmit.payload)

    def _wait_s(self, machine: Examiner[R]) -> float | None:
        timeout = machine.poll_timeout()
        return None if timeout is None else max(0.0, (timeout.at - self._clock.now()) / SECOND)
