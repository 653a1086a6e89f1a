"""A DC, and everybody who talks to it played by hand: AS, nodes, RS, another domain's DC."""

from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from tests.proto.parts import ALICE, BOB, CAROL, DC, RS, T0, Mouth, after, drain, identity, key

from ntmobile.keys.table import CommonKey, Kdcdc, Kdcrs, Kntmdc
from ntmobile.proto.coordinator.coordinator import Coordinator
from ntmobile.proto.coordinator.policy import Federation, Policy
from ntmobile.proto.coordinator.settings import (
    Audit,
    CoordinatorSettings,
    NodeStored,
    Relay,
    StoredNode,
    WakeUpFailed,
)
from ntmobile.proto.io import (
    Call,
    Caller,
    CoordinatorFound,
    Failed,
    FindCoordinator,
    ForeignCoordinator,
    Request,
    Transmit,
    WakeUp,
)
from ntmobile.proto.journal import Step
from ntmobile.time import Instant
from ntmobile.wire.datagram import MAX_DATAGRAM, Kind, Sender, Signal
from ntmobile.wire.direction import DirectionRequest, Purpose
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.federation import KeySharing, SharedKey
from ntmobile.wire.identity import PublicIdentity
from ntmobile.wire.login import KeyDistribution
from ntmobile.wire.message import Message
from ntmobile.wire.registration import Challenge, NtmAck, RegistrationRequest, RegistrationResponse

DOMAIN, OTHER = "example.org", "example.net"
AS = Caller(DOMAIN, "192.0.2.2")
OTHER_DC = Endpoint("192.0.2.77", 4330)
PLACES = {
    ALICE: Endpoint("198.51.100.7", 40000),
    CAROL: Endpoint("203.0.113.8", 50000),
    BOB: Endpoint("203.0.113.99", 51000),
}
INSIDE = Endpoint("192.168.1.2", 40000)
SETTINGS = CoordinatorSettings(DOMAIN, (Relay("rs", (RS,)),), hosts=(DC.host,))
OPEN = Policy(DOMAIN, Federation.OPEN)

M = TypeVar("M")


@dataclass
class Player:
    """A participant: one address, one key, and all that it was sent."""

    name: str
    place: Endpoint
    mouth: Mouth
    heard: deque[tuple[Transmit, Message]] = field(default_factory=deque)
    repeated: set[int] = field(default_factory=set)
    sequence: int = 0
    instance: bytes = b"\x01" * 16
    started: int = 1

    def take(self, kind: type[M]) -> tuple[Transmit, M]:
        """Return the first message of that kind, and forget all up to it."""
        while self.heard:
            transmit, message = self.heard.popleft()
            if isinstance(message, kind):
                return transmit, message
        raise AssertionError(f"{self.name} was sent no {kind.__name__}")

    def kinds(self) -> list[str]:
        """What is heard and not taken."""
        return [type(message).__name__ for _, message in self.heard]


class Rig:
    """One DC and its world. A server's Key Sharing is acknowledged at once unless told."""

    def __init__(
        self,
        settings: CoordinatorSettings = SETTINGS,
        policy: Policy = OPEN,
        stored: tuple[StoredNode, ...] = (),
        seed: int = 1,
        now: Instant = T0,
    ) -> None:
        self.now = now
        self.dc = Coordinator(settings, policy, Random(seed), stored, now)
        self.players: list[Player] = []
        self.stored: dict[str, StoredNode] = {}
        self.audits: list[Audit] = []
        self.not_woken: list[WakeUpFailed] = []
        self.hints: list[Transmit] = []
        self.requests: list[Request] = []
        self.servers_answer = True
        self.transaction = 1000
        self.relay: Player | None = None
        self.foreign: Player | None = None

    def distribute(
        self,
        fqdn: str,
        number: int,
        groups: tuple[str, ...] = (),
        public: PublicIdentity | None = None,
    ) -> Player:
        """Let the AS hand over a Kntmdc; return the node that has it."""
        kntmdc = key(Kntmdc, number)
        message = KeyDistribution(
            fqdn,
            public or identity(fqdn).public,
            kntmdc.identifier,
            kntmdc.secret,
            86400,
            groups,
        )
        assert self.request(message, AS) == NtmAck()
        return self.player(fqdn, PLACES.get(fqdn, PLACES[ALICE]), Mouth(Sender.NODE, kntmdc))

    def node(
        self, fqdn: str, number: int, local: tuple[Endpoint, ...] = (INSIDE,), **rest: object
    ) -> Player:
        """Return a node that is registered; behind a NAT unless local says it is not."""
        node = self.distribute(fqdn, number, **rest)  # type: ignore[arg-type]
        assert isinstance(self.register(node, local), RegistrationResponse)
        return node

    def register(
        self, node: Player, local: tuple[Endpoint, ...] = (INSIDE,), **rest: object
    ) -> Message:
        """Let a node register from where it is; return what the DC answers."""
        node.sequence += 1
        request = RegistrationRequest(
            node.name,
            node.instance,
            node.started,
            node.sequence,
            local,
            **rest,  # type: ignore[arg-type]
        )
        return self.ask(node, request)

    def player(self, name: str, place: Endpoint, mouth: Mouth) -> Player:
        """Add a participant."""
        made = Player(name, place, mouth)
        self.players.append(made)
        return made

    def request(self, message: Message, caller: Caller) -> Message:
        """Make an HTTPS request; return its answer."""
        self.dc.handle_request(1, caller, message, self.now)
        (reply,) = drain(self.dc.poll_reply)
        self.gather()
        return reply.message

    def direction(self, mn: Player, fqdn: str, number: int = 1, **rest: object) -> Message:
        """Let MN ask for a tunnel; return the DC's first answer."""
        options = {"identity": identity(mn.name).public, "purpose": Purpose.CONNECT, **rest}
        request = DirectionRequest(fqdn, bytes((number,)) * 16, **options)  # type: ignore[arg-type]
        return self.ask(mn, request)

    def ask(self, who: Player, message: Signal) -> Message:
        """Send a request and prove the source when asked to; return the answer."""
        self.transaction += 1
        transaction, token = self.transaction, b""
        for _ in range(3):
            self.inject(who.mouth.say(message, transaction, token), who.place)
            answers = [m for t, m in who.heard if who.mouth.hear(t).transaction == transaction]
            if not answers:
                raise AssertionError(f"no answer to {message}")
            if not isinstance(answers[-1], Challenge):
                who.heard = deque(e for e in who.heard if e[1] is not answers[-1])
                return answers[-1]
            token = answers[-1].token
        raise AssertionError("challenged for ever")

    def reply(self, who: Player, to: Transmit, message: Signal) -> None:
        """Answer what the DC asked."""
        self.inject(who.mouth.reply(to, message), who.place)

    def acknowledge(self, who: Player, kind: type[M]) -> M:
        """Take the first message of a kind and answer NTM ACK."""
        transmit, message = who.take(kind)
        self.reply(who, transmit, NtmAck())
        return message

    def answer(self, request: Request, outcome: Message | CoordinatorFound | Failed) -> None:
        """Answer one of the DC's requests to its driver."""
        self.requests.remove(request)
        self.dc.handle_reply(request.id, outcome, self.now)
        self.gather()

    def woken(self) -> list[WakeUp]:
        """Wake-ups that the DC waits for an answer to."""
        return [each for each in self.requests if isinstance(each, WakeUp)]

    def found(self, domain: str = OTHER) -> None:
        """Answer the search for another domain's DC."""
        (search,) = [each for each in self.requests if isinstance(each, FindCoordinator)]
        self.answer(search, CoordinatorFound(domain, (OTHER_DC,)))

    def share(self, domain: str = OTHER, number: int = 90, lifetime_s: int = 86400) -> Player:
        """Let another domain's DC share its Kdcdc with ours; return it, as DCmn."""
        kdcdc = key(Kdcdc, number, after(self.now, lifetime_s))
        sharing = KeySharing(SharedKey.KDCDC, kdcdc.identifier, kdcdc.secret, lifetime_s, domain)
        assert self.request(sharing, Caller(domain, "192.0.2.77")) == NtmAck()
        return self.player(f"DC of {domain}", OTHER_DC, Mouth(Sender.DCMN, kdcdc))

    def inject(self, data: bytes, source: Endpoint) -> None:
        """Hand the DC a datagram."""
        self.dc.handle_datagram(source, data, self.now)
        self.gather()

    def pass_time(self, seconds: float) -> None:
        """Let that much time pass, and everything that is due happen."""
        until = after(self.now, seconds)
        while (due := self.dc.poll_timeout()) is not None and due.at <= until:
            self.now = max(self.now, due.at)
            self.dc.handle_timeout(self.now)
            following = self.dc.poll_timeout()
            assert following is None or following.at > self.now, f"spins: {due.reason}"
            self.gather()
        self.now = until

    def gather(self) -> None:
        """Drain every poll."""
        self.requests += drain(self.dc.poll_request)
        for event in drain(self.dc.poll_event):
            match event:
                case NodeStored(node):
                    self.stored[node.fqdn] = node
                case Audit():
                    self.audits.append(event)
                case WakeUpFailed():
                    self.not_woken.append(event)
                case Step():
                    pass
        for transmit in drain(self.dc.poll_transmit):
            assert len(transmit.payload) <= MAX_DATAGRAM, "nobody would take it"
            if transmit.payload[:1] == bytes((Kind.HINT,)):
                self.hints.append(transmit)
                continue
            for player in self.players:
                if self._is_for(player, transmit):
                    player.heard.append((transmit, player.mouth.hear(transmit).message))
        if self.servers_answer:
            self._acknowledge_keys()

    def carried(self) -> list[str]:
        """Names of the keys the DC holds for others."""
        return sorted(k.name for k in self.dc.keyring if k.name in ("Ktmp", "Ktun"))

    def _is_for(self, player: Player, transmit: Transmit) -> bool:
        named = transmit.payload[4:12] == player.mouth.identifier
        return named and transmit.destination == player.place

    def _acknowledge_keys(self) -> None:
        while calls := [each for each in self.requests if isinstance(each, Call)]:
            request = calls[0]
            message = request.message
            assert isinstance(message, KeySharing)
            foreign = isinstance(request.target, ForeignCoordinator)
            kind: type[CommonKey] = Kdcdc if foreign else Kdcrs
            shared = kind(message.secret, message.identifier, after(self.now, 86400))
            role, place = (Sender.DCCN, OTHER_DC) if foreign else (Sender.RS, RS)
            player = self.player(type(request.target).__name__, place, Mouth(role, shared))
            if foreign:
                self.foreign = player
            else:
                self.relay = player
            self.answer(request, NtmAck())
