"""The DC as DCcn: tells another domain's DC about our node, and carries Route Directions to it.

Everything here comes under a Kdcdc that the other DC created, and only in the name of its own
domain's nodes. Source: paper, Figs. 5 to 7. Ours: what is told, docs/protocol.md section 2.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ntmobile.keys.table import Kdcdc, Ktmp, Ktun
from ntmobile.proto.conversation import Asked, Conversation
from ntmobile.proto.coordinator.common import Common, hides
from ntmobile.proto.coordinator.decision import same_mapped
from ntmobile.proto.coordinator.nearest import outside, told_of
from ntmobile.proto.coordinator.policy import Subject, is_below
from ntmobile.proto.coordinator.registry import Node
from ntmobile.proto.coordinator.tags import Carried, Notice
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Header, Sender, Signal, fits
from ntmobile.wire.direction import (
    NodeInformationRequest,
    NodeInformationResponse,
    RouteDirection,
    Withdrawal,
)
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.federation import KeySharing
from ntmobile.wire.registration import NtmAck, Reason, Refusal

MAX_KEYS_A_DOMAIN = 8


@dataclass(frozen=True, slots=True)
class Correspondent:
    """A foreign DC that shared a Kdcdc with us."""

    domain: str
    key: Kdcdc
    conversation: Conversation[None]


class Carriage:
    """All that this DC does as DCcn."""

    def __init__(self, common: Common) -> None:
        """Shares nodes, keys and queues with the rest of the coordinator."""
        self._common = common
        self._keyed: dict[bytes, Correspondent] = {}
        self._carrying: dict[tuple[str, bytes], Asked] = {}
        """What waits for a node's answer, by domain and negotiation: who asked last gets it."""

    def accept(self, sharing: KeySharing, now: Instant) -> NtmAck | Refusal:
        """Take a Kdcdc; who sent it was verified by its signature."""
        common = self._common
        if (reason := common.policy.refuses_domain(sharing.creator)) is not None:
            return Refusal(reason)
        theirs = [held for held in self._keyed.values() if held.domain == sharing.creator]
        if len(theirs) >= MAX_KEYS_A_DOMAIN:
            self._forget(theirs[0], now)
        lifetime_s = min(sharing.lifetime_s, common.settings.server_key_s)
        expires = Instant(now + lifetime_s * SECOND)
        key = common.keyring.own(Kdcdc(sharing.secret, sharing.identifier, expires), now)
        conversation: Conversation[None] = Conversation(
            key,
            Sender.DCCN,
            common.challenger,
            common.entropy,
            common.journal,
            lambda *_: "DCmn",
        )
        self._keyed[key.identifier] = Correspondent(sharing.creator, key, conversation)
        return NtmAck()

    def distrust(self, is_suspect: Callable[[str], bool], now: Instant) -> None:
        """Erase the keys of these domains: they must show again whose they are."""
        for peer in [peer for peer in self._keyed.values() if is_suspect(peer.domain)]:
            self._forget(peer, now)

    def handle_datagram(self, header: Header, source: Endpoint, data: bytes, now: Instant) -> bool:
        """Take a datagram under a shared Kdcdc; False when it is not ours."""
        peer = self._keyed.get(header.identifier)
        if peer is None:
            return False
        if now >= peer.key.expires:
            self._forget(peer, now)
            return True
        heard = peer.conversation.handle_datagram(header, source, data, now)
        if isinstance(heard, Asked):
            self._handle_asked(peer, heard, now)
        self._drain(peer)
        return True

    def sweep(self, now: Instant) -> None:
        """Erase the keys that are over."""
        for peer in [peer for peer in self._keyed.values() if now >= peer.key.expires]:
            self._forget(peer, now)

    def handle_end(self, tag: Carried, answer: Signal | None, now: Instant) -> None:
        """Our node answered a carried Route Direction, or stayed silent: pass that on."""
        for key in tag.keys:
            self._common.keyring.erase(key, now)
        asked = self._carrying.pop((tag.domain, tag.ktun))
        peer = self._keyed.get(asked.header.identifier)
        if peer is None:
            return
        if not isinstance(answer, NtmAck | Refusal):
            answer = Refusal(Reason.NOT_REGISTERED)
        peer.conversation.answer(asked, answer, now)
        self._drain(peer)

    def _handle_asked(self, peer: Correspondent, asked: Asked, now: Instant) -> None:
        match asked.message:
            case NodeInformationRequest() as request:
                peer.conversation.answer(asked, self._inform(peer, request, now), now)
            case RouteDirection() as route:
                refused = self._carry(peer, asked, route, now)
                if refused is not None:
                    peer.conversation.answer(asked, refused, now)
            case Withdrawal(fqdn) if is_below(fqdn, peer.domain):
                peer.conversation.answer(asked, NtmAck(), now)
                self._withdraw(fqdn, now)
            case _:
                peer.conversation.answer(asked, Refusal(Reason.NOT_ALLOWED), now)

    def _inform(
        self, peer: Correspondent, request: NodeInformationRequest, now: Instant
    ) -> NodeInformationResponse | Refusal:
        common = self._common
        mn = Subject(request.mn.fqdn, request.mn.groups)
        if not is_below(mn.fqdn, peer.domain):
            return Refusal(Reason.NOT_ALLOWED, request.negotiation)
        node = common.registry.named(request.fqdn)
        if node is None:
            return Refusal(Reason.UNKNOWN_NAME, request.negotiation)
        if (reason := common.judge(mn, _subject(node), now)) is not None:
            return Refusal(hides(reason), request.negotiation)
        if not node.is_registered(now, common.settings.registration_s):
            return Refusal(Reason.NOT_REGISTERED, request.negotiation)
        sleeps = node.is_asleep(now, common.settings.registration_s)
        told = node.information(now, private=True, sleeps=sleeps)
        if not same_mapped(request.mn, told):
            told = node.information(now, private=False, sleeps=sleeps)
        common.remember_partners(node.fqdn, mn.fqdn)
        # How far it is from servers tells where it is: not of a node that tells no address.
        named = () if node.stored.relay_only else outside(request.relays)
        node.meet_relays(named)
        response = NodeInformationResponse(told, told_of(named, node.round_trips))
        return response if fits(response) else NodeInformationResponse(told)

    def _carry(
        self, peer: Correspondent, asked: Asked, route: RouteDirection, now: Instant
    ) -> Refusal | None:
        common = self._common
        node = common.registry.named(route.fqdn)
        if node is None or not is_below(route.peer.fqdn, peer.domain):
            return Refusal(Reason.UNKNOWN_NAME, route.negotiation)
        mn = Subject(route.peer.fqdn, route.peer.groups)
        if (reason := common.judge(mn, _subject(node), now)) is not None:
            return Refusal(hides(reason), route.negotiation)
        under_way = (peer.domain, route.ktun_identifier) in self._carrying
        self._carrying[peer.domain, route.ktun_identifier] = asked
        if under_way:
            return None
        expires = Instant(now + route.valid_s * SECOND)
        ktmp = Ktmp(route.ktmp, route.negotiation[:8], expires)
        ktun = Ktun(route.ktun, route.ktun_identifier, expires)
        keys = (common.keyring.carry(ktmp, now), common.keyring.carry(ktun, now))
        common.ask_node(node, route, Carried(peer.domain, route.ktun_identifier, keys), now)
        return None

    def _withdraw(self, fqdn: str, now: Instant) -> None:
        for ours in sorted(self._common.partners.pop(fqdn, set())):
            node = self._common.registry.named(ours)
            if node is not None:
                self._common.ask_node(node, Withdrawal(fqdn), Notice(), now)

    def _forget(self, peer: Correspondent, now: Instant) -> None:
        del self._keyed[peer.key.identifier]
        self._common.keyring.erase(peer.key, now)

    def _drain(self, peer: Correspondent) -> None:
        while (transmit := peer.conversation.poll_transmit()) is not None:
            self._common.transmits.append(transmit)


def _subject(node: Node) -> Subject:
    return Subject(node.fqdn, node.stored.groups)
