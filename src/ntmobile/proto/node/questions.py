"""STUN questions that are open: asked again at their times, answered or given up.

Each try has a transaction of its own, so that the round trip of an answer is that of its try.
Whatever brings the transaction back counts, at whichever socket and in whichever direction: 96
random bits are not guessed. Source: RFC 8489, section 6.2.1; the times are ours.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

from ntmobile.errors import DecodeError
from ntmobile.proto.io import Entropy, Timeout, Transmit, random_bytes
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.stun import TRANSACTION_SIZE, BindingRequest, BindingResponse

_MS = SECOND // 1000
PATIENT = tuple(wait * _MS for wait in (200, 300, 400, 600, 800, 1000))
"""For a question whose answer is expected: the wait after each try."""
PERSISTENT = tuple(wait * _MS for wait in (200, 200, 200, 200, 200, 200, 1000))
"""For one whose silence is a finding: at 20 % loss each way all seven are lost once in 1,300."""

T = TypeVar("T")
R = TypeVar("R", covariant=True)


class Sending(NamedTuple):
    """A datagram and the socket it leaves from."""

    socket: int
    transmit: Transmit


class Examiner(Protocol[R]):
    """The face of the machines that ask from sockets of their own: Discovery and Lifetime."""

    def start(self, now: Instant) -> None:
        """Ask the first questions."""
        ...

    def handle_datagram(self, socket: int, data: bytes, now: Instant) -> None:
        """Take what came to a socket."""
        ...

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        ...

    def poll_sending(self) -> Sending | None:
        """Next datagram to send."""
        ...

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        ...

    def poll_finding(self) -> R | None:
        """The result."""
        ...


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """The answer to a question."""

    tag: T
    response: BindingResponse | None
    """None: the question itself came back in, as by a hairpin."""
    rtt_ns: int
    socket: int
    """Where it came in."""


@dataclass(slots=True)
class _Question(Generic[T]):
    tag: T
    socket: int
    destination: Endpoint
    request: BindingRequest
    """Its transaction is replaced at each try."""
    waits: tuple[int, ...]
    due: Instant
    tries: int = 0
    sent: dict[bytes, Instant] = field(default_factory=dict)


class Questions(Generic[T]):
    """What was asked from several sockets; tags come back with what became of it."""

    def __init__(self, entropy: Entropy) -> None:
        """Nothing is asked yet; entropy must be a CSPRNG."""
        self._entropy = entropy
        self._open: list[_Question[T]] = []
        self._sendings: deque[Sending] = deque()
        self._silent: deque[T] = deque()

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def ask(
        self,
        tag: T,
        socket: int,
        destination: Endpoint,
        now: Instant,
        *,
        waits: tuple[int, ...] = PATIENT,
        asks_other_port: bool = False,
        from_other_port: bool = False,
        response_port: int | None = None,
    ) -> None:
        """Ask from a socket, at once."""
        request = BindingRequest(b"", asks_other_port, from_other_port, response_port)
        question = _Question(tag, socket, destination, request, waits, now)
        self._open.append(question)
        self._try(question, now)

    def handle_datagram(self, socket: int, data: bytes, now: Instant) -> Answered[T] | None:
        """Take what came to a socket; None when it answers nothing that is open."""
        response: BindingResponse | None = None
        try:
            response = BindingResponse.decode(data)
            transaction = response.transaction
        except DecodeError:
            try:
                transaction = BindingRequest.decode(data).transaction
            except DecodeError:
                return None
        for question in self._open:
            sent = question.sent.get(transaction)
            if sent is not None:
                self._open.remove(question)
                return Answered(question.tag, response, now - sent, socket)
        return None

    def handle_timeout(self, now: Instant) -> None:
        """Ask again or give up."""
        for question in [each for each in self._open if now >= each.due]:
            if question.tries < len(question.waits):
                self._try(question, now)
            else:
                self._open.remove(question)
                self._silent.append(question.tag)

    def poll_sending(self) -> Sending | None:
        """Next datagram to send, oldest first."""
        return self._sendings.popleft() if self._sendings else None

    def poll_silent(self) -> T | None:
        """Tag of the next question that was given up."""
        return self._silent.popleft() if self._silent else None

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        due = min((each.due for each in self._open), default=None)
        return None if due is None else Timeout(due, "STUN Binding")

    def _try(self, question: _Question[T], now: Instant) -> None:
        transaction = random_bytes(self._entropy, TRANSACTION_SIZE)
        wanted = question.request
        request = BindingRequest(
            transaction, wanted.asks_other_port, wanted.from_other_port, wanted.response_port
        )
        question.sent[transaction] = now
        question.due = Instant(now + question.waits[question.tries])
        question.tries += 1
        transmit = Transmit(question.destination, request.encode())
        self._sendings.append(Sending(question.socket, transmit))
