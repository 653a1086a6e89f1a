"""Finds the domain that a name belongs to and judges whose its key is.

A foreign domain's key is trusted because (1) the operator pinned it, or the CA of its server;
(2) or its zone states it and DNSSEC proves that, validated here; (3) or its server's HTTPS
certificate verifies in the system's store. A key that was trusted once is replaced only by one that
it signed. Anything else is refused, with what both operators need to know; a chain of signatures
that is broken too, whatever the certificate says.
Ours: docs/protocol.md section 1.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from weakref import WeakValueDictionary

import structlog

from ntmobile.errors import NTMobileError
from ntmobile.keys.identity import fingerprint
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.dnssec import Insecure, Secure, Validator
from ntmobile.runtime.dnssec_proof import Bogus
from ntmobile.runtime.https import (
    Authority,
    CertificateWrong,
    HttpsError,
    Place,
    SystemStore,
    Trust,
    Unverified,
    connect,
    message_of,
)
from ntmobile.runtime.resolver import NoSuchName, Resolver, ResolverError, Service
from ntmobile.runtime.statement import (
    STATEMENT_PATH,
    StatementWrong,
    is_successor,
    parse_statement,
)
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint, Host
from ntmobile.wire.federation import DomainStatement
from ntmobile.wire.registration import Reason

log = structlog.get_logger()

LABELS_OF_A_NODE = 2
"""NAME and USER, below its domain."""
SIGNALLING = "_ntm._udp"
COORDINATOR_HTTPS = "_ntm-dc._tcp"
KEY = "_ntm"
"""TXT: v=ntm1 key=FINGERPRINT."""
HTTPS_PORT = 443
TRUSTED_S = 3600
REFUSED_S = 15
"""A mended domain is noticed within a quarter of a minute."""
AGAIN_S = 30
"""A stranger's wrong signature cannot make us ask a domain more often than this."""
GRACE_S = 86400
"""How long a domain that was judged stays good while it cannot be reached."""
MAX_DOMAINS = 5_000
MAX_ENDPOINTS = 8
MAX_JUDGING = 64
"""Domains looked at at once: strangers can name any."""


class TrustedBy(StrEnum):
    """Why a domain's key is believed."""

    OWN = "own"
    PIN = "pin"
    CA = "ca"
    DNSSEC = "dnssec"
    WEB = "web"
    SUCCESSION = "succession"


@dataclass(frozen=True, slots=True)
class Known:
    """What the operator and the store know of a foreign domain."""

    listed: bool = False
    key_pin: str | None = None
    """SHA256:hex of the domain key."""
    ca: str | None = None
    """PEM of the CA that the domain's servers must have their certificate from."""
    key: bytes | None = None
    """The domain key that was last trusted."""
    trusted_by: TrustedBy | None = None
    """Why it was."""


class Book(Protocol):
    """Where foreign domains are written down."""

    async def look_up(self, domain: str) -> Known:
        """What is known of a domain."""
        ...

    async def trust(self, domain: str, key: bytes, by: TrustedBy) -> None:
        """Write down the key that was just trusted."""
        ...

    def admits(self, known: Known) -> bool:
        """Whether federation with a domain is wanted (open, listed, closed)."""
        ...


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain that was found and whose key is believed."""

    name: str
    key: bytes
    trusted_by: TrustedBy
    endpoints: tuple[Endpoint, ...]
    """Where its DCs take datagrams, best first."""
    places: tuple[Place, ...]
    """Where its DCs take HTTPS, best first."""
    certificate: bytes | None
    """SHA-256 of the certificate that was judged; None for the own domain."""
    authorities: tuple[bytes, ...] = ()
    """The CAs of its nodes, in DER, as its key states them."""


class Refused(NTMobileError):
    """A domain is not dealt with; the text says why and what would change it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        """The reason travels to the node, the detail to both operators."""
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class _Belief:
    """By what a domain's key will be believed, and the keys it can only be."""

    trust: Trust
    by: TrustedBy
    fingerprints: tuple[str, ...] | None = None
    """None: whatever key the server states."""
    unhelpful: str = ""
    """Why no better reason was found."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    outcome: Domain | Refused
    at: Instant
    expires: Instant


class Domains:
    """Foreign domains, judged when first needed and remembered."""

    def __init__(
        self, own: Domain, resolver: Resolver, validator: Validator, book: Book, clock: Clock
    ) -> None:
        """Judges for the operator of own."""
        self.own = own
        self._resolver = resolver
        self._validator = validator
        self._book = book
        self._clock = clock
        self._verdicts: OrderedDict[str, _Verdict] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._judging = 0

    def forget(self) -> None:
        """Judge every domain anew at its next use; after a change by the operator."""
        self._verdicts.clear()
        self._validator.forget()

    async def find(self, fqdn: str) -> Domain:
        """The domain that a node's name belongs to; raises Refused.

        Source: paper, Fig. 5: the NS record of FQDNcn names DCcn. Ours: the DNS is asked for
        DOMAIN of NAME.USER.DOMAIN, so who looks for whom shows on no wire.
        """
        if fqdn.endswith("." + self.own.name):
            return self.own
        *_, domain = fqdn.split(".", LABELS_OF_A_NODE)
        try:
            zone = await self._resolver.zone(domain)
        except NoSuchName as error:
            raise Refused(Reason.UNKNOWN_NAME, str(error)) from None
        except ResolverError as error:
            # A domain that was dealt with before is still found while no resolver answers.
            for name, verdict in self._verdicts.items():
                if fqdn.endswith("." + name) and isinstance(verdict.outcome, Domain):
                    return verdict.outcome
            raise Refused(Reason.DOMAIN_UNREACHABLE, str(error)) from None
        return await self.judge(zone.name)

    async def judge(self, name: str, *, fresh: bool = False) -> Domain:
        """A domain with a key that is believed; raises Refused.

        fresh: look again, unless that was done just now.
        """
        if name == self.own.name:
            return self.own
        verdict = self._verdicts.get(name)
        if verdict is None or not self._holds(verdict, fresh=fresh):
            lock = self._locks.setdefault(name, asyncio.Lock())
            async with lock:
                verdict = self._verdicts.get(name)
                if verdict is None or not self._holds(verdict, fresh=fresh):
                    verdict = await self._judge(name, verdict)
        if isinstance(verdict.outcome, Refused):
            raise Refused(verdict.outcome.reason, verdict.outcome.detail)
        return verdict.outcome

    async def key_of(self, name: str, fresh: bool) -> bytes:
        """The key of a domain that signed a request, for a Verifier; raises Refused."""
        return (await self.judge(name, fresh=fresh)).key

    def _holds(self, verdict: _Verdict, *, fresh: bool) -> bool:
        now = self._clock.now()
        return now < (verdict.at + AGAIN_S * SECOND if fresh else verdict.expires)

    async def _judge(self, name: str, before: _Verdict | None) -> _Verdict:
        if self._judging >= MAX_JUDGING:
            raise Refused(Reason.BUSY, "too many domains are being looked at; try again")
        self._judging += 1
        outcome: Domain | Refused
        try:
            outcome = await self._examine(name)
        except Refused as refused:
            log.warning("domain refused", domain=name, reason=refused.reason, why=refused.detail)
            outcome = self._spare(refused, before)
        finally:
            self._judging -= 1
        now = self._clock.now()
        good_s = TRUSTED_S if isinstance(outcome, Domain) else REFUSED_S
        verdict = _Verdict(outcome, now, Instant(now + good_s * SECOND))
        self._verdicts[name] = verdict
        self._verdicts.move_to_end(name)
        if len(self._verdicts) > MAX_DOMAINS:
            self._verdicts.popitem(last=False)
        return verdict

    def _spare(self, refused: Refused, before: _Verdict | None) -> Domain | Refused:
        """A domain that only cannot be reached now stays what it was for a while."""
        if refused.reason is not Reason.DOMAIN_UNREACHABLE or before is None:
            return refused
        fresh = self._clock.now() - before.expires < GRACE_S * SECOND
        return before.outcome if fresh and isinstance(before.outcome, Domain) else refused

    async def _examine(self, name: str) -> Domain:
        known = await self._book.look_up(name)
        if not self._book.admits(known):
            raise Refused(
                Reason.FOREIGN_DOMAIN,
                f"{self.own.name} does not federate with {name}: its operator can allow it by "
                f"`ntm admin federation add {name}`",
            )
        endpoints, places = await self._locate(name)
        statement, certificate, by = await self._ask_any(name, places, known)
        if statement.key != known.key:
            await self._book.trust(name, statement.key, by)
            log.info("domain trusted", domain=name, key=fingerprint(statement.key), by=by)
        stated = statement.authorities
        return Domain(name, statement.key, by, endpoints, places, certificate, stated)

    async def _locate(self, name: str) -> tuple[tuple[Endpoint, ...], tuple[Place, ...]]:
        """NS names the DCs; SRV says that they are ones, and their ports."""
        try:
            zone, services, ports = await asyncio.gather(
                self._resolver.zone(name),
                self._resolver.services(f"{SIGNALLING}.{name}"),
                self._https_ports(name),
            )
        except NoSuchName as error:
            raise Refused(Reason.UNKNOWN_NAME, f"{name} is no NTMobile domain: {error}") from None
        except ResolverError as error:
            raise Refused(Reason.DOMAIN_UNREACHABLE, str(error)) from None
        coordinators = [each for each in services if each.host in zone.servers]
        if zone.name != name or not coordinators:
            detail = f"no NS record of {name} names a host that {SIGNALLING}.{name} lists"
            raise Refused(Reason.UNKNOWN_NAME, detail)
        endpoints: list[Endpoint] = []
        places: list[Place] = []
        for each in coordinators:
            addresses = await self._addresses(each)
            endpoints += [Endpoint(host, each.port) for host in addresses]
            https = ports.get(each.host, HTTPS_PORT)
            places.append(Place(each.host, tuple(Endpoint(host, https) for host in addresses)))
        if not endpoints:
            detail = f"no DC of {name} has an address in the DNS"
            raise Refused(Reason.DOMAIN_UNREACHABLE, detail)
        return tuple(endpoints[:MAX_ENDPOINTS]), tuple(places[:MAX_ENDPOINTS])

    async def _https_ports(self, name: str) -> dict[str, int]:
        try:
            services = await self._resolver.services(f"{COORDINATOR_HTTPS}.{name}")
        except ResolverError:
            return {}
        return {each.host: each.port for each in services}

    async def _addresses(self, service: Service) -> tuple[Host, ...]:
        try:
            return await self._resolver.addresses(service.host)
        except ResolverError:
            return ()

    async def _look_for_belief(self, name: str) -> _Belief:
        """For a domain that is not pinned: the signed DNS, else the system's store."""
        try:
            said = await self._validator.texts(f"{KEY}.{name}", name)
        except Bogus as error:
            problem = f"it is not pinned, and its DNSSEC signatures are wrong ({error})"
            raise Refused(Reason.DOMAIN_KEY, _remedy(name, problem)) from None
        except ResolverError as error:
            why = str(error)
        else:
            match said:
                case Insecure(why):
                    pass
                case Secure(texts):
                    if fingerprints := _published(texts):
                        return _Belief(Unverified(), TrustedBy.DNSSEC, fingerprints)
                    why = f"{KEY}.{name} names no key"
        unhelpful = f"it is not pinned; DNSSEC does not prove it ({why}); by HTTPS: "
        return _Belief(SystemStore(), TrustedBy.WEB, unhelpful=unhelpful)

    async def _ask_any(
        self, name: str, places: tuple[Place, ...], known: Known
    ) -> tuple[DomainStatement, bytes, TrustedBy]:
        """The statement of the first DC that answers; a wrong one is not passed over."""
        failure = Refused(Reason.DOMAIN_UNREACHABLE, f"no DC of {name} can be reached")
        belief = _known_belief(known) or await self._look_for_belief(name)
        for place in places:
            try:
                async with connect(place, belief.trust) as connection:
                    body = message_of(place, await connection.get(STATEMENT_PATH))
                    certificate = connection.certificate
                statement = parse_statement(body, name, certificate)
                return statement, certificate, _check_key(statement, known, belief)
            except CertificateWrong as error:
                problem = f"{belief.unhelpful}{error}"
                raise Refused(Reason.DOMAIN_KEY, _remedy(name, problem)) from None
            except StatementWrong as error:
                raise Refused(Reason.DOMAIN_KEY, _remedy(name, str(error))) from None
            except HttpsError as error:
                failure = Refused(Reason.DOMAIN_UNREACHABLE, str(error))
        raise failure


def _known_belief(known: Known) -> _Belief | None:
    if known.key is not None:
        # The domain key is the root: what it states of a certificate outweighs any CA.
        return _Belief(Unverified(), known.trusted_by or TrustedBy.PIN)
    if known.key_pin is not None:
        return _Belief(Unverified(), TrustedBy.PIN, (known.key_pin,))
    if known.ca is not None:
        return _Belief(Authority(known.ca), TrustedBy.CA)
    return None


def _published(texts: tuple[bytes, ...]) -> tuple[str, ...]:
    """The fingerprints of the domain's keys in its TXT records; others of that name are passed."""
    words = [text.decode("ascii", "replace").split() for text in texts]
    return tuple(
        word.removeprefix("key=")
        for first, *others in filter(None, words)
        if first == "v=ntm1"
        for word in others
        if word.startswith("key=")
    )


def _check_key(statement: DomainStatement, known: Known, belief: _Belief) -> TrustedBy:
    """How the statement's key is trusted; raises StatementWrong."""
    shown = fingerprint(statement.key)
    if known.key == statement.key:
        return belief.by
    if known.key is not None:
        if is_successor(statement, known.key):
            return TrustedBy.SUCCESSION
        raise StatementWrong(
            f"its key changed to {shown} from {fingerprint(known.key)}, which did not sign it"
        )
    if belief.fingerprints is None or shown in belief.fingerprints:
        return belief.by
    previous = statement.previous
    if (
        previous is not None
        and is_successor(statement, previous)
        and fingerprint(previous) in belief.fingerprints
    ):
        return TrustedBy.SUCCESSION
    wanted = " or ".join(belief.fingerprints)
    where = "the signed DNS says" if belief.by is TrustedBy.DNSSEC else "pinned is"
    raise StatementWrong(f"its key is {shown}, {where} {wanted}")


def _remedy(name: str, problem: str) -> str:
    return (
        f"the key of {name} is not trusted: {problem}. Ask its operator for the domain_key that "
        f"`ntm server show` prints there, then `ntm admin federation add {name} --key SHA256:...`"
    )
