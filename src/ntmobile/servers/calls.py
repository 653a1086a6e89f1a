"""Requests of this process's machines to other servers, of the own and of foreign domains.

A role of this process is asked in memory; every other server over HTTPS, with a signature by the
domain key. Source: paper, Figs. 2, 5 and 7 (the TLS legs).
"""

from collections.abc import Callable, Mapping

import msgspec
import structlog

from ntmobile.errors import DecodeError
from ntmobile.proto.io import (
    AuthoritiesFound,
    Call,
    Caller,
    CoordinatorFound,
    Failed,
    FindAuthorities,
    FindCoordinator,
    ForeignCoordinator,
    NotificationServer,
    OwnAccount,
    OwnCoordinator,
    RelayServer,
    Target,
)
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.domains import Domain, Domains, Refused
from ntmobile.runtime.https import (
    CertificateWrong,
    DomainKey,
    HttpsError,
    Place,
    StatusWrong,
    connect,
    message_of,
)
from ntmobile.runtime.signed import Signer
from ntmobile.servers.config import Role
from ntmobile.servers.http import CLOCK_WRONG, KEYS_PATH
from ntmobile.servers.own import OwnDomain
from ntmobile.servers.requests import Overloaded
from ntmobile.servers.taker import Taker
from ntmobile.store import StoreUnavailable
from ntmobile.wire.login import LoginRefusal
from ntmobile.wire.message import Message, decode, decoder, encode
from ntmobile.wire.registration import NtmAck, Reason, Refusal

log = structlog.get_logger()

Answer = NtmAck | Refusal | LoginRefusal
_ANSWER: msgspec.msgpack.Decoder[Answer] = decoder(Answer)  # type: ignore[arg-type]


class Calls:
    """Carries out the requests of machines; raises nothing."""

    def __init__(
        self,
        own: Callable[[], OwnDomain],
        domains: Domains,
        signer: Signer,
        clock: Clock,
        local: Mapping[str, Taker],
    ) -> None:
        """Local are the servers of this process, by host name; it may be filled later."""
        self._own = own
        self._domains = domains
        self._signer = signer
        self._clock = clock
        self._local = local

    async def perform(
        self, request: Call | FindCoordinator | FindAuthorities
    ) -> Message | CoordinatorFound | AuthoritiesFound | Failed:
        """Return the answer to a request of a DC or an AS."""
        try:
            if isinstance(request, FindAuthorities):
                return AuthoritiesFound((await self._domains.judge(request.domain)).authorities)
            if isinstance(request, FindCoordinator):
                found = await self._domains.find(request.fqdn)
                return CoordinatorFound(found.name, found.endpoints)
            return await self._call(request.target, request.message)
        except Refused as refused:
            return Failed(refused.reason, refused.detail)
        except StoreUnavailable as error:
            return Failed(Reason.BUSY, str(error))

    async def _call(self, target: Target, message: Message) -> Message | Failed:
        own = self._own()
        match target:
            case OwnCoordinator():
                return await self._call_own(own, own.place(Role.DC), message)
            case OwnAccount():
                return await self._call_own(own, own.place(Role.AS), message)
            case RelayServer(name):
                place = own.relay(name)
                if place is None:
                    return Failed(Reason.NO_RELAY, f"{name} is no RS of {own.name} any more")
                return await self._call_own(own, place, message)
            case NotificationServer(name):
                place = own.notifier(name)
                if place is None:
                    gone = f"{name} is no NS of {own.name} any more"
                    return Failed(Reason.NO_NOTIFICATION, gone)
                return await self._call_own(own, place, message)
            case ForeignCoordinator(name):
                domain = await self._domains.judge(name)
                return await self._call_foreign(domain, message)

    async def _call_own(self, own: OwnDomain, place: Place, message: Message) -> Message | Failed:
        if (taker := self._local.get(place.name)) is not None:
            try:
                return await taker(Caller(own.name, "127.0.0.1"), message)
            except Overloaded as error:
                return Failed(Reason.BUSY, str(error))
        return await self._post(place, own.trust, own.name, message)

    async def _call_foreign(self, domain: Domain, message: Message) -> Message | Failed:
        answer: Message | Failed = Failed(Reason.DOMAIN_UNREACHABLE, f"{domain.name} has no DC")
        trust = DomainKey(domain.name, domain.key, domain.certificate)
        for place in domain.places:
            answer = await self._post(place, trust, domain.name, message)
            if not isinstance(answer, Failed) or answer.reason is not Reason.DOMAIN_UNREACHABLE:
                break
        return answer

    async def _post(
        self, place: Place, trust: DomainKey, asked: str, message: Message
    ) -> Message | Failed:
        body = encode(message)
        try:
            async with connect(place, trust) as connection:
                headers = self._signer.headers(
                    KEYS_PATH,
                    body,
                    asked=asked,
                    certificate=connection.certificate,
                    time_s=int(self._clock.wall()),
                )
                answer = message_of(place, await connection.post(KEYS_PATH, body, headers))
            decoded: Message = decode(_ANSWER, answer)
        except (HttpsError, DecodeError) as error:
            log.warning("server refused us or did not answer", asked=asked, why=str(error))
            return Failed(_reason(error), str(error))
        return decoded


def _reason(error: Exception) -> Reason:
    match error:
        case CertificateWrong():
            return Reason.DOMAIN_KEY
        case StatusWrong(status=401):
            return Reason.DOMAIN_KEY
        case StatusWrong(status=status) if status == CLOCK_WRONG:
            return Reason.CLOCK
        case StatusWrong(status=403):
            return Reason.FOREIGN_DOMAIN
        case _:
            return Reason.DOMAIN_UNREACHABLE
