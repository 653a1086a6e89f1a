"""The DC and its NS: gives nodes to NS, and has NS bring them what is for them.

Of one Registration Request that asks for TCP::

    --node content with its Kntmns, NS well--> answered at once
    --else--> Assigning --NS acknowledged--> answered with FQDNns and Kntmns
                 '--refused, or silent for 2.5 s--> the next NS; after the last: UDP keep-alive

Kntmns is held until the node had time to hear of it, then erased: its owners are node and NS.
Every NS is asked every 10 s, so that one that died, or forgot, is noticed before it is needed.
Source: paper, Fig. 4. Ours: docs/protocol.md section 9.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256

from ntmobile.keys.table import IDENTIFIER_SIZE, SECRET_SIZE, Kdcns, Kntmns
from ntmobile.proto.conversation import Answered, Asked, Conversation
from ntmobile.proto.coordinator.common import Common
from ntmobile.proto.coordinator.peering import PeerFailed, Peering
from ntmobile.proto.coordinator.registry import Node
from ntmobile.proto.coordinator.settings import NodeStored, Notifier
from ntmobile.proto.io import Failed, NotificationServer, Timeout, random_bytes
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Header, Sender, Signal
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.notification import Notification, NotificationDirection, NotificationPlace
from ntmobile.wire.registration import (
    KeepAliveAnswer,
    NtmAck,
    Reason,
    Refusal,
    RegistrationRequest,
    UdpKeepAlive,
)

PATIENCE_NS = 5 * SECOND // 2
"""For one NS, with a Key Sharing should it have restarted; a node asks for about ten seconds."""
GRACE_NS = 30 * SECOND
"""A node registers over both families, and its answers may be lost."""
BEAT_NS = 10 * SECOND


@dataclass(frozen=True, slots=True)
class Directed:
    """Tag of a Notification Direction."""

    fqdn: str
    identifier: bytes


@dataclass(frozen=True, slots=True)
class Notified:
    """Tag of a Notification."""

    fqdn: str
    identifier: bytes


@dataclass(frozen=True, slots=True)
class Beat:
    """Tag of the question whether an NS is there."""

    name: str


Tag = Directed | Notified | Beat
Server = Peering[Tag]


@dataclass(slots=True)
class Assigning:
    """One node waits for its NS."""

    notifier: Notifier
    key: Kntmns
    since: Instant
    rest: list[Notifier]
    """To be tried next."""
    waiting: list[Asked]


@dataclass(frozen=True, slots=True)
class Assigned:
    """A Registration Request can be answered: by a place, by none (the old one stands), or not."""

    fqdn: str
    asked: Asked
    place: NotificationPlace | None
    problem: Reason | None


@dataclass(frozen=True, slots=True)
class _Fresh:
    place: NotificationPlace
    key: Kntmns
    until: Instant


class Notifying:
    """All that a DC does with its NS."""

    def __init__(self, common: Common) -> None:
        """Shares nodes, keys and queues with the rest of the coordinator."""
        self._common = common
        self._servers: dict[str, Server] = {}
        self._boots: dict[str, tuple[int, Instant]] = {}
        """The boot of each NS, and when it was last seen."""
        self._assigning: dict[str, Assigning] = {}
        self._fresh: dict[str, _Fresh] = {}
        self._assigned: deque[Assigned] = deque()
        self._beat_at: Instant | None = None

    def use(self, notifiers: tuple[Notifier, ...], now: Instant) -> None:
        """Go by these NS from now: those that are gone let go of their nodes, which then ask."""
        going = {each.name for each in self._common.settings.notifiers}
        going -= {each.name for each in notifiers}
        for node in self._common.registry:
            if node.stored.notifier in going:
                self.dismiss(node, now)
        self._common.settings = replace(self._common.settings, notifiers=notifiers)

    def assign(self, node: Node, asked: Asked, request: RegistrationRequest, now: Instant) -> None:
        """See that a node gets its NS; the outcome is an Assigned."""
        stored = node.stored
        if (under_way := self._assigning.get(node.fqdn)) is not None:
            return under_way.waiting.append(asked)
        current = self._named(stored.notifier)
        well = current is not None and not self._server(current).is_silent(now)
        if well and request.kntmns and request.kntmns == stored.kntmns:
            return self._assigned.append(Assigned(node.fqdn, asked, None, None))
        fresh = self._fresh.get(node.fqdn)
        if well and fresh is not None and fresh.place.fqdn not in request.failed:
            return self._assigned.append(Assigned(node.fqdn, asked, fresh.place, None))
        candidates = self._candidates(node.fqdn, request.failed, now)
        return self._try(node.fqdn, candidates, [asked], now)

    def through(self, node: Node, now: Instant) -> Endpoint | None:
        """Return the NS that reaches the node; None where none does."""
        notifier = self._named(node.stored.notifier) if node.stored.is_held else None
        if notifier is None or self._server(notifier).is_silent(now):
            return None
        return notifier.endpoints[0]

    def stands_for(self, destination: Endpoint) -> bool:
        """Whether this is where an NS of ours is."""
        return any(destination == each.endpoints[0] for each in self._common.settings.notifiers)

    def notify(self, node: Node, payload: bytes, now: Instant) -> None:
        """Have NS bring the node a datagram. Source: paper, Fig. 4 ("Notification")."""
        notifier = self._named(node.stored.notifier)
        if notifier is not None:
            message = Notification(node.stored.kntmns, payload)
            tag = Notified(node.fqdn, node.stored.kntmns)
            self._server(notifier).ask(message, tag, now)
            self._drain(now)

    def dismiss(self, node: Node, now: Instant) -> None:
        """The node is revoked, or its NS shall be none any more: NS shall cut it."""
        notifier = self._named(node.stored.notifier)
        if notifier is not None and node.stored.is_held:
            message = NotificationDirection(node.fqdn, node.stored.kntmns, bytes(SECRET_SIZE), 0)
            self._server(notifier).ask(message, Directed(node.fqdn, b""), now)
            self._drain(now)

    def handle_reply(self, id: int, reply: object, now: Instant) -> bool:
        """Take the outcome of a Key Sharing; False when it is not ours."""
        for server in self._servers.values():
            if server.call == id:
                if isinstance(reply, NtmAck | Refusal | Failed):
                    server.handle_reply(reply, now)
                self._drain(now)
                return True
        return False

    def handle_datagram(self, header: Header, source: Endpoint, data: bytes, now: Instant) -> bool:
        """Take a datagram under a Kdcns; False when it is not ours."""
        for server in self._servers.values():
            if server.identifier == header.identifier:
                server.handle_datagram(header, source, data, now)
                self._drain(now)
                return True
        return False

    def handle_timeout(self, now: Instant) -> None:
        """Ask again, try the next NS, ask whether they are there, erase what was handed over."""
        for server in self._servers.values():
            server.handle_timeout(now)
        self._drain(now)
        for fqdn, open_ in list(self._assigning.items()):
            if now - open_.since >= PATIENCE_NS:
                self._try_next(fqdn, now)
        for fqdn, fresh in list(self._fresh.items()):
            if now >= fresh.until:
                self._erase(fqdn, now)
        if self._beat_at is not None and now >= self._beat_at:
            self._beat(now)

    def poll_timeouts(self) -> Iterator[Timeout]:
        """All times at which handle_timeout wants to be called."""
        for server in self._servers.values():
            if (timeout := server.poll_timeout()) is not None:
                yield timeout
        for open_ in self._assigning.values():
            yield Timeout(Instant(open_.since + PATIENCE_NS), "Notification Direction")
        for fresh in self._fresh.values():
            yield Timeout(fresh.until, "Kntmns handed over")
        if self._beat_at is not None:
            yield Timeout(self._beat_at, "notification servers asked")

    def poll_assigned(self) -> Assigned | None:
        """Next Registration Request that can be answered."""
        return self._assigned.popleft() if self._assigned else None

    def _named(self, name: str) -> Notifier | None:
        known = self._common.settings.notifiers
        return next((notifier for notifier in known if notifier.name == name), None)

    def _candidates(self, fqdn: str, failed: tuple[str, ...], now: Instant) -> list[Notifier]:
        """Return those that answer, each node's in an order of its own, failed ones last."""
        up = []
        for notifier in self._common.settings.notifiers:
            server = self._server(notifier)
            if server.is_silent(now):
                server.warm(now)
            else:
                up.append(notifier)
        self._drain(now)
        order = sorted(up, key=lambda each: sha256(f"{fqdn}\0{each.name}".encode()).digest())
        return sorted(order, key=lambda each: each.name in failed)

    def _try(
        self, fqdn: str, candidates: list[Notifier], waiting: list[Asked], now: Instant
    ) -> None:
        self._erase(fqdn, now)
        if not candidates:
            self._settle(fqdn, "", b"", now)
            problem = Reason.NO_NOTIFICATION
            self._assigned.extend(Assigned(fqdn, asked, None, problem) for asked in waiting)
            return
        common = self._common
        lifetime_s = common.settings.server_key_s
        secret = random_bytes(common.entropy, SECRET_SIZE)
        identifier = random_bytes(common.entropy, IDENTIFIER_SIZE)
        key = Kntmns(secret, identifier, Instant(now + lifetime_s * SECOND))
        common.keyring.carry(common.keyring.create(key, now), now)
        self._assigning[fqdn] = Assigning(candidates[0], key, now, candidates[1:], waiting)
        direction = NotificationDirection(fqdn, identifier, secret, lifetime_s)
        self._server(candidates[0]).ask(direction, Directed(fqdn, identifier), now)
        self._drain(now)

    def _try_next(self, fqdn: str, now: Instant) -> None:
        open_ = self._assigning.pop(fqdn)
        self._common.keyring.erase(open_.key, now)
        self._try(fqdn, open_.rest, open_.waiting, now)

    def _server(self, notifier: Notifier) -> Server:
        server = self._servers.get(notifier.name)
        if server is None:
            server = self._peering(notifier)
            self._servers[notifier.name] = server
        server.endpoints = notifier.endpoints[:1]
        return server

    def _peering(self, notifier: Notifier) -> Server:
        common = self._common

        def converse(key: Kdcns) -> Conversation[object]:
            return Conversation(
                key, Sender.DC, common.challenger, common.entropy, common.journal, lambda *_: "NS"
            )

        return Peering(
            NotificationServer(notifier.name),
            notifier.endpoints,
            common.settings.domain,
            common.settings.server_key_s,
            common.keyring,
            common.entropy,
            common.journal,
            converse,  # type: ignore[arg-type]
            common.next_id,
        )

    def _handle_outcome(self, outcome: Answered[Tag] | PeerFailed[Tag], now: Instant) -> None:
        answer = outcome.message if isinstance(outcome, Answered) else None
        match outcome.tag:
            case Directed(fqdn, identifier):
                open_ = self._assigning.get(fqdn)
                if open_ is None or open_.key.identifier != identifier:
                    return
                if isinstance(answer, NtmAck):
                    self._take(fqdn, now)
                else:
                    self._try_next(fqdn, now)
            case Notified(fqdn, identifier):
                self._handle_notified(fqdn, identifier, answer, now)
            case Beat(name):
                self._handle_beat(name, answer, now)

    def _take(self, fqdn: str, now: Instant) -> None:
        """NS has Kntmns: the node gets it in its Registration Response."""
        open_ = self._assigning.pop(fqdn)
        key, notifier = open_.key, open_.notifier
        lifetime_s = (key.expires - now) // SECOND
        place = NotificationPlace(
            notifier.name, notifier.endpoints, key.identifier, key.secret, lifetime_s
        )
        self._fresh[fqdn] = _Fresh(place, key, Instant(now + GRACE_NS))
        self._settle(fqdn, notifier.name, key.identifier, now)
        self._assigned.extend(Assigned(fqdn, asked, place, None) for asked in open_.waiting)
        if self._beat_at is None:
            self._beat_at = Instant(now + BEAT_NS)

    def _settle(self, fqdn: str, notifier: str, kntmns: bytes, now: Instant) -> None:
        node = self._common.registry.named(fqdn)
        if node is None:
            return
        node.directed = now
        if (node.stored.notifier, node.stored.kntmns) != (notifier, kntmns):
            node.stored = replace(node.stored, notifier=notifier, kntmns=kntmns)
            self._common.events.append(NodeStored(node.stored))

    def _handle_notified(
        self, fqdn: str, identifier: bytes, answer: Signal | None, now: Instant
    ) -> None:
        node = self._common.registry.named(fqdn)
        if node is None or node.stored.kntmns != identifier or isinstance(answer, NtmAck):
            return
        if isinstance(answer, Refusal) and answer.reason is Reason.UNKNOWN_NAME:
            self._settle(fqdn, "", b"", now)
        elif node.missed is None:
            node.missed = now

    def _handle_beat(self, name: str, answer: Signal | None, now: Instant) -> None:
        if not isinstance(answer, KeepAliveAnswer):
            return
        boot, seen = self._boots.get(name, (answer.boot, now))
        self._boots[name] = answer.boot, now
        if boot == answer.boot:
            return
        # It restarted, and knows none of its nodes but those that registered again since.
        for node in self._common.registry:
            old = node.directed is None or node.directed <= seen
            if node.stored.notifier == name and old:
                node.stored = replace(node.stored, kntmns=b"")

    def _beat(self, now: Instant) -> None:
        self._beat_at = Instant(now + BEAT_NS)
        for name, server in self._servers.items():
            if self._named(name) is None:
                continue
            if server.identifier is not None:
                server.ask(UdpKeepAlive(answer=True), Beat(name), now)
            else:
                server.warm(now)
        self._drain(now)

    def _erase(self, fqdn: str, now: Instant) -> None:
        fresh = self._fresh.pop(fqdn, None)
        if fresh is not None:
            self._common.keyring.erase(fresh.key, now)

    def _drain(self, now: Instant) -> None:
        for server in list(self._servers.values()):
            while (outcome := server.poll_outcome()) is not None:
                self._handle_outcome(outcome, now)
            while (call := server.poll_call()) is not None:
                self._common.requests.append(call)
            while (transmit := server.poll_transmit()) is not None:
                self._common.transmits.append(transmit)
