"""A DC's standing with one other server: Key Sharing when no valid key is shared, then requests.

States::

    Strange --ask--> Sharing --NTM ACK--> Shared --unanswered, or key expired--> Sharing

A server that does not answer may have restarted and lost the key, so the key is shared again before
a request is given up. Source: paper, Figs. 4, 5 and 7 ("if necessary").
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from ntmobile.keys.table import (
    IDENTIFIER_SIZE,
    SECRET_SIZE,
    Kdcdc,
    Kdcns,
    Kdcrs,
    Keyring,
)
from ntmobile.proto.conversation import Answered, Conversation
from ntmobile.proto.io import (
    Call,
    Entropy,
    Failed,
    ForeignCoordinator,
    NotificationServer,
    RelayServer,
    Timeout,
    Transmit,
    random_bytes,
)
from ntmobile.proto.journal import Journal
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Header, Signal
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.federation import KeySharing, SharedKey
from ntmobile.wire.message import Message
from ntmobile.wire.registration import NtmAck, Reason, Refusal

Tag = TypeVar("Tag")
ServerKey = Kdcdc | Kdcrs | Kdcns
Server = ForeignCoordinator | RelayServer | NotificationServer

TRIES = 4
FIRST_RETRY_NS = 250_000_000
LONGEST_RETRY_NS = 300_000_000
"""So that all go within a second and a half; then the key is shared again."""
PATIENT_TRIES = 12
"""Where a silent node behind the server may be why it does not answer."""
PATIENCE_NS = 10 * SECOND
RETRY_NS = SECOND // 2
"""Between Key Sharings with a server that cannot be reached."""
DOUBT_NS = SECOND
"""How soon after a Key Sharing a hint leads to another."""
DEAF_NS = 60 * SECOND
"""How long a server that takes keys over HTTPS and answers no datagram is left alone."""


@dataclass(frozen=True, slots=True)
class PeerFailed(Generic[Tag]):
    """The request came to nothing."""

    tag: Tag
    reason: Reason


@dataclass(frozen=True, slots=True)
class _Wanted(Generic[Tag]):
    message: Signal
    tag: Tag
    born: Instant
    tries: int


@dataclass(frozen=True, slots=True)
class Strange:
    """No key is shared and none asked for; retry_at while the server could not be reached."""

    retry_at: Instant | None = None


@dataclass(frozen=True, slots=True)
class Sharing(Generic[Tag]):
    """Key Sharing is on its way."""

    call: int
    key: ServerKey


@dataclass(frozen=True, slots=True)
class Shared(Generic[Tag]):
    """A valid key is shared."""

    conversation: Conversation[_Wanted[Tag]]
    key: ServerKey
    since: Instant
    answered: bool = False
    """A datagram came back under this key."""


class Peering(Generic[Tag]):
    """Asks one other server under the key this DC creates for it."""

    def __init__(
        self,
        target: Server,
        endpoints: tuple[Endpoint, ...],
        domain: str,
        lifetime_s: int,
        keyring: Keyring,
        entropy: Entropy,
        journal: Journal,
        converse: Callable[[ServerKey], Conversation[_Wanted[Tag]]],
        next_call: Callable[[], int],
    ) -> None:
        """Talks as a DC of domain; converse opens a conversation under a key."""
        self.target = target
        self.endpoints = endpoints
        """Where it takes datagrams now; may change while a key is shared."""
        self._silent = False
        self._deaf_until: Instant | None = None
        self._domain = domain
        self._lifetime_s = lifetime_s
        self._keyring = keyring
        self._entropy = entropy
        self._journal = journal
        self._converse = converse
        self._next_call = next_call
        self._state: Strange | Sharing[Tag] | Shared[Tag] = Strange()
        self._waiting: deque[_Wanted[Tag]] = deque()
        self._calls: deque[Call] = deque()
        self._outcomes: deque[Answered[Tag] | PeerFailed[Tag]] = deque()

    @property
    def identifier(self) -> bytes | None:
        """Identifier of the key that is shared now."""
        return self._state.key.identifier if isinstance(self._state, Shared) else None

    @property
    def call(self) -> int | None:
        """Id of the Key Sharing that is on its way."""
        return self._state.call if isinstance(self._state, Sharing) else None

    def is_silent(self, now: Instant) -> bool:
        """Whether the server left the last thing it was asked unanswered."""
        return self._silent or (self._deaf_until is not None and now < self._deaf_until)

    def ask(self, message: Signal, tag: Tag, now: Instant, *, tries: int = TRIES) -> None:
        """Ask, sharing a key first if there is none."""
        wanted = _Wanted(message, tag, now, tries)
        match self._state:
            case Shared(conversation, key) if now < key.expires:
                self._ask(conversation, wanted, now)
            case Shared(_, key):
                self._waiting.append(wanted)
                self._keyring.erase(key, now)
                self._share(now)
            case Sharing():
                self._waiting.append(wanted)
            case Strange():
                self._waiting.append(wanted)
                self._share(now)

    def warm(self, now: Instant) -> None:
        """Share a key before anybody needs it."""
        match self._state:
            case Strange():
                self._share(now)
            case Shared(_, key) if now >= key.expires:
                self._keyring.erase(key, now)
                self._share(now)
            case _:
                pass

    def handle_datagram(self, header: Header, source: Endpoint, data: bytes, now: Instant) -> None:
        """Take a datagram under the shared key."""
        if isinstance(self._state, Shared):
            heard = self._state.conversation.handle_datagram(header, source, data, now)
            if isinstance(heard, Answered):
                self._silent, self._deaf_until = False, None
                self._state = replace(self._state, answered=True)
                self._outcomes.append(
                    Answered(
                        heard.tag.tag, heard.message, heard.sender, heard.source, heard.elapsed_ns
                    )
                )

    def handle_hint(self, source: Endpoint, now: Instant) -> None:
        """A hint: the server does not know our key, which it forgets when it restarts.

        Nobody else can name the key; one who reads it on the way gains a Key Sharing a second.
        """
        shared = self._state
        if not isinstance(shared, Shared) or source not in self.endpoints:
            return
        if now - shared.since >= DOUBT_NS:
            self._share_again(shared, now)

    def handle_reply(self, reply: Message | Failed, now: Instant) -> None:
        """Take the outcome of the Key Sharing."""
        if not isinstance(self._state, Sharing):
            return
        key = self._state.key
        if isinstance(reply, NtmAck):
            self._journal.note(now, reply, self._name(), sent=False)
            self._silent = False
            conversation = self._converse(key)
            self._state = Shared(conversation, key, now)
            while self._waiting:
                wanted = self._waiting.popleft()
                self._ask(conversation, wanted, now)
            return
        self._keyring.erase(key, now)
        reason = reply.reason if isinstance(reply, Failed | Refusal) else Reason.NOT_ALLOWED
        if reason is Reason.DOMAIN_UNREACHABLE:
            self._silent = True
            self._state = Strange(Instant(now + RETRY_NS))
            self._give_up(now, reason, patience_ns=PATIENCE_NS)
        else:
            self._state = Strange()
            self._give_up(now, reason, patience_ns=0)

    def handle_timeout(self, now: Instant) -> None:
        """Ask again what is due; share the key anew when the server is silent."""
        match self._state:
            case Strange(retry_at) if retry_at is not None and now >= retry_at:
                self._state = Strange()
                self._give_up(now, Reason.DOMAIN_UNREACHABLE, patience_ns=PATIENCE_NS)
                if self._waiting:
                    self._share(now)
            case Shared(conversation):
                conversation.handle_timeout(now)
                silent = False
                while (lost := conversation.poll_unanswered()) is not None:
                    if lost.tag.tries == PATIENT_TRIES:
                        self._outcomes.append(PeerFailed(lost.tag.tag, Reason.TIMED_OUT))
                        continue
                    self._waiting.append(lost.tag)
                    silent = True
                if silent:
                    self._fall_silent(self._state, now)
            case _:
                pass

    def poll_call(self) -> Call | None:
        """Next HTTPS request to make."""
        return self._calls.popleft() if self._calls else None

    def poll_transmit(self) -> Transmit | None:
        """Next datagram to send."""
        if isinstance(self._state, Shared):
            return self._state.conversation.poll_transmit()
        return None

    def poll_outcome(self) -> Answered[Tag] | PeerFailed[Tag] | None:
        """Next answer or failure of a request."""
        return self._outcomes.popleft() if self._outcomes else None

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        match self._state:
            case Strange(retry_at) if retry_at is not None:
                return Timeout(retry_at, "Key Sharing retry")
            case Shared(conversation):
                return conversation.poll_timeout()
            case _:
                return None

    def _ask(
        self, conversation: Conversation[_Wanted[Tag]], wanted: _Wanted[Tag], now: Instant
    ) -> None:
        if wanted.tries == PATIENT_TRIES:
            conversation.ask(wanted.message, self.endpoints, now, wanted, tries=PATIENT_TRIES)
            return
        conversation.ask(
            wanted.message,
            self.endpoints,
            now,
            wanted,
            tries=wanted.tries,
            first_retry_ns=FIRST_RETRY_NS,
            longest_retry_ns=LONGEST_RETRY_NS,
        )

    def _fall_silent(self, shared: Shared[Tag], now: Instant) -> None:
        """A question went unanswered: all go again, under a new key."""
        self._silent = True
        if not shared.answered:
            self._deaf_until = Instant(now + DEAF_NS)
        self._share_again(shared, now)

    def _share_again(self, shared: Shared[Tag], now: Instant) -> None:
        """All that was asked goes again, under a new key."""
        self._waiting.extend(tag for _, tag in shared.conversation.abandon())
        self._keyring.erase(shared.key, now)
        self._state = Strange()
        self._give_up(now, Reason.DOMAIN_UNREACHABLE, patience_ns=PATIENCE_NS)
        if self._waiting:
            self._share(now)

    def _share(self, now: Instant) -> None:
        expires = Instant(now + self._lifetime_s * SECOND)
        secret = random_bytes(self._entropy, SECRET_SIZE)
        identifier = random_bytes(self._entropy, IDENTIFIER_SIZE)
        kind, _ = _key_of(self.target)
        key = self._keyring.create(kind(secret, identifier, expires), now)
        self._keyring.own(key, now)
        message = KeySharing(
            SharedKey(key.name), identifier, secret, self._lifetime_s, self._domain
        )
        call = self._next_call()
        self._state = Sharing(call, key)
        self._journal.note(now, message, self._name(), sent=True)
        self._calls.append(Call(call, self.target, message))

    def _give_up(self, now: Instant, reason: Reason, *, patience_ns: int) -> None:
        for wanted in list(self._waiting):
            if now - wanted.born >= patience_ns:
                self._waiting.remove(wanted)
                self._outcomes.append(PeerFailed(wanted.tag, reason))

    def _name(self) -> str:
        return _key_of(self.target)[1]


def _key_of(target: Server) -> tuple[type[ServerKey], str]:
    """Return which key of Table 1 is shared with whom, and the paper's name of that one."""
    match target:
        case ForeignCoordinator():
            return Kdcdc, "DCcn"
        case RelayServer():
            return Kdcrs, "RS"
        case NotificationServer():
            return Kdcns, "NS"
