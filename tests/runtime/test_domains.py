from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

import dns.message
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from structlog.testing import capture_logs

from ntmobile.keys.identity import fingerprint, public_of
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.dnssec import Anchors, Validator, parse_anchors
from ntmobile.runtime.domains import AGAIN_S, Domain, Domains, Known, Refused, TrustedBy
from ntmobile.runtime.https import MESSAGE_TYPE
from ntmobile.runtime.listener import Listener
from ntmobile.runtime.resolver import Resolver
from ntmobile.runtime.statement import STATEMENT_PATH, make_statement, with_previous
from ntmobile.runtime.tasks import Tasks
from ntmobile.servers.dns import Answered, Responder
from ntmobile.servers.dns_server import DnsServer
from ntmobile.servers.dns_signing import ZoneSigner
from ntmobile.servers.dns_zone import Services, Zone
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.message import encode
from ntmobile.wire.registration import Reason

OWN = Domain("ntm.example.net", bytes(32), TrustedBy.OWN, (), (), None)
NAME = "ntm.example.org"
NODE = f"pc.alice.{NAME}"
KEY = bytes(range(32))
NEXT_KEY = bytes(range(1, 33))
UDP = 4330
LOCAL = Endpoint("127.0.0.1", 0)


class Files(Protocol):
    @property
    def certificate(self) -> Path: ...
    @property
    def key(self) -> Path: ...
    @property
    def authority(self) -> str: ...
    @property
    def digest(self) -> bytes: ...


class Movable(Clock):
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> Instant:
        return Instant(super().now() + round(self.ahead_s * SECOND))


class Foreign:
    """Another operator's domain: its DNS server and its DC's HTTPS, for real."""

    def __init__(self, files: Files, tasks: Tasks) -> None:
        self.files = files
        self.asked = 0
        self.questions: list[str] = []
        self.statement = b""
        self.authorities: tuple[bytes, ...] = ()
        self.state(KEY)
        routes = [Route(STATEMENT_PATH, self.tell)]
        self.listener = Listener(Starlette(routes=routes), files.certificate, files.key)
        self._tasks = tasks

    def state(self, key: bytes, *, previous: bytes | None = None, name: str = NAME) -> None:
        digests = (self.files.digest,)
        statement = make_statement(name, key, public_of(key), digests, 1, self.authorities)
        if previous is not None:
            statement = with_previous(statement, previous, public_of(previous))
        self.statement = encode(statement)

    async def tell(self, request: Request) -> Response:
        self.asked += 1
        return Response(self.statement, media_type=MESSAGE_TYPE)

    async def open(self) -> None:
        [self.https] = await self.listener.listen([LOCAL])
        hosts = (("dc", (ip_address("127.0.0.1"),)),)
        services = Services(NAME, public_of(KEY), hosts, UDP, self.https.port, 1, 1)
        self.signer = ZoneSigner(NAME, ec.generate_private_key(ec.SECP256R1()))
        self.responder = Listening(Zone(services, (), self.signer), bytes(32), self.questions)
        self.dns = DnsServer(self.responder, Clock(), self._tasks)
        [self.resolver] = await self.dns.listen([LOCAL])

    async def close(self) -> None:
        self.dns.close()
        await self.listener.close()


class Listening(Responder):
    """Remembers what it was asked."""

    def __init__(self, zone: Zone, secret: bytes, questions: list[str]) -> None:
        super().__init__(zone, secret)
        self._questions = questions

    def respond(self, data: bytes, source: str, now_s: int, *, stream: bool) -> Answered | None:
        self._questions += map(str, dns.message.from_wire(data).question)
        return super().respond(data, source, now_s, stream=stream)


class Notebook:
    """The operator's list of foreign domains."""

    def __init__(self) -> None:
        self.known = Known(listed=True)
        self.open = False

    async def look_up(self, domain: str) -> Known:
        return self.known if domain == NAME else Known()

    async def trust(self, domain: str, key: bytes, by: TrustedBy) -> None:
        self.known = replace(self.known, key=key, trusted_by=by)

    def admits(self, known: Known) -> bool:
        return self.open or known.listed


@pytest.fixture
async def foreign(files: Files) -> AsyncIterator[Foreign]:
    async with Tasks() as tasks:
        foreign = Foreign(files, tasks)
        await foreign.open()
        yield foreign
        await foreign.close()


@pytest.fixture
def book() -> Notebook:
    return Notebook()


@pytest.fixture
def clock() -> Movable:
    return Movable()


def judging(
    resolvers: list[Endpoint], book: Notebook, clock: Clock, anchors: Anchors | None = None
) -> Domains:
    resolver = Resolver(lambda: resolvers, clock)
    validator = Validator(resolver, anchors or {}, clock)
    return Domains(OWN, resolver, validator, book, clock)


@pytest.fixture
def domains(foreign: Foreign, book: Notebook, clock: Movable) -> Domains:
    return judging([foreign.resolver], book, clock)


@pytest.fixture
def anchored(foreign: Foreign, book: Notebook, clock: Movable) -> Domains:
    """Judges with the foreign zone's own key as trust anchor: all that is above it is signed."""
    anchors = parse_anchors(f"{NAME}. IN {foreign.signer.ds}")
    return judging([foreign.resolver], book, clock, anchors)


@pytest.fixture
def pinned(book: Notebook) -> None:
    book.known = Known(listed=True, key_pin=fingerprint(public_of(KEY)))


@pytest.fixture
def system_trusts(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(files.authority)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))


async def refusal(domains: Domains, name: str = NODE) -> Refused:
    with capture_logs(), pytest.raises(Refused) as raised:
        await domains.find(name)
    return raised.value


async def test_a_name_below_the_own_domain_needs_no_question(domains: Domains) -> None:
    assert await domains.find("pc.bob.ntm.example.net") is OWN


@pytest.mark.usefixtures("pinned")
async def test_the_dns_is_asked_for_the_domain_and_never_for_the_node(
    domains: Domains, foreign: Foreign
) -> None:
    await domains.find(NODE)

    assert any(NAME in question for question in foreign.questions)
    assert not any("alice" in question for question in foreign.questions)


@pytest.mark.usefixtures("pinned")
async def test_a_pinned_domain_is_found_with_its_key_and_its_dc(
    domains: Domains, foreign: Foreign, book: Notebook
) -> None:
    found = await domains.find(NODE)

    assert found.name == NAME
    assert found.key == public_of(KEY)
    assert found.trusted_by is TrustedBy.PIN
    assert found.endpoints == (Endpoint("127.0.0.1", UDP),)
    assert found.places[0].name == f"dc.{NAME}"
    assert found.places[0].endpoints == (foreign.https,)
    assert book.known.key == public_of(KEY)


@pytest.mark.usefixtures("system_trusts")
async def test_without_a_pin_the_systems_store_decides(domains: Domains) -> None:
    assert (await domains.find(NODE)).trusted_by is TrustedBy.WEB


async def test_a_ca_of_the_operator_decides_for_its_domain(
    domains: Domains, book: Notebook, files: Files
) -> None:
    book.known = Known(listed=True, ca=files.authority)

    assert (await domains.find(NODE)).trusted_by is TrustedBy.CA


async def test_a_certificate_that_nobody_verifies_is_refused_with_what_to_do(
    domains: Domains,
) -> None:
    refused = await refusal(domains)

    assert refused.reason is Reason.DOMAIN_KEY
    assert f"federation add {NAME} --key" in refused.detail
    assert "it is not pinned; DNSSEC does not prove it (no trust anchor" in refused.detail
    assert "by HTTPS: " in refused.detail


async def test_without_a_pin_and_without_a_known_certificate_the_signed_dns_decides(
    anchored: Domains, book: Notebook
) -> None:
    found = await anchored.find(NODE)

    assert found.trusted_by is TrustedBy.DNSSEC
    assert found.key == public_of(KEY)
    assert book.known.trusted_by is TrustedBy.DNSSEC


@pytest.mark.usefixtures("system_trusts")
async def test_another_key_than_the_signed_dns_states_is_refused_whatever_the_certificate(
    anchored: Domains, foreign: Foreign
) -> None:
    foreign.state(NEXT_KEY)

    refused = await refusal(anchored)

    assert refused.reason is Reason.DOMAIN_KEY
    assert f"the signed DNS says {fingerprint(public_of(KEY))}" in refused.detail


@pytest.mark.usefixtures("system_trusts")
async def test_wrong_signatures_are_refused_whatever_the_certificate(
    anchored: Domains, foreign: Foreign
) -> None:
    foreign.responder.zone.signer = ZoneSigner(NAME, ec.generate_private_key(ec.SECP256R1()))

    refused = await refusal(anchored)

    assert refused.reason is Reason.DOMAIN_KEY
    assert "DNSSEC signatures are wrong" in refused.detail


@pytest.mark.usefixtures("pinned")
async def test_a_pin_outweighs_wrong_signatures(anchored: Domains, foreign: Foreign) -> None:
    foreign.responder.zone.signer = ZoneSigner(NAME, ec.generate_private_key(ec.SECP256R1()))

    assert (await anchored.find(NODE)).trusted_by is TrustedBy.PIN


@pytest.mark.usefixtures("system_trusts")
async def test_a_resolver_that_hides_signatures_leaves_it_to_the_certificate(
    anchored: Domains, foreign: Foreign
) -> None:
    foreign.responder.zone.signer = None

    assert (await anchored.find(NODE)).trusted_by is TrustedBy.WEB


async def test_another_key_than_the_pinned_is_refused(domains: Domains, book: Notebook) -> None:
    book.known = Known(listed=True, key_pin=fingerprint(public_of(NEXT_KEY)))

    refused = await refusal(domains)

    assert refused.reason is Reason.DOMAIN_KEY
    assert fingerprint(public_of(KEY)) in refused.detail


def change_name(foreign: Foreign) -> None:
    foreign.state(KEY, name="ntm.example.com")


def break_signature(foreign: Foreign) -> None:
    foreign.statement = foreign.statement[:-4] + bytes(4)


def speak_nonsense(foreign: Foreign) -> None:
    foreign.statement = b"nonsense"


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize("spoil", [change_name, break_signature, speak_nonsense])
async def test_a_wrong_statement_is_refused(
    domains: Domains, foreign: Foreign, spoil: Callable[[Foreign], None]
) -> None:
    spoil(foreign)

    assert (await refusal(domains)).reason is Reason.DOMAIN_KEY


@pytest.mark.usefixtures("pinned")
async def test_a_new_key_is_taken_when_the_old_one_signed_it(
    domains: Domains, foreign: Foreign, book: Notebook
) -> None:
    await domains.find(NODE)
    domains.forget()
    foreign.state(NEXT_KEY, previous=KEY)

    found = await domains.find(NODE)

    assert found.key == public_of(NEXT_KEY)
    assert found.trusted_by is TrustedBy.SUCCESSION
    assert book.known.key == public_of(NEXT_KEY)


@pytest.mark.usefixtures("system_trusts")
async def test_a_new_key_without_the_old_ones_signature_is_refused(
    domains: Domains, foreign: Foreign, book: Notebook
) -> None:
    await domains.find(NODE)
    domains.forget()
    foreign.state(NEXT_KEY)

    refused = await refusal(domains)

    assert refused.reason is Reason.DOMAIN_KEY
    assert "key changed" in refused.detail
    assert book.known.key == public_of(KEY)


async def test_a_domain_that_is_not_listed_is_not_even_asked(
    domains: Domains, foreign: Foreign, book: Notebook
) -> None:
    book.known = Known(listed=False)

    refused = await refusal(domains)

    assert refused.reason is Reason.FOREIGN_DOMAIN
    assert f"ntm admin federation add {NAME}" in refused.detail
    assert foreign.asked == 0


@pytest.mark.usefixtures("system_trusts")
async def test_in_open_mode_a_trusted_domain_needs_no_listing(
    domains: Domains, book: Notebook
) -> None:
    book.known = Known(listed=False)
    book.open = True

    assert (await domains.find(NODE)).name == NAME


@pytest.mark.usefixtures("pinned")
async def test_a_judged_domain_is_remembered(domains: Domains, foreign: Foreign) -> None:
    for _ in range(3):
        await domains.find(NODE)

    assert foreign.asked == 1


@pytest.mark.usefixtures("pinned")
async def test_wrong_signatures_cannot_make_us_ask_again_and_again(
    domains: Domains, foreign: Foreign, clock: Movable
) -> None:
    await domains.judge(NAME)
    for _ in range(5):
        await domains.judge(NAME, fresh=True)
    assert foreign.asked == 1

    clock.ahead_s = AGAIN_S + 1
    await domains.judge(NAME, fresh=True)

    assert foreign.asked == 2


@pytest.mark.usefixtures("pinned")
async def test_a_domain_that_was_judged_stays_good_while_it_is_down(
    domains: Domains, foreign: Foreign, clock: Movable
) -> None:
    before = await domains.find(NODE)
    await foreign.listener.close()
    clock.ahead_s = 7200

    with capture_logs():
        assert await domains.find(NODE) == before


@pytest.mark.usefixtures("pinned")
async def test_a_domain_that_was_never_reached_is_unreachable(
    domains: Domains, foreign: Foreign
) -> None:
    await foreign.listener.close()

    assert (await refusal(domains)).reason is Reason.DOMAIN_UNREACHABLE


async def test_a_dead_dns_is_unreachable_not_unknown(book: Notebook, clock: Movable) -> None:
    domains = judging([Endpoint("127.0.0.1", 1)], book, clock)

    assert (await refusal(domains)).reason is Reason.DOMAIN_UNREACHABLE
