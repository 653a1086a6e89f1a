"""Finds out how a NAT behaves by asking it, after RFC 5780, with real datagrams.

The prober holds both ends: two ports on each of two machines of the global network,
and sockets inside. So it never waits for what does not come: it sends a datagram
that is sure to arrive behind those in question, and what has not come before that
one was refused.
"""

import contextlib
import itertools
import socket
from types import TracebackType
from typing import NamedTuple, Self

from ntmobile.lab.behaviour import Filtering, Mapping
from ntmobile.lab.errors import LabError
from ntmobile.lab.host import Host
from ntmobile.lab.namespace import Namespace

PATIENCE_S = 5.0
"""Nothing in a lab takes longer, unless it is lost; lossless paths assumed."""
TRIES = 2
"""A NAT that drew a port of another mapping drops the packet, and draws anew for the next."""

QUESTION = b"who am I"
MARKER = b"last"
BUFFER = 2048


class Address(NamedTuple):
    """An IPv4 transport address, as the socket module has it."""

    host: str
    port: int


class Prober:
    """Two ports on each of two machines that anyone can reach."""

    def __init__(self, first: Host, second: Host) -> None:
        """Open the four ports on the two machines, which have IPv4."""
        self._sockets = [_bound(host) for host in (first, first, second, second)]
        self._questions = itertools.count()

    @property
    def addresses(self) -> list[Address]:
        """The four: two of the first machine, two of the second."""
        return [Address(*own.getsockname()) for own in self._sockets]

    def mapped(self, inside: socket.socket, server: int = 0) -> Address:
        """Return how the inside socket is seen by a port; raises LabError if not."""
        own = self._sockets[server]
        for _ in range(TRIES):
            question = QUESTION + str(next(self._questions)).encode()
            inside.sendto(question, own.getsockname())
            with contextlib.suppress(TimeoutError):
                return _source_of(question, own)
        raise LabError("nothing arrived: is UDP blocked?")

    def mapping(self, inside: socket.socket) -> Mapping:
        """Return the mapping behaviour. Source: RFC 5780, section 4.3."""
        first, other_port, other_address = (self.mapped(inside, n) for n in (0, 1, 2))
        if first == other_address:
            return Mapping.ENDPOINT_INDEPENDENT
        if first == other_port:
            return Mapping.ADDRESS_DEPENDENT
        return Mapping.ADDRESS_AND_PORT_DEPENDENT

    def filtering(self, inside: socket.socket) -> Filtering:
        """Return the filtering behaviour, with an inside socket that is fresh.

        Source: RFC 5780, section 4.4.
        """
        mapped = self.mapped(inside)
        admitted = self.admitted(inside, mapped)
        if admitted[2]:
            return Filtering.ENDPOINT_INDEPENDENT
        if admitted[1]:
            return Filtering.ADDRESS_DEPENDENT
        return Filtering.ADDRESS_AND_PORT_DEPENDENT

    def admitted(self, inside: socket.socket, mapped: Address) -> list[bool]:
        """Return which of the four may send; the first one must be able to."""
        for number in (3, 2, 1):
            self._sockets[number].sendto(bytes([number]), mapped)
        self._sockets[0].sendto(MARKER, mapped)
        arrived = [True, False, False, False]
        while (data := inside.recv(BUFFER)) != MARKER:
            arrived[data[0]] = True
        return arrived

    def reaches(
        self, sender: socket.socket, to: Address, receiver: socket.socket
    ) -> Address | None:
        """Say as whom `sender` gets through to `to`, a port of `receiver`, or None.

        The receiver must have sent to the first of the four from that port.
        """
        sender.sendto(QUESTION, to)
        self._sockets[0].sendto(MARKER, to)
        seen = None
        while (received := receiver.recvfrom(BUFFER))[0] != MARKER:
            seen = Address(*received[1])
        return seen

    def close(self) -> None:
        """Close the four ports."""
        for own in self._sockets:
            own.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the four ports."""
        self.close()


def udp(machine: Namespace, port: int = 0, address: str = "0.0.0.0") -> socket.socket:
    """Return an IPv4 UDP socket of a machine, which waits PATIENCE_S at most."""
    made = machine.socket()
    made.settimeout(PATIENCE_S)
    made.bind((address, port))
    return made


def _source_of(question: bytes, own: socket.socket) -> Address:
    """Say from where a question comes; an earlier one that is late is passed over."""
    while True:
        data, source = own.recvfrom(BUFFER)
        if data == question:
            return Address(*source)


def _bound(host: Host) -> socket.socket:
    return udp(host, address=str(host.ipv4))
