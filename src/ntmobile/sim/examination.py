"""A host in the simulator examines its network, as netcheck and the agent do in a real one."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from ntmobile.errors import StateError
from ntmobile.proto.node.discovery import SOCKETS, Discovery
from ntmobile.proto.node.finding import Finding, Point
from ntmobile.proto.node.lifetime import LIFETIME_SOCKETS, Lifetime, LifetimeFound
from ntmobile.proto.node.newest_port import NEWEST_PORT_SOCKETS, NewestPort
from ntmobile.proto.node.questions import Examiner
from ntmobile.proto.node.round_trips import ROUND_TRIP_SOCKETS, Measured, RoundTripTimes
from ntmobile.sim.calendar import Entry
from ntmobile.sim.errors import SimulationError
from ntmobile.sim.host import SimHost
from ntmobile.sim.internet import Internet
from ntmobile.sim.packet import Transport
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint

FIRST_PORT = 50000
APART = 97
"""Neighbouring ports would collide at a NAT that takes the next port up, as real ones do not."""
MANY = 20
R = TypeVar("R")


def discover(internet: Internet, host: SimHost, points: Sequence[Point]) -> Finding:
    """Examine the host's network; points are of one family. Runs virtual time until it is done."""
    return _await(internet, host, discovery(internet, host, points, lambda _: None), limit_s=30)


def discovery(
    internet: Internet,
    host: SimHost,
    points: Sequence[Point],
    done: Callable[[Finding], None],
    glimpsed: Callable[[Finding], None] = lambda _: None,
) -> "Examining[Finding]":
    """Begin to examine the host's network; done is called with what was found.

    glimpsed is called before, with what may be gone by meanwhile.
    """
    ports = _free_ports(host, SOCKETS)
    source = host.source_for(points[0].endpoint.version)
    if source is None:
        raise StateError(f"{host.name} has no address of that family")
    entropy = internet.entropy.fork(f"discovery {host.name} {internet.now}")
    locals_ = [Endpoint(source[1], port) for port in ports]
    machine = Discovery(points, locals_, frozenset({source[1]}), entropy)

    def look() -> None:
        if (glimpse := machine.poll_glimpse()) is not None:
            glimpsed(glimpse)

    return Examining(internet, host, machine, ports, done, look)


def newest_port(
    internet: Internet, host: SimHost, server: Endpoint, done: Callable[[int], None]
) -> "Examining[int]":
    """Begin to find out which port the NAT gives to a mapping that is made now."""
    entropy = internet.entropy.fork(f"newest port {host.name} {internet.now}")
    # A port that was used before may have its mapping yet.
    start = FIRST_PORT + MANY * APART + entropy.randrange(5000)
    ports = _free_ports(host, NEWEST_PORT_SOCKETS, start)
    return Examining(internet, host, NewestPort(server, entropy), ports, done)


def round_trips(
    internet: Internet, host: SimHost, servers: Sequence[Endpoint], done: Callable[[Measured], None]
) -> "Examining[Measured]":
    """Begin to find out how far servers are."""
    entropy = internet.entropy.fork(f"round trips {host.name} {internet.now}")
    ports = _free_ports(host, ROUND_TRIP_SOCKETS, FIRST_PORT + entropy.randrange(5000))
    return Examining(internet, host, RoundTripTimes(servers, entropy), ports, done)


def find_lifetime(internet: Internet, host: SimHost, server: Endpoint) -> LifetimeFound:
    """Find out how long mappings live. Runs virtual time until it is done."""
    entropy = internet.entropy.fork(f"lifetime {host.name} {internet.now}")
    ports = _free_ports(host, LIFETIME_SOCKETS)
    machine = Lifetime(server, entropy)
    examining = Examining(internet, host, machine, ports, lambda _: None)
    return _await(internet, host, examining, limit_s=600)


class Examining(Generic[R]):
    """One examination under way, from sockets that are closed when it is done."""

    def __init__(
        self,
        internet: Internet,
        host: SimHost,
        machine: Examiner[R],
        ports: Sequence[int],
        done: Callable[[R], None],
        look: Callable[[], None] = lambda: None,
    ) -> None:
        """Begins at once."""
        self._internet = internet
        self._host = host
        self._machine = machine
        self._ports = ports
        self._done = done
        self._look = look
        self._timer: Entry | None = None
        self.finding: R | None = None
        for number, port in enumerate(ports):
            host.listen(Transport.UDP, port, self._receiver(number))
        machine.start(internet.now)
        self._settle()

    def close(self) -> None:
        """End, with or without a finding."""
        if self._timer is not None:
            self._timer.cancel()
        for port in self._ports:
            self._host.close(Transport.UDP, port)

    def _receiver(self, number: int) -> Callable[[Endpoint, bytes, int], None]:
        def receive(_source: Endpoint, data: bytes, _interface: int) -> None:
            self._machine.handle_datagram(number, data, self._internet.now)
            self._settle()

        return receive

    def _wake(self) -> None:
        self._machine.handle_timeout(self._internet.now)
        self._settle()

    def _settle(self) -> None:
        while (sending := self._machine.poll_sending()) is not None:
            transmit, port = sending.transmit, self._ports[sending.socket]
            self._host.send(Transport.UDP, port, transmit.destination, transmit.payload)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._look()
        if self.finding is None and (found := self._machine.poll_finding()) is not None:
            self.finding = found
            self.close()
            self._done(found)
        elif (timeout := self._machine.poll_timeout()) is not None and self.finding is None:
            at = max(timeout.at, self._internet.now)
            self._timer = self._internet.calendar.at(at, self._wake)


def _free_ports(host: SimHost, count: int, start: int = FIRST_PORT) -> list[int]:
    ports: list[int] = []
    for _ in range(count):
        ports.append(host.free_port(Transport.UDP, ports[-1] + APART if ports else start))
    return ports


def _await(internet: Internet, host: SimHost, examining: Examining[R], *, limit_s: int) -> R:
    limit = Instant(internet.now + limit_s * SECOND)
    internet.calendar.run_until(lambda: examining.finding is not None, limit)
    if examining.finding is None:
        examining.close()
        raise SimulationError(internet.now, f"{host.name} found nothing in {limit_s} s")
    return examining.finding
