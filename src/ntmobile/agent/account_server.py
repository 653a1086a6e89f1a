"""The node's account server: where it is, whether it is the right one, and asking it.

It is found by SRV _ntm-as._tcp.DOMAIN or by the URL given with --as. Nothing of a login, least of
all a password, leaves before the server's certificate was verified for a name that belongs to the
domain: DNS alone cannot send the password elsewhere. A certificate that was trusted by its
fingerprint is renewed one day; from the first login on the domain's key says which one is right.
Ours: docs/protocol.md sections 1 and 2.
"""

from ipaddress import ip_address
from typing import Protocol

import msgspec
import structlog

from ntmobile.agent.records import SavedAccount
from ntmobile.agent.urls import parse_url
from ntmobile.errors import DecodeError, NTMobileError
from ntmobile.proto.io import Failed
from ntmobile.runtime.https import (
    DIRECTLY,
    Authority,
    CertificateWrong,
    DomainKey,
    Fingerprint,
    HttpsError,
    Place,
    SystemStore,
    Trust,
    Way,
    exchange,
)
from ntmobile.runtime.resolver import NoSuchName, Resolver, ResolverError, Service
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.login import AuthorityRequest, LoginAnswer, LoginRequest, NonceRequest
from ntmobile.wire.message import decode, decoder, encode
from ntmobile.wire.registration import Reason

LOGIN_PATH = "/ntm/v1/login"
SERVICE = "_ntm-as._tcp"
Question = NonceRequest | LoginRequest | AuthorityRequest
_ANSWER: "msgspec.msgpack.Decoder[LoginAnswer]" = decoder(LoginAnswer)  # type: ignore[arg-type]
_LOG = structlog.get_logger(__name__)


class NotFound(NTMobileError):
    """No address of the account server is known."""


class NotOfTheDomain(NTMobileError):
    """DNS names a server whose certificate could not speak for the domain."""


class LastPlace(Protocol):
    """Remembers where the server was last reached."""

    def recall(self) -> Place | None:
        """The place, None when it was never reached."""
        ...

    def keep(self, place: Place) -> None:
        """It answered there, and its certificate was right."""
        ...

    def domain_key(self) -> bytes | None:
        """The domain's public key, None before this node's first login."""
        ...


class AccountServer:
    """Asks one account server; each answer or failure is remembered for `ntm status`."""

    def __init__(
        self, account: SavedAccount, resolver: Resolver, last: LastPlace, *, way: Way = DIRECTLY
    ) -> None:
        """Way says how its connections leave this machine."""
        self._account = account
        self._resolver = resolver
        self._last = last
        self._way = way
        self.place: Place | None = None
        """Where it was last asked."""
        self.trouble: str | None = None
        """Why the last request failed."""

    async def ask(self, message: Question) -> LoginAnswer | Failed:
        """Return the server's answer, or why there is none."""
        try:
            answer = await self._ask(message)
        except CertificateWrong as error:
            return self._failed(Reason.DOMAIN_KEY, error)
        except NotOfTheDomain as error:
            return self._failed(Reason.DOMAIN_KEY, error)
        except NotFound as error:
            return self._failed(Reason.DOMAIN_UNREACHABLE, error)
        except (HttpsError, DecodeError) as error:
            return self._failed(Reason.TIMED_OUT, error)
        self.trouble = None
        return answer

    async def _ask(self, message: Question) -> LoginAnswer:
        self.place = place = await self.find()
        trust = trust_of(self._account, self._last.domain_key())
        data = await exchange(place, trust, LOGIN_PATH, encode(message), way=self._way)
        self._last.keep(place)
        return decode(_ANSWER, data)

    async def find(self) -> Place:
        """Return where the server is: --as, DNS, or where it last was when DNS is silent."""
        try:
            if self._account.server is not None:
                return await self._by_url(self._account.server)
            return await self._by_service()
        except ResolverError as error:
            last = self._last.recall()
            if last is None or isinstance(error, NoSuchName):
                raise NotFound(
                    f"no account server of {self._account.domain} is known: {error}"
                ) from None
            return last

    async def _by_url(self, url: str) -> Place:
        host, port = parse_url(url)
        try:
            return Place(host, (Endpoint(ip_address(host), port),))
        except ValueError:
            hosts = await self._resolver.addresses(host)
        return Place(host, tuple(Endpoint(each, port) for each in hosts))

    async def _by_service(self) -> Place:
        services = await self._resolver.services(f"{SERVICE}.{self._account.domain}")
        best = services[0]
        self._check(best)
        return Place(best.host, await self._resolver.endpoints(best))

    def _check(self, service: Service) -> None:
        domain = self._account.domain
        if self._account.trust.fingerprint is None and not _within(service.host, domain):
            raise NotOfTheDomain(
                f"DNS names {service.host} as the account server of {domain}, "
                f"but only a server under {domain} may see a password; "
                "give --fingerprint, or the server itself by --as"
            )

    def _failed(self, reason: Reason, error: NTMobileError) -> Failed:
        self.trouble = str(error)
        _LOG.info("account server failed", reason=reason.value)
        return Failed(reason, str(error))


def trust_of(account: SavedAccount, domain_key: bytes | None) -> Trust:
    """Return how to judge the certificate."""
    saved = account.trust
    if saved.fingerprint is not None:
        digest = bytes.fromhex(saved.fingerprint.removeprefix("SHA256:"))
        if domain_key is None:
            return Fingerprint(digest)
        return DomainKey(account.domain, domain_key, stated=digest)
    if saved.ca is not None:
        return Authority(saved.ca)
    return SystemStore()


def _within(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")
