"""One end of a sealed conversation under one Table 1 key: transactions over datagrams.

A transaction is a request and its answer. The asker sends the request again, sealed anew under the
same transaction id, until it is answered or given up; the answerer keeps its answers and repeats
them, so handlers run once. As in STUN (RFC 8489, section 6.2), with a random half more per wait.

A datagram of an unknown boot salt may be a replay from before a restart. It is believed only when
it answers a transaction that is open here, or carries the token of a Challenge that was sent to the
very source; otherwise a Challenge goes out and nothing else happens. Keys made for one negotiation
(`fresh`) have no past to replay, so their first salts are believed.

Ours: docs/protocol.md section 3.
"""

import hashlib
import hmac
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Generic, TypeVar

from ntmobile.errors import DecodeError
from ntmobile.keys.sealing import SALT_SIZE, Opener, Sealer
from ntmobile.keys.table import CommonKey
from ntmobile.proto.io import Entropy, Timeout, Transmit, random_bytes
from ntmobile.proto.journal import Journal
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import HEADER_SIZE, TAG_SIZE, Envelope, Header, Sender, Signal
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import Challenge

FIRST_RETRY_NS = 300_000_000
"""Three times the 100 ms round trip of a long way; doubles with every try."""
LONGEST_RETRY_NS = SECOND
"""A server that is back after a restart is asked within a second."""
TRIES = 12
ANSWERS_KEPT = 32
CHALLENGES_KEPT = 8
TOKEN_SIZE = 16
TOKEN_LIFETIME_NS = 30 * SECOND
SALTS_KEPT = 4
CHALLENGE_SIZE = 32
"""Of its plaintext. A request is never shorter, so that no Challenge is longer than what it is for;
shorter things are not answered, hence not challenged."""

Tag = TypeVar("Tag")


class Rejection(Enum):
    """Why a datagram was dropped."""

    MALFORMED = "malformed"
    FORGED = "forged"
    REPLAYED = "replayed"
    UNPROVEN = "unknown boot salt"
    UNASKED = "answers nothing open"
    OWN_ROLE = "sealed by our own role"


class Challenger:
    """Makes tokens that prove a round trip, and keeps nothing for them."""

    def __init__(self, entropy: Entropy) -> None:
        """One for all conversations of a machine."""
        self._secret = random_bytes(entropy, 32)

    def token(self, header: Header, source: Endpoint, now: Instant) -> bytes:
        """Return the token for a sender's boot at a source."""
        return self._token(header, source, now // TOKEN_LIFETIME_NS)

    def proves(self, token: bytes, header: Header, source: Endpoint, now: Instant) -> bool:
        """Whether the token was sent to that source within the last minute."""
        period = now // TOKEN_LIFETIME_NS
        return any(
            hmac.compare_digest(token, self._token(header, source, period - age)) for age in (0, 1)
        )

    def _token(self, header: Header, source: Endpoint, period: int) -> bytes:
        data = header.salt + bytes((header.sender,)) + source.pack() + (period + 1).to_bytes(8)
        return hmac.digest(self._secret, data, hashlib.sha256)[:TOKEN_SIZE]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, or a one-way message, that came in for the first time."""

    transaction: int
    message: Signal
    sender: Sender
    source: Endpoint
    interface: int
    proven: bool
    """It carries the token of a Challenge that was sent to this source."""
    header: Header


@dataclass(frozen=True, slots=True)
class Answered(Generic[Tag]):
    """The answer to a request that was open here."""

    tag: Tag
    message: Signal
    sender: Sender
    source: Endpoint
    elapsed_ns: int


@dataclass(frozen=True, slots=True)
class Unanswered(Generic[Tag]):
    """Every try of a request went unanswered."""

    tag: Tag


@dataclass(frozen=True, slots=True)
class _Open(Generic[Tag]):
    message: Signal
    destinations: tuple[Endpoint, ...]
    tag: Tag
    began: Instant
    tries: int
    most: int
    retry_at: Instant
    first_retry_ns: int
    longest_retry_ns: int
    at_once: bool
    token: bytes = b""


class Conversation(Generic[Tag]):
    """Asks and answers under one key; one object per key and end."""

    __slots__ = (
        "_answers",
        "_challenged",
        "_challenger",
        "_entropy",
        "_forwards",
        "_fresh",
        "_journal",
        "_open",
        "_openers",
        "_own",
        "_sealer",
        "_there",
        "_transmits",
        "_unanswered",
        "identifier",
        "key",
        "rejected",
    )

    def __init__(
        self,
        key: CommonKey,
        own: Sender,
        challenger: Challenger,
        entropy: Entropy,
        journal: Journal,
        there: Callable[[Endpoint, Sender | None], str],
        *,
        fresh: bool = False,
        forwards: bool = False,
    ) -> None:
        """Seals as role own with a new salt.

        there names the participant at an address (and its role, where it spoke), for the journal.
        fresh is for a key that lives one negotiation. forwards hands out every request each time
        it comes (RS passes it on).
        """
        self.key = key
        self.identifier = key.identifier
        """The name of the key in the next datagrams; spares replace it."""
        self._own = own
        self._challenger = challenger
        self._entropy = entropy
        self._journal = journal
        self._there = there
        self._fresh = fresh
        self._forwards = forwards
        self._sealer = Sealer(key, own, random_bytes(entropy, SALT_SIZE))
        self._openers: OrderedDict[tuple[Sender, bytes], Opener] = OrderedDict()
        self._open: dict[int, _Open[Tag]] = {}
        self._answers: OrderedDict[int, Signal | None] = OrderedDict()
        self._transmits: deque[Transmit] = deque()
        self._unanswered: deque[Unanswered[Tag]] = deque()
        self._challenged: deque[tuple[Tag, Endpoint]] = deque(maxlen=CHALLENGES_KEPT)
        self.rejected: Counter[Rejection] = Counter()

    def ask(
        self,
        message: Signal,
        destinations: tuple[Endpoint, ...],
        now: Instant,
        tag: Tag,
        *,
        tries: int = TRIES,
        first_retry_ns: int = FIRST_RETRY_NS,
        longest_retry_ns: int = LONGEST_RETRY_NS,
        at_once: bool = False,
    ) -> int:
        """Send a request until it is answered; returns the transaction.

        The first try goes to the first destination only, unless at_once; the others to all.
        """
        transaction = self._entropy.getrandbits(63)
        opened = _Open(
            message,
            destinations,
            tag,
            now,
            1,
            tries,
            Instant(0),
            first_retry_ns,
            longest_retry_ns,
            at_once,
        )
        self._send_try(transaction, opened, now)
        return transaction

    def cancel(self, transaction: int) -> None:
        """Stop asking; a late answer is dropped."""
        self._open.pop(transaction, None)

    def abandon(self) -> list[tuple[Signal, Tag]]:
        """Stop asking everything; returns what was asked, oldest first."""
        asked = [(opened.message, opened.tag) for opened in self._open.values()]
        self._open.clear()
        return asked

    def readdress(self, destinations: tuple[Endpoint, ...], now: Instant) -> None:
        """The other end has moved: what is open goes there at once, as if asked now."""
        for transaction, opened in list(self._open.items()):
            moved = replace(opened, destinations=destinations, token=b"", tries=1)
            self._send_try(transaction, moved, now)

    def tell(
        self, message: Signal, destination: Endpoint, now: Instant, *, interface: int = 0
    ) -> None:
        """Send a message that is not answered."""
        transaction = self._entropy.getrandbits(63)
        self._transmit(transaction, message, destination, now, interface=interface)

    def answer(self, asked: Asked, message: Signal, now: Instant) -> None:
        """Answer a request, and again whenever the same request comes."""
        if asked.transaction in self._answers:
            self._answers[asked.transaction] = message
        self._transmit(
            asked.transaction,
            message,
            asked.source,
            now,
            interface=asked.interface,
            of=asked.message,
        )

    def challenge(self, asked: Asked, now: Instant) -> None:
        """Let the asker prove its source: it asks the same again, with a token."""
        self._answers.pop(asked.transaction, None)
        question = Envelope(asked.transaction, b"", asked.message)
        self._challenge(question, asked.header, asked.source, asked.interface, now)

    def handle_datagram(
        self, header: Header, source: Endpoint, data: bytes, now: Instant, *, interface: int = 0
    ) -> Asked | Answered[Tag] | None:
        """Open one datagram of this key; what must be ignored gives None, counted."""
        if header.sender == self._own:
            self._reject(Rejection.OWN_ROLE)
            return None
        try:
            envelope = self._open_datagram(header, source, data, now, interface)
        except DecodeError as error:
            self._reject(_REJECTIONS.get(str(error), Rejection.MALFORMED))
            return None
        if envelope is None:
            return None
        there, opened = self._there(source, header.sender), self._open.get(envelope.transaction)
        asked = None if opened is None else opened.message
        self._journal.note(now, envelope.message, there, sent=False, of=asked)
        if envelope.transaction in self._open:
            return self._handle_answer(envelope, header, source, now)
        return self._handle_asked(envelope, header, source, now, interface)

    def handle_timeout(self, now: Instant) -> None:
        """Send again what is due; give up what was tried often enough."""
        for transaction, opened in list(self._open.items()):
            if now < opened.retry_at:
                continue
            if opened.tries >= opened.most:
                del self._open[transaction]
                self._unanswered.append(Unanswered(opened.tag))
            else:
                self._send_try(transaction, replace(opened, tries=opened.tries + 1), now)

    def poll_transmit(self) -> Transmit | None:
        """Next datagram to send, oldest first."""
        return self._transmits.popleft() if self._transmits else None

    def poll_unanswered(self) -> Unanswered[Tag] | None:
        """Next request that was given up."""
        return self._unanswered.popleft() if self._unanswered else None

    def poll_challenged(self) -> tuple[Tag, Endpoint] | None:
        """Next request that got there, and had to be sent again with a token; and where."""
        return self._challenged.popleft() if self._challenged else None

    def poll_timeout(self) -> Timeout | None:
        """When the next request is to be sent again."""
        if not self._open:
            return None
        first = min(self._open.values(), key=lambda opened: opened.retry_at)
        return Timeout(first.retry_at, f"{type(first.message).__name__} retry")

    def _reject(self, why: Rejection) -> None:
        self.rejected[why] += 1
        self._journal.rejected[why.value] += 1

    def _open_datagram(
        self, header: Header, source: Endpoint, data: bytes, now: Instant, interface: int
    ) -> Envelope | None:
        place = (header.sender, header.salt)
        opener = self._openers.get(place)
        if opener is not None:
            return Envelope.decode(opener.open(header, data))
        opener = Opener(self.key, header.sender, header.salt)
        envelope = Envelope.decode(opener.open(header, data))
        believed = (
            envelope.transaction in self._open
            or (self._fresh and len(self._openers) < SALTS_KEPT)
            or self._challenger.proves(envelope.token, header, source, now)
        )
        if not believed:
            self._reject(Rejection.UNPROVEN)
            long_enough = len(data) >= HEADER_SIZE + CHALLENGE_SIZE + TAG_SIZE
            if long_enough and not isinstance(envelope.message, Challenge):
                there = self._there(source, header.sender)
                self._journal.note(now, envelope.message, there, sent=False)
                self._challenge(envelope, header, source, interface, now)
            return None
        self._openers[place] = opener
        if len(self._openers) > SALTS_KEPT:
            self._openers.popitem(last=False)
        return envelope

    def _handle_answer(
        self, envelope: Envelope, header: Header, source: Endpoint, now: Instant
    ) -> Answered[Tag] | None:
        opened = self._open[envelope.transaction]
        if isinstance(envelope.message, Challenge):
            if opened.token and source not in opened.destinations:
                return None  # the other family's: the first to answer is the one proven
            again = replace(opened, token=envelope.message.token, destinations=(source,))
            if opened.token:  # a NAT that changes its mapping with every datagram: do not hurry
                self._open[envelope.transaction] = again
            else:
                self._send_try(envelope.transaction, again, now)
                self._challenged.append((opened.tag, source))
            return None
        del self._open[envelope.transaction]
        elapsed = now - opened.began
        return Answered(opened.tag, envelope.message, header.sender, source, elapsed)

    def _handle_asked(
        self, envelope: Envelope, header: Header, source: Endpoint, now: Instant, interface: int
    ) -> Asked | None:
        if isinstance(envelope.message, Challenge):
            self._reject(Rejection.UNASKED)
            return None
        if envelope.transaction in self._answers:
            kept = self._answers[envelope.transaction]
            if kept is not None:
                transaction, question = envelope.transaction, envelope.message
                self._transmit(transaction, kept, source, now, interface=interface, of=question)
            return None
        if not self._forwards:
            self._answers[envelope.transaction] = None
            if len(self._answers) > ANSWERS_KEPT:
                self._answers.popitem(last=False)
        proven = bool(envelope.token) and self._challenger.proves(
            envelope.token, header, source, now
        )
        return Asked(
            envelope.transaction, envelope.message, header.sender, source, interface, proven, header
        )

    def _send_try(self, transaction: int, opened: _Open[Tag], now: Instant) -> None:
        base = min(opened.first_retry_ns << (opened.tries - 1), opened.longest_retry_ns)
        wait = base + self._entropy.randrange(base // 2)
        self._open[transaction] = replace(opened, retry_at=Instant(now + wait))
        everywhere = opened.at_once or opened.tries > 1
        for destination in opened.destinations if everywhere else opened.destinations[:1]:
            self._transmit(
                transaction,
                opened.message,
                destination,
                now,
                token=opened.token,
                at_least=CHALLENGE_SIZE,
            )

    def _challenge(
        self, question: Envelope, header: Header, source: Endpoint, interface: int, now: Instant
    ) -> None:
        challenge = Challenge(self._challenger.token(header, source, now))
        transaction, message = question.transaction, question.message
        there = self._there(source, header.sender)
        self._transmit(
            transaction, challenge, source, now, interface=interface, of=message, there=there
        )

    def _transmit(
        self,
        transaction: int,
        message: Signal,
        destination: Endpoint,
        now: Instant,
        *,
        token: bytes = b"",
        interface: int = 0,
        at_least: int = 0,
        of: Signal | None = None,
        there: str | None = None,
    ) -> None:
        to = self._there(destination, None) if there is None else there
        self._journal.note(now, message, to, sent=True, of=of)
        plaintext = Envelope(transaction, token, message).encode(at_least)
        data = self._sealer.seal(self.identifier, plaintext)
        self._transmits.append(Transmit(destination, data, interface))


_REJECTIONS = {"forged": Rejection.FORGED, "replayed": Rejection.REPLAYED}
