"""A NAT by RFC 4787: mapping, filtering, port assignment, hairpinning, lifetimes.

Pure: packets in, packets out, time handed in. UDP and TCP have tables of their own with the same
behaviours (RFC 5382 asks of TCP what RFC 4787 asks of UDP).
"""

from collections import Counter
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from ntmobile.sim.entropy import SeededEntropy
from ntmobile.sim.packet import Packet, Transport
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint, Host
from ntmobile.wire.nat import Behaviour, PortAssignment

FIRST_PORT = 1024
PORTS = 65536 - FIRST_PORT


@dataclass(frozen=True, slots=True)
class NatBehaviour:
    """The character of a NAT; the defaults are what RFC 4787 asks for."""

    mapping: Behaviour = Behaviour.ENDPOINT_INDEPENDENT
    filtering: Behaviour = Behaviour.ENDPOINT_INDEPENDENT
    ports: PortAssignment = PortAssignment.PRESERVING
    hairpin: bool = True
    lifetime_s: int = 300
    """Idle time after which a UDP mapping dies (section 4.3: two minutes at least)."""
    tcp_lifetime_s: int = 7440
    """RFC 5382, section 5."""
    inbound_refreshes: bool = False
    age_limit_s: int | None = None
    """Some NATs let a mapping die by its age, however busy it is."""
    capacity: int = 4096
    """Mappings; beyond it new ones are refused, as a home router does."""


EASY = NatBehaviour(filtering=Behaviour.ADDRESS_AND_PORT_DEPENDENT)
"""The usual home router: endpoint-independent mapping, port-restricted."""
HARD = NatBehaviour(
    mapping=Behaviour.ADDRESS_AND_PORT_DEPENDENT,
    filtering=Behaviour.ADDRESS_AND_PORT_DEPENDENT,
    ports=PortAssignment.RANDOM,
)
"""`Symmetric` with random ports: no direct path to another of its kind."""

_MappingKey = tuple[Transport, Endpoint, tuple[Host | int, ...]]


@dataclass(slots=True)
class _Mapping:
    inner: Endpoint
    outer_port: int
    key: _MappingKey
    made: Instant
    fresh: Instant
    contacted: set[tuple[Host | int, ...]] = field(default_factory=set)
    """Far ends this mapping sent to, as the filtering behaviour sees them."""


class Nat:
    """Translates between inner addresses and one outer IPv4 address."""

    def __init__(
        self, address: IPv4Address, behaviour: NatBehaviour, entropy: SeededEntropy
    ) -> None:
        """Starts with empty tables."""
        self.address = address
        self.behaviour = behaviour
        self.refused: Counter[str] = Counter()
        self._entropy = entropy
        self._by_inner: dict[_MappingKey, _Mapping] = {}
        self._by_outer: dict[tuple[Transport, int], _Mapping] = {}
        self._next_port = entropy.randrange(PORTS)

    def __len__(self) -> int:
        """Mappings held, dead ones included until they are met."""
        return len(self._by_inner)

    def outbound(self, packet: Packet, now: Instant) -> Packet | None:
        """Translate a packet on its way out; None when the table is full."""
        mapping = self._mapping_for(packet, now)
        if mapping is None:
            self.refused["table full"] += 1
            return None
        mapping.fresh = now
        mapping.contacted.add(self.behaviour.filtering.view(packet.destination))
        return packet.come_from(Endpoint(self.address, mapping.outer_port))

    def inbound(self, packet: Packet, now: Instant) -> Packet | None:
        """Translate a packet on its way in; None when no mapping or the filter stops it."""
        key = (packet.transport, packet.destination.port)
        mapping = self._by_outer.get(key)
        if mapping is None or self._dead(mapping, now):
            self.refused["no mapping"] += 1
            return None
        if self.behaviour.filtering.view(packet.source) not in mapping.contacted:
            self.refused["filtered"] += 1
            return None
        if self.behaviour.inbound_refreshes:
            mapping.fresh = now
        return packet.go_to(mapping.inner)

    def hairpin(self, packet: Packet, now: Instant) -> Packet | None:
        """Turn a packet from inside to the outer address back in; None when not done.

        The source becomes the outer one. Source: RFC 4787, REQ-9.
        """
        if not self.behaviour.hairpin:
            self.refused["no hairpin"] += 1
            return None
        out = self.outbound(packet, now)
        return None if out is None else self.inbound(out, now)

    def reboot(self, address: IPv4Address | None = None) -> None:
        """Forget every mapping; come back with another address if given."""
        self._by_inner.clear()
        self._by_outer.clear()
        self._next_port = self._entropy.randrange(PORTS)
        if address is not None:
            self.address = address

    def _mapping_for(self, packet: Packet, now: Instant) -> _Mapping | None:
        view = self.behaviour.mapping.view(packet.destination)
        key = (packet.transport, packet.source, view)
        mapping = self._by_inner.get(key)
        if mapping is not None and not self._dead(mapping, now):
            return mapping
        if mapping is not None:
            self._forget(mapping)
        return self._new(packet, key, now)

    def _new(self, packet: Packet, key: _MappingKey, now: Instant) -> _Mapping | None:
        if len(self._by_inner) >= self.behaviour.capacity:
            self._sweep(now)
        if len(self._by_inner) >= self.behaviour.capacity:
            return None
        port = self._pick_port(packet)
        mapping = _Mapping(packet.source, port, key, now, now)
        self._by_inner[key] = mapping
        self._by_outer[packet.transport, port] = mapping
        return mapping

    def _pick_port(self, packet: Packet) -> int:
        match self.behaviour.ports:
            case PortAssignment.PRESERVING:
                start = max(packet.source.port, FIRST_PORT)
            case PortAssignment.SEQUENTIAL:
                start = FIRST_PORT + self._next_port
            case PortAssignment.RANDOM:
                start = FIRST_PORT + self._entropy.randrange(PORTS)
        port = self._free_from(packet.transport, start)
        self._next_port = (port + 1 - FIRST_PORT) % PORTS
        return port

    def _free_from(self, transport: Transport, start: int) -> int:
        port = start
        while (transport, port) in self._by_outer:
            port = FIRST_PORT + (port + 1 - FIRST_PORT) % PORTS
        return port

    def _dead(self, mapping: _Mapping, now: Instant) -> bool:
        tcp = mapping.key[0] is Transport.TCP
        idle_s = self.behaviour.tcp_lifetime_s if tcp else self.behaviour.lifetime_s
        limit_s = self.behaviour.age_limit_s
        too_old = limit_s is not None and now - mapping.made > limit_s * SECOND
        return too_old or now - mapping.fresh > idle_s * SECOND

    def _forget(self, mapping: _Mapping) -> None:
        self._by_inner.pop(mapping.key, None)
        self._by_outer.pop((mapping.key[0], mapping.outer_port), None)

    def _sweep(self, now: Instant) -> None:
        for mapping in [m for m in self._by_inner.values() if self._dead(m, now)]:
            self._forget(mapping)
