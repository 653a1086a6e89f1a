"""A node: login, registration, names, negotiations and tunnels, in one sans-I/O machine.

Source: paper, Figs. 2 to 7. The parts are machines of their own; this one hands each datagram,
answer and timeout to the part it belongs to and gathers what they want done.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ntmobile.errors import DecodeError
from ntmobile.keys.identity import Identity, is_genuine
from ntmobile.keys.table import Keyring, Kntmdc, Party
from ntmobile.proto.conversation import Answered, Asked, Challenger, Conversation
from ntmobile.proto.io import Call, Entropy, Failed, Timeout, Transmit
from ntmobile.proto.journal import Journal
from ntmobile.proto.node.addresses import Addresses
from ntmobile.proto.node.events import (
    Command,
    Event,
    HandoverDone,
    LocalAddress,
    LoggedIn,
    LoginFailed,
    Observations,
    PeerPinned,
    Pong,
    RefuseAddress,
    Registered,
    RegistrationLost,
    TunnelClosed,
    TunnelEstablished,
)
from ntmobile.proto.node.handshake import Terms
from ntmobile.proto.node.login import Granted, Login, Proof
from ntmobile.proto.node.negotiation import (
    Agreed,
    Negotiation,
    NegotiationFailed,
    Parts,
    Punched,
)
from ntmobile.proto.node.queries import Queries
from ntmobile.proto.node.registration import Overtaken, Registration, RegistrationStood
from ntmobile.proto.node.settings import NodeSettings, NodeView, PeerView, Pin
from ntmobile.proto.node.tags import DCTag, Directing, KeptAlive, Registering
from ntmobile.proto.node.tunnel import Ends, PathDead, Tunnel
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Header, Sender, Signal
from ntmobile.wire.direction import (
    Action,
    DirectionRequest,
    Purpose,
    Role,
    RouteDirection,
    Withdrawal,
)
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.message import Message
from ntmobile.wire.registration import NtmAck, Reason, Refusal, Superseded
from ntmobile.wire.tunnel import CloseReason

OVERHEAD = 88
"""IPv6 40, UDP 8, capsule 32, tail of a segment 8: what a capsule adds at most."""
MIN_MTU = 1280
EARLY_NS = 2 * SECOND
MAX_EARLY = 32
"""Datagrams kept that came before their Route Direction."""
MAX_TUNNELS = 4096
ASKED_NS = 15 * SECOND
GRACE_NS = 24 * 3600 * SECOND
"""How long a tunnel outlives its authorisation when no DC can be asked."""
FINAL = {Reason.NOT_ALLOWED, Reason.REVOKED, Reason.UNKNOWN_NAME, Reason.FOREIGN_DOMAIN}
"""Refusals that also end a tunnel that stands."""


@dataclass(frozen=True, slots=True)
class _Asking:
    """A Direction Request of ours, until its negotiation begins or is refused."""

    fqdn: str
    purpose: Purpose
    began: Instant


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


class Node:
    """The sans-I/O machine of one NTM node. See proto.io for how it is driven."""

    def __init__(
        self,
        settings: NodeSettings,
        identity: Identity,
        observations: Observations,
        entropy: Entropy,
        pins: Iterable[Pin] = (),
    ) -> None:
        """observations looks into the packet loops; pins are what is remembered of peers."""
        pins = tuple(pins)
        self.settings = settings
        self.keyring = Keyring(Party.NODE)
        self.rejected: Counter[str] = Counter()
        self._identity = identity
        self._observations = observations
        self._entropy = entropy
        self._challenger = Challenger(entropy)
        self._journal = Journal(settings.fqdn)
        self._ids = 0
        self._login = Login(
            settings.user, settings.name, settings.domain, identity, self._journal, self._next_id
        )
        self._registration = Registration(settings, self._usable_coordinators)
        self._queries = Queries()
        self._addresses = Addresses(settings.avoid, pins)
        self._pins = {pin.fqdn: pin.device for pin in pins}
        self._conversation: Conversation[DCTag] | None = None
        self._coordinators: tuple[Endpoint, ...] = ()
        self._coordinator = ""
        self._local: tuple[LocalAddress, ...] = ()
        self._asking: dict[bytes, _Asking] = {}
        self._negotiations: dict[bytes, Negotiation] = {}
        self._tunnels: dict[str, Tunnel] = {}
        self._by_index: dict[int, Tunnel] = {}
        self._leaves: dict[str, _Leave] = {}
        self._early: deque[_Early] = deque(maxlen=MAX_EARLY)
        self._trouble = ""
        self._stopped = False
        self._transmits: deque[Transmit] = deque()
        self._commands: deque[Command] = deque()
        self._requests: deque[Call] = deque()
        self._events: deque[Event] = deque()

    @property
    def fqdn(self) -> str:
        """The node's permanent name."""
        return self.settings.fqdn

    def login(
        self, now: Instant, *, password: str | None = None, authority: str | None = None
    ) -> None:
        """Log in: by password, by pre-authorised key, or (neither) by the enrolled device key."""
        self._stopped = False
        self._login.start(Proof(password, authority), now)
        self._drain(now)

    def resolve(self, fqdn: str, now: Instant) -> int:
        """Look a peer up and build its tunnel; answered by NameResolved or NameRefused."""
        query = self._next_id()
        self._queries.add(query, fqdn, now)
        tunnel = self._tunnels.get(fqdn)
        if fqdn == self.fqdn and self._addresses.own is not None:
            self._queries.resolve(fqdn, self._addresses.own)
        elif tunnel is not None and tunnel.is_up:
            self._queries.resolve(fqdn, tunnel.ends.peer_here)
        else:
            self._negotiate(fqdn, Purpose.CONNECT, now)
        self._drain(now)
        return query

    def ping(self, fqdn: str, sequence: int, now: Instant) -> bool:
        """Send an Echo Request through a tunnel that stands; False where there is none."""
        tunnel = self._tunnels.get(fqdn)
        if tunnel is None or not tunnel.is_up:
            return False
        tunnel.ping(sequence, now)
        self._drain(now)
        return True

    def close_tunnel(self, fqdn: str, now: Instant) -> None:
        """Close one peer's tunnel."""
        if (tunnel := self._tunnels.get(fqdn)) is not None:
            tunnel.close(CloseReason.LEAVING, now)
        self._drain(now)

    def leave(self, now: Instant) -> None:
        """Close all tunnels, tell the DC, stop."""
        self._stopped = True
        for tunnel in list(self._tunnels.values()):
            tunnel.close(CloseReason.LEAVING, now)
        self._registration.end(now)
        self._login.stop()
        self._drain(now)

    def handle_links(self, local: tuple[LocalAddress, ...], now: Instant) -> None:
        """Take all addresses of all uplinks: at the start and at every change."""
        if local == self._local:
            return
        before, self._local = self._local, local
        families = {address.endpoint.version for address in local}
        for tunnel in self._tunnels.values():
            family = None if tunnel.path is None else tunnel.path.remote.version
            if family is not None and _uplink(before, family) == _uplink(local, family):
                continue
            tunnel.move(family in families, now)
            negotiation = self._negotiation_of(tunnel)
            if negotiation is not None and tunnel.path is not None and tunnel.path.relayed:
                negotiation.punch(now)
        if not self._stopped and self._login.is_over is False:
            self._registration.register(self._own_endpoints(), now)
        self._drain(now)

    def handle_datagram(
        self, source: Endpoint, data: bytes, now: Instant, *, interface: int = 0
    ) -> None:
        """Take one datagram that is not a capsule; what is not ours is counted and dropped."""
        try:
            header = Header.decode(data)
        except DecodeError:
            self.rejected["malformed"] += 1
            return
        conversation = self._conversation
        if conversation is not None and header.identifier == conversation.identifier:
            heard = conversation.handle_datagram(header, source, data, now, interface=interface)
            self._handle_coordinator(heard, now)
        elif (negotiation := self._negotiations.get(header.identifier)) is not None:
            negotiation.handle_datagram(header, source, data, now, interface)
        else:
            self.rejected["unknown key"] += 1
            self._early.append(_Early(now, header, source, data, interface))
        self._drain(now)

    def handle_reply(self, id: int, reply: Message | Failed, now: Instant) -> None:
        """Take the outcome of a request of poll_request."""
        self._login.handle_reply(id, reply, now)
        self._drain(now)

    def handle_control(
        self, index: int, epoch: int, source: Endpoint, interface: int, payload: bytes, now: Instant
    ) -> None:
        """Take the opened plaintext of a control capsule."""
        if (tunnel := self._by_index.get(index)) is not None:
            tunnel.handle_control(epoch, source, interface, payload, now)
            self._drain(now)

    def handle_moved(self, index: int, source: Endpoint, interface: int, now: Instant) -> None:
        """An authentic capsule, newer than all before, came from elsewhere than the path."""
        if (tunnel := self._by_index.get(index)) is not None:
            tunnel.handle_moved(source, interface, now)
            self._drain(now)

    def handle_rekey_due(self, index: int, now: Instant) -> None:
        """An epoch is used up by count."""
        if (tunnel := self._by_index.get(index)) is not None:
            tunnel.rekey(now)
            self._drain(now)

    def handle_wanted(self, address: IPv4Address | IPv6Address, now: Instant) -> None:
        """A packet to this virtual address waits and there is no tunnel for it."""
        fqdn = self._addresses.name(address)
        if fqdn is None:
            self._commands.append(RefuseAddress(address))
        else:
            self._negotiate(fqdn, Purpose.CONNECT, now)
        self._drain(now)

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        self._login.handle_timeout(now)
        self._registration.handle_timeout(now)
        self._queries.handle_timeout(now)
        if self._conversation is not None:
            self._conversation.handle_timeout(now)
            while (lost := self._conversation.poll_unanswered()) is not None:
                self._handle_silence(lost.tag, now)
        for negotiation in list(self._negotiations.values()):
            negotiation.handle_timeout(now)
        for tunnel in list(self._tunnels.values()):
            tunnel.handle_timeout(now)
        for id, asking in list(self._asking.items()):
            if now - asking.began >= ASKED_NS:
                self._refused(id, Reason.TIMED_OUT, now)
        self._renew_leaves(now)
        self._drain(now)

    def poll_transmit(self) -> Transmit | None:
        """Next datagram to send, oldest first."""
        return self._transmits.popleft() if self._transmits else None

    def poll_command(self) -> Command | None:
        """Next command to the packet loops, in order."""
        return self._commands.popleft() if self._commands else None

    def poll_request(self) -> Call | None:
        """Next HTTPS request to make."""
        return self._requests.popleft() if self._requests else None

    def poll_event(self) -> Event | None:
        """Next thing that happened, oldest first."""
        if self._events:
            return self._events.popleft()
        return self._journal.poll()

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        timeouts = [
            self._login.poll_timeout(),
            self._registration.poll_timeout(),
            self._queries.poll_timeout(),
        ]
        timeouts += [tunnel.poll_timeout() for tunnel in self._tunnels.values()]
        timeouts += [negotiation.poll_timeout() for negotiation in self._negotiations.values()]
        if self._conversation is not None:
            timeouts.append(self._conversation.poll_timeout())
        timeouts += [Timeout(leave.renew_at, "leave renewal") for leave in self._leaves.values()]
        timeouts += [
            Timeout(Instant(asking.began + ASKED_NS), "direction given up")
            for asking in self._asking.values()
        ]
        return min((timeout for timeout in timeouts if timeout is not None), default=None)

    def view(self) -> NodeView:
        """Return what `ntm status` says of this node."""
        responses = self._registration.responses
        state = "up" if responses else "degraded" if not self._login.is_over else "down"
        own = self._addresses.own
        return NodeView(
            self.fqdn,
            "degraded" if self._trouble and state == "up" else state,
            self._trouble,
            None if own is None else own[0],
            None if own is None else own[1],
            tuple(response.mapped for response in responses.values()),
            self._coordinator,
        )

    def peers(self) -> tuple[PeerView, ...]:
        """Return what `ntm status` says of each peer with a tunnel."""
        return tuple(self._view(tunnel) for tunnel in self._tunnels.values() if tunnel.is_up)

    def _view(self, tunnel: Tunnel) -> PeerView:
        traffic = self._observations.traffic(tunnel.index)
        path = tunnel.path
        return PeerView(
            tunnel.fqdn,
            *tunnel.ends.peer_here,
            "device-key",
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
            tunnel.last_handover,
        )

    def _next_id(self) -> int:
        self._ids += 1
        return self._ids

    def _own_endpoints(self) -> tuple[Endpoint, ...]:
        preferred = sorted(self._local, key=lambda address: not address.preferred)
        return tuple(address.endpoint for address in preferred)[:16]

    def _usable(self, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        families = {address.endpoint.version for address in self._local}
        return tuple(endpoint for endpoint in endpoints if endpoint.version in families)

    def _usable_coordinators(self) -> tuple[Endpoint, ...]:
        return self._usable(self._coordinators)

    def _answering_coordinators(self) -> tuple[Endpoint, ...]:
        """The DC over one family where it answers, IPv6 first; else over all there are."""
        usable = self._usable_coordinators()
        answering = [end for end in usable if end.version in self._registration.responses]
        return tuple(sorted(answering, key=lambda end: -end.version)[:1]) or usable

    def _mtu(self, remote: Endpoint) -> int:
        links = [
            address.mtu
            for address in self._local
            if address.preferred and address.endpoint.version == remote.version
        ]
        return max(min(links, default=1500) - OVERHEAD, MIN_MTU)

    def _negotiation_of(self, tunnel: Tunnel) -> Negotiation | None:
        peers = (n for n in self._negotiations.values() if n.route.peer.fqdn == tunnel.fqdn)
        return max(peers, key=lambda negotiation: negotiation.began, default=None)

    def _is_sought(self, fqdn: str) -> bool:
        """Whether a way to the peer is being negotiated."""
        return any(asking.fqdn == fqdn for asking in self._asking.values()) or any(
            negotiation.route.peer.fqdn == fqdn and negotiation.is_open
            for negotiation in self._negotiations.values()
        )

    def _negotiate(self, fqdn: str, purpose: Purpose, now: Instant) -> None:
        """Ask the DC for a way to a peer, unless one is being sought."""
        if self._is_sought(fqdn) or self._stopped:
            return
        if self._conversation is None or not self._registration.responses:
            if self._login.is_over:
                self._queries.refuse(fqdn, Reason.NOT_REGISTERED)
            return
        id = self._entropy.getrandbits(128).to_bytes(16)
        self._asking[id] = _Asking(fqdn, purpose, now)
        request = DirectionRequest(fqdn, id, self._identity.public, purpose)
        self._conversation.ask(request, self._answering_coordinators(), now, Directing(id))

    def _handle_coordinator(self, heard: Asked | Answered[DCTag] | None, now: Instant) -> None:
        match heard:
            case Answered(Directing(id), Refusal(reason)):
                self._refused(id, reason, now)
            case Answered(Registering() | KeptAlive() as tag, message):
                self._registration.handle_answer(tag, message, now)
            case Asked():
                self._handle_asked(heard, now)
            case _:
                pass

    def _handle_silence(self, tag: DCTag, now: Instant) -> None:
        match tag:
            case Directing(id):
                self._refused(id, Reason.TIMED_OUT, now)
            case Registering() | KeptAlive():
                self._registration.handle_silence(tag, now)

    def _handle_asked(self, asked: Asked, now: Instant) -> None:
        """The DC directs, refuses, withdraws."""
        conversation = self._conversation
        assert conversation is not None
        answer: Signal = NtmAck()
        match asked.message:
            case RouteDirection() as route:
                refused = self._handle_route(route, now)
                identity = self._identity.public
                answer = Refusal(refused, route.negotiation) if refused else NtmAck(identity)
            case Refusal(reason, negotiation) if negotiation is not None:
                self._refused(negotiation, reason, now)
            case Refusal(Reason.REVOKED):
                self._stop(Reason.REVOKED, now)
            case Withdrawal(peer):
                self._withdraw(peer, now)
            case Superseded(instance) if instance == self.settings.instance:
                self._stop(Reason.SUPERSEDED, now)
            case _:
                return
        conversation.answer(asked, answer, now)

    def _handle_route(self, route: RouteDirection, now: Instant) -> Reason | None:
        """Begin our end of a negotiation. Source: paper, Figs. 6 and 7."""
        if any(n.route.negotiation == route.negotiation for n in self._negotiations.values()):
            return None
        peer = route.peer
        asking = self._asking.pop(route.negotiation, None)
        own = self._addresses.own
        response = next(iter(self._registration.responses.values()), None)
        if own is None or response is None or route.fqdn != self.fqdn:
            return Reason.NOT_REGISTERED
        if route.role is Role.MN and (asking is None or asking.fqdn != peer.fqdn):
            return Reason.NOT_ALLOWED
        pinned = self._pins.get(peer.fqdn, peer.identity.device)
        if not is_genuine(peer.identity) or pinned != peer.identity.device:
            self._queries.refuse(peer.fqdn, Reason.IDENTITY_CHANGED)
            return Reason.IDENTITY_CHANGED
        if len(self._tunnels) >= MAX_TUNNELS and peer.fqdn not in self._tunnels:
            return Reason.BUSY
        own_ipv6 = response.virtual_ipv6
        tunnel = self._tunnel(route, own, own_ipv6, now)
        tunnel.relay = route.relay
        valid_ns = max(route.valid_s, 60) * SECOND
        renew_ns = valid_ns * 9 // 10 if tunnel.ends.leads else valid_ns
        self._leaves[peer.fqdn] = _Leave(
            Instant(now + renew_ns), Instant(now + valid_ns + GRACE_NS)
        )
        self._queries.authorise(peer.fqdn, tunnel.ends.peer_here, now)
        negotiation = Negotiation(
            self._parts(),
            route,
            tunnel.index,
            tunnel.propose_epoch(),
            self._terms(route, own_ipv6),
            now,
        )
        self._negotiations[negotiation.identifier] = negotiation
        self._replay_early(negotiation, now)
        return None

    def _tunnel(
        self,
        route: RouteDirection,
        own: tuple[IPv4Address, IPv6Address],
        own_ipv6: IPv6Address,
        now: Instant,
    ) -> Tunnel:
        peer = route.peer
        tunnel = self._tunnels.get(peer.fqdn)
        if tunnel is not None and tunnel.ends.cipher is route.cipher:
            return tunnel
        if tunnel is not None:
            tunnel.close(CloseReason.REPLACED, now)
            self._drain_tunnel(tunnel, now)
        here = self._addresses.meet(peer.fqdn, peer.virtual_ipv4, peer.virtual_ipv6)
        if self._pins.get(peer.fqdn) is None:
            self._pins[peer.fqdn] = peer.identity.device
            self._events.append(PeerPinned(peer.fqdn, peer.identity.device, *here))
        index = self._entropy.getrandbits(32)
        while index in self._by_index:
            index = self._entropy.getrandbits(32)
        ends = Ends(self.fqdn, self._identity, own_ipv6, peer, route.cipher, own, here)
        tunnel = Tunnel(
            ends,
            index,
            self._observations,
            self._entropy,
            self._journal,
            self._mtu,
            self.settings.idle_s * SECOND,
            now,
        )
        self._tunnels[peer.fqdn] = tunnel
        self._by_index[index] = tunnel
        return tunnel

    def _parts(self) -> Parts:
        return Parts(
            self.fqdn,
            self._identity,
            self.keyring,
            self._challenger,
            self._entropy,
            self._journal,
            self._usable,
        )

    def _terms(self, route: RouteDirection, own_ipv6: IPv6Address) -> Terms:
        own = (self.fqdn, self._identity.public, own_ipv6)
        peer = (route.peer.fqdn, route.peer.identity, route.peer.virtual_ipv6)
        mn, cn = (own, peer) if route.role is Role.MN else (peer, own)
        other = Role.CN if route.role is Role.MN else Role.MN
        sender = route.role if route.action is Action.SEND else other
        return Terms(
            route.negotiation,
            route.mode,
            route.cipher,
            mn[0],
            cn[0],
            sender,
            mn[1],
            cn[1],
            mn[2],
            cn[2],
        )

    def _replay_early(self, negotiation: Negotiation, now: Instant) -> None:
        for early in list(self._early):
            if now - early.at > EARLY_NS:
                self._early.remove(early)
            elif early.header.identifier == negotiation.identifier:
                self._early.remove(early)
                negotiation.handle_datagram(
                    early.header, early.source, early.data, now, early.interface
                )

    def _refused(self, id: bytes, reason: Reason, now: Instant) -> None:
        asking = self._asking.pop(id, None)
        if asking is None:
            negotiation = next(
                (n for n in self._negotiations.values() if n.route.negotiation == id), None
            )
            if negotiation is None or not negotiation.is_open:
                return
            fqdn = negotiation.route.peer.fqdn
            self._close_negotiation(negotiation, now)
        else:
            fqdn = asking.fqdn
        self._queries.refuse(fqdn, reason)
        tunnel = self._tunnels.get(fqdn)
        idle = tunnel is not None and not (
            tunnel.is_up or tunnel.is_moving or self._is_sought(fqdn)
        )
        if tunnel is not None and (reason in FINAL or idle):
            tunnel.close(CloseReason.WITHDRAWN, now)
        elif tunnel is None and (here := self._addresses.of(fqdn)) is not None:
            self._commands.extend(RefuseAddress(address) for address in here)

    def _withdraw(self, peer: str, now: Instant) -> None:
        tunnel = self._tunnels.get(peer)
        if tunnel is not None:
            tunnel.close(CloseReason.WITHDRAWN, now)

    def _stop(self, reason: Reason, now: Instant) -> None:
        """This node may not or must not go on; a person decides what next."""
        self._trouble = str(reason)
        self._stopped = True
        for tunnel in list(self._tunnels.values()):
            tunnel.close(CloseReason.WITHDRAWN, now)
        self._login.stop()
        self._registration = Registration(self.settings, self._usable_coordinators)
        self._events.append(RegistrationLost(reason))

    def _close_negotiation(self, negotiation: Negotiation, now: Instant) -> None:
        negotiation.close(now)
        self._negotiations.pop(negotiation.identifier, None)

    def _renew_leaves(self, now: Instant) -> None:
        for fqdn, leave in list(self._leaves.items()):
            tunnel = self._tunnels.get(fqdn)
            if tunnel is None:
                del self._leaves[fqdn]
            elif now >= leave.ends_at:
                tunnel.close(CloseReason.WITHDRAWN, now)
            elif now >= leave.renew_at:
                self._leaves[fqdn] = _Leave(Instant(now + 60 * SECOND), leave.ends_at)
                self._negotiate(fqdn, Purpose.CONNECT, now)

    def _drain(self, now: Instant) -> None:
        """Hand on what the parts want, until none wants anything more."""
        self._drain_login(now)
        self._drain_registration(now)
        for negotiation in list(self._negotiations.values()):
            self._drain_negotiation(negotiation, now)
        for tunnel in list(self._tunnels.values()):
            self._drain_tunnel(tunnel, now)
        if self._conversation is not None:
            while (transmit := self._conversation.poll_transmit()) is not None:
                self._transmits.append(transmit)
        while (answer := self._queries.poll_event()) is not None:
            self._events.append(answer)

    def _drain_login(self, now: Instant) -> None:
        while (call := self._login.poll_call()) is not None:
            self._requests.append(call)
        while (outcome := self._login.poll_event()) is not None:
            match outcome:
                case Granted():
                    self._begin(outcome, now)
                case LoginFailed(_, _, retry_at):
                    self._events.append(outcome)
                    if retry_at is None:
                        for fqdn in self._queries.names():
                            self._queries.refuse(fqdn, Reason.NOT_REGISTERED)

    def _begin(self, granted: Granted, now: Instant) -> None:
        """Kntmdc is here: register under it. Source: paper, Figs. 2 and 3."""
        response = granted.response
        key: Kntmdc = self.keyring.own(granted.key, now)
        if self._conversation is not None:
            self.keyring.erase(self._conversation.key, now)
        self._conversation = Conversation(
            key,
            Sender.NODE,
            self._challenger,
            self._entropy,
            self._journal,
            lambda *_: "DC",
        )
        self._trouble = ""
        self._coordinator = response.coordinator
        self._coordinators = response.coordinator_endpoints
        self._events.append(
            LoggedIn(
                response.fqdn,
                response.coordinator,
                response.coordinator_endpoints,
                response.domain_key,
            )
        )
        self._registration.begin(self._conversation, now)
        self._registration.register(self._own_endpoints(), now)

    def _drain_registration(self, now: Instant) -> None:
        while (event := self._registration.poll_event()) is not None:
            match event:
                case RegistrationStood(response, _, changed):
                    own = self._addresses.take_own(response.virtual_ipv4, response.virtual_ipv6)
                    self._trouble = ""
                    if changed:
                        self._events.append(Registered(*own, response.mapped))
                    self._seek(now)
                case Overtaken():
                    self._stop(Reason.SUPERSEDED, now)
                case RegistrationLost(reason):
                    self._trouble = str(reason)
                    self._events.append(event)

    def _seek(self, now: Instant) -> None:
        """Registered (again): ask for what waits, and for better paths after a move."""
        for fqdn in self._queries.names():
            self._negotiate(fqdn, Purpose.CONNECT, now)
        for tunnel in list(self._tunnels.values()):
            if tunnel.is_moving:
                self._negotiate(tunnel.fqdn, Purpose.MOVE, now)

    def _drain_negotiation(self, negotiation: Negotiation, now: Instant) -> None:
        while (outcome := negotiation.poll_outcome()) is not None:
            tunnel = self._tunnels.get(negotiation.route.peer.fqdn)
            match outcome:
                case Agreed() if tunnel is not None:
                    self._establish(tunnel, negotiation, outcome, now)
                case Punched() if tunnel is not None:
                    tunnel.update(now)
                case NegotiationFailed(_, reason, relay_next):
                    self._negotiation_failed(negotiation, reason, relay_next, now)
                case _:
                    pass
        while (transmit := negotiation.poll_transmit()) is not None:
            self._transmits.append(transmit)

    def _establish(
        self, tunnel: Tunnel, negotiation: Negotiation, agreed: Agreed, now: Instant
    ) -> None:
        tunnel.adopt(agreed, now)
        tunnel.negotiated_ns = now - negotiation.began
        for other in list(self._negotiations.values()):
            same_peer = other.route.peer.fqdn == tunnel.fqdn
            if same_peer and other is not negotiation and not other.is_open:
                self._close_negotiation(other, now)
        self._events.append(
            TunnelEstablished(
                tunnel.fqdn, tunnel.index, agreed.remote, agreed.relayed, tunnel.negotiated_ns
            )
        )
        self._queries.resolve(tunnel.fqdn, tunnel.ends.peer_here)

    def _negotiation_failed(
        self, negotiation: Negotiation, reason: Reason, relay_next: bool, now: Instant
    ) -> None:
        fqdn = negotiation.route.peer.fqdn
        self._close_negotiation(negotiation, now)
        if negotiation.route.role is Role.MN and relay_next:
            self._negotiate(fqdn, Purpose.RELAY, now)
            return
        if self._is_sought(fqdn):
            return
        tunnel = self._tunnels.get(fqdn)
        if negotiation.route.role is Role.MN:
            self._queries.refuse(fqdn, reason)
        if tunnel is not None and not tunnel.is_up and not tunnel.is_moving:
            tunnel.close(CloseReason.WITHDRAWN, now)

    def _drain_tunnel(self, tunnel: Tunnel, now: Instant) -> None:
        while (command := tunnel.poll_command()) is not None:
            self._commands.append(command)
        while (note := tunnel.poll_note()) is not None:
            match note:
                case PathDead(fqdn):
                    self._negotiate(fqdn, Purpose.MOVE, now)
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
        for negotiation in list(self._negotiations.values()):
            if negotiation.route.peer.fqdn == tunnel.fqdn:
                self._close_negotiation(negotiation, now)


def _uplink(local: tuple[LocalAddress, ...], family: int) -> frozenset[LocalAddress]:
    """What of an uplink decides where a family's packets leave from."""
    return frozenset(
        address for address in local if address.endpoint.version == family and address.preferred
    )
