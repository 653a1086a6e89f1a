"""A host in the simulator examines its network, as `ntm netcheck` does in a real one."""

from collections.abc import Sequence
from typing import TypeVar

from ntmobile.errors import StateError
from ntmobile.proto.node.discovery import SOCKETS, Discovery
from ntmobile.proto.node.finding import Finding, Point
from ntmobile.proto.node.lifetime import LIFETIME_SOCKETS, Lifetime, LifetimeFound
from ntmobile.proto.node.questions import Examiner, Sending
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
R = TypeVar("R")


def discover(internet: Internet, host: SimHost, points: Sequence[Point]) -> Finding:
    """Examine the host's network; points are of one family. Runs virtual time until it is done."""
    ports = _free_ports(host, SOCKETS)
    source = host.source_for(points[0].endpoint.version)
    if source is None:
        raise StateError(f"{host.name} has no address of that family")
    entropy = internet.entropy.fork(f"discovery {host.name} {internet.now}")
    locals_ = [Endpoint(source[1], port) for port in ports]
    machine = Discovery(points, locals_, frozenset({source[1]}), entropy)
    return _run(internet, host, machine, ports, limit_s=30)


def find_lifetime(internet: Internet, host: SimHost, server: Endpoint) -> LifetimeFound:
    """Find out how long mappings live. Runs virtual time until it is done."""
    entropy = internet.entropy.fork(f"lifetime {host.name} {internet.now}")
    ports = _free_ports(host, LIFETIME_SOCKETS)
    return _run(internet, host, Lifetime(server, entropy), ports, limit_s=600)


def _free_ports(host: SimHost, count: int) -> list[int]:
    ports: list[int] = []
    for _ in range(count):
        start = ports[-1] + APART if ports else FIRST_PORT
        ports.append(host.free_port(Transport.UDP, start))
    return ports


def _run(
    internet: Internet, host: SimHost, machine: Examiner[R], ports: Sequence[int], *, limit_s: int
) -> R:
    timer: list[Entry] = []

    def settle() -> None:
        while (sending := machine.poll_sending()) is not None:
            number, (destination, payload) = sending.socket, _parts(sending)
            host.send(Transport.UDP, ports[number], destination, payload)
        for entry in timer:
            entry.cancel()
        timer.clear()
        if (timeout := machine.poll_timeout()) is not None:
            timer.append(internet.calendar.at(max(timeout.at, internet.now), wake))

    def wake() -> None:
        machine.handle_timeout(internet.now)
        settle()

    def listen(number: int) -> None:
        def receive(_source: Endpoint, data: bytes, _interface: int) -> None:
            machine.handle_datagram(number, data, internet.now)
            settle()

        host.listen(Transport.UDP, ports[number], receive)

    for number in range(len(ports)):
        listen(number)
    try:
        machine.start(internet.now)
        settle()
        limit = Instant(internet.now + limit_s * SECOND)
        internet.calendar.run_until(lambda: machine.poll_finding() is not None, limit)
    finally:
        for port in ports:
            host.close(Transport.UDP, port)
    finding = machine.poll_finding()
    if finding is None:
        raise SimulationError(internet.now, f"{host.name} found nothing in {limit_s} s")
    return finding


def _parts(sending: Sending) -> tuple[Endpoint, bytes]:
    return sending.transmit.destination, sending.transmit.payload
