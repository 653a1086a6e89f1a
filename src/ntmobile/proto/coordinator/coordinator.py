"""A Direction Coordinator: registers its nodes, and directs tunnels as DCmn and as DCcn.

Source: paper, Figs. 2 to 7. The two halves of directing are in `directions` and `carriage`.
"""

from collections.abc import Iterable
from dataclasses import replace

import msgspec

from ntmobile.errors import DecodeError
from ntmobile.keys.table import Keyring, Kntmdc
from ntmobile.proto.conversation import Answered, Asked, Conversation
from ntmobile.proto.coordinator.carriage import Carriage
from ntmobile.proto.coordinator.common import Common, Event
from ntmobile.proto.coordinator.directions import Directions
from ntmobile.proto.coordinator.nearest import Named, several
from ntmobile.proto.coordinator.notifying import Assigned, Notifying
from ntmobile.proto.coordinator.policy import Policy, is_below
from ntmobile.proto.coordinator.reachability import Reachability
from ntmobile.proto.coordinator.registry import (
    Accepted,
    Node,
    Unproven,
    domain_prefix,
    register,
    stored_of,
)
from ntmobile.proto.coordinator.settings import (
    CoordinatorSettings,
    NodeStored,
    Notifier,
    Relay,
    StoredNode,
)
from ntmobile.proto.coordinator.tags import Carried, NodeTag, Notice, RouteToEnd
from ntmobile.proto.io import (
    Caller,
    CoordinatorFound,
    Entropy,
    Failed,
    Reply,
    Request,
    Timeout,
    Transmit,
)
from ntmobile.proto.rate import RateLimit, Verdict
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Header, Kind, Sender, Signal
from ntmobile.wire.direction import DirectionRequest, Withdrawal
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.federation import KeySharing, SharedKey
from ntmobile.wire.hint import Hint
from ntmobile.wire.login import KeyDistribution, LoginRefusal, LoginRefused
from ntmobile.wire.message import Message
from ntmobile.wire.registration import (
    LONGEST_RELAY_NAME,
    MAX_RELAYS_TOLD,
    KeepAliveAnswer,
    KeepAliveChoice,
    NtmAck,
    ReachabilityReport,
    Reason,
    Refusal,
    RegistrationRequest,
    RegistrationResponse,
    RelayPlace,
    ServersRequest,
    ServersResponse,
    Superseded,
    UdpKeepAlive,
)
from ntmobile.wire.round_trip import MOST_ROUND_TRIPS

EXPIRY_SWEEP_NS = 60 * SECOND
HINTS = 20
"""A second to one network."""
START = Instant(0)

__all__ = ["Coordinator", "domain_prefix"]


class Coordinator:
    """The sans-I/O machine of one DC."""

    def __init__(
        self,
        settings: CoordinatorSettings,
        policy: Policy,
        entropy: Entropy,
        stored: Iterable[StoredNode] = (),
        now: Instant = START,
    ) -> None:
        """Serves settings.domain; stored is what NodeStored gave out before a restart."""
        self._common = Common(settings, policy, entropy)
        self._directions = Directions(self._common)
        self._reachability = Reachability(self._common, self._directions)
        self._carriage = Carriage(self._common)
        self._notifying = Notifying(self._common)
        self._common.carrier = self._notifying
        self._boot = entropy.getrandbits(62)
        self._sweep_at = Instant(now + EXPIRY_SWEEP_NS)
        self._hints = RateLimit(HINTS, HINTS)
        for node in stored_of(stored, now):
            self._restore(node, now)

    @property
    def keyring(self) -> Keyring:
        """All keys this DC holds."""
        return self._common.keyring

    @property
    def settings(self) -> CoordinatorSettings:
        """What the DC was told at its start, and since."""
        return self._common.settings

    @property
    def rejected(self) -> dict[str, int]:
        """Datagrams dropped, by reason."""
        return dict(self._common.rejected)

    def registered(self, now: Instant) -> tuple[StoredNode, ...]:
        """The nodes that showed themselves lately."""
        patience = self._common.settings.registration_s
        return tuple(
            node.stored for node in self._common.registry if node.is_registered(now, patience)
        )

    def set_policy(self, policy: Policy, now: Instant) -> None:
        """Go by this policy from now; nodes it newly revokes are withdrawn at once.

        A domain that it refuses, or whose key is to be trusted for another reason, must share a
        key anew.
        """
        before, self._common.policy = self._common.policy, policy
        fresh = policy.revoked - before.revoked
        changed = {domain for domain, _ in policy.pins ^ before.pins}
        self._carriage.distrust(
            lambda domain: domain in changed or policy.refuses_domain(domain) is not None, now
        )
        for fqdn in sorted(fresh):
            self.withdraw(fqdn, now)

    def set_relays(self, relays: tuple[Relay, ...]) -> None:
        """Use these RS from now."""
        self._common.settings = replace(self._common.settings, relays=relays)
        for node in self._common.registry:
            node.knows_relays = False

    def set_push(self, kinds: frozenset[str]) -> None:
        """Take device tokens of these kinds from now."""
        self._common.settings = replace(self._common.settings, push=kinds)

    def set_notifiers(self, notifiers: tuple[Notifier, ...], now: Instant) -> None:
        """Use these NS from now; the nodes of one that is none any more get another."""
        self._notifying.use(notifiers, now)

    def withdraw(self, fqdn: str, now: Instant) -> None:
        """Revoke a node: it, its partners and their DCs are told at once."""
        common = self._common
        for partner in sorted(common.partners.pop(fqdn, set())):
            ours = common.registry.named(partner)
            if ours is not None:
                common.ask_node(ours, Withdrawal(fqdn), Notice(), now)
                continue
            for domain in self._directions.known_domains():
                if is_below(partner, domain):
                    self._directions.withdraw(fqdn, domain, now)
        node = common.registry.named(fqdn)
        if node is not None:
            for place in common.places(node, now):
                node.conversation.tell(Refusal(Reason.REVOKED), place, now)
            common.drain(node, now)
            self._notifying.dismiss(node, now)
            self._forget(node, now)

    def handle_request(self, id: int, caller: Caller, message: Message, now: Instant) -> None:
        """Take Key Distribution (own AS) or Key Sharing (another DC), signed by caller.domain."""
        answer: Message
        match message:
            case KeyDistribution() if caller.domain == self._common.settings.domain:
                answer = self._take_node(message, now)
            case KeySharing(SharedKey.KDCDC) if caller.domain == message.creator:
                self._common.journal.note(now, message, "DCmn", sent=False)
                answer = self._carriage.accept(message, now)
            case _:
                answer = Refusal(Reason.NOT_ALLOWED)
        self._common.replies.append(Reply(id, answer))

    def handle_reply(
        self, id: int, reply: Message | CoordinatorFound | Failed, now: Instant
    ) -> None:
        """Take the outcome of a request of poll_request."""
        waking = self._common.waking
        if (fqdn := waking.whose(id)) is not None:
            waking.handle_reply(id, reply, self._common.registry.named(fqdn), now)
        elif not self._notifying.handle_reply(id, reply, now):
            self._directions.handle_reply(id, reply, now)
        self._drain_parts(now)

    def handle_datagram(
        self, source: Endpoint, data: bytes, now: Instant, *, interface: int = 0
    ) -> None:
        """Take one datagram; what is not ours is counted and dropped."""
        if data[:1] == bytes((Kind.HINT,)):
            self._handle_hint(source, data, now)
            return
        try:
            header = Header.decode(data)
        except DecodeError:
            self._common.rejected["malformed"] += 1
            return
        node = self._common.registry.keyed(header.identifier)
        if node is not None:
            self._handle_node(node, header, source, data, now, interface)
        elif not (
            self._carriage.handle_datagram(header, source, data, now)
            or self._directions.handle_datagram(header, source, data, now)
            or self._notifying.handle_datagram(header, source, data, now)
        ):
            self._common.rejected["unknown key"] += 1
            self._hint(header, source, now)
        self._drain_parts(now)

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        common = self._common
        for node in list(common.busy.values()):
            node.conversation.handle_timeout(now)
            while (lost := node.conversation.poll_unanswered()) is not None:
                self._handle_node_answer(lost.tag, common.silence(node, now), now)
            common.drain(node, now)
            if node.conversation.poll_timeout() is None:
                common.busy.pop(node.fqdn, None)
        self._directions.handle_timeout(now)
        common.waking.handle_timeout(now)
        self._notifying.handle_timeout(now)
        self._drain_parts(now)
        if now >= self._sweep_at:
            self._sweep_at = Instant(now + EXPIRY_SWEEP_NS)
            self._carriage.sweep(now)
            for node in [node for node in common.registry if now >= node.stored.expires]:
                self._forget(node, now)

    def poll_transmit(self) -> Transmit | None:
        """Next datagram to send, oldest first."""
        return self._common.transmits.popleft() if self._common.transmits else None

    def poll_request(self) -> Request | None:
        """Next request to the driver."""
        return self._common.requests.popleft() if self._common.requests else None

    def poll_reply(self) -> Reply | None:
        """Next answer to an HTTPS request."""
        return self._common.replies.popleft() if self._common.replies else None

    def poll_event(self) -> Event | None:
        """Next thing that happened."""
        if self._common.events:
            return self._common.events.popleft()
        return self._common.journal.poll()

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        asking = (node.conversation.poll_timeout() for node in self._common.busy.values())
        wanted = [
            Timeout(self._sweep_at, "key expiry sweep"),
            *self._directions.poll_timeouts(),
            *self._notifying.poll_timeouts(),
            *(timeout for timeout in asking if timeout is not None),
        ]
        if (waking := self._common.waking.poll_timeout()) is not None:
            wanted.append(waking)
        return min(wanted)

    def _drain_parts(self, now: Instant) -> None:
        """Hand on wake-ups, and to whoever waits what came to nothing or can be answered now."""
        while (assigned := self._notifying.poll_assigned()) is not None:
            self._answer_assigned(assigned, now)
        waking = self._common.waking
        while (wake_up := waking.poll_wake_up()) is not None:
            self._common.requests.append(wake_up)
        while (event := waking.poll_event()) is not None:
            self._common.events.append(event)
        while (lost := waking.poll_outcome()) is not None:
            self._handle_node_answer(lost.tag, Refusal(lost.reason), now)

    def _deliver_kept(self, node: Node, now: Instant) -> None:
        """The node contacted us: it gets what was kept for it. Source: paper, Fig. 6."""
        for kept in self._common.waking.release(node.fqdn):
            self._common.ask_node(node, kept.message, kept.tag, now)

    def _restore(self, stored: StoredNode, now: Instant) -> None:
        key = Kntmdc(stored.kntmdc, stored.identifier, stored.expires)
        self._common.keyring.own(key, now)
        conversation = self._common.converse_with_node(key, stored.fqdn)
        last_seen = now if stored.mapped else None
        node = Node(stored, conversation, last_seen)
        # Perhaps it knows: then it shows itself at once to a DC that was started again.
        node.untold = node.may_sleep and stored.push_token is None
        self._common.registry.add(node)

    def _take_node(self, message: KeyDistribution, now: Instant) -> NtmAck | LoginRefusal:
        """AS vouches for a node and hands over its Kntmdc. Source: paper, Fig. 2."""
        common = self._common
        common.journal.note(now, message, "AS", sent=False)
        if not is_below(message.fqdn, common.settings.domain):
            return LoginRefusal(LoginRefused.COORDINATOR)
        before = common.registry.named(message.fqdn)
        try:
            virtual = (
                common.registry.allot(message.fqdn)
                if before is None
                else (before.stored.virtual_ipv4, before.stored.virtual_ipv6)
            )
        except OverflowError:
            return LoginRefusal(LoginRefused.BUSY)
        expires = Instant(now + message.lifetime_s * SECOND)
        key = Kntmdc(message.kntmdc, message.kntmdc_identifier, expires)
        stored = StoredNode(
            message.fqdn,
            message.identity,
            message.groups,
            message.kntmdc,
            message.kntmdc_identifier,
            expires,
            *virtual,
        )
        if before is not None and before.stored.identity.keys == message.identity.keys:
            stored = _renewed(before.stored, stored)
        common.keyring.own(key, now)
        node = Node(stored, common.converse_with_node(key, message.fqdn))
        if before is not None:
            node.last_seen = before.last_seen
            node.foreign_relays = before.foreign_relays
            node.previous = before.conversation
            self._forget_previous(before, now)
        common.registry.add(node)
        if before is not None:
            self._renew(before, node, now)
        common.events.append(NodeStored(stored))
        return NtmAck()

    def _renew(self, before: Node, node: Node, now: Instant) -> None:
        """Ask again under the new key what the node was asked under the one before."""
        self._common.busy.pop(before.fqdn, None)
        self._directions.renew(before, node)
        for message, tag in before.conversation.abandon():
            if before.stored.identity.keys == node.stored.identity.keys:
                self._common.ask_node(node, message, tag, now)
            else:
                self._handle_node_answer(tag, None, now)

    def _hint(self, header: Header, source: Endpoint, now: Instant) -> None:
        """A DC that shared a key before this one restarted shares one anew; nodes hear nothing."""
        asks = header.sender is Sender.DCMN
        if asks and self._hints.judge(source.host, now) is Verdict.SEND:
            hint = Hint.key(header.identifier).encode()
            self._common.transmits.append(Transmit(source, hint))

    def _handle_hint(self, source: Endpoint, data: bytes, now: Instant) -> None:
        try:
            hint = Hint.decode(data)
        except DecodeError:
            self._common.rejected["malformed"] += 1
        else:
            self._directions.handle_hint(source, hint, now)

    def _handle_node(
        self,
        node: Node,
        header: Header,
        source: Endpoint,
        data: bytes,
        now: Instant,
        interface: int,
    ) -> None:
        if node.previous is not None and header.identifier == node.previous.key.identifier:
            return self._handle_superseded(node, node.previous, header, source, data, now)
        heard = node.conversation.handle_datagram(header, source, data, now, interface=interface)
        match heard:
            case Asked():
                self._handle_asked(node, heard, now)
            case Answered(tag, message):
                self._handle_node_answer(tag, message, now)
            case None:
                pass
        return self._common.drain(node, now)

    def _handle_superseded(
        self,
        node: Node,
        previous: Conversation[NodeTag],
        header: Header,
        source: Endpoint,
        data: bytes,
        now: Instant,
    ) -> None:
        """A datagram under the node's key before: an older instance that does not know yet."""
        heard = previous.handle_datagram(header, source, data, now)
        match heard:
            case Asked(_, RegistrationRequest() | UdpKeepAlive() | DirectionRequest()):
                if node.superseded is not None:
                    previous.answer(heard, Superseded(node.superseded), now)
            case _:
                pass
        self._common.drain(node, now, previous)

    def _handle_asked(self, node: Node, asked: Asked, now: Instant) -> None:
        node.heard, node.missed = (asked.source, now), None
        match asked.message:
            case RegistrationRequest() as request:
                self._register(node, asked, request, now)
            case UdpKeepAlive(answer, round_trips):
                is_known = asked.source in node.stored.mapped
                if is_known:
                    node.last_seen = now
                node.round_trips = round_trips or node.round_trips
                if answer or not is_known:
                    relays = () if node.knows_relays or not answer else self._named(node)
                    told = KeepAliveAnswer(asked.source, self._boot, relays)
                    node.conversation.answer(asked, told, now)
                    self._reachability.check(node, now)
            case ReachabilityReport(token):
                node.conversation.answer(asked, NtmAck(), now)
                self._reachability.report(node, token, now)
            case ServersRequest():
                node.conversation.answer(asked, self._servers(), now)
            case DirectionRequest() as request:
                self._directions.start(node, asked, request, now)
            case _:
                self._common.rejected["out of place"] += 1
        if not isinstance(asked.message, RegistrationRequest):
            self._deliver_kept(node, now)

    def _handle_node_answer(self, tag: NodeTag, answer: Signal | None, now: Instant) -> None:
        match tag:
            case RouteToEnd():
                self._directions.handle_end(tag, answer, now)
            case Carried():
                self._carriage.handle_end(tag, answer, now)
            case Notice():
                pass

    def _register(
        self, node: Node, asked: Asked, request: RegistrationRequest, now: Instant
    ) -> None:
        """Source: paper, Fig. 3."""
        verdict = register(node.stored, request, asked)
        match verdict:
            case Unproven():
                node.conversation.challenge(asked, now)
            case Superseded():
                node.conversation.answer(asked, verdict, now)
            case Reason():
                node.conversation.answer(asked, Refusal(verdict), now)
            case Accepted(stored, superseded):
                if superseded:
                    self._tell_superseded(node, now)
                elif node.superseded is None:
                    self._forget_previous(node, now)
                stored = self._with_served_token(node, stored)
                moved = not set(stored.mapped) <= set(node.stored.mapped)
                node.move(stored)
                node.open(request.opened)
                node.untold = False
                if moved:
                    node.conversation.readdress(self._common.places(node, now), now)
                node.last_seen = now if request.endpoints else None
                self._common.events.append(NodeStored(stored))
                if stored.keepalive is KeepAliveChoice.TCP and request.endpoints:
                    self._notifying.assign(node, asked, request, now)
                else:
                    node.conversation.answer(asked, self._response(node, asked), now)
                self._directions.warm_relays(now)
                self._reachability.check(node, now)
                self._deliver_kept(node, now)

    def _with_served_token(self, node: Node, stored: StoredNode) -> StoredNode:
        """Without its device token where this domain does not use that push service."""
        kinds, token = self._common.settings.push, stored.device_token
        served = kinds is None or token is None or token.partition(":")[0] in kinds
        node.refused = None if served else Reason.PUSH_REFUSED
        return stored if served else replace(stored, device_token=None)

    def _tell_superseded(self, node: Node, now: Instant) -> None:
        node.superseded = node.stored.instance
        notice = Superseded(node.stored.instance)
        conversation = node.previous or node.conversation
        for place in self._common.places(node, now):
            conversation.tell(notice, place, now)
        self._common.drain(node, now, conversation)

    def _forget_previous(self, node: Node, now: Instant) -> None:
        key = self._common.registry.forget_previous(node)
        if key is not None:
            self._common.keyring.erase(key, now)

    def _answer_assigned(self, assigned: Assigned, now: Instant) -> None:
        """The node's NS is found, or none is. Source: paper, Fig. 4."""
        node = self._common.registry.named(assigned.fqdn)
        if node is not None:
            response = self._response(node, assigned.asked)
            response = msgspec.structs.replace(
                response, notification=assigned.place, problem=assigned.problem
            )
            node.conversation.answer(assigned.asked, response, now)
            self._common.drain(node, now)

    def _response(self, node: Node, asked: Asked) -> RegistrationResponse:
        settings = self._common.settings
        keepalive, problem = _reached(node)
        return RegistrationResponse(
            node.stored.virtual_ipv4,
            node.stored.virtual_ipv6,
            asked.source,
            self._boot,
            settings.registration_s,
            settings.keepalive_s,
            keepalive=keepalive,
            problem=problem,
            relays=self._named(node),
        )

    def _named(self, node: Node) -> Named:
        """The RS that the node is to measure; from now it knows them."""
        node.knows_relays = True
        named = (*several(self._common.settings.relays), *node.foreign_relays)
        return tuple(dict.fromkeys(named))[:MOST_ROUND_TRIPS]

    def _servers(self) -> ServersResponse:
        """What a node may look at its network from."""
        relays = self._common.settings.relays[:MAX_RELAYS_TOLD]
        return ServersResponse(
            tuple(RelayPlace(each.name[:LONGEST_RELAY_NAME], each.endpoints[:2]) for each in relays)
        )

    def _forget(self, node: Node, now: Instant) -> None:
        self._forget_previous(node, now)
        self._common.registry.remove(node.fqdn)
        self._common.busy.pop(node.fqdn, None)
        for kept in self._common.waking.release(node.fqdn):
            self._handle_node_answer(kept.tag, None, now)
        for _, tag in node.conversation.abandon():
            self._handle_node_answer(tag, None, now)
        self._common.keyring.erase(node.conversation.key, now)


def _renewed(before: StoredNode, new: StoredNode) -> StoredNode:
    """The same node with a new Kntmdc: where it is stays known."""
    return replace(
        before,
        groups=new.groups,
        kntmdc=new.kntmdc,
        identifier=new.identifier,
        expires=new.expires,
    )


def _reached(node: Node) -> tuple[KeepAliveChoice, Reason | None]:
    """How the node will be reached, and why not as it chose."""
    match node.stored.keepalive:
        case KeepAliveChoice.PUSH if node.stored.push_token is not None:
            return KeepAliveChoice.PUSH, None
        case KeepAliveChoice.PUSH:
            return KeepAliveChoice.UDP, node.refused or Reason.TOKEN_GONE
        case KeepAliveChoice.TCP if node.stored.is_held:
            return KeepAliveChoice.TCP, None
        case _:
            return KeepAliveChoice.UDP, None
