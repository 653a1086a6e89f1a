"""An Account Server: authenticates a node at login and creates Kntmdc.

Each login::

    Login Request --> VerifyLogin (driver: store, Argon2) --> Key Distribution to the DC
                  --> NTM ACK --> Login Response; Kntmdc is erased here

An Authority Request is answered from the own domain's CAs, or after FindAuthorities of another.

Source: paper, Fig. 2. Ours: the nonce and the device key's signature, docs/protocol.md section 2;
whose certificates to believe, section 4.
"""

import hashlib
import hmac
from collections import deque
from dataclasses import dataclass

from ntmobile.keys.identity import is_genuine, verify
from ntmobile.keys.table import IDENTIFIER_SIZE, SECRET_SIZE, Keyring, Kntmdc, Party
from ntmobile.proto.io import (
    AuthoritiesFound,
    Call,
    Caller,
    Entropy,
    Failed,
    FindAuthorities,
    LoginVerified,
    OwnCoordinator,
    Reply,
    Request,
    Timeout,
    VerifyLogin,
    random_bytes,
)
from ntmobile.proto.journal import Journal, Step
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.identity import Authentication
from ntmobile.wire.login import (
    AuthorityRequest,
    AuthorityResponse,
    KeyDistribution,
    LoginRefusal,
    LoginRefused,
    LoginRequest,
    LoginResponse,
    Neighbour,
    Nonce,
    NonceRequest,
    login_bytes,
)
from ntmobile.wire.message import Message
from ntmobile.wire.registration import NtmAck
from ntmobile.wire.web import HTTPS_PORT

NONCE_PERIOD_NS = 60 * SECOND
MAX_OPEN = 1024
"""Logins under way at once; one more is told to come back."""
MAX_FINDING = 64
"""Of those, strangers' questions about other domains: they keep nobody from a login."""
LIFETIME_S = 86400
"""Of Kntmdc; the node renews it with its device key."""


@dataclass(frozen=True, slots=True)
class Verifying:
    """The driver checks the proofs."""

    request: int
    login: LoginRequest


@dataclass(frozen=True, slots=True)
class Distributing:
    """The DC is being handed Kntmdc."""

    request: int
    verified: LoginVerified
    key: Kntmdc


@dataclass(frozen=True, slots=True)
class Finding:
    """The driver looks for another domain's CAs."""

    request: int
    domain: str


@dataclass(frozen=True, slots=True)
class Vouching:
    """What an AS says of certificates."""

    authorities: tuple[bytes, ...] = ()
    """The CAs of the domain's nodes, in DER, its own first."""
    authentication: Authentication = Authentication.DEVICE_KEY
    """What its nodes are to ask of their peers."""
    neighbours: tuple[Neighbour, ...] = ()
    """The CAs of other domains, as far as they are known."""


class Account:
    """The sans-I/O machine of one AS."""

    def __init__(
        self,
        domain: str,
        domain_key: bytes,
        coordinator: str,
        coordinator_endpoints: tuple[Endpoint, ...],
        entropy: Entropy,
        lifetime_s: int = LIFETIME_S,
        vouching: Vouching = Vouching(),
        coordinator_https: int = HTTPS_PORT,
    ) -> None:
        """Logs nodes of domain in; tells them its (public) key and where their DC is."""
        self.vouching = vouching
        """May be replaced while the AS runs."""
        self.keyring = Keyring(Party.AS)
        self._domain = domain
        self._domain_key = domain_key
        self._coordinator = coordinator
        self._coordinator_endpoints = coordinator_endpoints
        self._coordinator_https = coordinator_https
        self._entropy = entropy
        self._lifetime_s = lifetime_s
        self._nonce_secret = random_bytes(entropy, 32)
        self._open: dict[int, Verifying | Distributing | Finding] = {}
        self._ids = 0
        self._journal = Journal("AS")
        self._requests: deque[Request] = deque()
        self._replies: deque[Reply] = deque()

    def handle_request(self, id: int, caller: Caller, message: Message, now: Instant) -> None:
        """Take a Nonce Request or a Login Request from a stranger."""
        match message:
            case NonceRequest():
                self._journal.note(now, message, "node", sent=False)
                self._replies.append(Reply(id, Nonce(self._nonce(now // NONCE_PERIOD_NS))))
            case LoginRequest():
                self._journal.note(now, message, "node", sent=False)
                refused = self._refuses(message, now)
                if refused is None:
                    self._ids += 1
                    self._open[self._ids] = Verifying(id, message)
                    self._requests.append(VerifyLogin(self._ids, message, caller.source))
                else:
                    self._refuse(id, LoginRefusal(refused), now)
            case AuthorityRequest(domain):
                self._find(id, domain)
            case _:
                self._refuse(id, LoginRefusal(LoginRefused.CREDENTIALS), now)

    def handle_reply(
        self, id: int, reply: Message | LoginVerified | AuthoritiesFound | Failed, now: Instant
    ) -> None:
        """Take the outcome of VerifyLogin, of Key Distribution or of FindAuthorities."""
        state = self._open.pop(id, None)
        match state:
            case Verifying(request, login):
                if isinstance(reply, LoginVerified):
                    self._distribute(request, login, reply, now)
                else:
                    self._refuse(request, _refusal(reply, LoginRefused.CREDENTIALS), now)
            case Distributing(request, verified, key):
                if isinstance(reply, NtmAck):
                    self._journal.note(now, reply, "DC", sent=False, of=verified)
                    self._respond(request, verified, key, now)
                else:
                    self._refuse(request, _refusal(reply, LoginRefused.COORDINATOR), now)
                self.keyring.erase(key, now)
            case Finding(request, domain):
                found = reply.authorities if isinstance(reply, AuthoritiesFound) else ()
                self._replies.append(Reply(request, AuthorityResponse(domain, found)))
            case None:
                pass

    def handle_timeout(self, now: Instant) -> None:
        """Nothing waits here: the driver bounds what it was asked."""

    def poll_request(self) -> Request | None:
        """Next request to the driver."""
        return self._requests.popleft() if self._requests else None

    def poll_reply(self) -> Reply | None:
        """Next answer to an HTTPS request."""
        return self._replies.popleft() if self._replies else None

    def poll_event(self) -> Step | None:
        """Next step of a sequence."""
        return self._journal.poll()

    def poll_timeout(self) -> Timeout | None:
        """Never."""
        return None

    def _nonce(self, period: int) -> bytes:
        data = b"login" + period.to_bytes(8, signed=True)
        return hmac.digest(self._nonce_secret, data, hashlib.sha256)[:16]

    def _refuses(self, login: LoginRequest, now: Instant) -> LoginRefused | None:
        if len(self._open) >= MAX_OPEN:
            return LoginRefused.BUSY
        period = now // NONCE_PERIOD_NS
        if not any(hmac.compare_digest(login.nonce, self._nonce(period - age)) for age in (0, 1)):
            return LoginRefused.NONCE
        signed = verify(login.identity.device, login.signature, login_bytes(self._domain, login))
        if not signed or not is_genuine(login.identity):
            return LoginRefused.IDENTITY
        return None

    def _find(self, request: int, domain: str) -> None:
        finding = sum(isinstance(state, Finding) for state in self._open.values())
        if domain == self._domain or finding >= MAX_FINDING or len(self._open) >= MAX_OPEN:
            own = self.vouching.authorities if domain == self._domain else ()
            self._replies.append(Reply(request, AuthorityResponse(domain, own)))
            return
        self._ids += 1
        self._open[self._ids] = Finding(request, domain)
        self._requests.append(FindAuthorities(self._ids, domain))

    def _distribute(
        self, request: int, login: LoginRequest, verified: LoginVerified, now: Instant
    ) -> None:
        secret = random_bytes(self._entropy, SECRET_SIZE)
        identifier = random_bytes(self._entropy, IDENTIFIER_SIZE)
        key = Kntmdc(secret, identifier, Instant(now + self._lifetime_s * SECOND))
        self.keyring.carry(self.keyring.create(key, now), now)
        self._ids += 1
        self._open[self._ids] = Distributing(request, verified, key)
        message = KeyDistribution(
            verified.fqdn,
            login.identity.bare,
            identifier,
            secret,
            self._lifetime_s,
            verified.groups,
        )
        self._journal.note(now, message, "DC", sent=True)
        self._requests.append(Call(self._ids, OwnCoordinator(), message))

    def _respond(self, request: int, verified: LoginVerified, key: Kntmdc, now: Instant) -> None:
        response = LoginResponse(
            verified.fqdn,
            key.identifier,
            key.secret,
            self._lifetime_s,
            self._coordinator,
            self._coordinator_endpoints,
            self._domain_key,
            verified.certificate,
            verified.certificate_s,
            self.vouching.authorities,
            self.vouching.authentication,
            self.vouching.neighbours,
            self._coordinator_https,
        )
        self._journal.note(now, response, "node", sent=True)
        self._replies.append(Reply(request, response))

    def _refuse(self, request: int, refusal: LoginRefusal, now: Instant) -> None:
        self._journal.note(now, refusal, "node", sent=True)
        self._replies.append(Reply(request, refusal))


def _refusal(reply: object, otherwise: LoginRefused) -> LoginRefusal:
    return reply if isinstance(reply, LoginRefusal) else LoginRefusal(otherwise)
