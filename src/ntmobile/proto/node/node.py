"""A node: login, registration, names, negotiations and tunnels, in one sans-I/O machine.

Source: paper, Figs. 2 to 7. The parts are machines of their own; this one hands each datagram,
answer and timeout to the part it belongs to and gathers what they want done.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from ntmobile.errors import DecodeError
from ntmobile.keys.identity import Identity
from ntmobile.keys.table import Keyring, Kntmdc, Party
from ntmobile.proto.conversation import Answered, Asked, Challenger, Conversation
from ntmobile.proto.io import Call, Entropy, Failed, StreamCommand, Timeout, Transmit
from ntmobile.proto.journal import Journal
from ntmobile.proto.node.asked import OpenDirections
from ntmobile.proto.node.credentials import Certificates, Credentials
from ntmobile.proto.node.events import (
    Command,
    Event,
    LocalAddress,
    LoginFailed,
    Observations,
    ReachedBy,
    Registered,
    RegistrationLost,
    RoundTripsWanted,
    ServersTold,
    WebCommand,
)
from ntmobile.proto.node.fallback import Fallback
from ntmobile.proto.node.finding import Finding
from ntmobile.proto.node.introductions import Introductions
from ntmobile.proto.node.knocks import Knocks
from ntmobile.proto.node.login import Granted, Login, Proof, after_doubts
from ntmobile.proto.node.loop_signals import LoopSignals
from ntmobile.proto.node.notification import LinkWanted, NotificationLink
from ntmobile.proto.node.peers import Peers
from ntmobile.proto.node.queries import Queries
from ntmobile.proto.node.reach import Reach
from ntmobile.proto.node.registration import Overtaken, Registration, RegistrationStood
from ntmobile.proto.node.rotation import Turn
from ntmobile.proto.node.round_trips import Measured
from ntmobile.proto.node.settings import NodeSettings, NodeView, PeerView, Pin
from ntmobile.proto.node.standing import node_view
from ntmobile.proto.node.tags import (
    AskingServers,
    DCTag,
    Directing,
    KeptAlive,
    Registering,
    Reporting,
)
from ntmobile.proto.node.trust import Trust, TrustSettings, Unknown, WallClock
from ntmobile.time import Instant
from ntmobile.wire.datagram import Header, Kind, Sender, Signal
from ntmobile.wire.direction import (
    DirectionRequest,
    Purpose,
    Role,
    RouteDirection,
    Withdrawal,
)
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.identity import Authentication
from ntmobile.wire.message import Endpoints, Message
from ntmobile.wire.registration import (
    KeepAliveAnswer,
    KeepAliveChoice,
    NtmAck,
    Reason,
    Refusal,
    ServersRequest,
    ServersResponse,
    Superseded,
)
from ntmobile.wire.stun import is_stun
from ntmobile.wire.tunnel import CloseReason
from ntmobile.wire.web import WebPlace

FINAL = {Reason.NOT_ALLOWED, Reason.REVOKED, Reason.UNKNOWN_NAME, Reason.FOREIGN_DOMAIN}
"""Refusals that also end a tunnel that stands."""


class Node(LoopSignals):
    """The sans-I/O machine of one NTM node. See proto.io for how it is driven."""

    def __init__(
        self,
        settings: NodeSettings,
        identity: Identity,
        observations: Observations,
        entropy: Entropy,
        pins: Iterable[Pin] = (),
        *,
        certificates: Certificates = Certificates(),  # noqa: B008 - frozen
        trust: TrustSettings = TrustSettings(),  # noqa: B008 - frozen
        wall: WallClock = lambda _: 0.0,
    ) -> None:
        """observations looks into the packet loops; pins are what is remembered of peers."""
        pins = tuple(pins)
        self._wall = wall
        self._trust = Trust(settings.domain, trust, pins, wall)
        self._credentials = Credentials(settings.fqdn, identity, certificates)
        self._introductions = Introductions(self._trust, self._next_id)
        self.settings = settings
        self.keyring = Keyring(Party.NODE)
        self._identity = identity
        self._entropy = entropy
        self._challenger = Challenger(entropy)
        self._journal = Journal(settings.fqdn)
        self.rejected: Mapping[str, int] = self._journal.rejected
        """Datagrams dropped, by reason."""
        self._ids = 0
        own = settings.user, settings.name, settings.domain, identity
        self._login = Login(*own, self._journal, self._next_id)
        self._registration = Registration(
            settings,
            self._reachable_coordinators,
            lambda: self._credentials.certificate,
            lambda: self.whereabouts.opened,
        )
        self._fallback = Fallback(entropy)
        self._queries = Queries()
        shared = self.keyring, self._challenger, self._journal, self._queries
        self._peers = Peers(
            settings, identity, observations, entropy, *shared, pins, self._trust, self._credentials
        )
        self.whereabouts, self.addresses = self._peers.whereabouts, self._peers.addresses
        known = settings.fqdn, self.keyring, entropy, self._journal
        self._link = NotificationLink(*known, self._peers.of_family)
        self.reach = Reach(self._registration, self._link)
        self._conversation: Conversation[DCTag] | None = None
        self._coordinators: tuple[Endpoint, ...] = ()
        self._coordinator = ""
        self._asking = OpenDirections(self._answering_coordinators)
        self._knocks = Knocks(self._journal)
        self._trouble = ""
        self._told: tuple[IPv4Address, IPv6Address] | None = None
        """The own virtual addresses as the driver knows them."""
        self._stopped = False
        self._moved_at = Instant(0)
        self._doubts = 0
        """How often the DC's silence made this node log in again."""
        self._transmits: deque[Transmit] = deque()
        self._requests: deque[Call] = deque()
        self._events: deque[Event] = deque()

    @property
    def fqdn(self) -> str:
        """The node's permanent name."""
        return self.settings.fqdn

    def login(
        self, now: Instant, *, password: str | None = None, authority: str | None = None
    ) -> None:
        """Log in: by password, by pre-authorised key, or (neither) by the device key.

        The device key is enrolled, or the certificate that was given is over it.
        """
        self._stopped = False
        by_key = password is None and authority is None
        shown = self._credentials.certificate if by_key and self._credentials.shows_given else b""
        self._login.start(Proof(password, authority, shown), now)
        self._drain(now)

    def set_trust(self, given: tuple[bytes, ...], asked: Authentication) -> None:
        """Believe these CAs (in DER) where they may speak, and ask this of peers from now."""
        self._trust.set_wish(given, asked)

    def forget(self, name: str, now: Instant) -> bool:
        """Forget the pinned key of a peer, or the pinned CAs of a domain; whether there were."""
        self.close_tunnel(name, now)
        return self._trust.forget(name)

    def resolve(self, fqdn: str, now: Instant) -> int:
        """Look a peer up and build its tunnel; answered by NameResolved or NameRefused."""
        query = self._next_id()
        self._queries.add(query, fqdn, now)
        tunnel = self._peers.named(fqdn)
        if fqdn == self.fqdn and self._peers.addresses.own is not None:
            self._queries.resolve(fqdn, self._peers.addresses.own)
        elif tunnel is not None and tunnel.is_up:
            self._queries.resolve(fqdn, tunnel.ends.peer_here)
        else:
            self._negotiate(fqdn, Purpose.CONNECT, now)
        self._drain(now)
        return query

    def ping(self, fqdn: str, sequence: int, now: Instant) -> bool:
        """Send an Echo Request through a tunnel that stands; False where there is none."""
        tunnel = self._peers.named(fqdn)
        if tunnel is None or not tunnel.is_up:
            return False
        tunnel.ping(sequence, now)
        self._drain(now)
        return True

    def ask_servers(self, now: Instant) -> bool:
        """Ask the DC for the domain's RS; answered by ServersTold. False while not registered."""
        if self._conversation is None or not self._registration.responses:
            return False
        coordinators = self._answering_coordinators()
        self._conversation.ask(ServersRequest(), coordinators, now, AskingServers())
        self._drain(now)
        return True

    def close_tunnel(self, fqdn: str, now: Instant) -> None:
        """Close one peer's tunnel."""
        if (tunnel := self._peers.named(fqdn)) is not None:
            tunnel.close(CloseReason.LEAVING, now)
        self._drain(now)

    def leave(self, now: Instant) -> None:
        """Close all tunnels, tell the DC, stop; WebSockets are the driver's to close."""
        self._stopped, self._trouble = True, ""
        self._peers.close(CloseReason.LEAVING, now)
        self._registration.end(now)
        self._link.stop(now)
        self._login.stop()
        self._drain(now)

    def handle_links(self, local: tuple[LocalAddress, ...], now: Instant) -> None:
        """Take all addresses of all uplinks: at the start and at every change."""
        if local == self._peers.local:
            return
        self._moved_at = now
        self._peers.handle_links(local, now)
        self._fallback.move(self._peers.of_family(self._coordinators))
        self._link.move(now)
        if not self._stopped and not self._login.is_over:
            self._registration.register(self._peers.own_endpoints(), now, moved=True)
        self._drain(now)

    def avoid(self, networks: tuple[IPv4Network | IPv6Network, ...], now: Instant) -> None:
        """Take the real networks that virtual addresses must not hide: at the start, after moves.

        What no tunnel uses changes at once (PeerPinned, Registered), the rest when its tunnel ends.
        """
        self._peers.avoid(networks)
        self._drain(now)

    def handle_web(self, remote: Endpoint, now: Instant, *, stands: bool) -> None:
        """A WebSocket of poll_web stands, or is no more (or cannot be)."""
        if not self._fallback.handle_web(remote, stands=stands, now=now) and stands:
            self._peers.handle_web(remote, now)
        self._drain(now)

    def choose(self, keepalive: KeepAliveChoice, device_token: str | None, now: Instant) -> None:
        """Be reached this way from now. Source: paper, Fig. 4 (the user chooses)."""
        self._registration.device_token = device_token
        self.reach.choose(keepalive, 0, now)
        self.wake(now)

    def wake(self, now: Instant) -> None:
        """A wake-up arrived: contact the DC, which has something for this node. Paper, Fig. 6."""
        if not self._stopped:
            self._registration.register(self._peers.own_endpoints(), now)
        self._drain(now)

    def handle_datagram(
        self, source: Endpoint, data: bytes, now: Instant, *, interface: int = 0
    ) -> None:
        """Take one datagram that is not a capsule; what is not ours is counted and dropped."""
        if data[:1] == bytes((Kind.PROBE,)):
            return self._handle_knock(data, now)
        if data[:1] == bytes((Kind.HINT,)):
            self._peers.handle_hint(source, data, now)
            return self._drain(now)
        if is_stun(data):
            self._fallback.handle_stun(data, now)
            return self._drain(now)
        try:
            header = Header.decode(data)
        except DecodeError:
            self._journal.rejected["malformed"] += 1
            return None
        conversation = self._conversation
        if conversation is not None and header.identifier == conversation.identifier:
            heard = conversation.handle_datagram(header, source, data, now, interface=interface)
            self._handle_coordinator(heard, now)
        elif not self._peers.handle_datagram(header, source, data, now, interface):
            self._journal.rejected["unknown key"] += 1
        return self._drain(now)

    def handle_stream_opened(self, stream: int, source: Endpoint, now: Instant) -> None:
        """A connection that was asked for stands."""
        self._link.handle_stream_opened(stream, now)
        self._drain(now)

    def handle_stream(self, stream: int, data: bytes, now: Instant) -> None:
        """Take what came over a connection."""
        self._link.handle_stream(stream, data, now)
        self._drain(now)

    def handle_stream_closed(self, stream: int, now: Instant) -> None:
        """A connection broke, or could not be made."""
        self._link.handle_stream_closed(stream, now)
        self._drain(now)

    def handle_reply(self, id: int, reply: Message | Failed, now: Instant) -> None:
        """Take the outcome of a request of poll_request."""
        released = self._introductions.handle_reply(id, reply, now)
        if released is None:
            self._login.handle_reply(id, reply, now)
        for held in released or ():
            self._take_route(held.asked, held.route, now, patient=False)
        self._drain(now)

    def handle_finding(self, finding: Finding | None, now: Instant) -> None:
        """Answers NatWanted, first with a glimpse perhaps; None: it could not be examined."""
        self.whereabouts.handle_finding(finding)
        self._drain(now)

    def handle_newest_port(self, port: int, now: Instant) -> None:
        """Answers NewestPortWanted; 0: there was no answer."""
        self.whereabouts.handle_newest_port(port)
        self._drain(now)

    def handle_round_trips(self, number: int, measured: Measured, now: Instant) -> None:
        """Answers RoundTripsWanted; empty: they could not be measured."""
        self._registration.handle_round_trips(number, measured, now)
        self._drain(now)

    def handle_wanted(self, address: IPv4Address | IPv6Address, now: Instant) -> None:
        """A packet to this virtual address waits and there is no tunnel for it."""
        fqdn = self._peers.addresses.name(address)
        if fqdn is None:
            self._peers.refuse_address(address)
        else:
            self._negotiate(fqdn, Purpose.CONNECT, now)
        self._drain(now)

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        for part in (self._login, self._registration, self._fallback, self._link, self._queries):
            part.handle_timeout(now)
        if self._conversation is not None:
            self._conversation.handle_timeout(now)
            while (lost := self._conversation.poll_unanswered()) is not None:
                self._handle_silence(lost.tag, now)
        self._peers.handle_timeout(now)
        for held in self._introductions.overdue(now):
            self._take_route(held.asked, held.route, now, patient=False)
        for id in self._asking.handle_timeout(now):
            self._refused(id, Reason.TIMED_OUT, now)
        self._drain(now)

    def poll_transmit(self) -> Transmit | None:
        """Next datagram to send, oldest first."""
        return self._transmits.popleft() if self._transmits else None

    def poll_web(self) -> WebCommand | None:
        """Next WebSocket to open or to close."""
        return self._fallback.poll_command() or self._peers.poll_web()

    def poll_stream(self) -> StreamCommand | None:
        """Next thing to do with the connection to NS, in order."""
        return self._link.poll_stream()

    def poll_command(self) -> Command | None:
        """Next command to the packet loops, in order."""
        return self._peers.poll_command()

    def poll_request(self) -> Call | None:
        """Next HTTPS request to make."""
        return self._requests.popleft() if self._requests else None

    def poll_event(self) -> Event | None:
        """Next thing that happened: the steps first, then what they led to."""
        if (step := self._journal.poll()) is not None:
            return step
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        parts = (self._login, self._registration, self._fallback, self._link, self._queries)
        timeouts = [part.poll_timeout() for part in parts]
        if self._conversation is not None:
            timeouts.append(self._conversation.poll_timeout())
        timeouts += self._peers.poll_timeouts()
        timeouts += self._asking.poll_timeouts()
        timeouts += self._introductions.poll_timeouts()
        return min((timeout for timeout in timeouts if timeout is not None), default=None)

    def view(self) -> NodeView:
        """Return what `ntm status` says of this node."""
        parts = self._login, self._registration, self._peers, self.reach, self._fallback
        return node_view(self.fqdn, self._trouble, self._coordinator, *parts)

    def peers(self) -> tuple[PeerView, ...]:
        """Return what `ntm status` says of each peer with a tunnel."""
        return self._peers.views()

    def _next_id(self) -> int:
        self._ids += 1
        return self._ids

    def _reachable_coordinators(self) -> tuple[Endpoint, ...]:
        return self._peers.usable(self._coordinators)

    def _answering_coordinators(self) -> tuple[Endpoint, ...]:
        return self._registration.answering(self._reachable_coordinators())

    def _is_sought(self, fqdn: str) -> bool:
        """Whether a way to the peer is being sought from where this node is now."""
        asked = self._asking.is_sought(fqdn, self._moved_at)
        return asked or self._peers.is_negotiating(fqdn, self._moved_at)

    def _negotiate(self, fqdn: str, purpose: Purpose, now: Instant, avoid: Endpoints = ()) -> None:
        """Ask the DC for a way to a peer, unless one is being sought."""
        if self._is_sought(fqdn) or self._stopped:
            return
        if self._conversation is None or not self._registration.responses:
            if self._login.is_over:
                self._queries.refuse(fqdn, Reason.NOT_REGISTERED)
            return
        id = self._entropy.getrandbits(128).to_bytes(16)
        self._introductions.ask(self._trust.wants(fqdn, now))
        request = DirectionRequest(fqdn, id, self._credentials.public, purpose, avoid)
        self._asking.ask(request, now)

    def _handle_coordinator(self, heard: Asked | Answered[DCTag] | None, now: Instant) -> None:
        match heard:
            case Answered(Directing(id), Refusal(reason)):
                self._refused(id, reason, now)
            case Answered(Directing(id)):
                self._asking.acknowledge(id, now)
            case Answered(Registering() | KeptAlive() as tag, message):
                self._registration.handle_answer(tag, message, now)
            case Answered(AskingServers(), message):
                told = message.relays if isinstance(message, ServersResponse) else ()
                self._events.append(ServersTold(told))
            case Asked():
                self._handle_asked(heard, now)
            case _:
                pass

    def _handle_knock(self, data: bytes, now: Instant) -> None:
        """A stranger's datagram got in: the DC wants to know."""
        report = self._knocks.take(data, now)
        if report is not None and self._conversation is not None:
            self._conversation.ask(report, self._answering_coordinators(), now, Reporting())
        self._drain(now)

    def _handle_silence(self, tag: DCTag, now: Instant) -> None:
        match tag:
            case Directing(id):
                self._refused(id, Reason.TIMED_OUT, now)
                self._registration.register(self._peers.own_endpoints(), now)
            case Registering() | KeptAlive():
                self._registration.handle_silence(tag, now)
            case AskingServers():
                self._events.append(ServersTold(()))

    def _handle_asked(self, asked: Asked, now: Instant) -> None:
        """The DC directs, refuses, withdraws."""
        conversation = self._conversation
        assert conversation is not None
        answer: Signal = NtmAck()
        match asked.message:
            case RouteDirection() as route:
                return self._take_route(asked, route, now, patient=True)
            case Refusal(reason, negotiation) if negotiation is not None:
                self._refused(negotiation, reason, now)
            case Refusal(Reason.REVOKED):
                self._stop(Reason.REVOKED, now)
            case KeepAliveAnswer() as told:  # unasked: the DC sees this node elsewhere
                return self._registration.handle_answer(KeptAlive(asked.source.version), told, now)
            case Withdrawal(peer):
                if (tunnel := self._peers.named(peer)) is not None:
                    tunnel.close(CloseReason.WITHDRAWN, now)
            case Superseded(instance) if instance == self.settings.instance:
                self._stop(Reason.SUPERSEDED, now)
            case _:
                return
        conversation.answer(asked, answer, now)

    def _take_route(
        self, asked: Asked, route: RouteDirection, now: Instant, *, patient: bool
    ) -> None:
        """Begin what the DC directs, or wait to hear whom to believe; answer when that is clear.

        Source: paper, Node authentication: CN's certificate rides in its ACK.
        """
        patient = patient and not self._introductions.is_full
        outcome = self._handle_route(route, now, patient=patient)
        if isinstance(outcome, Unknown):
            return self._introductions.hold(asked, route, outcome.domain, now)
        self._asking.pop(route.negotiation)
        answer = NtmAck(self._credentials.public)
        refusal = None if outcome is None else Refusal(outcome, route.negotiation)
        if self._conversation is not None:
            self._conversation.answer(asked, refusal or answer, now)

    def _handle_route(
        self, route: RouteDirection, now: Instant, *, patient: bool
    ) -> Reason | Unknown | None:
        """Begin our end of a negotiation. Source: paper, Figs. 6 and 7."""
        asking = self._asking.get(route.negotiation)
        response = next(iter(self._registration.responses.values()), None)
        if response is None or route.fqdn != self.fqdn:
            return Reason.NOT_REGISTERED
        known = asking is not None and asking.fqdn == route.peer.fqdn
        known = known or self._peers.knows(route.negotiation, route.peer.fqdn)
        if route.role is Role.MN and not (known or self._peers.is_negotiating(route.peer.fqdn)):
            return Reason.NOT_ALLOWED
        late, own = asking is not None and asking.is_late(now), response.virtual_ipv6
        return self._peers.handle_route(route, own, now, patient=patient, late=late)

    def _refused(self, id: bytes, reason: Reason, now: Instant) -> None:
        asking = self._asking.pop(id)
        fqdn = self._peers.refuse(id, reason, now) if asking is None else asking.fqdn
        if fqdn is not None:
            self._queries.refuse(fqdn, reason)
            self._peers.drop(fqdn, now, final=reason in FINAL)

    def _stop(self, reason: Reason, now: Instant) -> None:
        """This node may not or must not go on; a person decides what next."""
        self._trouble = str(reason)
        self._stopped = True
        self._peers.close(CloseReason.WITHDRAWN, now)
        self._login.stop()
        self._link.stop(now)
        self._registration.reset()
        self._fallback.stop()
        self._peers.leave_web()
        self._events.append(RegistrationLost(reason))

    def _drain(self, now: Instant) -> None:
        """Hand on what the parts want, until none wants anything more."""
        self._drain_login(now)
        self._drain_registration(now)
        self._drain_fallback(now)
        self._drain_reach(now)
        self._peers.drain(now)
        while (wish := self._peers.poll_wish()) is not None:
            self._negotiate(wish.fqdn, wish.purpose, now, wish.avoid)
        self._transmits.extend(iter(self._peers.poll_transmit, None))
        self._events.extend(iter(self._peers.poll_event, None))
        if self._conversation is not None:
            self._transmits.extend(iter(self._conversation.poll_transmit, None))
        self._events.extend(iter(self._queries.poll_event, None))
        self._tell_own()

    def _tell_own(self) -> None:
        """This node's own addresses stepped aside."""
        own, responses = self._peers.addresses.own, self._registration.responses
        if own != self._told and own is not None and responses:
            self._told = own
            self._events.append(Registered(*own, next(iter(responses.values())).mapped))

    def _drain_login(self, now: Instant) -> None:
        for part in (self._login, self._introductions):
            self._requests.extend(iter(part.poll_call, None))
        self._events.extend(iter(self._introductions.poll_event, None))
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
        self._credentials.take(response.certificate, self._wall(now))
        self._trust.set_domain_wish(response.authentication)
        self._introductions.begin(self.settings.domain, response, now)
        self._events.extend(iter(self._introductions.poll_event, None))
        key: Kntmdc = self.keyring.own(granted.key, now)
        asked: list[tuple[Signal, DCTag]] = []
        if self._conversation is not None:
            asked = self._conversation.abandon()
            self.keyring.erase(self._conversation.key, now)
        self._conversation = Conversation(
            key, Sender.NODE, self._challenger, self._entropy, self._journal, lambda *_: "DC"
        )
        self._trouble = ""
        self._coordinator = response.coordinator
        self._coordinators = response.coordinator_endpoints
        self._events.append(granted.told())
        place = WebPlace(response.coordinator, response.domain_key, response.coordinator_https)
        self._fallback.begin(place, self._peers.of_family(self._coordinators))
        self._registration.begin(self._conversation)
        self._registration.register(self._peers.own_endpoints(), now)
        self._asking.begin(self._conversation, now)
        for message, tag in asked:
            if isinstance(tag, AskingServers):
                self._conversation.ask(message, self._answering_coordinators(), now, tag)

    def _drain_registration(self, now: Instant) -> None:
        while (event := self._registration.poll_event()) is not None:
            match event:
                case RegistrationStood(response, _, changed):
                    own = self._peers.addresses.take_own(
                        response.virtual_ipv4, response.virtual_ipv6
                    )
                    self._peers.show_mapped(
                        self._registration.mapped, self._reachable_coordinators()
                    )
                    self._peers.see(response.mapped, now)
                    self._trouble, self._doubts = "", 0
                    self._login.trust()
                    self.reach.take(response, now)
                    if changed:
                        self._told = own
                        self._events.append(Registered(*own, response.mapped))
                    self._seek(now)
                case Overtaken():
                    self._stop(Reason.SUPERSEDED, now)
                case RoundTripsWanted():
                    self._events.append(event)
                case Turn.CHANGE:
                    self._peers.turn(now)
                case Turn.SHOW:
                    self._registration.show_port(now)
                    for tunnel in self._peers:
                        tunnel.show_port(now)
                case RegistrationLost(reason):
                    self._trouble = str(reason)
                    self._events.append(event)
                    if reason is Reason.TIMED_OUT:
                        self._doubt(now)

    def _drain_fallback(self, now: Instant) -> None:
        registration = self._registration
        standing = bool(registration.responses)
        self._fallback.follow(registration.silent_since, standing=standing)
        while (switched := self._fallback.poll_event()) is not None:
            self._moved_at = now
            self._peers.switch(switched.web, now)
            if not self._stopped:
                registration.register(self._peers.own_endpoints(), now, moved=True)
        self._transmits.extend(iter(self._fallback.poll_transmit, None))

    def _drain_reach(self, now: Instant) -> None:
        """What the connection to NS brings. Source: paper, Figs. 4 and 6."""
        while (payload := self._link.poll_payload()) is not None:
            self._take_payload(payload, now)
        self.reach.drain(now)
        while (event := self.reach.poll_event()) is not None:
            match event:
                case ReachedBy():
                    self._events.append(event)
                case LinkWanted(failed):
                    self._registration.register(self._peers.own_endpoints(), now, failed)

    def _take_payload(self, payload: bytes, now: Instant) -> None:
        """A datagram of the DC, brought by NS: the answer goes to the DC itself."""
        header, places = Header.decode(payload), self._answering_coordinators()
        if self._conversation is None or header.identifier != self._conversation.identifier:
            self._journal.rejected["unknown key"] += 1
        elif places:
            heard = self._conversation.handle_datagram(header, places[0], payload, now)
            self._handle_coordinator(heard, now)

    def _doubt(self, now: Instant) -> None:
        """A DC that lost our Kntmdc is as silent as one that is down: log in again, seldom."""
        self._doubts += self._login.doubt(after_doubts(self._doubts, self._entropy, now))

    def _seek(self, now: Instant) -> None:
        """Registered (again): ask for what waits, and for better paths after a move."""
        for fqdn in self._queries.names():
            self._negotiate(fqdn, Purpose.CONNECT, now)
        for tunnel in self._peers:
            if tunnel.is_moving:
                self._negotiate(tunnel.fqdn, Purpose.MOVE, now)
