"""A node's connection to its NS: registered, kept alive, and mended.

States::

    Idle --use--> Connecting --accepted--> Registering --NTM ACK--> Standing
    Standing --closed, or a keep-alive unanswered--> Connecting (next address, same Kntmns)
    Connecting, Registering --every address failed, or NS does not know us--> Asking
    Asking --the DC gives a place--> Connecting

Asking means that the DC must be asked for another place, at once the first time and then at
intervals that double; the node keeps its UDP mapping alive all that while.

The interval between TCP Keep Alives grows while they are answered, and stays below what once was
too long for the network the node is in. Source: paper, Fig. 4. Ours: docs/protocol.md section 9.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ntmobile.errors import DecodeError
from ntmobile.keys.channel import Channel
from ntmobile.keys.sealing import SALT_SIZE
from ntmobile.keys.table import Keyring, Kntmns
from ntmobile.proto.io import (
    Entropy,
    StreamCommand,
    StreamData,
    StreamEnd,
    StreamOpen,
    Timeout,
    random_bytes,
)
from ntmobile.proto.journal import Journal
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import MAX_CARRYING, Envelope, Header, Sender, Signal
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.notification import (
    MAX_INTERVAL_S,
    MIN_INTERVAL_S,
    Notification,
    NotificationPlace,
    NotificationRegistration,
    TcpKeepAlive,
)
from ntmobile.wire.registration import NtmAck
from ntmobile.wire.stream import frame, split

CONNECT_NS = 3 * SECOND
"""For one address: three tries of TCP."""
ANSWER_NS = 5 * SECOND
FIRST_INTERVAL_S = 120
"""Routers for the home keep an idle connection for minutes at least."""
LONGEST_INTERVAL_S = 1800
ASK_AGAIN_NS = 2 * SECOND
LONGEST_ASK_NS = 600 * SECOND


@dataclass(frozen=True, slots=True)
class Idle:
    """No connection is wanted."""


@dataclass(frozen=True, slots=True)
class Connecting:
    """TCP is being set up."""

    stream: int
    rest: tuple[Endpoint, ...]
    """Addresses to be tried after this one."""
    give_up_at: Instant


@dataclass(frozen=True, slots=True)
class Registering:
    """Notification Registration is unanswered."""

    stream: int
    channel: Channel
    transaction: int
    give_up_at: Instant


@dataclass(frozen=True, slots=True)
class Standing:
    """NS holds the connection."""

    stream: int
    channel: Channel
    keep_alive_at: Instant
    asked: int | None = None
    """Transaction of the keep-alive that is unanswered."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Only the DC can help."""

    again_at: Instant


State = Idle | Connecting | Registering | Standing | Asking


@dataclass(frozen=True, slots=True)
class LinkStood:
    """The connection stands: the node needs no UDP keep-alive."""


@dataclass(frozen=True, slots=True)
class LinkLost:
    """It stands no more: keep the UDP mapping alive."""


@dataclass(frozen=True, slots=True)
class LinkWanted:
    """Ask the DC for a place; `failed` are the NS that were of no use."""

    failed: tuple[str, ...]


Event = LinkStood | LinkLost | LinkWanted


class NotificationLink:
    """Drain `poll_stream`, `poll_payload` and `poll_event` after every call in."""

    def __init__(
        self,
        fqdn: str,
        keyring: Keyring,
        entropy: Entropy,
        journal: Journal,
        usable: Callable[[tuple[Endpoint, ...]], tuple[Endpoint, ...]],
    ) -> None:
        """usable gives those addresses whose family the node has now."""
        self._fqdn = fqdn
        self._keyring = keyring
        self._entropy = entropy
        self._journal = journal
        self._usable = usable
        self._state: State = Idle()
        self._place: NotificationPlace | None = None
        self._key: Kntmns | None = None
        self._sequence = 0
        self._streams = 0
        self._rest = b""
        self._interval_s = FIRST_INTERVAL_S
        self._ceiling_s = LONGEST_INTERVAL_S
        self._failures = 0
        self._commands: deque[StreamCommand] = deque()
        self._payloads: deque[bytes] = deque()
        self._events: deque[Event] = deque()

    @property
    def stands(self) -> bool:
        """Whether NS holds the connection now."""
        return isinstance(self._state, Standing)

    @property
    def server(self) -> str:
        """FQDNns, once one is known."""
        return "" if self._place is None else self._place.fqdn

    @property
    def interval_s(self) -> int:
        """Seconds between TCP Keep Alives now."""
        return self._interval_s

    @property
    def content(self) -> bytes | None:
        """Identifier of the Kntmns that works or may work; None when another is needed."""
        if self._key is None or isinstance(self._state, Idle | Asking):
            return None
        return self._key.identifier

    def use(self, place: NotificationPlace, now: Instant) -> None:
        """The DC gave a place: hold a connection there. Source: paper, Fig. 4."""
        if self._key is not None and self._key.identifier == place.identifier:
            if isinstance(self._state, Asking):
                self._connect(now)
            return
        self._forget_key(now)
        expires = Instant(now + place.lifetime_s * SECOND)
        key = Kntmns(place.kntmns, place.identifier, expires)
        self._key = self._keyring.own(key, now)
        self._place = place
        self._sequence = 0
        self._leave()
        self._connect(now)

    def move(self, now: Instant) -> None:
        """The node is on another network: the connection is dead whatever it looks like."""
        self._interval_s, self._ceiling_s = FIRST_INTERVAL_S, LONGEST_INTERVAL_S
        if not isinstance(self._state, Idle | Asking):
            self._leave()
            self._connect(now)

    def refuse(self, now: Instant) -> None:
        """The DC has no NS to give now: ask again later."""
        self._leave()
        self._ask_later(now)

    def stop(self, now: Instant) -> None:
        """No connection is wanted any more."""
        self._leave()
        self._state = Idle()
        self._forget_key(now)
        self._place = None
        self._failures = 0
        self._events.clear()

    def handle_stream_opened(self, stream: int, now: Instant) -> None:
        """TCP stands: say who this is."""
        match self._state:
            case Connecting(mine) if mine == stream and self._key is not None:
                salt = random_bytes(self._entropy, SALT_SIZE)
                channel = Channel(self._key, Sender.NODE, Sender.NS, salt)
                transaction = self._entropy.getrandbits(63)
                self._sequence += 1
                self._rest = b""
                self._state = Registering(stream, channel, transaction, _later(now, ANSWER_NS))
                message = NotificationRegistration(self._fqdn, self._sequence, self._interval_s)
                self._say(stream, channel, transaction, message, now)
            case _:
                self._commands.append(StreamEnd(stream))

    def handle_stream(self, stream: int, data: bytes, now: Instant) -> None:
        """Take what NS sent; what is not sealed by it is counted and dropped."""
        if stream != _stream_of(self._state):
            return
        try:
            found, self._rest = split(self._rest + data)
        except DecodeError:
            self._journal.rejected["malformed"] += 1
            self._mend(now)
            return
        for each in found:
            self._handle_frame(each, now)

    def handle_stream_closed(self, stream: int, now: Instant) -> None:
        """The connection broke, or was never made."""
        match self._state:
            case Connecting(mine, rest) if mine == stream:
                self._connect_next(rest, now)
            case Registering(mine) if mine == stream:
                self._state = Idle()
                self._ask(now)  # NS is there, and does not know this Kntmns: it restarted
            case Standing(mine, _, _, asked) if mine == stream:
                if asked is not None:
                    self._lower_ceiling()
                self._mend(now, closed=True)
            case _:
                pass

    def handle_timeout(self, now: Instant) -> None:
        """Keep alive; give up; ask again."""
        match self._state:
            case Connecting(stream, rest, at) if now >= at:
                self._commands.append(StreamEnd(stream))
                self._connect_next(rest, now)
            case Registering(stream, _, _, at) if now >= at:
                self._commands.append(StreamEnd(stream))
                self._ask(now)
            case Standing(_, _, at, asked) if now >= at and asked is not None:
                self._lower_ceiling()
                self._mend(now)
            case Standing(_, _, at) if now >= at:
                self._keep_alive(self._state, now)
            case Asking(at) if now >= at:
                self._ask(now)
            case _:
                pass

    def poll_stream(self) -> StreamCommand | None:
        """Next thing to do with a connection, in order."""
        return self._commands.popleft() if self._commands else None

    def poll_payload(self) -> bytes | None:
        """Next datagram of the DC that NS brought."""
        return self._payloads.popleft() if self._payloads else None

    def poll_event(self) -> Event | None:
        """Next thing that happened."""
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        match self._state:
            case Connecting(_, _, at) | Registering(_, _, _, at):
                return Timeout(at, "notification server silent")
            case Standing(_, _, at):
                return Timeout(at, "TCP Keep Alive")
            case Asking(at):
                return Timeout(at, "notification server asked for")
            case Idle():
                return None

    def _handle_frame(self, data: bytes, now: Instant) -> None:
        state = self._state
        if not isinstance(state, Registering | Standing):
            return
        try:
            header = Header.decode(data, MAX_CARRYING)
            envelope = Envelope.decode(state.channel.open(header, data))
        except DecodeError as error:
            known = str(error) in ("forged", "replayed", "out of place")
            self._journal.rejected[str(error) if known else "malformed"] += 1
            return
        self._journal.note(now, envelope.message, "NS", sent=False)
        match state, envelope.message:
            case Registering(_, _, transaction), NtmAck() if transaction == envelope.transaction:
                self._failures = 0
                due = _later(now, self._interval_s * SECOND)
                self._state = Standing(state.stream, state.channel, due)
                self._events.append(LinkStood())
            case Standing(_, _, _, asked), NtmAck() if asked == envelope.transaction:
                self._interval_s = min(self._interval_s * 3 // 2, self._ceiling_s)
                due = _later(now, self._interval_s * SECOND)
                self._state = Standing(state.stream, state.channel, due)
            case Standing(), Notification(identifier, payload) if self._is_ours(identifier):
                self._take_payload(payload)
            case _:
                self._journal.rejected["out of place"] += 1

    def _take_payload(self, payload: bytes) -> None:
        try:
            Header.decode(payload)
        except DecodeError:
            self._journal.rejected["malformed"] += 1
        else:
            self._payloads.append(payload)

    def _is_ours(self, identifier: bytes) -> bool:
        return self._key is not None and self._key.identifier == identifier

    def _keep_alive(self, state: Standing, now: Instant) -> None:
        if self._key is None or now >= self._key.expires:
            self._leave()
            return self._ask(now)
        transaction = self._entropy.getrandbits(63)
        following = min(self._interval_s * 3 // 2, self._ceiling_s, MAX_INTERVAL_S)
        message = TcpKeepAlive(following)
        self._say(state.stream, state.channel, transaction, message, now)
        due = _later(now, ANSWER_NS)
        self._state = Standing(state.stream, state.channel, due, transaction)
        return None

    def _lower_ceiling(self) -> None:
        """The connection did not live that long without a word."""
        self._ceiling_s = max(MIN_INTERVAL_S, self._interval_s * 3 // 4)

    def _mend(self, now: Instant, *, closed: bool = False) -> None:
        """The connection is of no use: make another to the same NS."""
        if closed:
            self._events.append(LinkLost())
            self._state = Idle()
        self._leave()
        self._interval_s = min(self._interval_s, self._ceiling_s)
        self._connect(now)

    def _connect(self, now: Instant) -> None:
        places = () if self._place is None else self._place.endpoints
        usable = sorted(self._usable(places), key=lambda endpoint: -endpoint.version)
        self._connect_next(tuple(usable), now)

    def _connect_next(self, places: tuple[Endpoint, ...], now: Instant) -> None:
        if not places or self._key is None or now >= self._key.expires:
            self._state = Idle()
            return self._ask(now)
        self._streams += 1
        self._state = Connecting(self._streams, places[1:], _later(now, CONNECT_NS))
        return self._commands.append(StreamOpen(self._streams, places[0], self.server))

    def _ask(self, now: Instant) -> None:
        """Have the DC asked: at once the first time, later at doubling intervals."""
        failures = self._failures
        if failures and not isinstance(self._state, Asking):
            return self._ask_later(now)
        self._ask_later(now)
        return self._events.append(LinkWanted((self.server,) if self.server else ()))

    def _ask_later(self, now: Instant) -> None:
        wait_ns = min(ASK_AGAIN_NS << min(self._failures, 16), LONGEST_ASK_NS)
        self._failures += 1
        # Spread: all nodes of an NS lose it at the same time.
        wait_ns = wait_ns // 2 + self._entropy.randrange(wait_ns // 2)
        self._state = Asking(_later(now, wait_ns))

    def _leave(self) -> None:
        if self.stands:
            self._events.append(LinkLost())
        stream = _stream_of(self._state)
        if stream is not None:
            self._commands.append(StreamEnd(stream))
        self._state = Idle()
        self._rest = b""

    def _forget_key(self, now: Instant) -> None:
        if self._key is not None:
            self._keyring.erase(self._key, now)
            self._key = None

    def _say(
        self, stream: int, channel: Channel, transaction: int, message: Signal, now: Instant
    ) -> None:
        self._journal.note(now, message, "NS", sent=True)
        datagram = channel.seal(Envelope(transaction, b"", message).encode())
        self._commands.append(StreamData(stream, frame(datagram)))


def _stream_of(state: State) -> int | None:
    match state:
        case Connecting(stream) | Registering(stream) | Standing(stream):
            return stream
        case _:
            return None


def _later(now: Instant, wait_ns: int) -> Instant:
    return Instant(now + wait_ns)
