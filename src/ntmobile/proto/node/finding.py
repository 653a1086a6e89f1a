"""What was found out about the way to the Internet of one address family, and how it follows.

Where too few servers are there to tell two behaviours apart, both are left: a set is what is
still possible. Source: RFC 4787 for the words, RFC 5780, section 4, for the conclusions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.nat import Behaviour, PortAssignment

ANY = frozenset(Behaviour)
INDEPENDENT = Behaviour.ENDPOINT_INDEPENDENT
BY_ADDRESS = Behaviour.ADDRESS_DEPENDENT
BY_PORT = Behaviour.ADDRESS_AND_PORT_DEPENDENT
LONGEST_STEP = 16
"""Ports that others may have taken between two of ours, for them to count as sequential."""
FIRST_PORT = 1024
PORTS = 65536 - FIRST_PORT


class Point(NamedTuple):
    """An observation point: a DC or an RS, at one address."""

    name: str
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class PointSeen:
    """What came of asking one."""

    point: Point
    rtt_ns: int | None
    """None: no answer."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a Discovery."""

    family: int
    points: tuple[PointSeen, ...]
    mapped: Endpoint | None
    """As a server saw one of the node's sockets; None when no server did."""
    translated: bool | None
    """Whether that is another address or port than the socket has."""
    mapping: frozenset[Behaviour] = ANY
    filtering: frozenset[Behaviour] = ANY
    ports: PortAssignment | None = None
    hairpin: bool | None = None
    """Whether two sockets behind it reach each other's mapped addresses. None where that means
    nothing (not translated), or where the filter alone stops it."""

    @property
    def udp(self) -> bool:
        """Whether UDP passes at all in this family."""
        return self.mapped is not None


def mapping_of(seen: Mapping[Endpoint, Endpoint]) -> frozenset[Behaviour]:
    """Return which mapping behaviours show one socket like this to these servers.

    Source: RFC 5780, section 4.3.
    """
    possible = set(ANY)
    for asked, mapped in seen.items():
        for other, other_mapped in seen.items():
            if asked == other:
                continue
            if asked.host == other.host:
                possible &= {BY_PORT} if mapped != other_mapped else {INDEPENDENT, BY_ADDRESS}
            else:
                possible &= {INDEPENDENT} if mapped == other_mapped else {BY_ADDRESS, BY_PORT}
    # Contradictions come of a NAT that changed its mind while it was asked: no conclusion.
    return frozenset(possible) or ANY


def filtering_of(*, address: bool | None, port: bool | None) -> frozenset[Behaviour]:
    """Return the filtering behaviours left by two tests, each None where it was impossible.

    address: another address than the one sent to got in; port: another port of it did.
    Source: RFC 5780, section 4.4.
    """
    possible = set(ANY)
    if address is not None:
        possible &= {INDEPENDENT} if address else {BY_ADDRESS, BY_PORT}
    if port is not None and INDEPENDENT not in possible:
        possible &= {BY_ADDRESS} if port else {BY_PORT}
    elif port is not None and address is None:
        possible &= {INDEPENDENT, BY_ADDRESS} if port else {BY_PORT}
    return frozenset(possible)


def ports_of(given: Sequence[tuple[int, int]]) -> PortAssignment | None:
    """Return how outer ports are picked, from (inner, outer) of new mappings in their order.

    None for fewer than three, which prove nothing. Source: RFC 4787, section 4.2.
    """
    if len(given) < 3:
        return None
    if all(inner == outer for inner, outer in given):
        return PortAssignment.PRESERVING
    steps = [(later[1] - earlier[1]) % PORTS for earlier, later in pairwise(given)]
    if all(1 <= step <= LONGEST_STEP for step in steps):
        return PortAssignment.SEQUENTIAL
    return PortAssignment.RANDOM
