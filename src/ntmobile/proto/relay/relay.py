"""RS: lets two nodes that cannot reach each other meet, and forwards what it cannot read.

A path stands under one Ktun, which DCmn brings in a Relay Direction. Each end shows where it is by
a Hole Punching or a Tunnel Request with a growing sequence, and proves its source by a round trip;
no capsule moves a path. Once both ends are bound the packet loop forwards capsules between them by
(source address, receiver index). An end that punches from elsewhere is led in at once: from there
to the other end, which is proven, capsules pass; the way back waits for the proof.

    Relay Direction        Hole Punching / Tunnel Request, proven        both bound
    ---------------> open --------------------------------------> bound ----------> forwarding

What comes under a key that is not known is kept a while, for it may be early, and answered by a
hint (`wire.hint`), for RS may have restarted.

A Tunnel Request goes on as it came, byte for byte. To an end that has shown itself and not yet
proven its source, no more than three times its own bytes are sent.

Source: paper, Fig. 7. Ours: binding and proof, docs/protocol.md section 7.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from ntmobile.errors import DecodeError
from ntmobile.keys.table import Kdcrs, Keyring, Ktun, Party
from ntmobile.proto.conversation import Asked, Challenger, Conversation
from ntmobile.proto.io import Caller, Entropy, Reply, Timeout, Transmit
from ntmobile.proto.journal import Journal, Step
from ntmobile.proto.rate import RateLimit, Verdict
from ntmobile.proto.relay.memory import (
    ForgottenKey,
    ForgottenPath,
    Record,
    Standing,
    StoredEnd,
    StoredKey,
    StoredPath,
)
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Header, Sender
from ntmobile.wire.direction import ReachabilityProbe, RelayDirection, Role
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.federation import KeySharing, SharedKey
from ntmobile.wire.hint import Hint
from ntmobile.wire.message import Message
from ntmobile.wire.probe import Knock
from ntmobile.wire.registration import NtmAck, Reason, Refusal
from ntmobile.wire.tunnel import HolePunching, TunnelRequest, TunnelResponse

MAX_PATHS = 100_000
MAX_KEYS_A_DOMAIN = 64
SWEEP_NS = 5 * SECOND
AMPLIFICATION = 3
"""RFC 9000, section 8.1."""
KNOCKS = 3
"""At once: one lost datagram must not make a node unreachable."""
EARLY_NS = 2 * SECOND
HINTS = 200
"""A second to one network: who has lost a path hears of it, who is not there is not drowned."""
HELD_NS = SECOND
"""How long what one end said waits for the other: who still means it says it again before. An end
that answered what the other has given up would have keys that nobody else has."""
MAX_EARLY = 1024
"""Datagrams of ends that were directed before this RS was."""


@dataclass(frozen=True, slots=True)
class Bind:
    """Forward capsules from source with this receiver index to destination."""

    path: bytes
    source: Endpoint
    index: int
    destination: Endpoint
    rate: int


@dataclass(frozen=True, slots=True)
class Unbind:
    """Stop forwarding these."""

    source: Endpoint
    index: int


@dataclass(frozen=True, slots=True)
class ForgetPath:
    """The path is over: drop all that is bound under it."""

    path: bytes


Command = Bind | Unbind | ForgetPath


@dataclass(frozen=True, slots=True)
class Early:
    """A datagram whose Relay Direction is still on its way."""

    at: Instant
    header: Header
    source: Endpoint
    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """One end of a path as far as it is known."""

    source: Endpoint
    index: int
    sequence: int
    proven: bool
    budget: int
    """Bytes that may still go to an unproven source."""


@dataclass(slots=True)
class Path:
    """One negotiation's way through this RS."""

    negotiation: bytes
    pair: bytes
    key: Ktun
    conversation: Conversation[None]
    rate: int
    lifetime_ns: int
    quiet_since: Instant
    ends: dict[Role, End] = field(default_factory=dict)
    held: dict[Role, tuple[Instant, bytes]] = field(default_factory=dict)
    """The last Tunnel Request or Response for an end that has not shown itself, and since when."""
    unproven: dict[Role, tuple[Endpoint, TunnelResponse, bytes]] = field(default_factory=dict)
    """A Tunnel Response that came before the proof that its source hears us."""
    bound: dict[Role, tuple[Endpoint, int]] = field(default_factory=dict)
    """What the packet loop has, by sending end: the source and the receiver index."""
    led_in: dict[Role, tuple[Endpoint, int]] = field(default_factory=dict)
    """The same for an end that moved and has not proven it yet."""


class RelayRole:
    """The sans-I/O machine of one RS. One end of each path belongs to its own domain."""

    def __init__(
        self,
        domain: str,
        entropy: Entropy,
        idle_ns: Callable[[bytes], int | None] = lambda _: None,
    ) -> None:
        """idle_ns tells how long ago a path last carried a capsule; None for never."""
        self.domain = domain
        self.keyring = Keyring(Party.RS)
        self._entropy = entropy
        self._idle_ns = idle_ns
        self._challenger = Challenger(entropy)
        self._journal = Journal("RS")
        self.rejected = self._journal.rejected
        """Datagrams dropped, by reason."""
        self._peers: dict[bytes, Conversation[None]] = {}
        self._peer_keys: dict[bytes, Kdcrs] = {}
        self._paths: dict[bytes, Path] = {}
        self._taken: dict[tuple[Endpoint, int], Path] = {}
        self._hints = RateLimit(HINTS, HINTS)
        self._early: deque[Early] = deque(maxlen=MAX_EARLY)
        self._transmits: deque[Transmit] = deque()
        self._knocks: deque[Transmit] = deque()
        self._commands: deque[Command] = deque()
        self._records: deque[Record] = deque()
        self._replies: deque[Reply] = deque()
        self._sweep_at: Instant | None = None

    @property
    def paths(self) -> int:
        """How many paths stand now."""
        return len(self._paths)

    def handle_request(self, id: int, caller: Caller, message: Message, now: Instant) -> None:
        """Key Sharing from the DC of the own domain. Source: paper, Fig. 7."""
        if not isinstance(message, KeySharing) or message.key is not SharedKey.KDCRS:
            return self._replies.append(Reply(id, Refusal(Reason.NOT_ALLOWED)))
        if caller.domain != self.domain or message.creator != self.domain:
            return self._replies.append(Reply(id, Refusal(Reason.FOREIGN_DOMAIN)))
        if len(self._peers) >= MAX_KEYS_A_DOMAIN:
            self._forget_peer(next(iter(self._peers)), now)
        self._journal.note(now, message, "DCmn", sent=False)
        self._share(message, now)
        self._records.append(StoredKey(message))
        return self._replies.append(Reply(id, NtmAck()))

    def restore(self, standing: Iterable[Standing], now: Instant) -> None:
        """Go on with what poll_record gave out before a restart; to be called first of all.

        Paths carry again at once, to where their ends last proved to be.
        """
        for record in standing:
            match record:
                case StoredKey(sharing):
                    self._share(sharing, now)
                case StoredPath():
                    self._restore_path(record, now)
        self._records.clear()

    def handle_datagram(
        self, source: Endpoint, data: bytes, now: Instant, *, interface: int = 0
    ) -> None:
        """Take one datagram that is not a capsule; what is not ours is counted and dropped."""
        try:
            header = Header.decode(data)
        except DecodeError:
            self.rejected["malformed"] += 1
            return
        if (peer := self._peers.get(header.identifier)) is not None:
            self._handle_peer(peer, header, source, data, now)
        elif (path := self._paths.get(header.identifier)) is not None:
            self._handle_end(path, header, source, data, now)
        else:
            self.rejected["unknown key"] += 1
            self._early.append(Early(now, header, source, data))
            if self._hints.judge(source.host, now) is Verdict.SEND:
                hint = Hint.key(header.identifier).encode()
                self._transmits.append(Transmit(source, hint))

    def handle_timeout(self, now: Instant) -> None:
        """Forget paths and keys that are over."""
        if self._sweep_at is None or now < self._sweep_at:
            return
        for path in list(self._paths.values()):
            idle = self._idle_ns(path.negotiation)
            last = path.quiet_since if idle is None else max(path.quiet_since, now - idle)
            if now - last > path.lifetime_ns:
                self._forget_path(path, now)
        for key in list(self._peer_keys.values()):
            if now >= key.expires:
                self._forget_peer(key.identifier, now)
        self._sweep_at = None
        self._schedule(now)

    def poll_transmit(self) -> Transmit | None:
        """Next datagram to send, oldest first."""
        return self._transmits.popleft() if self._transmits else None

    def poll_knock(self) -> Transmit | None:
        """Next reachability probe; the driver sends it from a port that no node ever saw."""
        return self._knocks.popleft() if self._knocks else None

    def poll_command(self) -> Command | None:
        """Next command to the packet loop."""
        return self._commands.popleft() if self._commands else None

    def poll_record(self) -> Record | None:
        """Next record for the driver to keep."""
        return self._records.popleft() if self._records else None

    def poll_reply(self) -> Reply | None:
        """Next answer to an HTTPS request."""
        return self._replies.popleft() if self._replies else None

    def poll_event(self) -> Step | None:
        """Next step of a sequence."""
        return self._journal.poll()

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        return None if self._sweep_at is None else Timeout(self._sweep_at, "relay sweep")

    def _share(self, sharing: KeySharing, now: Instant) -> None:
        expires = Instant(now + sharing.lifetime_s * SECOND)
        key = self.keyring.own(Kdcrs(sharing.secret, sharing.identifier, expires), now)
        self._peer_keys[key.identifier] = key
        self._peers[key.identifier] = Conversation(
            key, Sender.RS, self._challenger, self._entropy, self._journal, lambda *_: "DCmn"
        )
        self._schedule(now)

    def _restore_path(self, stored: StoredPath, now: Instant) -> None:
        self._open_path(stored.direction, now)
        path = self._paths.get(stored.direction.ktun_identifier)
        if path is None:
            return
        for each in stored.ends:
            end = End(each.source, each.index, each.sequence, True, 0)
            if self._clashes(path, each.role, end):
                return self._forget_path(path, now)
            path.ends[each.role] = end
        return self._bind(path, now)

    def _schedule(self, now: Instant) -> None:
        if self._sweep_at is None and (self._paths or self._peers):
            self._sweep_at = Instant(now + SWEEP_NS)

    def _handle_peer(
        self,
        peer: Conversation[None],
        header: Header,
        source: Endpoint,
        data: bytes,
        now: Instant,
    ) -> None:
        heard = peer.handle_datagram(header, source, data, now)
        if isinstance(heard, Asked) and isinstance(heard.message, RelayDirection):
            answer = self._open_path(heard.message, now)
            peer.answer(heard, answer, now)
            self._replay_early(heard.message.ktun_identifier, now)
        elif isinstance(heard, Asked) and isinstance(heard.message, ReachabilityProbe):
            peer.answer(heard, NtmAck(), now)
            self._knock(heard.message)
        self._drain(peer)

    def _knock(self, probe: ReachabilityProbe) -> None:
        knock = Knock(probe.token).encode()
        for target in probe.target[:1]:
            self._knocks.extend([Transmit(target, knock)] * KNOCKS)

    def _replay_early(self, identifier: bytes, now: Instant) -> None:
        while self._early and now - self._early[0].at > EARLY_NS:
            self._early.popleft()
        path = self._paths.get(identifier)
        for early in [held for held in self._early if held.header.identifier == identifier]:
            self._early.remove(early)
            if path is not None:
                self._handle_end(path, early.header, early.source, early.data, now)

    def _open_path(self, direction: RelayDirection, now: Instant) -> NtmAck | Refusal:
        if direction.ktun_identifier in self._paths:
            return NtmAck()
        if len(self._paths) >= MAX_PATHS:
            return Refusal(Reason.BUSY, direction.negotiation)
        lifetime_ns = max(direction.lifetime_s, 10) * SECOND
        key = Ktun(direction.ktun, direction.ktun_identifier, Instant(now + lifetime_ns))
        path = Path(
            direction.negotiation,
            direction.pair,
            self.keyring.own(key, now),
            Conversation(
                key,
                Sender.RS,
                self._challenger,
                self._entropy,
                self._journal,
                lambda source, sender: self._name_end(path, source, sender),
                fresh=True,
                forwards=True,
            ),
            direction.rate,
            lifetime_ns,
            now,
        )
        self._paths[key.identifier] = path
        self._schedule(now)
        return NtmAck()

    def _handle_end(
        self, path: Path, header: Header, source: Endpoint, data: bytes, now: Instant
    ) -> None:
        heard = path.conversation.handle_datagram(header, source, data, now)
        if isinstance(heard, Asked) and header.sender in _ROLES:
            self._handle_asked(path, _ROLES[header.sender], heard, data, now)
        self._drain(path.conversation)

    def _handle_asked(
        self, path: Path, role: Role, asked: Asked, data: bytes, now: Instant
    ) -> None:
        message = asked.message
        if not isinstance(message, HolePunching | TunnelRequest | TunnelResponse):
            self.rejected["out of place"] += 1
            return
        known = path.ends.get(role)
        same = known is not None and known.source == asked.source and known.proven
        moved = known is not None and known.proven and not same
        if known is not None and moved and message.sequence <= known.sequence:
            self.rejected["old sequence"] += 1
            return
        proven = asked.proven or same
        budget = 0 if proven else AMPLIFICATION * len(data)
        sequence = max(message.sequence, known.sequence) if known and same else message.sequence
        end = End(asked.source, message.index, sequence, proven, budget)
        if not proven:
            if not isinstance(message, TunnelResponse):
                path.conversation.challenge(asked, now)
            if moved and isinstance(message, HolePunching):
                self._lead_in(path, role, asked.source)
            if known is None or (not known.proven and message.sequence > known.sequence):
                path.ends[role] = replace(end, budget=max(0, budget - len(data)))
                self._forward_held(path, role, now)
            elif known.proven and isinstance(message, TunnelResponse):
                self._forward(path, role, message, data, now)
            if isinstance(message, TunnelResponse) and (known is None or not known.proven):
                path.unproven[role] = (asked.source, message, data)
            return
        if self._clashes(path, role, end):
            path.conversation.answer(asked, Refusal(Reason.INDEX_IN_USE), now)
            return
        path.quiet_since = now
        path.ends[role] = end
        self._bind(path, now, role)
        if isinstance(message, HolePunching):
            path.conversation.answer(asked, NtmAck(), now)
        else:
            self._forward(path, role, message, data, now)
        waiting = path.unproven.pop(role, None)
        if waiting is not None and waiting[0] == end.source:
            self._forward(path, role, *waiting[1:], now)
        self._forward_held(path, role, now)

    def _forward(
        self,
        path: Path,
        role: Role,
        message: TunnelRequest | TunnelResponse,
        data: bytes,
        now: Instant,
    ) -> None:
        """Pass on to the other end; a Response from the end's other family too, binding nothing."""
        self._journal.note(now, message, _other(role).upper(), sent=True)
        path.held[_other(role)] = now, data
        self._forward_held(path, _other(role), now)

    def _forward_held(self, path: Path, to: Role, now: Instant) -> None:
        """Pass on, as it came, what waits for an end that has shown itself."""
        end, (since, data) = path.ends.get(to), path.held.get(to, (now, b""))
        if end is None or not data:
            return
        if now - since > HELD_NS:
            del path.held[to]
            return
        if not end.proven:
            if end.budget < len(data):
                return
            path.ends[to] = replace(end, budget=end.budget - len(data))
        del path.held[to]
        self._transmits.append(Transmit(end.source, data))

    def _clashes(self, path: Path, role: Role, end: End) -> bool:
        """Whether a binding that this end would bring belongs to another node."""
        other = path.ends.get(_other(role))
        if other is None:
            return False
        if (other.source, other.index) == (end.source, end.index):
            return True  # behind one NAT, and nothing tells their capsules apart
        wanted = ((other.source, end.index), (end.source, other.index))
        return any(self._taken.get(place, path).pair != path.pair for place in wanted)

    def _lead_in(self, path: Path, role: Role, source: Endpoint) -> None:
        """Carry to the other end from where this one says it is now, if nothing else is there."""
        place = (source, path.bound[role][1]) if role in path.bound else None
        if place is None or place in self._taken:
            return
        if (old := path.led_in.get(role)) is not None:
            self._release(old)
        path.led_in[role] = place
        self._carry(path, role, place)

    def _bind(self, path: Path, now: Instant, proven: Role | None = None) -> None:
        ends = path.ends
        if len(ends) < len(Role) or not all(end.proven for end in ends.values()):
            return
        before = dict(path.bound)
        places = {role: (ends[role].source, ends[_other(role)].index) for role in Role}
        stale = set(before.values())
        for role, place in list(path.led_in.items()):
            if role is proven or place[1] != places[role][1]:
                stale.add(path.led_in.pop(role))
        for place in stale - set(places.values()) - set(path.led_in.values()):
            self._release(place)
        for role, place in places.items():
            if (old := self._taken.get(place, path)) is not path:
                self._forget_path(old, now)
            path.bound[role] = place
            self._carry(path, role, place)
        for role, place in path.led_in.items():
            self._carry(path, role, place)
        if path.bound != before:
            self._records.append(_stored(path))

    def _carry(self, path: Path, role: Role, place: tuple[Endpoint, int]) -> None:
        self._taken[place] = path
        to = path.ends[_other(role)].source
        self._commands.append(Bind(path.negotiation, *place, to, path.rate))

    def _release(self, place: tuple[Endpoint, int]) -> None:
        self._commands.append(Unbind(*place))
        self._taken.pop(place, None)

    def _forget_path(self, path: Path, now: Instant) -> None:
        for place in (*path.bound.values(), *path.led_in.values()):
            self._taken.pop(place, None)
        if path.bound:
            self._records.append(ForgottenPath(path.key.identifier))
        self._commands.append(ForgetPath(path.negotiation))
        del self._paths[path.key.identifier]
        self.keyring.erase(path.key, now)

    def _forget_peer(self, identifier: bytes, now: Instant) -> None:
        del self._peers[identifier]
        self._records.append(ForgottenKey(identifier))
        self.keyring.erase(self._peer_keys.pop(identifier), now)

    def _name_end(self, path: Path, source: Endpoint, sender: Sender | None) -> str:
        if sender is not None:
            return sender.name
        for role, end in path.ends.items():
            if end.source == source:
                return role.upper()
        return "node"

    def _drain(self, conversation: Conversation[None]) -> None:
        while (transmit := conversation.poll_transmit()) is not None:
            self._transmits.append(transmit)


def _stored(path: Path) -> StoredPath:
    direction = RelayDirection(
        path.negotiation,
        path.key.identifier,
        path.key.secret,
        path.lifetime_ns // SECOND,
        path.rate,
        path.pair,
    )
    mn, cn = (
        StoredEnd(role, end.source, end.index, end.sequence)
        for role, end in ((role, path.ends[role]) for role in Role)
    )
    return StoredPath(direction, (mn, cn))


_ROLES = {Sender.MN: Role.MN, Sender.CN: Role.CN}


def _other(role: Role) -> Role:
    return Role.CN if role is Role.MN else Role.MN
