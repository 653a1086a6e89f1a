"""An RS, its DC and the ends of its paths, played by hand."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from tests.proto.parts import DC, T0, Mouth, drain, key

from ntmobile.keys.table import Kdcrs, Ktun
from ntmobile.proto.io import Caller, Transmit
from ntmobile.proto.relay.memory import Record, standing
from ntmobile.proto.relay.relay import Bind, Command, ForgetPath, RelayRole, Unbind
from ntmobile.time import Instant
from ntmobile.wire.datagram import HEADER_SIZE, Envelope, Sender
from ntmobile.wire.direction import RelayDirection, Role
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.federation import KeySharing, SharedKey
from ntmobile.wire.message import Message
from ntmobile.wire.registration import Challenge
from ntmobile.wire.tunnel import HolePunching, TunnelRequest, TunnelResponse

DOMAIN = "example.org"
SENDERS = {Role.MN: Sender.MN, Role.CN: Sender.CN}
NOISE = bytes(48)


@dataclass
class End:
    """One honest end of a path: answers the challenges that reach it where it is."""

    role: Role
    place: Endpoint
    index: int
    mouth: Mouth
    negotiation: bytes
    sequence: int = 0
    heard: list[Message] = field(default_factory=list)
    seen: list[bytes] = field(default_factory=list)
    """Datagrams of the other end that RS passed on."""

    def punching(self, sequence: int | None = None) -> HolePunching:
        return HolePunching(self.role, self._next(sequence), self.index)

    def request(self, sequence: int | None = None) -> TunnelRequest:
        return TunnelRequest(
            self.negotiation, self.role, self._next(sequence), self.index, 0, NOISE
        )

    def response(self, sequence: int | None = None) -> TunnelResponse:
        return TunnelResponse(
            self.negotiation, self.role, self._next(sequence), self.index, 0, NOISE
        )

    def _next(self, sequence: int | None) -> int:
        if sequence is not None:
            return sequence
        self.sequence += 1
        return self.sequence


class Rig:
    """One RS and everybody who talks to it."""

    def __init__(self, idle_ns: Callable[[bytes], int | None] = lambda _: None) -> None:
        self.now = T0
        self.idle_ns = idle_ns
        self.relay = RelayRole(DOMAIN, Random(1), idle_ns)
        self.kdcrs = key(Kdcrs, 200)
        self.dc = Mouth(Sender.DC, self.kdcrs)
        self.ends: list[End] = []
        self.transaction = 0
        self.received: Counter[Endpoint] = Counter()
        self.sent: Counter[Endpoint] = Counter()
        self.proven: set[Endpoint] = set()
        """Where some end got a token and brought it back."""
        self.bound: dict[tuple[Endpoint, int], Bind] = {}
        self.commands: list[Command] = []
        self.recorded: list[bytes] = []
        self.records: list[Record] = []
        """What RS wants kept for after a restart."""

    def share_key(self) -> Message:
        """Let the DC share its Kdcrs."""
        sharing = KeySharing(
            SharedKey.KDCRS, self.kdcrs.identifier, self.kdcrs.secret, 86400, DOMAIN
        )
        self.relay.handle_request(1, Caller(DOMAIN, "192.0.2.1"), sharing, self.now)
        (reply,) = drain(self.relay.poll_reply)
        self._obey()
        return reply.message

    def direct(self, number: int, pair: int = 1, lifetime_s: int = 300, rate: int = 0) -> Message:
        """Let the DC open the path of that number; return its answer."""
        ktun = key(Ktun, number)
        direction = RelayDirection(
            bytes((number,)) * 16,
            ktun.identifier,
            ktun.secret,
            lifetime_s,
            rate,
            bytes((pair,)) * 16,
        )
        return self.ask_as_dc(direction)

    def ask_as_dc(self, message: Message) -> Message:
        """Ask as the DC, proving its boot when challenged."""
        self.transaction += 1
        token = b""
        for _ in range(2):
            data = self.dc.say(message, self.transaction, token)  # type: ignore[arg-type]
            self.relay.handle_datagram(DC, data, self.now)
            answers = [s for s in drain(self.relay.poll_transmit) if s.destination == DC]
            answer = self.dc.hear(answers[-1]).message
            if not isinstance(answer, Challenge):
                return answer
            token = answer.token
        raise AssertionError("challenged twice")

    def end(self, number: int, role: Role, place: Endpoint, index: int) -> End:
        """Return an end of the path of that number, not known to RS yet."""
        mouth = Mouth(SENDERS[role], key(Ktun, number), boot=1 if role is Role.MN else 2)
        made = End(role, place, index, mouth, bytes((number,)) * 16)
        self.ends.append(made)
        return made

    def send(self, end: End, message: Message, source: Endpoint | None = None) -> list[Transmit]:
        """Send from where the end is, or from elsewhere; honest ends bring tokens back."""
        self.transaction += 1
        data = end.mouth.say(message, self.transaction)  # type: ignore[arg-type]
        sent = self.inject(data, end.place if source is None else source)
        for transmit in list(sent):
            if transmit.destination == end.place:
                sent += self._bring_back(end, message, transmit)
        return sent

    def inject(self, data: bytes, source: Endpoint) -> list[Transmit]:
        """Hand RS any datagram, as an attacker can too; return what it sends."""
        self.recorded.append(data)
        self.received[source] += len(data)
        self.relay.handle_datagram(source, data, self.now)
        sent = drain(self.relay.poll_transmit)
        for transmit in sent:
            self.sent[transmit.destination] += len(transmit.payload)
            for end in self.ends:
                if end.place == transmit.destination:
                    self._let_hear(end, transmit)
        self._obey()
        return sent

    def pass_time(self, now: Instant) -> None:
        """Let RS do what is due."""
        self.now = now
        self.relay.handle_timeout(now)
        self._obey()

    def forwards(self, source: Endpoint, index: int) -> Endpoint | None:
        """Where the packet loop sends capsules from source with this index."""
        bind = self.bound.get((source, index))
        return None if bind is None else bind.destination

    def _bring_back(self, end: End, message: Message, transmit: Transmit) -> list[Transmit]:
        envelope = open_as(end, transmit)
        if envelope is None or not isinstance(envelope.message, Challenge):
            return []
        self.proven.add(end.place)
        token = envelope.message.token
        data = end.mouth.say(message, envelope.transaction, token)  # type: ignore[arg-type]
        return self.inject(data, end.place)

    def _let_hear(self, end: End, transmit: Transmit) -> None:
        envelope = open_as(end, transmit)
        if envelope is None:
            return
        if isinstance(envelope.message, TunnelRequest | TunnelResponse):
            if envelope.message.role is not end.role:
                end.seen.append(transmit.payload)
        elif not isinstance(envelope.message, Challenge):
            end.heard.append(envelope.message)

    def restart(self) -> None:
        """Kill RS and start it from its records; the packet loop starts empty."""
        self.relay = RelayRole(DOMAIN, Random(len(self.records)), self.idle_ns)
        self.bound = {}
        self.relay.restore(standing(self.records), self.now)
        self._obey()

    def _obey(self) -> None:
        self.records += drain(self.relay.poll_record)
        for command in drain(self.relay.poll_command):
            self.commands.append(command)
            match command:
                case Bind(_, source, index):
                    self.bound[source, index] = command
                case Unbind(source, index):
                    self.bound.pop((source, index))
                case ForgetPath(path):
                    self.bound = {k: b for k, b in self.bound.items() if b.path != path}


def open_as(end: End, transmit: Transmit) -> Envelope | None:
    """What an end reads in a datagram, or None when it is under another's key."""
    if transmit.payload[4:12] != end.mouth.identifier or len(transmit.payload) <= HEADER_SIZE:
        return None
    return end.mouth.hear(transmit)
