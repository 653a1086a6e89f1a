"""Finds out how long a NAT keeps a UDP mapping that is idle.

Each of several sockets asks a server once and is then left alone for a time of its own; then the
server is asked, from another socket, to answer to that one's port. The first time after which
nothing comes in, twice, ends it.

States::

    Opening --all sockets have a mapping--> Idle --its time is over--> Trying
    Trying --an answer came in--> Idle, for the next socket
    Trying --nothing did--> Idle, for the same socket; the second time--> done

Source: RFC 5780, section 4.6; RFC 4787, section 4.3.
"""

from dataclasses import dataclass, replace
from typing import assert_never

from ntmobile.proto.io import Entropy, Timeout
from ntmobile.proto.node.questions import PERSISTENT, Answered, Questions, Sending
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint

IDLE_S = (20, 30, 45, 65, 95, 125, 185, 305)
"""What is tried. RFC 4787 asks for 120 at least and recommends 300; the paper keeps alive at 20."""
ASKER = len(IDLE_S)
LIFETIME_SOCKETS = ASKER + 1
"""Fresh ones that the driver opens."""
TRIES = 2
AGAIN_NS = 3 * SECOND
"""A burst of loss, or a server that restarts, is not to be taken for a short lifetime."""


@dataclass(frozen=True, slots=True)
class LifetimeFound:
    """Between which two idle times mappings die."""

    alive_s: int
    """They lived that long; 0 when not even the shortest time was seen through."""
    dead_s: int | None
    """After that long they were gone; None when that was not seen."""


@dataclass(frozen=True, slots=True)
class _Opening:
    """Each socket gets its mapping."""


@dataclass(frozen=True, slots=True)
class _Idle:
    """The mapping of socket `number` is left alone until then."""

    number: int
    until: Instant
    tried: int = 0
    server_answered: bool = False


@dataclass(frozen=True, slots=True)
class _Trying:
    """Is the mapping of socket `number` still there, and the server?"""

    number: int
    tried: int
    server_answers: bool
    came: bool = False


@dataclass(frozen=True, slots=True)
class _Plain:
    socket: int


@dataclass(frozen=True, slots=True)
class _Through:
    number: int


_State = _Opening | _Idle | _Trying | LifetimeFound


class Lifetime:
    """One examination of mapping lifetimes; the same face as Discovery."""

    def __init__(self, server: Endpoint, entropy: Entropy) -> None:
        """Asks one server that answered before."""
        self._server = server
        self._questions: Questions[_Plain | _Through] = Questions(entropy)
        self._state: _State = _Opening()
        self._mapped: dict[int, Endpoint] = {}
        self._opened_at = Instant(0)

    def start(self, now: Instant) -> None:
        """Give every socket its mapping."""
        self._opened_at = now
        for socket in range(LIFETIME_SOCKETS):
            self._questions.ask(_Plain(socket), socket, self._server, now)

    def handle_datagram(self, socket: int, data: bytes, now: Instant) -> None:
        """Take what came to a socket; what answers nothing is dropped."""
        match self._questions.handle_datagram(socket, data, now):
            case Answered(_Plain(asker), response) if response is not None:
                self._mapped[asker] = response.mapped
                if isinstance(self._state, _Trying):
                    self._state = replace(self._state, server_answers=True)
                else:
                    # A mapping is as old as the last datagram through it.
                    self._opened_at = now
            case Answered(_Through()) if isinstance(self._state, _Trying):
                self._state = replace(self._state, came=True)
            case _:
                pass
        self._go_on(now)

    def handle_timeout(self, now: Instant) -> None:
        """Ask again, give up, try the next socket."""
        self._questions.handle_timeout(now)
        while self._questions.poll_silent() is not None:
            pass
        self._go_on(now)

    def poll_sending(self) -> Sending | None:
        """Next datagram to send."""
        return self._questions.poll_sending()

    def poll_finding(self) -> LifetimeFound | None:
        """The result, once it is there; it stays."""
        return self._state if isinstance(self._state, LifetimeFound) else None

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        if isinstance(self._state, _Idle):
            return Timeout(self._state.until, "idle mapping")
        return self._questions.poll_timeout()

    def _go_on(self, now: Instant) -> None:
        if len(self._questions):
            return
        match self._state:
            case _Opening():
                self._state = self._idle(0) if self._can_test() else LifetimeFound(0, None)
            case _Idle(number, until, tried, answered) if now >= until:
                self._state = _Trying(number, tried + 1, answered)
                self._try(number, now)
            case _Trying(number, came=True):
                more = number + 1 < ASKER
                self._state = self._idle(number + 1) if more else LifetimeFound(IDLE_S[-1], None)
            case _Trying(number, tried, answers) if tried < TRIES:
                self._state = _Idle(number, Instant(now + AGAIN_NS), tried, answers)
            case _Trying(number, server_answers=answers):
                alive = IDLE_S[number - 1] if number else 0
                self._state = LifetimeFound(alive, IDLE_S[number] if answers else None)
            case _Idle() | LifetimeFound():
                pass
            case _:
                assert_never(self._state)

    def _can_test(self) -> bool:
        """Every socket has a mapping, and all at the one address that can ask for answers."""
        hosts = {mapped.host for mapped in self._mapped.values()}
        return len(self._mapped) == LIFETIME_SOCKETS and len(hosts) == 1

    def _idle(self, number: int) -> _Idle:
        return _Idle(number, Instant(self._opened_at + IDLE_S[number] * SECOND))

    def _try(self, number: int, now: Instant) -> None:
        self._questions.ask(_Plain(ASKER), ASKER, self._server, now)
        self._questions.ask(
            _Through(number),
            ASKER,
            self._server,
            now,
            waits=PERSISTENT,
            response_port=self._mapped[number].port,
        )
