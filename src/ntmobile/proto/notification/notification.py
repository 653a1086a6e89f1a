"""NS: holds a connection of each node that asked for it, and brings what the DC has for the node.

Of one connection::

    (accepted) --Notification Registration, sealed and new--> held --frame of the node--> held
        '--anything else, or 10 s--> closed        '--silence for twice its interval--> closed

Of one node: a Notification Direction brings its Kntmns; a connection registers under it with a
sequence that grows, so that a recorded registration is of no use. The newest connection is the one.
What a held connection says wrong is dropped and counted, and the connection stays.

Nothing is kept of a stranger but its number, its address and at most one frame.
Source: paper, Fig. 4. Ours: docs/protocol.md section 9.
"""

from collections import Counter, deque
from dataclasses import dataclass

from ntmobile.errors import DecodeError
from ntmobile.keys.channel import Channel
from ntmobile.keys.sealing import SALT_SIZE
from ntmobile.keys.table import Kdcns, Keyring, Kntmns, Party
from ntmobile.proto.conversation import Asked, Challenger, Conversation
from ntmobile.proto.io import (
    Caller,
    Entropy,
    Reply,
    StreamCommand,
    StreamData,
    StreamEnd,
    Timeout,
    Transmit,
    random_bytes,
)
from ntmobile.proto.journal import Journal, Step
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import MAX_CARRYING, Envelope, Header, Sender, Signal
from ntmobile.wire.endpoint import Endpoint, Host
from ntmobile.wire.federation import KeySharing, SharedKey
from ntmobile.wire.message import Message
from ntmobile.wire.notification import (
    MAX_INTERVAL_S,
    MIN_INTERVAL_S,
    Notification,
    NotificationDirection,
    NotificationRegistration,
    TcpKeepAlive,
)
from ntmobile.wire.registration import KeepAliveAnswer, NtmAck, Reason, Refusal, UdpKeepAlive
from ntmobile.wire.stream import frame, split

MAX_NODES = 250_000
MAX_KEYS_A_DOMAIN = 64
MAX_STRANGERS = 8192
"""After a restart all nodes come at once; each registers within two round trips."""
MAX_STRANGERS_A_SOURCE = 512
"""Many nodes share one address behind a carrier's NAT."""
KEPT_FREE = 16
"""One of so many connections is for nodes that exchange theirs for another."""
REGISTER_NS = 10 * SECOND
MOST_WRONG = 64
"""Frames of a held connection that may be wrong: whoever injects more can cut it anyway."""
GRACE_NS = 30 * SECOND
SWEEP_NS = 5 * SECOND
LONG_SWEEP_NS = 20 * SECOND
"""Where no stranger must be watched: a walk over 100,000 connections takes milliseconds."""


@dataclass(slots=True, eq=False)
class Registrant:
    """One node that may hold a connection."""

    fqdn: str
    key: Kntmns
    sequence: int = -1
    """Of its last connection."""
    stream: int | None = None


@dataclass(slots=True, eq=False)
class Held:
    """A connection that proved whose it is."""

    registrant: Registrant
    channel: Channel
    until: Instant
    rest: bytes = b""
    """The beginning of a frame."""
    wrong: int = 0


@dataclass(slots=True, eq=False)
class Stranger:
    """A connection that has not registered."""

    host: Host
    until: Instant
    rest: bytes = b""


class NotificationRole:
    """The sans-I/O machine of one NS."""

    def __init__(self, domain: str, entropy: Entropy, most: int = MAX_NODES) -> None:
        """Serves the nodes of one domain over at most so many connections at once."""
        self.domain = domain
        self.most = most
        self.keyring = Keyring(Party.NS)
        self._entropy = entropy
        self._challenger = Challenger(entropy)
        self._journal = Journal("NS")
        self.rejected = self._journal.rejected
        """Datagrams, frames and connections dropped, by reason."""
        self._boot = entropy.getrandbits(62)
        self._peers: dict[bytes, Conversation[None]] = {}
        self._registrants: dict[bytes, Registrant] = {}
        self._by_name: dict[str, Registrant] = {}
        self._held: dict[int, Held] = {}
        self._strangers: dict[int, Stranger] = {}
        self._sources: Counter[Host] = Counter()
        self._streams: deque[StreamCommand] = deque()
        self._transmits: deque[Transmit] = deque()
        self._replies: deque[Reply] = deque()
        self._sweep_at: Instant | None = None

    @property
    def held(self) -> int:
        """Connections of nodes that stand now."""
        return len(self._held)

    @property
    def is_full(self) -> bool:
        """Whether the DC shall send further nodes elsewhere: what is left is for those it has."""
        room = self.most - self.most // KEPT_FREE
        return len(self._held) + len(self._strangers) >= room

    def handle_request(self, id: int, caller: Caller, message: Message, now: Instant) -> None:
        """Key Sharing from the DC of the own domain. Source: paper, Fig. 4."""
        if not isinstance(message, KeySharing) or message.key is not SharedKey.KDCNS:
            return self._replies.append(Reply(id, Refusal(Reason.NOT_ALLOWED)))
        if caller.domain != self.domain or message.creator != self.domain:
            return self._replies.append(Reply(id, Refusal(Reason.FOREIGN_DOMAIN)))
        if len(self._peers) >= MAX_KEYS_A_DOMAIN:
            self._forget_peer(next(iter(self._peers)), now)
        expires = Instant(now + message.lifetime_s * SECOND)
        key = self.keyring.own(Kdcns(message.secret, message.identifier, expires), now)
        self._journal.note(now, message, "DC", sent=False)
        self._peers[key.identifier] = Conversation(
            key, Sender.NS, self._challenger, self._entropy, self._journal, lambda *_: "DC"
        )
        self._schedule(now)
        return self._replies.append(Reply(id, NtmAck()))

    def handle_datagram(
        self, source: Endpoint, data: bytes, now: Instant, *, interface: int = 0
    ) -> None:
        """Take one datagram of the DC; what is not ours is counted and dropped."""
        try:
            header = Header.decode(data, MAX_CARRYING)
        except DecodeError:
            self.rejected["malformed"] += 1
            return
        peer = self._peers.get(header.identifier)
        if peer is None:
            self.rejected["unknown key"] += 1
            return
        heard = peer.handle_datagram(header, source, data, now)
        if isinstance(heard, Asked):
            peer.answer(heard, self._answer(heard, now), now)
        while (transmit := peer.poll_transmit()) is not None:
            self._transmits.append(transmit)

    def handle_stream_opened(self, stream: int, source: Endpoint, now: Instant) -> None:
        """A connection was accepted."""
        if len(self._held) + len(self._strangers) >= self.most:
            self.rejected["full"] += 1
            return self._streams.append(StreamEnd(stream))
        crowded = self._sources[source.host] >= MAX_STRANGERS_A_SOURCE
        if crowded or len(self._strangers) >= MAX_STRANGERS:
            self.rejected["too many strangers"] += 1
            return self._streams.append(StreamEnd(stream))
        self._strangers[stream] = Stranger(source.host, Instant(now + REGISTER_NS))
        self._sources[source.host] += 1
        if self._sweep_at is None or self._sweep_at > now + SWEEP_NS:
            self._sweep_at = Instant(now + SWEEP_NS)
        return None

    def handle_stream(self, stream: int, data: bytes, now: Instant) -> None:
        """Take what came over a connection."""
        if (held := self._held.get(stream)) is not None:
            self._handle_held(stream, held, data, now)
        elif (stranger := self._strangers.get(stream)) is not None:
            self._handle_stranger(stream, stranger, data, now)

    def handle_stream_closed(self, stream: int, now: Instant) -> None:
        """The other end closed a connection, or it broke."""
        self._forget_stream(stream)

    def handle_timeout(self, now: Instant) -> None:
        """Close what is silent; forget keys that are over."""
        if self._sweep_at is None or now < self._sweep_at:
            return
        for stream in [number for number, one in self._strangers.items() if now >= one.until]:
            self._cut(stream, "never registered")
        for stream in [number for number, one in self._held.items() if now >= one.until]:
            self._cut(stream, "silent")
        for registrant in [one for one in self._registrants.values() if now >= one.key.expires]:
            self._forget(registrant, now)
        for key in [key for key in self.keyring if isinstance(key, Kdcns) and now >= key.expires]:
            self._forget_peer(key.identifier, now)
        self._sweep_at = None
        self._schedule(now)

    def poll_transmit(self) -> Transmit | None:
        """Next datagram to send, oldest first."""
        return self._transmits.popleft() if self._transmits else None

    def poll_stream(self) -> StreamCommand | None:
        """Next thing to do with a connection, in order."""
        return self._streams.popleft() if self._streams else None

    def poll_reply(self) -> Reply | None:
        """Next answer to an HTTPS request."""
        return self._replies.popleft() if self._replies else None

    def poll_event(self) -> Step | None:
        """Next step of a sequence."""
        return self._journal.poll()

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        return None if self._sweep_at is None else Timeout(self._sweep_at, "notification sweep")

    def _schedule(self, now: Instant) -> None:
        if self._sweep_at is None and (self._strangers or self._registrants or self._peers):
            self._sweep_at = Instant(now + (SWEEP_NS if self._strangers else LONG_SWEEP_NS))

    def _answer(self, asked: Asked, now: Instant) -> Signal:
        match asked.message:
            case NotificationDirection() as direction:
                return self._direct(direction, now)
            case Notification() as notification:
                return self._notify(notification, now)
            case UdpKeepAlive():
                return KeepAliveAnswer(asked.source, self._boot)
            case _:
                return Refusal(Reason.NOT_ALLOWED)

    def _direct(self, direction: NotificationDirection, now: Instant) -> NtmAck | Refusal:
        """Let a node in, or no more. Source: paper, Fig. 4."""
        before = self._by_name.get(direction.fqdn)
        if before is not None and before.key.identifier == direction.identifier:
            if not direction.lifetime_s:
                self._forget(before, now)
            return NtmAck()
        if before is not None:
            self._forget(before, now)
        if not direction.lifetime_s:
            return NtmAck()
        known = len(self._registrants) >= MAX_NODES or direction.identifier in self._registrants
        if known or (before is None and self.is_full):
            return Refusal(Reason.BUSY)
        expires = Instant(now + direction.lifetime_s * SECOND)
        key = self.keyring.own(Kntmns(direction.kntmns, direction.identifier, expires), now)
        registrant = Registrant(direction.fqdn, key)
        self._registrants[key.identifier] = self._by_name[registrant.fqdn] = registrant
        self._schedule(now)
        return NtmAck()

    def _notify(self, notification: Notification, now: Instant) -> NtmAck | Refusal:
        """Bring a node what the DC has for it. Source: paper, Fig. 4 and 6."""
        registrant = self._registrants.get(notification.identifier)
        if registrant is None:
            return Refusal(Reason.UNKNOWN_NAME)
        if registrant.stream is None:
            return Refusal(Reason.NOT_REGISTERED)
        brought = Notification(registrant.key.identifier, notification.payload)
        self._say(registrant.stream, brought, self._entropy.getrandbits(63), now)
        return NtmAck()

    def _handle_stranger(self, stream: int, stranger: Stranger, data: bytes, now: Instant) -> None:
        """Its first frame must be a Notification Registration under a key we know."""
        try:
            found, stranger.rest = split(stranger.rest + data)
            if not found:
                return
            self._register(stream, found[0], now)
        except DecodeError as error:
            self._cut(stream, str(error) if str(error) in _NAMED else "malformed")
            return
        rest = b"".join(map(frame, found[1:])) + stranger.rest
        if rest:
            self._handle_held(stream, self._held[stream], rest, now)

    def _register(self, stream: int, data: bytes, now: Instant) -> None:
        """Raises DecodeError where it does not prove that it is this node, now."""
        header = Header.decode(data, MAX_CARRYING)
        registrant = self._registrants.get(header.identifier)
        if registrant is None or now >= registrant.key.expires:
            raise DecodeError("unknown key")
        salt = random_bytes(self._entropy, SALT_SIZE)
        channel = Channel(registrant.key, Sender.NS, Sender.NODE, salt)
        envelope = Envelope.decode(channel.open(header, data))
        message = envelope.message
        if not isinstance(message, NotificationRegistration) or message.fqdn != registrant.fqdn:
            raise DecodeError("out of place")
        if message.sequence <= registrant.sequence:
            raise DecodeError("replayed")
        if registrant.stream is not None:
            self._cut(registrant.stream, "taken over")
        self._forget_stranger(stream)
        registrant.sequence, registrant.stream = message.sequence, stream
        self._held[stream] = Held(registrant, channel, _due(message.interval_s, now))
        self._journal.note(now, message, registrant.fqdn, sent=False)
        self._say(stream, NtmAck(), envelope.transaction, now)

    def _handle_held(self, stream: int, held: Held, data: bytes, now: Instant) -> None:
        try:
            found, held.rest = split(held.rest + data)
        except DecodeError:
            return self._cut(stream, "malformed")
        for each in found:
            try:
                header = Header.decode(each, MAX_CARRYING)
                envelope = Envelope.decode(held.channel.open(header, each))
            except DecodeError as error:
                self.rejected[str(error) if str(error) in _NAMED else "malformed"] += 1
                held.wrong += 1
                if held.wrong > MOST_WRONG:
                    return self._cut(stream, "too much wrong")
                continue
            if isinstance(envelope.message, TcpKeepAlive):
                held.until = _due(envelope.message.interval_s, now)
                self._journal.note(now, envelope.message, held.registrant.fqdn, sent=False)
                self._say(stream, NtmAck(), envelope.transaction, now)
            else:
                self.rejected["out of place"] += 1
        return None

    def _say(self, stream: int, message: Signal, transaction: int, now: Instant) -> None:
        held = self._held[stream]
        self._journal.note(now, message, held.registrant.fqdn, sent=True)
        datagram = held.channel.seal(Envelope(transaction, b"", message).encode())
        self._streams.append(StreamData(stream, frame(datagram)))

    def _cut(self, stream: int, why: str) -> None:
        self.rejected[why] += 1
        self._forget_stream(stream)
        self._streams.append(StreamEnd(stream))

    def _forget_stream(self, stream: int) -> None:
        held = self._held.pop(stream, None)
        if held is not None and held.registrant.stream == stream:
            held.registrant.stream = None
        self._forget_stranger(stream)

    def _forget_stranger(self, stream: int) -> None:
        stranger = self._strangers.pop(stream, None)
        if stranger is None:
            return
        self._sources[stranger.host] -= 1
        if not self._sources[stranger.host]:
            del self._sources[stranger.host]

    def _forget(self, registrant: Registrant, now: Instant) -> None:
        if registrant.stream is not None:
            self._cut(registrant.stream, "key is over")
        del self._registrants[registrant.key.identifier]
        del self._by_name[registrant.fqdn]
        self.keyring.erase(registrant.key, now)

    def _forget_peer(self, identifier: bytes, now: Instant) -> None:
        self.keyring.erase(self._peers.pop(identifier).key, now)


def _due(interval_s: int, now: Instant) -> Instant:
    """When a node that says so is silent for too long: one keep-alive may be lost to a hole."""
    interval_s = min(max(interval_s, MIN_INTERVAL_S), MAX_INTERVAL_S)
    return Instant(now + 2 * interval_s * SECOND + GRACE_NS)


_NAMED = {"forged", "replayed", "out of place", "unknown key"}
