"""Two ends of a tunnel on a link that loses, doubles, delays and reorders.

The packet loops are modelled by what they must do and no more: a control capsule is sealed with the
key of the sending epoch, and opens where the same key was installed for that epoch.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random

from tests.proto.parts import ALICE, BOB, HERE, T0, THERE, drain, identity, information

from ntmobile.keys.table import Keyring, Party
from ntmobile.proto.journal import Journal
from ntmobile.proto.node.ends import Ends
from ntmobile.proto.node.events import (
    ActivateKeys,
    ClearPath,
    CloseTunnel,
    Command,
    HandoverDone,
    InstallKeys,
    OpenTunnel,
    Resend,
    RetireKeys,
    SendControl,
    SetPath,
    Traffic,
)
from ntmobile.proto.node.handshake import Secrets
from ntmobile.proto.node.negotiation import Agreed
from ntmobile.proto.node.notes import Note, PathDead
from ntmobile.proto.node.tunnel import Tunnel
from ntmobile.proto.node.tunnel_parts import TunnelParts
from ntmobile.time import SECOND, Instant
from ntmobile.wire.direction import Cipher
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.tunnel import ReceiveState

IDLE_S = 600
DELAY_NS = 20_000_000
DATA = 1000


@dataclass
class Capsule:
    """On its way: a control capsule, or one of application data when it has no payload."""

    epoch: int
    key: bytes
    counter: int
    source: Endpoint
    payload: bytes | None
    interface: int = 0
    """That it arrives by."""


class Loops:
    """What the packet loops of one end hold; also what the machine may look up there."""

    def __init__(self) -> None:
        self.keys: dict[int, InstallKeys] = {}
        self.sending: int | None = None
        self.path: SetPath | None = None
        self.counters: Iterator[int] = count()
        self.newest = -1
        self.open = False
        self.now = T0
        self.traffic_seen = Traffic(0, 0, None, None)
        self.resent: list[Resend] = []
        self.states: tuple[ReceiveState, ...] = ()

    def receive_state(self, index: int) -> tuple[ReceiveState, ...]:
        return self.states

    def traffic(self, index: int) -> Traffic:
        return self.traffic_seen

    def obey(self, command: Command) -> None:
        match command:
            case OpenTunnel():
                self.open = True
            case InstallKeys(_, epoch):
                self.keys[epoch] = command
            case ActivateKeys(_, epoch):
                assert epoch in self.keys, "activates an epoch that is not installed"
                self.sending = epoch
            case RetireKeys(_, epoch):
                del self.keys[epoch]
                self.sending = None if self.sending == epoch else self.sending
            case SetPath():
                self.path = command
            case ClearPath():
                self.path = None
            case Resend():
                self.resent.append(command)
            case CloseTunnel():
                self.open, self.keys, self.sending = False, {}, None

    def sent(self, size: int) -> None:
        """Application data left."""
        seen = self.traffic_seen
        self.traffic_seen = Traffic(seen.tx_bytes + size, seen.rx_bytes, self.now, seen.last_rx)

    def received(self, size: int) -> None:
        """An authentic capsule came; a control capsule counts no bytes."""
        seen = self.traffic_seen
        self.traffic_seen = Traffic(seen.tx_bytes, seen.rx_bytes + size, seen.last_tx, self.now)


@dataclass
class Side:
    """One end: its machine, its packet loops, and where it is."""

    name: str
    place: Endpoint
    tunnel: Tunnel
    loops: Loops
    keyring: Keyring
    held: dict[int, Endpoint] = field(default_factory=dict)
    """Where it is by uplinks that are not preferred, by interface."""
    cut: set[Endpoint] = field(default_factory=set)
    """Places that nothing leaves and nothing reaches."""
    notes: list[Note] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)

    def path(self) -> Endpoint | None:
        """Where its packet loops send."""
        return None if self.loops.path is None else self.loops.path.remote

    def places(self) -> set[Endpoint]:
        """Where it is reached."""
        return {self.place, *self.held.values()} - self.cut

    def handovers(self) -> list[HandoverDone]:
        return [note for note in self.notes if isinstance(note, HandoverDone)]


class Link:
    """Both ends and everything between them."""

    def __init__(self, seed: int = 0, idle_s: int = IDLE_S) -> None:
        self.now = T0
        self.random = Random(seed)
        self.loss = 0.0
        self.jitter_ns = 0
        self.double = 0.0
        self.flying: list[tuple[int, int, Side, Capsule]] = []
        self.order = count()
        self.epochs = count()
        self.held: list[tuple[Side, int]] = []
        """Tunnel Requests at a relay: who sent them, and the epoch that they propose."""
        self.a = self._side(ALICE, BOB, HERE, 11, idle_s)
        self.b = self._side(BOB, ALICE, THERE, 22, idle_s)
        self.heals = True
        """Whether a dead path brings a new negotiation, as the node would see to."""

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.a, self.b

    def other(self, side: Side) -> Side:
        return self.b if side is self.a else self.a

    def negotiate(
        self, sender: Side, *, reach_ns: int = DELAY_NS, epoch: int | None = None
    ) -> None:
        """A negotiation that the servers carried: the awaiting end agrees first.

        The epoch is what it proposes, if the sender began it a while ago.
        """
        epoch = sender.tunnel.propose_epoch(self.now) if epoch is None else epoch
        key = next(self.epochs).to_bytes(16)
        one, two = b"\x01" * 16 + key, b"\x02" * 16 + key
        digest = self.random.randbytes(32)
        accepted = self._answer(sender, epoch, Secrets(two, one, digest))
        self.advance(reach_ns)
        self._adopt(sender, accepted, Secrets(one, two, digest), sent=True)

    def ask_in_vain(self, sender: Side) -> None:
        """Begin a negotiation whose Tunnel Request a relay holds; the sender waits no longer."""
        self.held.append((sender, sender.tunnel.propose_epoch(self.now)))

    def pass_on(self) -> None:
        """The relay passes on what it held: keys that the awaiting end shares with nobody."""
        for sender, epoch in self.held:
            self._answer(sender, epoch, Secrets(*(self.random.randbytes(32) for _ in range(3))))
        self.held.clear()

    def move(self, side: Side, place: Endpoint) -> None:
        """Take a side to another address; its machine hears of it at once."""
        side.place = place
        side.tunnel.move({place.version}, self.now)
        self.settle()

    def talk(self, side: Side) -> bool:
        """Send application data; whether it opened at the other end, had it arrived at once."""
        side.loops.sent(DATA)
        capsule = self._seal(side, None)
        if capsule is None or side.loops.path is None:
            return False
        self._send(side, capsule, side.loops.path.remote, side.loops.path.interface)
        return self._opens(self.other(side), capsule)

    def advance(self, wait_ns: int) -> None:
        """Let time pass, with all that is due in it."""
        until = Instant(self.now + wait_ns)
        self.settle()
        while (at := self._next()) is not None and at <= until:
            self._come_to(Instant(max(at, self.now)))
            while self.flying and self.flying[0][0] <= self.now:
                _, _, to, capsule = heapq.heappop(self.flying)
                self._arrive(to, capsule)
            for side in self.sides:
                due = side.tunnel.poll_timeout()
                if due is not None and due.at <= self.now:
                    side.tunnel.handle_timeout(self.now)
                    following = side.tunnel.poll_timeout()
                    assert following is None or following.at > self.now, "spins"
            self.settle()
        self._come_to(until)

    def wait(self, seconds: float) -> None:
        self.advance(round(seconds * SECOND))

    def settle(self) -> None:
        """Carry out what the machines want now."""
        dead: list[Side] = []
        for side in self.sides:
            for command in drain(side.tunnel.poll_command):
                side.commands.append(command)
                side.loops.obey(command)
                if isinstance(command, SendControl):
                    self._emit(side, command)
            for note in drain(side.tunnel.poll_note):
                side.notes.append(note)
                if isinstance(note, PathDead):
                    dead.append(side)
        for side in dead if self.heals and self.loss < 1 else []:
            if not any(each.tunnel.closed for each in self.sides):
                self.negotiate(side)

    def can_talk(self, side: Side) -> bool:
        """Whether what this side sends now reaches the other and opens there."""
        path, epoch = side.loops.path, side.loops.sending
        if path is None or epoch is None or path.remote != self.other(side).place:
            return False
        mine, theirs = side.loops.keys[epoch], self.other(side).loops.keys.get(epoch)
        return theirs is not None and theirs.receive_key == mine.send_key

    def _side(self, own: str, peer: str, place: Endpoint, index: int, idle_s: int) -> Side:
        loops, keyring = Loops(), Keyring(Party.NODE)
        there = information(peer, number=2 if own == ALICE else 1)
        here = information(own, number=1 if own == ALICE else 2)
        ends = Ends(
            own,
            identity(own),
            here.virtual_ipv6,
            there,
            Cipher.AES_256_GCM,
            (here.virtual_ipv4, here.virtual_ipv6),
            (there.virtual_ipv4, there.virtual_ipv6),
        )
        parts = TunnelParts(
            loops, Random(own), keyring, Journal(own), lambda _: 1400, idle_s * SECOND
        )
        tunnel = Tunnel(ends, index, parts, self.now)
        return Side(own, place, tunnel, loops, keyring)

    def _answer(self, sender: Side, proposed: int, secrets: Secrets) -> int:
        """The awaiting end gets the Tunnel Request; returns the number that it answers with."""
        awaiting = self.other(sender)
        epoch = awaiting.tunnel.accept_epoch(proposed, sender.tunnel.index, self.now)
        self._adopt(awaiting, epoch, secrets, sent=False)
        return epoch

    def _adopt(self, side: Side, epoch: int, secrets: Secrets, *, sent: bool) -> None:
        other = self.other(side)
        agreed = Agreed(bytes(16), epoch, secrets, other.tunnel.index, other.place, False, sent)
        side.tunnel.adopt(agreed, self.now)
        self.settle()

    def _seal(self, side: Side, payload: bytes | None) -> Capsule | None:
        epoch = side.loops.sending
        if epoch is None:
            return None
        key = side.loops.keys[epoch].send_key
        return Capsule(epoch, key, next(side.loops.counters), side.place, payload)

    def _emit(self, side: Side, command: SendControl) -> None:
        capsule = self._seal(side, command.payload)
        path = side.loops.path
        if capsule is None:
            return
        if command.destination is not None:
            self._send(side, capsule, command.destination, command.interface)
        elif path is not None:
            self._send(side, capsule, path.remote, path.interface)

    def _send(self, side: Side, capsule: Capsule, remote: Endpoint, interface: int) -> None:
        to = self.other(side)
        capsule.source = side.held.get(interface, side.place)
        if remote not in to.places() or capsule.source in side.cut:
            return
        capsule.interface = next((each for each, at in to.held.items() if at == remote), 0)
        copies = 0 if self.random.random() < self.loss else 1
        copies += copies and self.random.random() < self.double
        for _ in range(copies):
            delay = DELAY_NS + self.random.randrange(self.jitter_ns + 1)
            heapq.heappush(self.flying, (self.now + delay, next(self.order), to, capsule))

    def _arrive(self, to: Side, capsule: Capsule) -> None:
        if not self._opens(to, capsule):
            return
        to.loops.received(DATA if capsule.payload is None else 0)
        path = to.loops.path
        newest = capsule.counter > to.loops.newest
        to.loops.newest = max(to.loops.newest, capsule.counter)
        if newest and path is not None and path.remote != capsule.source:
            to.tunnel.handle_moved(capsule.source, capsule.interface, self.now)
        if capsule.payload is not None:
            to.tunnel.handle_control(
                capsule.epoch, capsule.source, capsule.interface, capsule.payload, self.now
            )
        self.settle()

    def _opens(self, to: Side, capsule: Capsule) -> bool:
        held = to.loops.keys.get(capsule.epoch)
        return held is not None and held.receive_key == capsule.key

    def _next(self) -> Instant | None:
        times = [side.tunnel.poll_timeout() for side in self.sides]
        due = [timeout.at for timeout in times if timeout is not None]
        due += [Instant(self.flying[0][0])] if self.flying else []
        return min(due, default=None)

    def _come_to(self, now: Instant) -> None:
        self.now = now
        for side in self.sides:
            side.loops.now = now


def connected(seed: int = 0, **options: int) -> Link:
    """Return two ends that just agreed on their first keys."""
    link = Link(seed, **options)
    link.negotiate(link.a)
    link.wait(0.2)
    return link


def old_enough(seed: int = 0) -> Link:
    """Return two ends whose first keys are too old for glare."""
    link = connected(seed)
    link.wait(20)
    return link
