"""The DC as DCmn: from a Direction Request to Route Directions for both ends.

A negotiation::

    Finding --Coordinator found--> Asking --Node Information--> Directing --all acknowledged--> over
       '------------- CN is a node of this domain ---------------^

Route Directions go to CN (through DCcn) and to MN, and Relay Direction to RS, all at once; the end
that hears first waits for the other. Source: paper, Figs. 5 to 7. Ours: the order, docs/protocol.md
section 7.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import msgspec

from ntmobile.keys.table import (
    IDENTIFIER_SIZE,
    SECRET_SIZE,
    CommonKey,
    Kdcdc,
    Kdcrs,
    Ktmp,
    Ktun,
)
from ntmobile.proto.conversation import Answered, Asked, Conversation
from ntmobile.proto.coordinator.common import Common
from ntmobile.proto.coordinator.decision import (
    Decision,
    choose_cipher,
    decide,
    is_web,
    same_mapped,
    trimmed,
)
from ntmobile.proto.coordinator.nearest import distances, several
from ntmobile.proto.coordinator.peering import PATIENT_TRIES, PeerFailed, Peering
from ntmobile.proto.coordinator.policy import Subject, is_below
from ntmobile.proto.coordinator.registry import Node
from ntmobile.proto.coordinator.settings import Relay
from ntmobile.proto.coordinator.tags import Notice, RouteToEnd
from ntmobile.proto.io import (
    CoordinatorFound,
    Failed,
    FindCoordinator,
    ForeignCoordinator,
    RelayServer,
    Timeout,
    random_bytes,
)
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Header, Sender, Signal, fits
from ntmobile.wire.direction import (
    Action,
    DirectionRequest,
    NodeInformation,
    NodeInformationRequest,
    NodeInformationResponse,
    RelayDirection,
    Role,
    RouteDirection,
    Withdrawal,
)
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.hint import Hint, What
from ntmobile.wire.registration import NtmAck, Reason, Refusal
from ntmobile.wire.round_trip import RoundTrips
from ntmobile.wire.web import WebPlace

MAX_OPEN_A_NODE = 64
PATIENCE_NS = 15 * SECOND
"""Whatever hangs longer is forgotten, its keys erased."""
FIND_RETRY_NS = SECOND // 2


@dataclass(frozen=True, slots=True)
class AskedInformation:
    """A Node Information Request of a negotiation."""

    negotiation: bytes


@dataclass(frozen=True, slots=True)
class AskedRelay:
    """A Relay Direction of a negotiation."""

    negotiation: bytes
    ktun: bytes


ServerTag = AskedInformation | AskedRelay | RouteToEnd | Notice
Server = Peering[ServerTag]


@dataclass(frozen=True, slots=True)
class Finding:
    """Whose zone is the name in?"""

    call: int
    retry_at: Instant | None = None


@dataclass(frozen=True, slots=True)
class Asking:
    """DCcn was asked for CN."""

    domain: str


@dataclass(frozen=True, slots=True)
class Directing:
    """Route Directions are on their way; the keys are carried until all are acknowledged."""

    domain: str
    cn: NodeInformation
    pending: frozenset[str]
    keys: tuple[CommonKey, ...]
    ktun: bytes
    """Identifier of the Ktun among them."""
    relay: str | None
    """Name of the RS, where the path goes through one."""
    later: RouteDirection | None = None
    """MN's, where CN must be woken first."""


@dataclass(slots=True)
class Negotiation:
    """One tunnel that is being directed."""

    id: bytes
    mn: Node
    request: DirectionRequest
    began: Instant
    state: Finding | Asking | Directing = field(default=Finding(0))
    cn_round_trips: RoundTrips = ()
    """What DCcn tells of a CN of another domain."""


class Directions:
    """All negotiations of which this DC is DCmn."""

    def __init__(self, common: Common) -> None:
        """Shares nodes, keys and queues with the rest of the coordinator."""
        self._common = common
        self._open: dict[bytes, Negotiation] = {}
        self._domains: dict[str, Server] = {}
        self._relays: dict[str, Server] = {}

    def __len__(self) -> int:
        return len(self._open)

    def start(self, node: Node, asked: Asked, request: DirectionRequest, now: Instant) -> None:
        """Take a Direction Request. Source: paper, Fig. 5."""
        common = self._common
        if request.negotiation in self._open:
            return node.conversation.answer(asked, NtmAck(), now)
        reason = self._refuses(node, request, now)
        if reason is not None:
            return node.conversation.answer(asked, Refusal(reason, request.negotiation), now)
        node.conversation.answer(asked, NtmAck(), now)
        negotiation = Negotiation(request.negotiation, node, request, now)
        self._open[negotiation.id] = negotiation
        if not is_below(request.fqdn, common.settings.domain):
            return self._find(negotiation, now)
        cn = common.registry.named(request.fqdn)
        if cn is None:
            return self._refuse(negotiation, Reason.UNKNOWN_NAME, now)
        if not cn.is_registered(now, common.settings.registration_s):
            return self._refuse(negotiation, Reason.NOT_REGISTERED, now)
        sleeps = cn.is_asleep(now, common.settings.registration_s)
        told = cn.information(now, private=True, sleeps=sleeps)
        return self._direct(negotiation, common.settings.domain, told, now)

    def handle_reply(self, id: int, reply: object, now: Instant) -> bool:
        """Take the outcome of a search or of a Key Sharing; False when it is not ours."""
        for server in self._servers():
            if server.call == id:
                if isinstance(reply, NtmAck | Refusal | Failed):
                    server.handle_reply(reply, now)
                self._drain(now)
                return True
        for negotiation in self._open.values():
            if isinstance(negotiation.state, Finding) and negotiation.state.call == id:
                self._handle_found(negotiation, reply, now)
                self._drain(now)
                return True
        return False

    def handle_datagram(self, header: Header, source: Endpoint, data: bytes, now: Instant) -> bool:
        """Take a datagram under a key this DC shared; False when it is not ours."""
        for server in self._servers():
            if server.identifier == header.identifier:
                server.handle_datagram(header, source, data, now)
                self._drain(now)
                return True
        return False

    def handle_hint(self, source: Endpoint, hint: Hint, now: Instant) -> None:
        """A hint: a server does not know the key it was asked under."""
        for server in self._servers():
            if hint.what is What.KEY and server.identifier == hint.name:
                server.handle_hint(source, now)
        self._drain(now)

    def warm_relays(self, now: Instant) -> None:
        """Share Kdcrs with every RS of the domain before a negotiation needs it."""
        for relay in self._common.settings.relays:
            self._relay(relay).warm(now)
        self._drain(now)

    def ask_relay(self, relay: Relay, message: Signal, now: Instant) -> None:
        """Ask an RS something whose answer changes nothing here."""
        self._relay(relay).ask(message, Notice(), now)
        self._drain(now)

    def renew(self, before: Node, node: Node) -> None:
        """A node of ours has a new key: what it asked for goes on under that."""
        for negotiation in self._open.values():
            if negotiation.mn is before:
                negotiation.mn = node

    def handle_end(self, tag: RouteToEnd, answer: Signal | None, now: Instant) -> None:
        """Take the answer of one of our own nodes to a Route Direction; None for silence."""
        negotiation = self._open.get(tag.negotiation)
        if negotiation is not None:
            self._settle(negotiation, tag.role, tag.ktun, answer, Reason.NOT_REGISTERED, now)

    def handle_timeout(self, now: Instant) -> None:
        """Ask again, search again, give up."""
        for server in self._servers():
            server.handle_timeout(now)
        self._leave_silent_relays(now)
        for negotiation in list(self._open.values()):
            if now - negotiation.began >= PATIENCE_NS:
                self._refuse(negotiation, Reason.TIMED_OUT, now)
                continue
            match negotiation.state:
                case Finding(_, retry_at) if retry_at is not None and now >= retry_at:
                    self._find(negotiation, now)
                case _:
                    pass
        self._drain(now)

    def _leave_silent_relays(self, now: Instant) -> None:
        """Direct anew, through another RS, what waits for one that is silent."""
        if all(relay.is_silent(now) for relay in self._relays.values()):
            return
        for negotiation in list(self._open.values()):
            state = negotiation.state
            if not isinstance(state, Directing) or "rs" not in state.pending:
                continue
            if state.relay is not None and self._relays[state.relay].is_silent(now):
                self._direct_anew(negotiation, state, now)

    def _direct_anew(self, negotiation: Negotiation, state: Directing, now: Instant) -> None:
        """The ends leave the RS of their first Route Direction for that of the next."""
        for key in state.keys:
            self._common.keyring.erase(key, now)
        own = state.domain == self._common.settings.domain
        if own and self._common.registry.named(state.cn.fqdn) is None:
            return self._refuse(negotiation, Reason.NOT_REGISTERED, now)
        negotiation.state = Asking(state.domain)
        return self._direct(negotiation, state.domain, state.cn, now)

    def poll_timeouts(self) -> Iterator[Timeout]:
        """All times at which handle_timeout wants to be called."""
        for server in self._servers():
            if (timeout := server.poll_timeout()) is not None:
                yield timeout
        for negotiation in self._open.values():
            yield Timeout(Instant(negotiation.began + PATIENCE_NS), "negotiation given up")
            match negotiation.state:
                case Finding(_, retry_at) if retry_at is not None:
                    yield Timeout(retry_at, "coordinator search")
                case _:
                    pass

    def withdraw(self, fqdn: str, domain: str, now: Instant) -> None:
        """Tell another domain that one of our nodes is revoked."""
        if domain in self._domains:
            self._domains[domain].ask(Withdrawal(fqdn), Notice(), now)
            self._drain(now)

    def known_domains(self) -> tuple[str, ...]:
        """Domains this DC talked to."""
        return tuple(self._domains)

    def _servers(self) -> list[Server]:
        return [*self._domains.values(), *self._relays.values()]

    def _refuses(self, node: Node, request: DirectionRequest, now: Instant) -> Reason | None:
        if request.identity.keys != node.stored.identity.keys:
            return Reason.IDENTITY_CHANGED
        if request.fqdn == node.fqdn:
            return Reason.UNKNOWN_NAME
        open_now = sum(1 for negotiation in self._open.values() if negotiation.mn is node)
        if open_now >= MAX_OPEN_A_NODE:
            return Reason.BUSY
        mn = Subject(node.fqdn, node.stored.groups)
        cn_node = self._common.registry.named(request.fqdn)
        cn = Subject(request.fqdn, () if cn_node is None else cn_node.stored.groups)
        foreign = not is_below(request.fqdn, self._common.settings.domain)
        return self._common.judge(mn, cn, now, exists=foreign or cn_node is not None)

    def _find(self, negotiation: Negotiation, now: Instant) -> None:
        call = self._common.next_id()
        negotiation.state = Finding(call)
        request = FindCoordinator(call, negotiation.request.fqdn)
        self._common.journal.note(now, request, "DNS", sent=True, of=negotiation.request)
        self._common.requests.append(request)

    def _handle_found(self, negotiation: Negotiation, reply: object, now: Instant) -> None:
        if isinstance(reply, CoordinatorFound):
            asked = negotiation.request
            self._common.journal.note(now, reply, "DNS", sent=False, of=asked)
            if (reason := self._common.policy.refuses_domain(reply.domain)) is not None:
                return self._refuse(negotiation, reason, now)
            server = self._domain(reply)
            negotiation.state = Asking(reply.domain)
            request = NodeInformationRequest(
                negotiation.request.fqdn,
                _information(negotiation, now, private=False),
                negotiation.id,
                negotiation.request.purpose,
            )
            named = several(self._common.settings.relays)
            naming = msgspec.structs.replace(request, relays=named)
            request = naming if fits(naming) else request
            return server.ask(request, AskedInformation(negotiation.id), now)
        if isinstance(reply, Failed) and reply.reason is Reason.DOMAIN_UNREACHABLE:
            negotiation.state = Finding(0, Instant(now + FIND_RETRY_NS))
            return None
        reason = reply.reason if isinstance(reply, Failed) else Reason.UNKNOWN_NAME
        return self._refuse(negotiation, reason, now)

    def _domain(self, found: CoordinatorFound) -> Server:
        server = self._domains.get(found.domain)
        if server is None:
            server = self._peering(
                ForeignCoordinator(found.domain), found.endpoints, Sender.DCMN, "DCcn"
            )
            self._domains[found.domain] = server
        server.endpoints = found.endpoints
        return server

    def _relay(self, relay: Relay) -> Server:
        server = self._relays.get(relay.name)
        if server is None:
            server = self._peering(RelayServer(relay.name), relay.endpoints, Sender.DC, "RS")
            self._relays[relay.name] = server
        server.endpoints = relay.endpoints
        return server

    def _peering(
        self,
        target: ForeignCoordinator | RelayServer,
        endpoints: tuple[Endpoint, ...],
        role: Sender,
        there: str,
    ) -> Server:
        common = self._common

        def converse(key: Kdcdc | Kdcrs) -> Conversation[object]:
            return Conversation(
                key, role, common.challenger, common.entropy, common.journal, lambda *_: there
            )

        return Peering(
            target,
            endpoints,
            common.settings.domain,
            common.settings.server_key_s,
            common.keyring,
            common.entropy,
            common.journal,
            converse,  # type: ignore[arg-type]
            common.next_id,
        )

    def _handle_outcome(
        self, outcome: Answered[ServerTag] | PeerFailed[ServerTag], now: Instant
    ) -> None:
        answer = outcome.message if isinstance(outcome, Answered) else None
        reason = outcome.reason if isinstance(outcome, PeerFailed) else Reason.UNKNOWN_NAME
        match outcome.tag:
            case AskedInformation(id) if (negotiation := self._open.get(id)) is not None:
                self._handle_information(negotiation, answer, reason, now)
            case AskedRelay(id, ktun) if (negotiation := self._open.get(id)) is not None:
                self._settle(negotiation, "rs", ktun, answer, Reason.NO_RELAY, now)
            case RouteToEnd(id, role, ktun) if (negotiation := self._open.get(id)) is not None:
                self._settle(negotiation, role, ktun, answer, reason, now)
            case _:
                pass

    def _handle_information(
        self, negotiation: Negotiation, answer: Signal | None, reason: Reason, now: Instant
    ) -> None:
        if not isinstance(negotiation.state, Asking):
            return None
        if not isinstance(answer, NodeInformationResponse):
            refused = answer.reason if isinstance(answer, Refusal) else reason
            return self._refuse(negotiation, refused, now)
        domain, cn = negotiation.state.domain, trimmed(answer.cn)
        if cn.fqdn != negotiation.request.fqdn or not is_below(cn.fqdn, domain):
            return self._refuse(negotiation, Reason.UNKNOWN_NAME, now)
        negotiation.cn_round_trips = answer.round_trips
        return self._direct(negotiation, domain, cn, now)

    def _direct(
        self, negotiation: Negotiation, domain: str, cn: NodeInformation, now: Instant
    ) -> None:
        common = self._common
        own = domain == common.settings.domain
        mn = _information(negotiation, now, private=True)
        if not own and not same_mapped(mn, cn):
            mn = _information(negotiation, now, private=False)
        relays = self._preferred(negotiation, now)
        decision = decide(mn, cn, relays, negotiation.request.purpose)
        if decision is None:
            return self._refuse(negotiation, Reason.NO_RELAY, now)
        ktmp, ktun = self._create_keys(negotiation.id, now)
        name = None if decision.relay is None else decision.relay.name
        pending = {Role.MN.value, Role.CN.value}
        if decision.relay is not None:
            pending.add("rs")
            self._relay(decision.relay).ask(
                self._relay_direction(negotiation, ktun),
                AskedRelay(negotiation.id, ktun.identifier),
                now,
            )
        common.remember_partners(mn.fqdn, cn.fqdn)
        to_cn = self._route(negotiation, Role.CN, cn.fqdn, mn, decision, ktmp, ktun, cn, mn)
        to_mn = self._route(negotiation, Role.MN, mn.fqdn, cn, decision, ktmp, ktun, cn, mn)
        later = to_mn if cn.sleeps else None
        keys, identifier = (ktmp, ktun), ktun.identifier
        negotiation.state = Directing(domain, cn, frozenset(pending), keys, identifier, name, later)
        tag_cn = RouteToEnd(negotiation.id, Role.CN, ktun.identifier)
        if own:
            node = common.registry.named(cn.fqdn)
            assert node is not None
            common.ask_node(node, to_cn, tag_cn, now)
        else:
            self._domains[domain].ask(to_cn, tag_cn, now, tries=PATIENT_TRIES)
        if later is None:
            tag_mn = RouteToEnd(negotiation.id, Role.MN, ktun.identifier)
            common.ask_node(negotiation.mn, to_mn, tag_mn, now)
        return self._drain(now)

    def _preferred(self, negotiation: Negotiation, now: Instant) -> tuple[Relay, ...]:
        """All RS: last those that are silent, to this DC or to who asks; then the nearest first."""
        request, relays = negotiation.request, self._common.settings.relays
        cn = self._common.registry.named(request.fqdn)
        theirs = negotiation.cn_round_trips if cn is None else cn.round_trips
        far = distances(relays, (negotiation.mn.round_trips, theirs))

        def doubt(relay: Relay) -> tuple[bool, bool, int]:
            avoided = any(endpoint in request.avoid for endpoint in relay.endpoints)
            return self._relay(relay).is_silent(now), avoided, far[relay.name]

        return tuple(sorted(relays, key=doubt))

    def _create_keys(self, negotiation: bytes, now: Instant) -> tuple[Ktmp, Ktun]:
        common = self._common
        expires = Instant(now + common.settings.authorisation_s * SECOND)
        ktmp = Ktmp(random_bytes(common.entropy, SECRET_SIZE), negotiation[:8], expires)
        identifier = random_bytes(common.entropy, IDENTIFIER_SIZE)
        ktun = Ktun(random_bytes(common.entropy, SECRET_SIZE), identifier, expires)
        for key in (ktmp, ktun):
            common.keyring.create(key, now)
            common.keyring.carry(key, now)
        return ktmp, ktun

    def _relay_direction(self, negotiation: Negotiation, ktun: Ktun) -> RelayDirection:
        settings = self._common.settings
        names = sorted((negotiation.mn.fqdn, negotiation.request.fqdn))
        pair = hashlib.sha256(b"ntm pair 1\0" + "\0".join(names).encode()).digest()[:16]
        return RelayDirection(
            negotiation.id,
            ktun.identifier,
            ktun.secret,
            settings.relay_idle_s,
            settings.relay_rate,
            pair,
        )

    def _route(
        self,
        negotiation: Negotiation,
        role: Role,
        fqdn: str,
        peer: NodeInformation,
        decision: Decision,
        ktmp: Ktmp,
        ktun: Ktun,
        cn: NodeInformation,
        mn: NodeInformation,
    ) -> RouteDirection:
        sends = decision.sender is role
        web = is_web(mn if role is Role.MN else cn)
        if web:  # It can use none of them, and the datagram must hold RS's HTTPS too.
            peer = msgspec.structs.replace(peer, local=(), reachable=())
        return RouteDirection(
            negotiation.id,
            fqdn,
            role,
            Action.SEND if sends else Action.AWAIT,
            peer,
            ktmp.secret,
            ktun.secret,
            ktun.identifier,
            decision.targets if sends else (),
            () if decision.relay is None else decision.relay.endpoints,
            self._common.settings.authorisation_s,
            purpose=negotiation.request.purpose,
            cipher=choose_cipher(mn, cn),
            shown=(mn if role is Role.MN else cn).identity.shown,
            relay_web=self._web_of(decision.relay) if web else None,
        )

    def _web_of(self, relay: Relay | None) -> WebPlace | None:
        """Where an end that reaches no UDP finds RS."""
        if relay is None:
            return None
        return WebPlace(relay.name, self._common.settings.domain_key, relay.https)

    def _settle(
        self,
        negotiation: Negotiation,
        who: str,
        ktun: bytes,
        answer: Signal | None,
        reason: Reason,
        now: Instant,
    ) -> None:
        """One of those directed answered; when all did, the keys are handed over and erased."""
        state = negotiation.state
        if not isinstance(state, Directing) or state.ktun != ktun:
            return None
        if not isinstance(answer, NtmAck):
            refused = answer.reason if isinstance(answer, Refusal) else reason
            return self._refuse(negotiation, refused, now)
        shown = answer.identity
        if who == Role.CN and shown is not None and shown.keys != state.cn.identity.keys:
            # The paper takes CN's certificate from its ACK; here it must be what MN was told.
            return self._refuse(negotiation, Reason.IDENTITY_CHANGED, now)
        pending = state.pending - {str(who)}
        negotiation.state = replace(state, pending=pending)
        if state.later is not None and Role.CN not in pending:
            negotiation.state = replace(negotiation.state, later=None)
            tag = RouteToEnd(negotiation.id, Role.MN, ktun)
            self._common.ask_node(negotiation.mn, state.later, tag, now)
        if not pending:
            self._forget(negotiation, now)
        return None

    def _refuse(self, negotiation: Negotiation, reason: Reason, now: Instant) -> None:
        refusal = Refusal(reason, negotiation.id)
        self._forget(negotiation, now)
        self._common.ask_node(negotiation.mn, refusal, Notice(), now)

    def _forget(self, negotiation: Negotiation, now: Instant) -> None:
        self._open.pop(negotiation.id, None)
        if isinstance(negotiation.state, Directing):
            for key in negotiation.state.keys:
                self._common.keyring.erase(key, now)

    def _drain(self, now: Instant) -> None:
        for server in self._servers():
            while (outcome := server.poll_outcome()) is not None:
                self._handle_outcome(outcome, now)
            while (call := server.poll_call()) is not None:
                self._common.requests.append(call)
            while (transmit := server.poll_transmit()) is not None:
                self._common.transmits.append(transmit)


def _information(negotiation: Negotiation, now: Instant, *, private: bool) -> NodeInformation:
    """What is told of MN: with the certificate that came in its Direction Request."""
    told = negotiation.mn.information(now, private=private)
    return trimmed(msgspec.structs.replace(told, identity=negotiation.request.identity))
