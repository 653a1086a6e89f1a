"""The nodes that a DC serves: their keys, addresses and virtual addresses.

Source: paper, Fig. 3. Ours: instance and sequence numbers, proof of every new source.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import msgspec

from ntmobile.keys.table import CommonKey
from ntmobile.proto.conversation import Asked, Conversation
from ntmobile.proto.coordinator.decision import trimmed
from ntmobile.proto.coordinator.nearest import Named
from ntmobile.proto.coordinator.settings import StoredNode
from ntmobile.proto.coordinator.tags import NodeTag
from ntmobile.time import SECOND, Instant
from ntmobile.wire.direction import Cipher, NodeInformation
from ntmobile.wire.endpoint import WEB_HOST, Endpoint, Host
from ntmobile.wire.registration import (
    KeepAliveChoice,
    Reason,
    RegistrationRequest,
    Superseded,
)
from ntmobile.wire.round_trip import RoundTrips

KNOCK_LOST_NS = 2 * SECOND
"""A knock that got in is reported long before."""
AWAKE_NS = 5 * SECOND
"""Half of the shortest mapping lifetime that is met."""
MISSED_NS = 30 * SECOND
"""A node that lost its connection shows itself to its DC long before."""
LONGEST_INTERVAL_S = 300
"""Between UDP keep-alives: a node that vanished is known as gone after four of them."""
CREATED_FIRST = 16
"""Host numbers below this stay free for the network itself."""


@dataclass(slots=True, eq=False)
class Node:
    """One node of this DC: what is stored, and what lives only in memory."""

    stored: StoredNode
    conversation: Conversation[NodeTag]
    last_seen: Instant | None = None
    previous: Conversation[NodeTag] | None = None
    """Under the key before this one, until the node uses the new key: a copy of its state
    directory may have logged in meanwhile, and must hear that it is superseded."""
    knocked: dict[Endpoint, Instant] = field(default_factory=dict)
    """Mapped addresses at which a stranger knocked, and when first."""
    knocked_again: dict[Endpoint, Instant] = field(default_factory=dict)
    """The same, and when last."""
    proven: set[Endpoint] = field(default_factory=set)
    """Those where the knock got in."""
    opened: tuple[Endpoint, ...] = ()
    """Where its router is said to let anybody in, at an address that it is seen with."""
    heard: tuple[Endpoint, Instant] | None = None
    """Where an authentic datagram of it last came from, and when."""
    refused: Reason | None = None
    """Why its device token was not taken."""
    untold: bool = False
    """Its device token is gone and it does not know yet: it sleeps on, and nothing wakes it."""
    directed: Instant | None = None
    """When an NS was last told of it, or none was found."""
    missed: Instant | None = None
    """Since when its NS knows of no connection, while it was not heard otherwise either."""
    superseded: bytes | None = None
    """The instance that the previous key belongs to, once a newer one registered."""
    round_trips: RoundTrips = ()
    """To RS, as it measured them where it is; it says, nobody proves it."""
    foreign_relays: Named = ()
    """Of the domain that asked for it last, if that has several."""
    knows_relays: bool = True
    """It was told of those."""

    @property
    def fqdn(self) -> str:
        """Its permanent name."""
        return self.stored.fqdn

    def is_registered(self, now: Instant, patience_s: int) -> bool:
        """Whether it showed itself lately; one that may sleep need not."""
        if self.last_seen is None:
            return False
        missed = self.missed is not None and now - self.missed > MISSED_NS
        patience_s = max(patience_s, 4 * self.stored.interval_s + 10)
        silent = now - self.last_seen > patience_s * SECOND
        return not silent or (self.may_sleep and not missed)

    @property
    def may_sleep(self) -> bool:
        """Whether it keeps no UDP mapping alive: its mapped addresses are hearsay."""
        return self.stored.keepalive is KeepAliveChoice.PUSH or self.stored.is_held

    def is_asleep(self, now: Instant, patience_s: int) -> bool:
        """Whether only a wake-up reaches it."""
        if self.stored.keepalive is not KeepAliveChoice.PUSH or self.is_awake(now):
            return False
        # Without a token that works it keeps its mapping alive, once it was told so.
        silent = self.last_seen is None or now - self.last_seen > patience_s * SECOND
        return self.stored.push_token is not None or self.untold or silent

    def is_awake(self, now: Instant) -> bool:
        """Whether its last datagram is so fresh that a NAT still lets the answer in."""
        return self.heard is not None and now - self.heard[1] <= AWAKE_NS

    def sources(self, now: Instant) -> tuple[Endpoint, ...]:
        """Where the DC reaches it: where it was heard just now, then IPv6 first."""
        known = sorted(self.stored.mapped, key=lambda endpoint: -endpoint.version)
        if self.may_sleep and self.heard is not None and self.is_awake(now):
            known.insert(0, self.heard[0])
        return tuple(dict.fromkeys(known))

    @property
    def places(self) -> tuple[Endpoint, ...]:
        """Where a stranger may reach it: what its router opened comes first."""
        return tuple(dict.fromkeys((*self.opened, *self.stored.mapped)))

    def reachable(self, now: Instant) -> tuple[Endpoint, ...]:
        """Where a stranger reaches it, as far as that is known."""
        return tuple(endpoint for endpoint in self.places if self.is_reachable(endpoint, now))

    def is_reachable(self, endpoint: Endpoint, now: Instant) -> bool:
        """Whether a stranger reaches this mapped address, or may well (see reachability)."""
        if self.may_sleep and endpoint not in self.stored.local:
            return False
        if endpoint in self.proven:
            return True
        knocked = self.knocked.get(endpoint)
        lost = knocked is not None and now - knocked > KNOCK_LOST_NS
        return endpoint in self.stored.local and not lost

    def meet_relays(self, named: Named) -> None:
        """A DC of another domain asks how far the node is from its RS: it is to measure that."""
        if named and named != self.foreign_relays:
            self.foreign_relays, self.knows_relays = named, False

    def move(self, stored: StoredNode) -> None:
        """Take a new registration: what was found out of addresses it lost is forgotten."""
        if _hosts(stored) != _hosts(self.stored):
            self.round_trips = ()
        self.stored = stored
        self.open(self.opened)

    def open(self, opened: tuple[Endpoint, ...]) -> None:
        """Its router lets anybody in there, it says: what was found out of that is found anew."""
        hosts = {endpoint.host for endpoint in self.stored.mapped if not endpoint.is_web}
        opened = tuple(endpoint for endpoint in opened if endpoint.host in hosts)
        stale, self.opened = set(opened) ^ set(self.opened), opened
        places = set(self.places)
        self.knocked = {end: at for end, at in self.knocked.items() if end in places}
        self.knocked_again = {
            end: at for end, at in self.knocked_again.items() if end in places - stale
        }
        self.proven &= places - stale

    def information(self, now: Instant, *, private: bool, sleeps: bool = False) -> NodeInformation:
        """What may be told of it; its private addresses only if so said."""
        stored = self.stored
        ciphers = (Cipher.AES_256_GCM, Cipher.CHACHA20_POLY1305)
        mapped = () if stored.relay_only else stored.mapped
        told = NodeInformation(
            stored.fqdn,
            stored.virtual_ipv4,
            stored.virtual_ipv6,
            stored.identity,
            _told(mapped) if not stored.relay_only else _unspecified(stored.mapped),
            stored.local if private and not stored.relay_only else (),
            () if stored.relay_only else self.reachable(now),
            stored.groups,
            ciphers if stored.aes else ciphers[::-1],
            sleeps,
        )
        return trimmed(told)


def _hosts(stored: StoredNode) -> set[Host]:
    return {endpoint.host for endpoint in stored.mapped}


def _told(endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """As they are; of a WebSocket only that it is one."""
    return tuple(Endpoint(WEB_HOST, 0) if end.is_web else end for end in endpoints)


def _unspecified(endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """The families of a node that tells no address: RS must fit them."""
    return tuple(
        Endpoint(WEB_HOST if end.is_web else "::" if end.version == 6 else "0.0.0.0", 0)
        for end in endpoints
    )


class Registry:
    """All nodes of one DC, by name and by key identifier."""

    def __init__(self, domain: str, pool: IPv4Network) -> None:
        """Allots virtual addresses from pool and from the domain's ULA prefix."""
        self._prefix = domain_prefix(domain)
        self._pool = pool
        self._by_name: dict[str, Node] = {}
        self._by_identifier: dict[bytes, Node] = {}
        self._taken: dict[IPv4Address, str] = {}
        self._next = CREATED_FIRST

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._by_name.values())

    def named(self, fqdn: str) -> Node | None:
        """Return the node of that name."""
        return self._by_name.get(fqdn)

    def keyed(self, identifier: bytes) -> Node | None:
        """Return the node whose Kntmdc bears this identifier."""
        return self._by_identifier.get(identifier)

    def add(self, node: Node) -> Node | None:
        """Keep a node; returns the one of the same name that it replaces."""
        before = self._by_name.get(node.fqdn)
        if before is not None:
            self._forget_keys(before)
        if node.previous is not None:
            self._by_identifier[node.previous.key.identifier] = node
        self._by_name[node.fqdn] = node
        self._by_identifier[node.stored.identifier] = node
        self._taken[node.stored.virtual_ipv4] = node.fqdn
        return before

    def remove(self, fqdn: str) -> Node | None:
        """Forget a node and free its addresses."""
        node = self._by_name.pop(fqdn, None)
        if node is not None:
            self._forget_keys(node)
            self._taken.pop(node.stored.virtual_ipv4, None)
        return node

    def forget_previous(self, node: Node) -> CommonKey | None:
        """The previous key is of no more use; returns it, to be erased."""
        previous, node.previous = node.previous, None
        if previous is None:
            return None
        self._by_identifier.pop(previous.key.identifier, None)
        return previous.key

    def allot(self, fqdn: str) -> tuple[IPv4Address, IPv6Address]:
        """Return virtual addresses for a new name; raises OverflowError when the pool is empty."""
        size = self._pool.num_addresses - CREATED_FIRST
        for _ in range(size):
            offset = self._next
            self._next = CREATED_FIRST + (self._next + 1 - CREATED_FIRST) % size
            address = self._pool.network_address + offset
            if address not in self._taken:
                return address, self._host(fqdn)
        raise OverflowError("no virtual IPv4 address is left")

    def _forget_keys(self, node: Node) -> None:
        self._by_identifier.pop(node.stored.identifier, None)
        if node.previous is not None:
            self._by_identifier.pop(node.previous.key.identifier, None)

    def _host(self, fqdn: str) -> IPv6Address:
        tail = hashlib.sha256(b"ntm host 1\0" + fqdn.encode()).digest()[:8]
        return IPv6Address(self._prefix + bytes(2) + tail)


def domain_prefix(domain: str) -> bytes:
    """Return the 6 bytes of the domain's ULA /48 (RFC 4193 form, from the name's hash)."""
    return b"\xfd" + hashlib.sha256(b"ntm domain 1\0" + domain.encode()).digest()[:5]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The registration stands."""

    stored: StoredNode
    superseded: bool
    """Another instance was registered before."""


@dataclass(frozen=True, slots=True)
class Unproven:
    """The source must prove itself first."""


def register(
    stored: StoredNode, request: RegistrationRequest, asked: Asked
) -> Accepted | Unproven | Superseded | Reason:
    """Judge a Registration Request against what is stored: pure."""
    same_instance = stored.instance == request.instance
    if request.fqdn != stored.fqdn:
        return Reason.NOT_ALLOWED
    if not same_instance and request.started < stored.started:
        return Superseded(request.instance)
    if same_instance and request.sequence < stored.sequence:
        return Reason.SUPERSEDED
    if not asked.proven and not (same_instance and asked.source in stored.mapped):
        return Unproven()
    families = {endpoint.version for endpoint in request.endpoints} | {asked.source.version}
    others = tuple(
        endpoint
        for endpoint in (stored.mapped if same_instance else ())
        if endpoint.version != asked.source.version
        and endpoint.version in families
        # Either UDP passes or it does not: a WebSocket stands for all families.
        and not (endpoint.is_web or asked.source.is_web)
    )
    accepted = replace(
        stored,
        instance=request.instance,
        started=request.started,
        sequence=request.sequence,
        local=request.endpoints,
        mapped=(asked.source, *others) if request.endpoints else (),
        relay_only=request.relay_only,
        aes=request.aes,
        keepalive=request.keepalive,
        device_token=request.device_token,
        interval_s=min(request.interval_s, LONGEST_INTERVAL_S),
        identity=msgspec.structs.replace(stored.identity, certificate=request.certificate),
    )
    return Accepted(accepted, superseded=not same_instance and stored.instance != bytes(16))


def stored_of(nodes: Iterable[StoredNode], now: Instant) -> Iterator[StoredNode]:
    """Those whose key is still good after a restart."""
    return (node for node in nodes if node.expires > now)
