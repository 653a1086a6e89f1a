import asyncio
import datetime
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path
from typing import cast

import dns.message
import dns.rdatatype
import dns.rrset
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ntmobile.agent.account_server import LOGIN_PATH, AccountServer
from ntmobile.agent.records import SavedAccount, Trust
from ntmobile.agent.urls import parse_url
from ntmobile.keys.certificates import der_digest, fingerprint, make_ca, make_server
from ntmobile.keys.identity import public_of
from ntmobile.proto.io import Failed
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.https import MESSAGE_TYPE, Place
from ntmobile.runtime.listener import Listener
from ntmobile.runtime.resolver import Resolver
from ntmobile.runtime.statement import STATEMENT_PATH, make_statement
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.login import Nonce, NonceRequest
from ntmobile.wire.message import encode
from ntmobile.wire.registration import Reason

DOMAIN = "ntm.example.org"
HOST = f"as.{DOMAIN}"
LOCAL = Endpoint("127.0.0.1", 0)
DOMAIN_KEY = b"d" * 32
BEFORE = Trust(fingerprint="SHA256:" + "00" * 32)
"""The certificate that was there at the first login."""
NONCE = Nonce(b"n" * 16)
NOW_S = int(datetime.datetime.now(datetime.UTC).timestamp())


class LastPlace:
    def __init__(self, place: Place | None = None, key: bytes | None = None) -> None:
        self.place = place
        self.key = key

    def recall(self) -> Place | None:
        return self.place

    def keep(self, place: Place) -> None:
        self.place = place

    def domain_key(self) -> bytes | None:
        return self.key


class Answering:
    """A real AS's front door: gives a nonce to whoever asks, and counts them."""

    def __init__(self, folder: Path) -> None:
        ca = make_ca(DOMAIN, (ip_address("127.0.0.1"),), serial=1, now_s=NOW_S)
        server = make_server(ca, (HOST,), (ip_address("127.0.0.1"),), serial=2, now_s=NOW_S)
        self.ca = ca.certificate.decode()
        self.fingerprint = fingerprint(server.certificate)
        self.asked = 0
        (folder / "tls.pem").write_bytes(server.certificate)
        (folder / "tls.key").write_bytes(server.key)
        self.statement = encode(
            make_statement(
                DOMAIN, DOMAIN_KEY, public_of(DOMAIN_KEY), (der_digest(server.certificate),), NOW_S
            )
        )
        routes = [
            Route(LOGIN_PATH, self.answer, methods=["POST"]),
            Route(STATEMENT_PATH, self.state, methods=["GET"]),
        ]
        self.listener = Listener(Starlette(routes=routes), folder / "tls.pem", folder / "tls.key")
        self.endpoint = LOCAL

    async def answer(self, request: Request) -> Response:
        await request.body()
        self.asked += 1
        return Response(encode(NONCE), media_type=MESSAGE_TYPE)

    async def state(self, request: Request) -> Response:
        return Response(self.statement, media_type=MESSAGE_TYPE)


class Names(asyncio.DatagramProtocol):
    """A DNS server on loopback with a few records."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], str] = {}
        self.silent = False
        self.endpoint = LOCAL

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)
        self.endpoint = Endpoint(*transport.get_extra_info("sockname")[:2])

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        if self.silent:
            return
        query = dns.message.from_wire(data)
        [question] = query.question
        answer = dns.message.make_response(query)
        kind = dns.rdatatype.to_text(question.rdtype)
        text = self.records.get((question.name.to_text(omit_final_dot=True), kind))
        if text is not None:
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, text))
        self.transport.sendto(answer.to_wire(), address)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Answering]:
    answering = Answering(tmp_path)
    [answering.endpoint] = await answering.listener.listen([LOCAL])
    yield answering
    await answering.listener.close()


@pytest.fixture
async def names(server: Answering) -> AsyncIterator[Names]:
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(Names, local_addr=("127.0.0.1", 0))
    names.records = {
        (f"_ntm-as._tcp.{DOMAIN}", "SRV"): f"0 0 {server.endpoint.port} {HOST}.",
        (HOST, "A"): "127.0.0.1",
        ("evil.example", "A"): "127.0.0.1",
    }
    yield names
    transport.close()


def asking(
    names: Names, trust: Trust, *, url: str | None = None, last: LastPlace | None = None
) -> AccountServer:
    account = SavedAccount(user="alice", name="laptop", domain=DOMAIN, server=url, trust=trust)
    resolver = Resolver(lambda: (names.endpoint,), Clock())
    return AccountServer(account, resolver, last or LastPlace())


async def test_the_server_is_found_by_dns_and_verified_by_its_ca(
    server: Answering, names: Names
) -> None:
    last = LastPlace()

    answer = await asking(names, Trust(ca=server.ca), last=last).ask(NonceRequest())

    assert answer == NONCE
    assert last.place == Place(HOST, (server.endpoint,))


async def test_the_server_may_be_given_by_url_and_fingerprint(
    server: Answering, names: Names
) -> None:
    url = f"https://127.0.0.1:{server.endpoint.port}"

    answer = await asking(names, Trust(fingerprint=server.fingerprint), url=url).ask(NonceRequest())

    assert answer == NONCE


@pytest.mark.parametrize("trust", [Trust(), Trust(fingerprint="SHA256:" + "00" * 32)])
async def test_a_certificate_that_is_not_trusted_sees_no_request(
    server: Answering, names: Names, trust: Trust
) -> None:
    asked = asking(names, trust)

    answer = await asked.ask(NonceRequest())

    assert isinstance(answer, Failed)
    assert answer.reason is Reason.DOMAIN_KEY
    assert server.fingerprint in answer.detail
    assert asked.trouble == answer.detail
    assert server.asked == 0


async def test_after_the_first_login_a_renewed_certificate_is_trusted_by_the_domain_key(
    server: Answering, names: Names
) -> None:
    last = LastPlace(key=public_of(DOMAIN_KEY))

    answer = await asking(names, BEFORE, last=last).ask(NonceRequest())

    assert answer == NONCE


async def test_a_certificate_that_another_key_states_sees_no_request(
    server: Answering, names: Names
) -> None:
    last = LastPlace(key=public_of(bytes(32)))

    answer = await asking(names, BEFORE, last=last).ask(NonceRequest())

    assert isinstance(answer, Failed)
    assert answer.reason is Reason.DOMAIN_KEY
    assert server.asked == 0


async def test_the_certificate_of_that_fingerprint_stays_trusted_whatever_is_stated(
    server: Answering, names: Names
) -> None:
    last = LastPlace(key=public_of(bytes(32)))

    answer = await asking(names, Trust(fingerprint=server.fingerprint), last=last).ask(
        NonceRequest()
    )

    assert answer == NONCE


async def test_dns_cannot_send_a_password_outside_the_domain(
    server: Answering, names: Names
) -> None:
    record = f"0 0 {server.endpoint.port} evil.example."
    names.records[f"_ntm-as._tcp.{DOMAIN}", "SRV"] = record

    answer = await asking(names, Trust(ca=server.ca)).ask(NonceRequest())

    assert isinstance(answer, Failed)
    assert answer.reason is Reason.DOMAIN_KEY
    assert "evil.example" in answer.detail
    assert server.asked == 0


async def test_a_silent_resolver_is_bridged_by_where_the_server_last_was(
    server: Answering, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ntmobile.runtime.resolver.TRY_S", 0.05)
    names.silent = True
    last = LastPlace(Place(HOST, (server.endpoint,)))

    answer = await asking(names, Trust(ca=server.ca), last=last).ask(NonceRequest())

    assert answer == NONCE


async def test_a_domain_without_an_account_server_is_said_to_have_none(names: Names) -> None:
    names.records.clear()

    answer = await asking(names, Trust()).ask(NonceRequest())

    assert isinstance(answer, Failed)
    assert answer.reason is Reason.DOMAIN_UNREACHABLE
    assert DOMAIN in answer.detail


async def test_a_server_that_is_down_is_unreachable_not_wrong(
    server: Answering, names: Names
) -> None:
    await server.listener.close()

    answer = await asking(names, Trust(ca=server.ca)).ask(NonceRequest())

    assert isinstance(answer, Failed)
    assert answer.reason is Reason.TIMED_OUT


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://as.ntm.example.org", ("as.ntm.example.org", 443)),
        ("as.ntm.example.org:8443", ("as.ntm.example.org", 8443)),
        ("https://[2001:db8::1]:8443/", ("2001:db8::1", 8443)),
    ],
)
def test_a_url_gives_host_and_port(url: str, place: tuple[str, int]) -> None:
    assert parse_url(url) == place


@pytest.mark.parametrize("url", ["http://a.example", "https://a.example/x", "https://", "a:b:c"])
def test_a_url_that_is_more_or_less_than_a_host_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_url(url)
