"""Where a node may be reached from outside, and how what is before it behaves.

The DC tells how it sees the node, the driver whether a router lets others in and what the NAT is
like. That is only found out when a tunnel stands on RS: it costs the servers a few datagrams. No
peer is told anything before it is known, because a probe sent blindly spoils what is predicted.
Ours: docs/protocol.md section 7.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ntmobile.proto.node.events import NatWanted, NewestPortWanted
from ntmobile.proto.node.finding import INDEPENDENT, Finding
from ntmobile.proto.node.guessing import Turns
from ntmobile.proto.node.optimisation import Offer
from ntmobile.proto.oracle import NatKind
from ntmobile.wire.endpoint import Endpoint, Host
from ntmobile.wire.message import MAX_CANDIDATES
from ntmobile.wire.nat import Behaviour, PortAssignment
from ntmobile.wire.tunnel import Candidates, NatTold

MOST_POINTS = 8
"""Servers asked what the NAT does."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a tunnel must know of its node to search."""

    own: Callable[[], Offer | None] = lambda: None
    """Where the node may be reached now; None where nothing may be told."""
    is_virtual: Callable[[Host], bool] = lambda host: False
    """Whether an address leads into a tunnel: a path through a tunnel would be a ring."""
    measure: Callable[[], None] = lambda: None
    """Have the NAT's newest port measured."""
    turns: Turns = field(default_factory=Turns)
    """Of the node's tunnels, to guess."""

    def offered(self, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
        """Return what may be told or probed: no more than 16, nothing that cannot be an uplink."""
        kept = [each for each in dict.fromkeys(endpoints) if self.may_be_probed(each)]
        return tuple(kept[:MAX_CANDIDATES])

    def may_be_probed(self, endpoint: Endpoint) -> bool:
        """Whether an address can be an uplink's."""
        host = endpoint.host
        special = host.is_loopback or host.is_multicast or host.is_unspecified or host.is_link_local
        return endpoint.port > 0 and not special and not self.is_virtual(host)


class Whereabouts:
    """Of one node, in the network where it is. After a verb, ask `poll_news` and `poll_want`."""

    def __init__(self) -> None:
        """Nothing is known; a node that tells nothing never asks."""
        self.mapped: tuple[Endpoint, ...] = ()
        """Where the DC sees this node."""
        self._seen: dict[int, Endpoint] = {}
        """The same by family, since the last move."""
        self._opened: Endpoint | None = None
        self._nat: NatKind | None = None
        self._examined = self.is_examining = self._measuring = self._news = False
        self._newest_port: int | None = None
        self._wants: deque[NatWanted | NewestPortWanted] = deque()

    @property
    def told(self) -> tuple[Endpoint, ...]:
        """What may be told of, before anything is left out: what the router opened comes first."""
        return tuple(dict.fromkeys((*self.opened, *self.mapped)))

    @property
    def opened(self) -> tuple[Endpoint, ...]:
        """Where the router lets anybody in, unless the node is seen elsewhere: another NAT is
        before that router then."""
        hosts = {endpoint.host for endpoint in self.mapped}
        opened = self._opened
        return () if opened is None or (hosts and opened.host not in hosts) else (opened,)

    @property
    def nat(self) -> NatKind | None:
        """What is before the node in IPv4; behind a port that the router opened, nothing."""
        if self.opened:
            return NatKind()
        return self._nat

    def show_mapped(self, mapped: tuple[Endpoint, ...]) -> None:
        """The DC sees this node there."""
        if mapped != self.mapped:
            self.mapped, self._news = mapped, True

    def is_remapped(self, mapped: Endpoint) -> bool:
        """Whether the NAT maps the node elsewhere than before, though the node did not move."""
        before, self._seen[mapped.version] = self._seen.get(mapped.version), mapped
        return before is not None and before != mapped

    def turn(self) -> None:
        """The node sends from another port, and is seen elsewhere for that."""
        self._seen.pop(4, None)

    def show_opened(self, external: Endpoint | None) -> bool:
        """The router lets anybody in there to the node's port; None: nowhere. Whether that is new:
        then the DC should be told, by a registration."""
        if external == self._opened:
            return False
        self._opened = external
        self._news = True
        return True

    def move(self) -> None:
        """Another network: nothing is known of it."""
        self._seen.clear()
        self._nat = None
        self._examined = self.is_examining = self._measuring = False

    def handle_finding(self, finding: Finding | None) -> None:
        """The network was examined, or glimpsed; None: that was not possible."""
        kind = None if finding is None else kind_of(finding)
        self._news |= self.is_examining or kind != self._nat
        self.is_examining, self._nat = False, kind

    def handle_newest_port(self, port: int) -> None:
        """The NAT's newest mapping has this outer port; 0: no answer."""
        if self._measuring:
            self._measuring, self._newest_port = False, port

    def examine(self, servers: Iterable[Endpoint]) -> None:
        """Have it found out how the NAT behaves, once in a network."""
        points = tuple(dict.fromkeys(each for each in servers if each.version == 4))
        if points and not self._examined and any(each.version == 4 for each in self.mapped):
            self._examined = self.is_examining = True
            self._wants.append(NatWanted(points[:MOST_POINTS]))

    def measure(self, server: Endpoint) -> None:
        """Have the NAT's newest port measured, unless it is under way."""
        if not self._measuring:
            self._measuring = True
            self._wants.append(NewestPortWanted(server))

    def poll_want(self) -> NatWanted | NewestPortWanted | None:
        """Next thing to find out."""
        return self._wants.popleft() if self._wants else None

    def poll_news(self) -> bool:
        """Whether peers must be told anew."""
        news, self._news = self._news, False
        return news

    def poll_newest_port(self) -> int | None:
        """What was measured, once."""
        port, self._newest_port = self._newest_port, None
        return port


NOWHERE = Surroundings()
"""Of a node that tells nothing: no direct path is searched."""


def kind_of(finding: Finding) -> NatKind | None:
    """Return what a Finding means; of what it leaves open the laxest, which probes will refute."""
    if not finding.udp:
        return None
    mapping, filtering = (_laxest(each) for each in (finding.mapping, finding.filtering))
    ports = finding.ports or PortAssignment.RANDOM
    return NatKind(mapping, filtering, ports, finding.hairpin is not False)


def _laxest(possible: frozenset[Behaviour]) -> Behaviour:
    return min(possible, key=list(Behaviour).index, default=INDEPENDENT)


def candidates(number: int, offer: Offer) -> Candidates:
    """Return the message that tells an offer."""
    nat = offer.nat
    told = None
    if nat is not None:
        told = NatTold(nat.mapping, nat.filtering, nat.ports, nat.hairpin, offer.newest_port)
    return Candidates(number, offer.endpoints, offer.attempt, told, offer.guess)


def offer_of(message: Candidates, endpoints: tuple[Endpoint, ...]) -> Offer:
    """Return what a peer told; endpoints are those of it that may be probed."""
    told = message.nat
    if told is None:
        return Offer(endpoints, None, 0, message.attempt, message.guess)
    nat = NatKind(told.mapping, told.filtering, told.ports, told.hairpin)
    return Offer(endpoints, nat, told.newest_port, message.attempt, message.guess)
