"""A node's login at its AS, and its renewal.

States::

    LoggedOut --login--> AskingNonce --Nonce--> LoggingIn --Login Response--> LoggedIn
                               '------ refused or unreachable ------> LoggedOut, or Waiting
    LoggedIn --four fifths of Kntmdc's life, a third of the certificate's left, or the DC does not
               know the key--> AskingNonce (device key)

A password is held while its login is under way and tried once. Source: paper, Fig. 2.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

import msgspec

from ntmobile.keys.identity import Identity
from ntmobile.keys.table import Kntmdc
from ntmobile.proto.io import Call, Entropy, Failed, OwnAccount, Timeout
from ntmobile.proto.journal import Journal
from ntmobile.proto.node import events
from ntmobile.proto.node.events import LoginFailed
from ntmobile.time import SECOND, Instant
from ntmobile.wire.login import (
    LoginRefusal,
    LoginRefused,
    LoginRequest,
    LoginResponse,
    Nonce,
    NonceRequest,
    login_bytes,
)
from ntmobile.wire.message import Message

FIRST_RETRY_NS = SECOND
LONGEST_RETRY_NS = 60 * SECOND
DOUBT_NS = 10 * SECOND
LONGEST_DOUBT_NS = 600 * SECOND
EAGER_TRIES = 30
"""Tries before the wait begins to double: an AS that restarts finds its nodes back at once."""
MIN_LIFETIME_S = 60
"""A shorter life granted to Kntmdc would make the node renew without end."""
PASSING = {
    LoginRefused.BUSY,
    LoginRefused.SLOW_DOWN,
    LoginRefused.STORE,
    LoginRefused.COORDINATOR,
    LoginRefused.NONCE,
}
"""Refusals that time mends."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a login is proven with; nothing means the enrolled device key."""

    password: str | None = field(default=None, repr=False)
    authority: str | None = field(default=None, repr=False)
    certificate: bytes = b""
    """Folded, over a device key that may not be enrolled yet: a device key all the same, so the
    node may try again with it by itself."""
    standing: Instant | None = None
    """When the login that stands meanwhile is renewed: it goes on if this one fails."""

    @property
    def repeats(self) -> bool:
        """Whether the node may try again by itself."""
        return self.password is None and self.authority is None


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """Nothing is under way."""


@dataclass(frozen=True, slots=True)
class AskingNonce:
    """Waiting for something fresh to sign."""

    call: int
    proof: Proof
    tries: int


@dataclass(frozen=True, slots=True)
class LoggingIn:
    """Login Request is on its way."""

    call: int
    proof: Proof
    tries: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """The last try failed in a way that time may mend."""

    retry_at: Instant
    tries: int
    proof: Proof


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Kntmdc is good until some time after renew_at, unless the DC has lost it."""

    renew_at: Instant
    doubt_at: Instant | None = None
    """When to log in again because the DC is silent."""

    @property
    def due(self) -> Instant:
        """When to log in again."""
        return self.renew_at if self.doubt_at is None else min(self.renew_at, self.doubt_at)


@dataclass(frozen=True, slots=True)
class Granted:
    """The AS let us in."""

    response: LoginResponse
    key: Kntmdc

    def told(self) -> events.LoggedIn:
        """Return what the driver keeps of it."""
        response = self.response
        return events.LoggedIn(
            response.fqdn,
            response.coordinator,
            response.coordinator_endpoints,
            response.domain_key,
            response.certificate,
        )


class Login:
    """Sans-I/O client half of Fig. 2."""

    def __init__(
        self,
        user: str,
        name: str,
        domain: str,
        identity: Identity,
        journal: Journal,
        next_id: Callable[[], int],
    ) -> None:
        """Logs in as name.user.domain."""
        self._user = user
        self._name = name
        self._domain = domain
        self._identity = identity
        self._journal = journal
        self._next_id = next_id
        self._state: LoggedOut | AskingNonce | LoggingIn | Waiting | LoggedIn = LoggedOut()
        self._calls: deque[Call] = deque()
        self._events: deque[Granted | LoginFailed] = deque()

    @property
    def is_over(self) -> bool:
        """No login is under way or planned."""
        return isinstance(self._state, LoggedOut)

    def start(self, proof: Proof, now: Instant, *, tries: int = 0) -> None:
        """Begin a login; one under way is dropped."""
        call = self._next_id()
        self._state = AskingNonce(call, proof, tries)
        message = NonceRequest()
        self._journal.note(now, message, "AS", sent=True)
        self._calls.append(Call(call, OwnAccount(), message))

    def stop(self) -> None:
        """Forget it all."""
        self._state = LoggedOut()

    def doubt(self, again_at: Instant) -> bool:
        """The DC is silent: perhaps it lost our key. True when this makes us log in again then."""
        if not isinstance(self._state, LoggedIn) or self._state.doubt_at is not None:
            return False
        self._state = LoggedIn(self._state.renew_at, again_at)
        return True

    def trust(self) -> None:
        """The DC knows our key."""
        if isinstance(self._state, LoggedIn):
            self._state = LoggedIn(self._state.renew_at)

    def handle_reply(self, id: int, reply: Message | Failed, now: Instant) -> bool:
        """Take the AS's answer; False when the request was not ours."""
        match self._state:
            case AskingNonce(call, proof, tries) if call == id:
                if isinstance(reply, Nonce):
                    self._journal.note(now, reply, "AS", sent=False)
                    self._request(proof, reply.nonce, tries, now)
                else:
                    self._fail(proof, tries, reply, now)
            case LoggingIn(call, proof, tries) if call == id:
                if isinstance(reply, LoginResponse):
                    self._grant(reply, now)
                else:
                    self._fail(proof, tries, reply, now)
            case _:
                return False
        return True

    def handle_timeout(self, now: Instant) -> None:
        """Try again, or renew."""
        match self._state:
            case Waiting(retry_at, tries, proof) if now >= retry_at:
                self.start(proof, now, tries=tries)
            case LoggedIn(renew_at) as standing if now >= standing.due:
                self.start(Proof(standing=renew_at if now < renew_at else None), now)
            case _:
                pass

    def poll_call(self) -> Call | None:
        """Next HTTPS request to make."""
        return self._calls.popleft() if self._calls else None

    def poll_event(self) -> Granted | LoginFailed | None:
        """Next outcome."""
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        match self._state:
            case Waiting(retry_at):
                return Timeout(retry_at, "login retry")
            case LoggedIn() as standing:
                return Timeout(standing.due, "login renewal")
            case LoggedOut() | AskingNonce() | LoggingIn():
                return None
            case _:
                assert_never(self._state)

    def _request(self, proof: Proof, nonce: bytes, tries: int, now: Instant) -> None:
        call = self._next_id()
        public = msgspec.structs.replace(self._identity.public, certificate=proof.certificate)
        succession = public.succession
        unsigned = LoginRequest(
            self._user,
            self._name,
            public,
            nonce,
            bytes(64),
            proof.password,
            proof.authority,
            None if succession is None else succession.signature,
        )
        signature = self._identity.sign(login_bytes(self._domain, unsigned))
        message = msgspec.structs.replace(unsigned, signature=signature)
        self._state = LoggingIn(call, proof, tries)
        self._journal.note(now, message, "AS", sent=True)
        self._calls.append(Call(call, OwnAccount(), message))

    def _grant(self, response: LoginResponse, now: Instant) -> None:
        self._journal.note(now, response, "AS", sent=False)
        lifetime_s = max(response.lifetime_s, MIN_LIFETIME_S)
        renew_s = lifetime_s * 4 // 5
        if response.certificate:
            renew_s = min(renew_s, max(response.certificate_s, MIN_LIFETIME_S) * 2 // 3)
        self._state = LoggedIn(Instant(now + renew_s * SECOND))
        expires = Instant(now + lifetime_s * SECOND)
        key = Kntmdc(response.kntmdc, response.kntmdc_identifier, expires)
        self._events.append(Granted(response, key))

    def _fail(self, proof: Proof, tries: int, reply: object, now: Instant) -> None:
        code, detail, passing, wait_s = _explain(reply)
        if passing and proof.standing is not None:
            self._state = LoggedIn(proof.standing)
            return
        if not (passing and proof.repeats):
            self._state = LoggedOut()
            self._events.append(LoginFailed(code, detail, None))
            return
        doubled = FIRST_RETRY_NS << min(max(tries - EAGER_TRIES, 0), 6)
        wait = min(max(doubled, wait_s * SECOND), LONGEST_RETRY_NS)
        retry_at = Instant(now + wait)
        self._state = Waiting(retry_at, tries + 1, proof)
        self._events.append(LoginFailed(code, detail, retry_at))


def _explain(reply: object) -> tuple[str, str, bool, int]:
    """Code, detail, whether time may mend it, and how long the server asks us to wait."""
    match reply:
        case LoginRefusal(reason, retry_after_s):
            return str(reason), "", reason in PASSING, retry_after_s
        case Failed(failure, detail):
            return str(failure), detail, True, 0
        case _:
            return "unexpected", f"the AS answered with {type(reply).__name__}", True, 0


def after_doubts(doubts: int, entropy: Entropy, now: Instant) -> Instant:
    """Return when to log in again, after so many times that this was done in vain."""
    wait_ns = min(DOUBT_NS << min(doubts, 8), LONGEST_DOUBT_NS)
    # Spread: all nodes of a domain begin to doubt at the same time.
    return Instant(now + wait_ns // 2 + entropy.getrandbits(32) * wait_ns // (2 << 32))
