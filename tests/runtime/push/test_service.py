"""What every push service may do to us, over real TLS and HTTP/2."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from tests.runtime.push.rig import LOOPBACK, NAME, SetClock, tls_files

from ntmobile.lab.push.http2 import Http2Server, Request, Response
from ntmobile.runtime.push.outcome import SettingsWrong, TryLater
from ntmobile.runtime.push.service import MAX_ANSWER, Reply, Service, trusting
from ntmobile.wire.endpoint import Endpoint

Handle = Callable[[Request], Awaitable[Response]]
Ask = Callable[..., Awaitable[Reply | TryLater | SettingsWrong]]
NOW_S = 1_800_000_000.0


@pytest.fixture
async def ask() -> AsyncIterator[Ask]:
    """Serves a handler and posts to it."""
    tls, ca = tls_files()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls)
    opened: list[Service | Http2Server] = []

    async def post(handle: Handle, *, answer_s: float = 5.0) -> Reply | TryLater | SettingsWrong:
        server = Http2Server(handle, context)
        service = Service(trusting(ca), SetClock(NOW_S), answer_s=answer_s)
        opened.extend((service, server))
        endpoint = await server.listen(Endpoint(LOOPBACK, 0))
        return await service.post(f"https://{NAME}:{endpoint.port}/x", {"a": "b"}, b"body")

    yield post
    for each in opened:
        await each.close()


async def test_what_is_sent_arrives_and_the_answer_comes_back(ask: Ask) -> None:
    async def echo(request: Request) -> Response:
        assert (request.method, request.path, request.headers["a"]) == ("POST", "/x", "b")
        return Response(200, {}, request.body)

    reply = await ask(echo)

    assert reply == Reply(NAME, 200, None, b"body")


async def test_a_service_that_says_nothing_is_not_waited_for(ask: Ask) -> None:
    async def hang(request: Request) -> Response:
        return await asyncio.get_running_loop().create_future()

    assert isinstance(await ask(hang, answer_s=0.05), TryLater)


async def test_a_long_answer_is_cut(ask: Ask) -> None:
    async def talk(request: Request) -> Response:
        return Response(400, {}, b"x" * (3 * MAX_ANSWER))

    reply = await ask(talk)

    assert isinstance(reply, Reply)
    assert len(reply.body) == MAX_ANSWER
    assert len(reply.text) < 300


async def test_a_redirection_is_not_followed(ask: Ask) -> None:
    asked = 0

    async def redirect(request: Request) -> Response:
        nonlocal asked
        asked += 1
        return Response(307, {"location": "/elsewhere"})

    reply = await ask(redirect)

    assert isinstance(reply, Reply)
    assert (reply.status, asked) == (307, 1)


async def test_proxies_of_the_environment_are_left_alone(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")

    async def fine(request: Request) -> Response:
        return Response(200)

    assert isinstance(await ask(fine), Reply)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("99999999999", 86400.0),
        ("-1", None),
        ("soon", None),
        ("", None),
        (format_datetime(datetime.fromtimestamp(NOW_S, UTC) + timedelta(seconds=90)), 90.0),
        (format_datetime(datetime.fromtimestamp(NOW_S, UTC) - timedelta(days=1)), 0.0),
    ],
)
async def test_retry_after_is_seconds_or_a_date(
    ask: Ask, value: str, seconds: float | None
) -> None:
    async def busy(request: Request) -> Response:
        return Response(503, {"retry-after": value})

    reply = await ask(busy)

    assert isinstance(reply, Reply)
    assert reply.retry_after_s == seconds
