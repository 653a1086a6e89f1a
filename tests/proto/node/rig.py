"""One node; its AS, its DC and its peers played by hand."""

from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import TypeVar

from tests.proto.parts import (
    ALICE,
    BOB,
    DC,
    DC6,
    HERE,
    HERE6,
    T0,
    THERE,
    Mouth,
    Numbers,
    after,
    drain,
    identity,
    information,
    key,
)

from ntmobile.keys.table import Keyring, Kntmdc, Party
from ntmobile.proto.conversation import Challenger
from ntmobile.proto.io import Call, Failed, Transmit
from ntmobile.proto.journal import Journal, Step
from ntmobile.proto.node.events import Command, Event, LocalAddress, SendControl, Traffic
from ntmobile.proto.node.handshake import Terms
from ntmobile.proto.node.negotiation import Agreed, Negotiation, Parts
from ntmobile.proto.node.node import Node
from ntmobile.proto.node.settings import NodeSettings, Pin
from ntmobile.wire.datagram import MAX_DATAGRAM, Header, Sender, Signal, decode_control
from ntmobile.wire.direction import (
    Action,
    Cipher,
    DirectionRequest,
    Mode,
    NodeInformation,
    Purpose,
    Role,
    RouteDirection,
)
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.login import LoginRequest, LoginResponse, Nonce, NonceRequest
from ntmobile.wire.message import Message
from ntmobile.wire.registration import (
    KeepAliveAnswer,
    NtmAck,
    ReachabilityReport,
    RegistrationRequest,
    RegistrationResponse,
    RelayPlace,
    ServersRequest,
    ServersResponse,
    UdpKeepAlive,
)
from ntmobile.wire.tunnel import Control, ReceiveState

SETTINGS = NodeSettings("alice", "laptop", "example.org", b"\x01" * 16, 5)
ADDRESSES = (IPv4Address("100.64.0.16"), IPv6Address("fd00::16"))
V4 = LocalAddress(HERE, 1, 1500, preferred=True)
V6 = LocalAddress(HERE6, 1, 1500, preferred=True)
ELSEWHERE = LocalAddress(Endpoint("198.51.100.99", 40000), 2, 1500, preferred=True)
RELAY_PLACE = RelayPlace("rs.example.org", (Endpoint("192.0.2.60", 4330),))
T = TypeVar("T")


class Loops:
    """What the machine may look up; tests set it."""

    def __init__(self) -> None:
        self.seen = Traffic(0, 0, None, None)
        self.states: tuple[ReceiveState, ...] = ()

    def receive_state(self, index: int) -> tuple[ReceiveState, ...]:
        return self.states

    def traffic(self, index: int) -> Traffic:
        return self.seen


class Rig:
    """The node under test, ALICE, driven until it wants nothing more."""

    def __init__(
        self,
        local: tuple[LocalAddress, ...] = (V4,),
        pins: tuple[Pin, ...] = (),
        settings: NodeSettings = SETTINGS,
    ) -> None:
        self.now = T0
        self.loops = Loops()
        self.node = Node(settings, identity(ALICE), self.loops, Random(1), pins)
        self.key_number = 0
        self.dc = Mouth(Sender.DC, key())
        self.transaction = 500
        self.silent = False
        """The DC answers nothing."""
        self.deaf_families: set[int] = set()
        self.as_answers = True
        self.calls: list[Call] = []
        self.heard: list[tuple[Transmit, Signal]] = []
        """What the DC was sent."""
        self.elsewhere: list[Transmit] = []
        """What went to anybody else."""
        self.events: list[Event] = []
        self.commands: list[Command] = []
        self.refuse_direction: Signal | None = NtmAck()
        """What the DC answers to a Direction Request."""
        self.node.handle_links(local, self.now)

    def start(self) -> "Rig":
        """Log in and register."""
        self.node.login(self.now, password="secret")
        self.settle()
        return self

    def settle(self) -> None:
        """Serve all that the node wants until it wants nothing more."""
        while self._serve():
            pass

    def pass_time(self, seconds: float) -> None:
        """Let that much time pass."""
        until = after(self.now, seconds)
        self.settle()
        while (due := self.node.poll_timeout()) is not None and due.at <= until:
            self.now = max(self.now, due.at)
            self.node.handle_timeout(self.now)
            following = self.node.poll_timeout()
            assert following is None or following.at > self.now, f"spins: {due.reason}"
            self.settle()
        self.now = until

    def of(self, kind: type[T]) -> list[T]:
        """Events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def told(self, kind: type[T]) -> list[T]:
        """Commands of one kind so far."""
        return [command for command in self.commands if isinstance(command, kind)]

    def sent(self, kind: type[T]) -> list[T]:
        """Messages of one kind that the DC heard so far."""
        return [message for _, message in self.heard if isinstance(message, kind)]

    def controls(self, kind: type[T]) -> list[T]:
        """Control messages of one kind that the node had sealed."""
        sent: list[Control] = [decode_control(c.payload) for c in self.told(SendControl)]
        return [message for message in sent if isinstance(message, kind)]

    def tell(self, message: Signal) -> Signal | None:
        """Let the DC ask the node; return what the node answers."""
        self.transaction += 1
        transaction = self.transaction
        self.node.handle_datagram(DC, self.dc.say(message, transaction), self.now)
        answers: list[Signal] = []
        for transmit in drain(self.node.poll_transmit):
            if transmit.payload[4:12] == self.dc.identifier:
                envelope = self.dc.hear(transmit)
                if envelope.transaction == transaction:
                    answers.append(envelope.message)
                    continue
            self._take(transmit)
        self.settle()
        return answers[-1] if answers else None

    def direction(self) -> DirectionRequest:
        """The last Direction Request."""
        return self.sent(DirectionRequest)[-1]

    def _serve(self) -> bool:
        busy = False
        for call in drain(self.node.poll_request):
            busy = True
            self._answer_call(call)
        for transmit in drain(self.node.poll_transmit):
            busy = True
            self._take(transmit)
        self.events += [e for e in drain(self.node.poll_event) if not isinstance(e, Step)]
        self.commands += drain(self.node.poll_command)
        return busy

    def _answer_call(self, call: Call) -> None:
        self.calls.append(call)
        if self.as_answers:
            self.node.handle_reply(call.id, self.account(call.message), self.now)

    def account(self, message: Message) -> Message | Failed:
        """What the AS answers."""
        match message:
            case NonceRequest():
                return Nonce(bytes(16))
            case LoginRequest():
                self.key_number += 1
                kntmdc = key(Kntmdc, self.key_number)
                self.dc = Mouth(Sender.DC, kntmdc)
                return LoginResponse(
                    ALICE,
                    kntmdc.identifier,
                    kntmdc.secret,
                    86400,
                    "dc.example.org",
                    (DC, DC6),
                    b"\x07" * 32,
                )
        raise AssertionError(f"the AS knows no {message}")

    def _take(self, transmit: Transmit) -> None:
        assert len(transmit.payload) <= MAX_DATAGRAM, "nobody would take it"
        if transmit.destination not in (DC, DC6):
            self.elsewhere.append(transmit)
            return
        if transmit.destination.version in self.deaf_families:
            return
        if transmit.payload[4:12] != self.dc.identifier:
            return
        message = self.dc.hear(transmit).message
        self.heard.append((transmit, message))
        answer = None if self.silent else self._dc_answer(message, transmit.destination)
        if answer is not None:
            data = self.dc.reply(transmit, answer)
            self.node.handle_datagram(transmit.destination, data, self.now)

    def _dc_answer(self, message: Signal, place: Endpoint) -> Signal | None:
        mapped = HERE6 if place.version == 6 else HERE
        match message:
            case RegistrationRequest():
                return RegistrationResponse(*ADDRESSES, mapped, 7, 90, 20)
            case UdpKeepAlive(True):
                return KeepAliveAnswer(mapped, 7)
            case DirectionRequest():
                return self.refuse_direction
            case ReachabilityReport():
                return NtmAck()
            case ServersRequest():
                return ServersResponse((RELAY_PLACE,))
            case _:
                return None


class Peer:
    """BOB's end of a negotiation: a real one, and the route both ends are told."""

    def __init__(
        self,
        rig: Rig,
        negotiation: bytes,
        *,
        sends: bool = False,
        role: Role = Role.CN,
        relay: tuple[Endpoint, ...] = (),
        valid_s: int = 3600,
        index: int = 77,
    ) -> None:
        """sends: BOB sends the Tunnel Request; role: BOB's."""
        self.rig = rig
        self.role, self.sends = role, sends
        self.relay = relay
        self.negotiation = negotiation
        self.valid_s = valid_s
        self.index = index
        self.keyring = Keyring(Party.NODE)
        self.agreed: Agreed | None = None
        self.end = self._end()

    def route(self, **changes: object) -> RouteDirection:
        """What ALICE is told."""
        mine = Role.MN if self.role is Role.CN else Role.CN
        return self._route(ALICE, mine, not self.sends, self._bob(), THERE, **changes)

    def exchange(self) -> None:
        """Carry datagrams both ways until none is left."""
        self.rig.settle()
        for _ in range(20):
            for sent in drain(self.end.poll_transmit):
                self.rig.node.handle_datagram(self.place(), sent.payload, self.rig.now)
            self.rig.settle()
            queued, self.rig.elsewhere = self.rig.elsewhere, []
            for sent in queued:
                if sent.payload[4:12] == self.end.identifier:
                    header = Header.decode(sent.payload)
                    self.end.handle_datagram(header, HERE, sent.payload, self.rig.now, 0)
            for outcome in drain(self.end.poll_outcome):
                self.agreed = outcome if isinstance(outcome, Agreed) else self.agreed

    def place(self) -> Endpoint:
        """Where ALICE's datagrams come from and go to."""
        return self.relay[0] if self.relay else THERE

    def _bob(self) -> NodeInformation:
        return information(BOB, mapped=(THERE,), number=9)

    def _alice(self) -> NodeInformation:
        told = information(ALICE, mapped=(HERE,))
        return NodeInformation(ALICE, *ADDRESSES, told.identity, (HERE,), (), ())

    def _route(
        self,
        whom: str,
        role: Role,
        sends: bool,
        about: NodeInformation,
        target: Endpoint,
        **changes: object,
    ) -> RouteDirection:
        fields: dict[str, object] = {
            "negotiation": self.negotiation,
            "fqdn": whom,
            "role": role,
            "action": Action.SEND if sends else Action.AWAIT,
            "peer": about,
            "ktmp": self.negotiation * 2,
            "ktun": self.negotiation[::-1] * 2,
            "ktun_identifier": self.negotiation[8:],
            "targets": (target,) if sends and not self.relay else (),
            "relay": self.relay,
            "valid_s": self.valid_s,
            "purpose": Purpose.CONNECT,
            "cipher": Cipher.AES_256_GCM,
            **changes,
        }
        return RouteDirection(**fields)  # type: ignore[arg-type]

    def _end(self) -> Negotiation:
        entropy = Random(f"bob {self.negotiation.hex()}")
        parts = Parts(
            BOB,
            identity(BOB),
            self.keyring,
            Challenger(entropy),
            entropy,
            Journal(BOB),
            lambda all_of: all_of,
        )
        route = self._route(BOB, self.role, self.sends, self._alice(), HERE)
        ends = (self._alice(), self._bob())
        mn, cn = ends if self.role is Role.CN else ends[::-1]
        other = Role.MN if self.role is Role.CN else Role.CN
        terms = Terms(
            self.negotiation,
            Mode.KKPSK0,
            Cipher.AES_256_GCM,
            mn.fqdn,
            cn.fqdn,
            self.role if self.sends else other,
            mn.identity,
            cn.identity,
            mn.virtual_ipv6,
            cn.virtual_ipv6,
        )
        return Negotiation(parts, route, self.index, Numbers(1), terms, self.rig.now)


def connected(rig: Rig | None = None, **options: object) -> tuple[Rig, Peer]:
    """Return a node with a tunnel to BOB, whom it asked for."""
    rig = Rig().start() if rig is None else rig
    rig.node.resolve(BOB, rig.now)
    rig.settle()
    peer = Peer(rig, rig.direction().negotiation, **options)  # type: ignore[arg-type]
    rig.tell(peer.route())
    peer.exchange()
    return rig, peer
