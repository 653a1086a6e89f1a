import asyncio
import gc
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ntmobile.keys.identity import public_of
from ntmobile.runtime import https
from ntmobile.runtime.https import (
    AnswerWrong,
    Authority,
    CertificateWrong,
    DomainKey,
    Fingerprint,
    Place,
    StatusWrong,
    SystemStore,
    Unreachable,
    connect,
    exchange,
)
from ntmobile.runtime.listener import Listener
from ntmobile.runtime.statement import STATEMENT_PATH, make_statement
from ntmobile.runtime.tasks import Tasks
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.message import encode

NAME = "dc.ntm.example.org"
DOMAIN = "ntm.example.org"
KEY = bytes(range(32))
LOCAL = Endpoint("127.0.0.1", 0)


class Files(Protocol):
    """What the fixtures give: a certificate, its key, and the authority's certificate."""

    @property
    def certificate(self) -> Path: ...
    @property
    def key(self) -> Path: ...
    @property
    def authority(self) -> str: ...
    @property
    def digest(self) -> bytes: ...


class Server:
    """A real HTTPS server that remembers what it was asked."""

    def __init__(self, files: Files) -> None:
        self.asked: list[bytes] = []
        self.statement = b""
        routes = [
            Route("/echo", self.echo, methods=["POST"]),
            Route("/long", self.long),
            Route("/broken", self.broken, methods=["POST"]),
            Route(STATEMENT_PATH, self.state),
        ]
        self.listener = Listener(Starlette(routes=routes), files.certificate, files.key)
        self.place = Place(NAME, ())

    async def open(self) -> None:
        self.place = Place(NAME, await self.listener.listen([LOCAL]))

    async def echo(self, request: Request) -> Response:
        body = await request.body()
        self.asked.append(body)
        return Response(body[::-1], media_type=https.MESSAGE_TYPE)

    async def long(self, request: Request) -> Response:
        return Response(bytes(https.MAX_ANSWER + 1), media_type=https.MESSAGE_TYPE)

    async def broken(self, request: Request) -> Response:
        return Response("the clocks differ by 86400 s", status_code=401)

    async def state(self, request: Request) -> Response:
        return Response(self.statement, media_type=https.MESSAGE_TYPE)


@pytest.fixture
async def server(files: Files) -> AsyncIterator[Server]:
    server = Server(files)
    await server.open()
    yield server
    await server.listener.close()


async def test_a_message_is_answered_by_a_server_the_authority_signed(
    server: Server, files: Files
) -> None:
    assert await exchange(server.place, Authority(files.authority), "/echo", b"abc") == b"cba"


async def test_one_connection_takes_several_messages_and_knows_the_certificate(
    server: Server, files: Files
) -> None:
    async with connect(server.place, Authority(files.authority)) as connection:
        answers = [(await connection.post("/echo", body)).body for body in (b"12", b"34")]

    assert answers == [b"21", b"43"]
    assert connection.certificate == files.digest


async def test_the_fingerprint_alone_is_enough(server: Server, files: Files) -> None:
    assert await exchange(server.place, Fingerprint(files.digest), "/echo", b"abc") == b"cba"


async def test_nothing_is_sent_to_a_server_with_another_fingerprint(
    server: Server, files: Files
) -> None:
    with pytest.raises(CertificateWrong) as raised:
        await exchange(server.place, Fingerprint(bytes(32)), "/echo", b"password")

    assert server.asked == []
    assert raised.value.seen == files.digest
    assert files.digest.hex() in str(raised.value)


@pytest.mark.parametrize("trust", ["other", "system"])
async def test_nothing_is_sent_to_a_server_of_an_unknown_authority(
    server: Server, files: Files, other_files: Files, trust: str
) -> None:
    chosen = Authority(other_files.authority) if trust == "other" else SystemStore()

    with pytest.raises(CertificateWrong) as raised:
        await exchange(server.place, chosen, "/echo", b"password")

    assert server.asked == []
    assert raised.value.seen == files.digest


async def test_a_certificate_for_another_name_is_refused(server: Server, files: Files) -> None:
    place = Place("as.ntm.example.net", server.place.endpoints)

    with pytest.raises(CertificateWrong, match=r"as\.ntm\.example\.net"):
        await exchange(place, Authority(files.authority), "/echo", b"password")

    assert server.asked == []


async def test_an_address_can_be_the_verified_name(server: Server, files: Files) -> None:
    place = Place("127.0.0.1", server.place.endpoints)

    assert await exchange(place, Authority(files.authority), "/echo", b"ab") == b"ba"


async def test_the_domain_key_vouches_for_the_certificate(server: Server, files: Files) -> None:
    statement = make_statement(DOMAIN, KEY, public_of(KEY), (files.digest,), 1)
    server.statement = encode(statement)

    answer = await exchange(server.place, DomainKey(DOMAIN, public_of(KEY)), "/echo", b"ab")

    assert answer == b"ba"


async def test_a_certificate_that_was_stated_before_is_not_asked_about_again(
    server: Server, files: Files
) -> None:
    trust = DomainKey(DOMAIN, public_of(KEY), files.digest)

    assert await exchange(server.place, trust, "/echo", b"ab") == b"ba"


@pytest.mark.parametrize("wrong", ["key", "certificate", "domain"])
async def test_a_statement_that_proves_nothing_stops_the_request(
    server: Server, files: Files, wrong: str
) -> None:
    key = bytes(32) if wrong == "key" else KEY
    digest = bytes(32) if wrong == "certificate" else files.digest
    domain = "ntm.example.net" if wrong == "domain" else DOMAIN
    server.statement = encode(make_statement(domain, key, public_of(key), (digest,), 1))

    with pytest.raises(CertificateWrong):
        await exchange(server.place, DomainKey(DOMAIN, public_of(KEY)), "/echo", b"password")

    assert server.asked == []


async def test_a_dead_address_does_not_hide_a_living_one(server: Server, files: Files) -> None:
    [alive] = server.place.endpoints
    place = Place(NAME, (Endpoint("127.0.0.1", 1), alive))

    assert await exchange(place, Authority(files.authority), "/echo", b"ab") == b"ba"


@pytest.mark.parametrize("turns", range(40))
def test_a_connection_given_up_at_any_moment_hurts_none_that_follows(
    files: Files, turns: int
) -> None:
    """A transport that outlives its socket keeps the next one of that number from its loop.

    Turns are those of the loop before it is given up: TLS begins after about five. What is left
    open makes a ResourceWarning, an error here, once the loop has ended.
    """

    async def give_up() -> bytes:
        server = Server(files)
        await server.open()
        trust = Authority(files.authority)
        async with Tasks() as tasks:
            tasks.start(exchange(server.place, trust, "/echo", b"ab"), "given up")
            for _ in range(turns):
                await asyncio.sleep(0)
        answer = await exchange(server.place, trust, "/echo", b"cd")
        await server.listener.close()
        return answer

    assert asyncio.run(give_up()) == b"dc"
    gc.collect()


async def test_a_place_where_nobody_listens_is_unreachable(files: Files) -> None:
    place = Place(NAME, (Endpoint("127.0.0.1", 1),))

    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
        await exchange(place, Authority(files.authority), "/echo", b"")


async def test_an_error_status_carries_what_the_server_said(server: Server, files: Files) -> None:
    with pytest.raises(StatusWrong, match="the clocks differ") as raised:
        await exchange(server.place, Authority(files.authority), "/broken", b"")

    assert raised.value.status == 401


async def test_an_endless_answer_is_cut(server: Server, files: Files) -> None:
    async with connect(server.place, Authority(files.authority)) as connection:
        with pytest.raises(AnswerWrong):
            await connection.get("/long")


async def test_a_reloaded_certificate_is_presented_to_the_next_connection(
    server: Server, files: Files, other_files: Files
) -> None:
    shutil.copy(other_files.certificate, files.certificate)
    shutil.copy(other_files.key, files.key)

    server.listener.reload()

    answer = await exchange(server.place, Authority(other_files.authority), "/echo", b"ab")
    assert answer == b"ba"


async def test_tls_below_1_3_is_refused(server: Server) -> None:
    [endpoint] = server.place.endpoints
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await asyncio.open_connection(str(endpoint.host), endpoint.port, ssl=old)
