"""The peers of a node: their tunnels, the negotiations that build them, what is remembered of them.

The node asks its DC; what the DC directs comes here. When a path dies or leave to talk runs out,
a `Wish` goes back to the node, which asks the DC again.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from ntmobile.errors import DecodeError
from ntmobile.keys.identity import Identity
from ntmobile.keys.table import Keyring
from ntmobile.proto.conversation import Challenger
from ntmobile.proto.io import Entropy, Timeout, Transmit
from ntmobile.proto.journal import Journal
from ntmobile.proto.node.addresses import Addresses
from ntmobile.proto.node.causes import Cause
from ntmobile.proto.node.credentials import Credentials
from ntmobile.proto.node.ends import Ends, terms_of
from ntmobile.proto.node.events import (
    ChangePort,
    CloseWeb,
    Command,
    Event,
    HandoverDone,
    LocalAddress,
    Observations,
    OpenWeb,
    PeerPinned,
    PeerRefused,
    Pong,
    RefuseAddress,
    TunnelClosed,
    TunnelEstablished,
    WebCommand,
)
from ntmobile.proto.node.guessing import Turns
from ntmobile.proto.node.negotiation import (
    Agreed,
    Forgotten,
    LedIn,
    Negotiation,
    NegotiationFailed,
    Parts,
    Punched,
    Undirected,
)
from ntmobile.proto.node.notes import PathDead, PathDoubted
from ntmobile.proto.node.optimisation import Offer
from ntmobile.proto.node.path_mtu import LEAST, LINKS, OVERHEAD
from ntmobile.proto.node.queries import Queries
from ntmobile.proto.node.settings import NodeSettings, PeerView, Pin
from ntmobile.proto.node.trust import Trust, Unknown
from ntmobile.proto.node.tunnel import Tunnel
from ntmobile.proto.node.tunnel_parts import TunnelParts
from ntmobile.proto.node.uplinks import left_standing, uplink
from ntmobile.proto.node.whereabouts import Surroundings, Whereabouts
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Header
from ntmobile.wire.direction import Mode, Purpose, Role, RouteDirection
from ntmobile.wire.endpoint import Endpoint, Host
from ntmobile.wire.hint import Hint, What
from ntmobile.wire.identity import Authentication
from ntmobile.wire.registration import Reason
from ntmobile.wire.tunnel import CloseReason
from ntmobile.wire.web import WebPlace

EVER = Instant(0)
EARLY_NS = 2 * SECOND
MAX_EARLY = 32
"""Datagrams kept that came before their Route Direction."""
MAX_DOUBTFUL = 4
"""Negotiations of one peer at once, where RS knows of none."""
MAX_TUNNELS = 4096
MAX_WEBS = 64
GRACE_NS = 24 * 3600 * SECOND
"""How long a tunnel outlives its authorisation when no DC can be asked."""
MIN_VALID_S = 60
"""A shorter leave from a DC would make the node ask without end."""


@dataclass(frozen=True, slots=True)
class Wish:
    """The node must ask its DC for a way to this peer."""

    fqdn: str
    purpose: Purpose
    avoid: tuple[Endpoint, ...] = ()
    """An RS that is silent."""


@dataclass(frozen=True, slots=True)
class _Early:
    """A datagram whose key is not known yet."""

    at: Instant
    header: Header
    source: Endpoint
    data: bytes
    interface: int


@dataclass(frozen=True, slots=True)
class _Leave:
    """Until when a peer may be talked to."""

    renew_at: Instant
    ends_at: Instant


class Peers:
    """All peers of one node."""

    def __init__(
        self,
        settings: NodeSettings,
        identity: Identity,
        observations: Observations,
        entropy: Entropy,
        keyring: Keyring,
        challenger: Challenger,
        journal: Journal,
        queries: Queries,
        pins: Iterable[Pin],
        trust: Trust,
        credentials: Credentials,
    ) -> None:
        """Shares keyring, journal and the waiting applications with the node."""
        pins = tuple(pins)
        self._trust = trust
        self._credentials = credentials
        self._known_by: dict[str, Authentication] = {}
        """By FQDN, how the peer of each tunnel was known at the last Route Direction."""
        self.addresses = Addresses(settings.avoid, pins, settings.taken)
        self.local: tuple[LocalAddress, ...] = ()
        self._moved_at = EVER
        self.whereabouts = Whereabouts()
        self._coordinators: tuple[Endpoint, ...] = ()
        self._settings = settings
        self._identity = identity
        self._observations = observations
        self._entropy = entropy
        self._journal = journal
        self._queries = queries
        self._parts = Parts(
            settings.fqdn, identity, keyring, challenger, entropy, journal, self.usable
        )
        self._tunnel_parts = TunnelParts(
            observations,
            entropy,
            keyring,
            journal,
            self._mtu,
            settings.idle_s * SECOND,
            Surroundings(self._offer, self._is_virtual, self._measure, Turns()),
        )
        self._negotiations: dict[bytes, Negotiation] = {}
        self._tunnels: dict[str, Tunnel] = {}
        self._by_index: dict[int, Tunnel] = {}
        self._leaves: dict[str, _Leave] = {}
        self._early: deque[_Early] = deque(maxlen=MAX_EARLY)
        self._webs: dict[Endpoint, WebPlace | None] | None = None
        """Where WebSockets lead to, the DC's without its place; None where UDP passes."""
        self._places: dict[Endpoint, WebPlace] = {}
        """Where RS were found whose datagrams once went by WebSocket."""
        self._web_commands: deque[WebCommand] = deque()
        self._wishes: deque[Wish] = deque()
        self._transmits: deque[Transmit] = deque()
        self._commands: deque[Command] = deque()
        self._events: deque[Event] = deque()

    def __iter__(self) -> Iterator[Tunnel]:
        return iter(tuple(self._tunnels.values()))

    def named(self, fqdn: str) -> Tunnel | None:
        """Return the tunnel to a peer."""
        return self._tunnels.get(fqdn)

    def indexed(self, index: int) -> Tunnel | None:
        """Return the tunnel whose capsules bear this receiver index."""
        return self._by_index.get(index)

    def is_negotiating(self, fqdn: str, since: Instant = EVER) -> bool:
        """Whether a way to the peer is being negotiated, and was not before `since`."""
        under_way = [n for n in self._negotiations_of(fqdn) if n.is_open and n.began >= since]
        return len(under_way) >= MAX_DOUBTFUL or any(not n.is_doubtful for n in under_way)

    def own_endpoints(self) -> tuple[Endpoint, ...]:
        """Return this node's own addresses, the preferred ones first."""
        preferred = sorted(self.local, key=lambda address: not address.preferred)
        return tuple(address.endpoint for address in preferred)[:16]

    def usable(self, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        """Return those addresses that can be reached from here: by WebSocket, or by family."""
        if self._webs is not None:
            return tuple(endpoint for endpoint in endpoints if endpoint in self._webs)
        return self.of_family(endpoints)

    def of_family(self, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        """Return those addresses whose family this node has."""
        families = {address.endpoint.version for address in self.local}
        return tuple(endpoint for endpoint in endpoints if endpoint.version in families)

    def handle_links(self, local: tuple[LocalAddress, ...], now: Instant) -> None:
        """The node's own addresses changed: move every tunnel whose uplink did.

        Where the uplink before still stands, it carries until the better one has answered.
        """
        by_web = self._webs is not None
        self.leave_web()
        before, self.local, self._moved_at = self.local, local, now
        self.whereabouts.move()
        for tunnel in self:
            family = None if tunnel.path is None else tunnel.path.remote.version
            if family is None or uplink(before, family) != uplink(local, family):
                old = 0
                held = 0 if tunnel.path is None else tunnel.path.interface
                tunnel.moving.shift(before, local, held)
                if tunnel.path is not None and not by_web:
                    old = left_standing(before, local, family or 0, tunnel.path.interface)
                self._move(tunnel, now, old)

    def avoid(self, networks: tuple[IPv4Network | IPv6Network, ...]) -> None:
        """These real networks are here now: virtual addresses step aside, once nobody uses them."""
        self.addresses.avoid(networks)
        self._step_aside()

    def _step_aside(self) -> None:
        try:
            moved = self.addresses.step_aside(self._tunnels)
        except OverflowError:
            return  # Every pool is a real network here: better a hidden host than no peer.
        for fqdn in moved:
            here = self.addresses.of(fqdn)
            pin = None if here is None else self._trust.readdress(fqdn, *here)
            if pin is not None:
                self._tell_pin(pin)

    def _tell_pin(self, pin: Pin) -> None:
        self._events.append(PeerPinned(pin.fqdn, pin.device, pin.ipv4, pin.ipv6, pin.certified))

    def switch(self, web: Endpoint | None, now: Instant) -> None:
        """From now all goes by WebSocket, that to the DC being here; None: by UDP again."""
        self._moved_at = now
        self.leave_web()
        if web is not None:
            self._webs = {web: None}
        for tunnel in self:
            place = None if tunnel.path is None else self._places.get(tunnel.path.remote)
            if tunnel.path is not None and place is not None:
                self._open_web((tunnel.path.remote,), place)
            tunnel.moving.change(Cause.UDP_PASSES if web is None else Cause.UDP_BLOCKED)
            self._move(tunnel, now)

    def leave_web(self) -> None:
        """Close the WebSockets to RS."""
        for remote, place in (self._webs or {}).items():
            if place is not None:
                self._web_commands.append(CloseWeb(remote))
        self._webs = None

    def handle_web(self, remote: Endpoint, now: Instant) -> None:
        """A WebSocket to RS stands, perhaps a new one: show RS that it is us."""
        for negotiation in self._negotiations.values():
            if remote in negotiation.relay and not negotiation.is_open:
                negotiation.punch(now)

    def is_web(self, remote: Endpoint) -> bool:
        """Whether datagrams to there go by WebSocket."""
        return self._webs is not None and remote in self._webs

    def turn(self, now: Instant) -> None:
        """Send from the node's other port, what is proven by this one excepted."""
        for tunnel in self:
            self._drain_tunnel(tunnel, now)
            tunnel.turn()
        self._commands.append(ChangePort())
        self.whereabouts.turn()

    def _move(self, tunnel: Tunnel, now: Instant, old: int = 0) -> None:
        if old:
            tunnel.cross(old, now)
        else:
            tunnel.move({address.endpoint.version for address in self.local}, now)
        if tunnel.relay is not None:
            for negotiation in self._negotiations_of(tunnel.fqdn):
                negotiation.punch(now)

    def _open_web(self, relay: tuple[Endpoint, ...], place: WebPlace) -> None:
        """Open a WebSocket to RS, unless there is one to any of its addresses."""
        if self._webs is None or any(remote in self._webs for remote in relay):
            return
        if len(self._places) >= MAX_WEBS:
            self._places.clear()
        remote = (self.of_family(relay) or relay)[0]
        self._webs[remote] = self._places[remote] = place
        self._web_commands.append(OpenWeb(remote, place, relay=True))

    def handle_datagram(
        self, header: Header, source: Endpoint, data: bytes, now: Instant, interface: int
    ) -> bool:
        """Take a datagram under a Ktun; one that came too early is kept for a while."""
        negotiation = self._negotiations.get(header.identifier)
        if negotiation is None:
            self._early.append(_Early(now, header, source, data, interface))
            return False
        negotiation.handle_datagram(header, source, data, now, interface)
        return True

    def handle_hint(self, source: Endpoint, data: bytes, now: Instant) -> None:
        """RS knows nothing of what this node sent: show it, or find another path.

        Ours: docs/protocol.md section 8.
        """
        try:
            hint = Hint.decode(data)
        except DecodeError:
            self._journal.rejected["malformed"] += 1
            return
        if hint.what is What.KEY:
            negotiation = self._negotiations.get(hint.name)
            if negotiation is not None:
                negotiation.handle_hint(source, now)
            return
        for tunnel in self:
            tunnel.handle_unbound(source, int.from_bytes(hint.name), now)

    def handle_route(
        self,
        route: RouteDirection,
        own_ipv6: IPv6Address,
        now: Instant,
        *,
        patient: bool = False,
        late: bool = False,
    ) -> Reason | Unknown | None:
        """Begin our end of a negotiation; a reason when we will not.

        own_ipv6 is the address the DC allotted. Unknown is given to the patient only: the same
        route comes again, with the CAs of that domain or without. Source: paper, Figs. 6 and 7.
        """
        held = self._under(route.negotiation)
        if held is not None and (held.identifier == route.ktun_identifier or not held.is_open):
            return None
        peer, own = route.peer, self.addresses.own
        if own is None:
            return Reason.NOT_REGISTERED
        shown = self._credentials.shown(route.shown)
        if shown is None:
            return self._disbelieve(peer.fqdn, Reason.CERTIFICATE_STRIPPED)
        if route.mode is not Mode.KKPSK0:
            # Ktmp alone would let every DC on the way read: no DC may ask for that.
            return self._disbelieve(peer.fqdn, Reason.NOT_ALLOWED)
        known_by = self._trust.judge(peer.fqdn, peer.identity, now)
        if isinstance(known_by, Unknown):
            if patient:
                return known_by
            known_by = self._trust.judge_alone(peer.fqdn)
        if isinstance(known_by, Reason):
            return self._disbelieve(peer.fqdn, known_by)
        if len(self._tunnels) >= MAX_TUNNELS and peer.fqdn not in self._tunnels:
            return Reason.BUSY
        tunnel = self._tunnel(route, own, own_ipv6, now)
        self._known_by[peer.fqdn] = known_by
        seen = Pin(peer.fqdn, peer.identity.device, *tunnel.ends.peer_here)
        if (pin := self._trust.pin(seen, peer.identity, known_by)) is not None:
            self._tell_pin(pin)
        if route.relay and route.relay_web is not None:
            self._open_web(route.relay, route.relay_web)
        # Until a direct path stands, what still comes by the old one came through RS.
        tunnel.relays.meet(route.relay)
        tunnel.meet_inside(route.peer.local)
        self._grant_leave(tunnel, route.valid_s, now)
        self._queries.authorise(peer.fqdn, tunnel.ends.peer_here, now)
        terms = terms_of(route, (self._settings.fqdn, shown, own_ipv6))
        if held is not None:
            self._close_negotiation(held, now)  # the DC leads it through another RS now
        negotiation = Negotiation(self._parts, route, tunnel.index, tunnel, terms, now)
        self._negotiations[negotiation.identifier] = negotiation
        if late:
            negotiation.hurry(now)
        self._replay_early(negotiation, now)
        return None

    def _disbelieve(self, fqdn: str, reason: Reason) -> Reason:
        self._queries.refuse(fqdn, reason)
        self._events.append(PeerRefused(fqdn, reason))
        return reason

    def refuse(self, negotiation: bytes, reason: Reason, now: Instant) -> str | None:
        """The DC calls a negotiation off; returns the peer if it was under way here."""
        for held in self._negotiations.values():
            if held.route.negotiation == negotiation and held.is_open:
                self._close_negotiation(held, now)
                return held.route.peer.fqdn
        return None

    def refuse_address(self, address: IPv4Address | IPv6Address) -> None:
        """Nobody is known by this virtual address."""
        self._commands.append(RefuseAddress(address))

    def drop(self, fqdn: str, now: Instant, *, final: bool) -> None:
        """No way to the peer was found; final ends even a tunnel that stands."""
        tunnel = self._tunnels.get(fqdn)
        if tunnel is None:
            for address in self.addresses.of(fqdn) or ():
                self.refuse_address(address)
        elif final or not (tunnel.is_up or tunnel.is_moving or self.is_negotiating(fqdn)):
            tunnel.close(CloseReason.WITHDRAWN, now)

    def close(self, reason: CloseReason, now: Instant) -> None:
        """Close all tunnels."""
        for tunnel in self:
            tunnel.close(reason, now)

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        for negotiation in list(self._negotiations.values()):
            negotiation.handle_timeout(now)
        for tunnel in self:
            tunnel.handle_timeout(now)
        self._renew_leaves(now)

    def drain(self, now: Instant) -> None:
        """Gather what the tunnels and negotiations want."""
        for negotiation in list(self._negotiations.values()):
            self._drain_negotiation(negotiation, now)
        self._tell_whereabouts(now)
        for tunnel in self:
            self._drain_tunnel(tunnel, now)

    def poll_web(self) -> WebCommand | None:
        """Next WebSocket to open or close."""
        return self._web_commands.popleft() if self._web_commands else None

    def poll_wish(self) -> Wish | None:
        """Next thing to ask the DC."""
        return self._wishes.popleft() if self._wishes else None

    def poll_transmit(self) -> Transmit | None:
        """Next datagram to send."""
        return self._transmits.popleft() if self._transmits else None

    def poll_command(self) -> Command | None:
        """Next command to the packet loops."""
        return self._commands.popleft() if self._commands else None

    def poll_event(self) -> Event | None:
        """Next thing that happened."""
        return self._events.popleft() if self._events else None

    def poll_timeouts(self) -> Iterator[Timeout]:
        """All times at which handle_timeout wants to be called."""
        parts: list[Tunnel | Negotiation] = [*self._tunnels.values(), *self._negotiations.values()]
        for part in parts:
            if (timeout := part.poll_timeout()) is not None:
                yield timeout
        for leave in self._leaves.values():
            yield Timeout(min(leave.renew_at, leave.ends_at), "leave renewal")

    def views(self) -> tuple[PeerView, ...]:
        """Return what `ntm status` says of each peer with a tunnel."""
        return tuple(self._view(tunnel) for tunnel in self if tunnel.is_up)

    def _view(self, tunnel: Tunnel) -> PeerView:
        traffic = self._observations.traffic(tunnel.index)
        path = tunnel.path
        return PeerView(
            tunnel.fqdn,
            *tunnel.ends.peer_here,
            self._known_by.get(tunnel.fqdn, Authentication.DEVICE_KEY),
            tunnel.ends.cipher.value,
            tunnel.ends.peer.identity.device,
            path is not None and path.relayed,
            None if path is None else path.remote,
            tunnel.rtt_ns,
            tunnel.mtu(),
            traffic.tx_bytes,
            traffic.rx_bytes,
            tunnel.established_at,
            tunnel.negotiated_ns,
            tunnel.moving.last,
            path is not None and self.is_web(path.remote),
        )

    def _mtu(self, remote: Endpoint) -> int:
        same = (a for a in self.local if a.preferred and a.endpoint.version == remote.version)
        return max(min((a.mtu for a in same), default=LINKS[0]) - OVERHEAD, LEAST)

    def _show(self, tunnel: Tunnel, now: Instant) -> None:
        """Show RS again where this node is; without the Ktun of that path find another."""
        place = tunnel.relay
        through = [n for n in self._negotiations_of(tunnel.fqdn) if place in n.relay]
        if place is not None and not through:
            tunnel.handle_forgotten((place,), now)
        for negotiation in through:
            if not (negotiation.is_open or negotiation.is_punching):
                negotiation.punch(now)
                self._drain_negotiation(negotiation, now)

    def knows(self, negotiation: bytes, fqdn: str) -> bool:
        """Whether that negotiation with that peer is under way here."""
        held = self._under(negotiation)
        return held is not None and held.route.peer.fqdn == fqdn

    def _under(self, negotiation: bytes) -> Negotiation | None:
        held = self._negotiations.values()
        return next((each for each in held if each.route.negotiation == negotiation), None)

    def _negotiations_of(self, fqdn: str) -> list[Negotiation]:
        return [n for n in self._negotiations.values() if n.route.peer.fqdn == fqdn]

    def _tunnel(
        self,
        route: RouteDirection,
        own: tuple[IPv4Address, IPv6Address],
        own_ipv6: IPv6Address,
        now: Instant,
    ) -> Tunnel:
        peer = route.peer
        tunnel = self._tunnels.get(peer.fqdn)
        same_keys = tunnel is not None and tunnel.ends.peer.identity.keys == peer.identity.keys
        if tunnel is not None and same_keys and tunnel.ends.cipher is route.cipher:
            return tunnel
        if tunnel is not None:
            tunnel.close(CloseReason.REPLACED, now)
            self._drain_tunnel(tunnel, now)
        here = self.addresses.meet(peer.fqdn, peer.virtual_ipv4, peer.virtual_ipv6)
        tunnel = Tunnel(
            Ends(self._settings.fqdn, self._identity, own_ipv6, peer, route.cipher, own, here),
            self._new_index(),
            self._tunnel_parts,
            now,
        )
        self._tunnels[peer.fqdn] = tunnel
        self._by_index[tunnel.index] = tunnel
        return tunnel

    def show_mapped(self, mapped: tuple[Endpoint, ...], coordinators: tuple[Endpoint, ...]) -> None:
        """The DC, which is there, sees this node so: the peers behind RS are told."""
        self._coordinators = coordinators
        self.whereabouts.show_mapped(mapped)

    def see(self, mapped: Endpoint, now: Instant) -> None:
        """The DC sees this node there: elsewhere than before, and its NAT forgot all it knew."""
        if self.whereabouts.is_remapped(mapped):
            for tunnel in self:
                if tunnel.path is not None and tunnel.path.remote.version == mapped.version:
                    tunnel.moving.notice(Cause.NAT_REBOOTED, tunnel.path, now)
                    tunnel.wake(now, remapped=True)

    def _offer(self) -> Offer | None:
        """Where this node may be reached; how its NAT behaves is found out meanwhile."""
        if self._settings.relay_only or not self._settings.optimise:
            return None
        around = Surroundings(is_virtual=self._is_virtual)
        if not (endpoints := around.offered(self.whereabouts.told)):
            return None
        relays = (place for tunnel in self for place in tunnel.relays)
        self.whereabouts.examine((*self._coordinators, *relays))
        return None if self.whereabouts.is_examining else Offer(endpoints, self.whereabouts.nat)

    def _measure(self) -> None:
        if (server := next((e for e in self._coordinators if e.version == 4), None)) is not None:
            self.whereabouts.measure(server)

    def _tell_whereabouts(self, now: Instant) -> None:
        port, news = self.whereabouts.poll_newest_port(), self.whereabouts.poll_news()
        for tunnel in self:
            if port is not None:
                tunnel.take_newest_port(port, now)
            if news:
                tunnel.offer(now)
        self._events.extend(iter(self.whereabouts.poll_want, None))

    def _is_virtual(self, host: Host) -> bool:
        own = self.addresses.own
        return self.addresses.name(host) is not None or (own is not None and host in own)

    def _new_index(self) -> int:
        index = self._entropy.getrandbits(32)
        while index in self._by_index:
            index = self._entropy.getrandbits(32)
        return index

    def _replay_early(self, negotiation: Negotiation, now: Instant) -> None:
        for early in list(self._early):
            if now - early.at > EARLY_NS:
                self._early.remove(early)
            elif early.header.identifier == negotiation.identifier:
                self._early.remove(early)
                negotiation.handle_datagram(
                    early.header, early.source, early.data, now, early.interface
                )

    def _grant_leave(self, tunnel: Tunnel, valid_s: int, now: Instant) -> None:
        valid_ns = max(valid_s, MIN_VALID_S) * SECOND
        renew_ns = valid_ns * 9 // 10 if tunnel.ends.leads else valid_ns
        ends_at = Instant(now + valid_ns + GRACE_NS)
        self._leaves[tunnel.fqdn] = _Leave(Instant(now + renew_ns), ends_at)

    def _renew_leaves(self, now: Instant) -> None:
        for fqdn, leave in list(self._leaves.items()):
            tunnel = self._tunnels.get(fqdn)
            if tunnel is None:
                del self._leaves[fqdn]
            elif now >= leave.ends_at:
                tunnel.close(CloseReason.WITHDRAWN, now)
            elif now >= leave.renew_at:
                self._leaves[fqdn] = _Leave(Instant(now + MIN_VALID_S * SECOND), leave.ends_at)
                self._wishes.append(Wish(fqdn, Purpose.CONNECT))

    def _drain_negotiation(self, negotiation: Negotiation, now: Instant) -> None:
        while (outcome := negotiation.poll_outcome()) is not None:
            tunnel = self._tunnels.get(negotiation.route.peer.fqdn)
            match outcome:
                case Agreed() if tunnel is not None:
                    self._establish(tunnel, negotiation, outcome, now)
                case Punched(_, relay) if tunnel is not None:
                    tunnel.update(relay, now)
                case LedIn(_, relay) if tunnel is not None:
                    tunnel.lead_in(relay, now)
                case Forgotten() if tunnel is not None:
                    tunnel.handle_forgotten(negotiation.relay, now)
                case Undirected():
                    self._wishes.append(Wish(negotiation.route.peer.fqdn, Purpose.RELAY))
                case NegotiationFailed():
                    self._fail(negotiation, outcome, now)
                case _:
                    pass
        while (transmit := negotiation.poll_transmit()) is not None:
            self._transmits.append(transmit)

    def _establish(
        self, tunnel: Tunnel, negotiation: Negotiation, agreed: Agreed, now: Instant
    ) -> None:
        tunnel.adopt(agreed, now)
        tunnel.negotiated_ns = now - negotiation.began
        for other in self._negotiations_of(tunnel.fqdn):
            over = not other.is_open or other.began < self._moved_at <= negotiation.began
            # The peer may keep to another RS: on a move that must be shown the new address too.
            kept = not other.is_open and tunnel.relays.knows(other.relay, beside=negotiation.relay)
            if over and not kept and other is not negotiation:
                self._close_negotiation(other, now)
        self._events.append(
            TunnelEstablished(
                tunnel.fqdn, tunnel.index, agreed.remote, agreed.relayed, tunnel.negotiated_ns
            )
        )
        self._queries.resolve(tunnel.fqdn, tunnel.ends.peer_here)

    def _fail(self, negotiation: Negotiation, failed: NegotiationFailed, now: Instant) -> None:
        fqdn, asked = negotiation.route.peer.fqdn, negotiation.route.role is Role.MN
        self._close_negotiation(negotiation, now)
        tunnel = self._tunnels.get(fqdn)
        if tunnel is not None and tunnel.is_up and tunnel.adopted_at >= negotiation.began:
            return  # another way was found meanwhile
        if failed.reason is Reason.TOLD_DIFFERENTLY:
            self._events.append(PeerRefused(fqdn, failed.reason))
        if failed.relay_next:
            # CN asks too: MN may have heard its Tunnel Request and answered into a NAT's filter.
            self._wishes.append(Wish(fqdn, Purpose.RELAY))
        elif not self.is_negotiating(fqdn):
            if asked:
                self._queries.refuse(fqdn, failed.reason)
            self.drop(fqdn, now, final=False)

    def _close_negotiation(self, negotiation: Negotiation, now: Instant) -> None:
        negotiation.close(now)
        self._negotiations.pop(negotiation.identifier, None)

    def _drain_tunnel(self, tunnel: Tunnel, now: Instant) -> None:
        while (command := tunnel.poll_command()) is not None:
            self._commands.append(command)
        while (note := tunnel.poll_note()) is not None:
            match note:
                case PathDead(fqdn, avoid):
                    self._wishes.append(Wish(fqdn, Purpose.MOVE, avoid))
                case PathDoubted():
                    self._show(tunnel, now)
                case TunnelClosed():
                    self._forget(tunnel, now)
                    self._events.append(note)
                case HandoverDone() | Pong():
                    self._events.append(note)

    def _forget(self, tunnel: Tunnel, now: Instant) -> None:
        if self._tunnels.get(tunnel.fqdn) is tunnel:
            del self._tunnels[tunnel.fqdn]
        self._by_index.pop(tunnel.index, None)
        self._leaves.pop(tunnel.fqdn, None)
        self._known_by.pop(tunnel.fqdn, None)
        for negotiation in list(self._negotiations.values()):
            if negotiation.route.peer.fqdn == tunnel.fqdn:
                self._close_negotiation(negotiation, now)
        self._step_aside()
