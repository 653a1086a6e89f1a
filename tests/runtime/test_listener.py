import asyncio
import contextlib
import gc
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from ntmobile.runtime import listener as module
from ntmobile.runtime.listener import Listener
from ntmobile.wire.endpoint import Endpoint

LOCAL = Endpoint("127.0.0.1", 0)
GUARD_S = 60


class Files(Protocol):
    @property
    def certificate(self) -> Path: ...
    @property
    def key(self) -> Path: ...


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def listener(files: Files) -> AsyncIterator[Listener]:
    application = Starlette(routes=[Route("/", lambda _: PlainTextResponse("here"))])
    listener = Listener(application, files.certificate, files.key)
    yield listener
    await listener.close()


async def connect(endpoint: Endpoint) -> Stream:
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    return await asyncio.open_connection(str(endpoint.host), endpoint.port, ssl=anybody)


async def get(stream: Stream) -> bytes:
    stream[1].write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(GUARD_S):
        return await stream[0].read()


async def test_one_application_is_served_on_several_ports(listener: Listener) -> None:
    endpoints = await listener.listen([LOCAL, LOCAL, Endpoint("::1", 0)])

    for endpoint in endpoints:
        stream = await connect(endpoint)
        assert (await get(stream)).endswith(b"here")
        stream[1].close()


async def test_a_connection_that_asks_nothing_is_cut(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_REQUEST_S", 0.05)
    [endpoint] = await listener.listen([LOCAL])
    reader, writer = await connect(endpoint)

    async with asyncio.timeout(GUARD_S):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()

    assert listener.counters["silent"] == 1


@pytest.mark.parametrize("turns", range(5))
def test_a_connection_that_comes_at_the_very_end_is_closed(files: Files, turns: int) -> None:
    async def serve_briefly() -> None:
        listener = Listener(Starlette(), files.certificate, files.key)
        [endpoint] = await listener.listen([LOCAL])
        with socket.create_connection((str(endpoint.host), endpoint.port)):
            for _ in range(turns):
                await asyncio.sleep(0)
            await listener.close()

    asyncio.run(serve_briefly())

    # What is left open warns when it is collected, and a warning is an error.
    gc.collect()


async def test_one_source_holds_only_so_many_connections(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PER_SOURCE", 3)
    [endpoint] = await listener.listen([LOCAL])
    held = [await connect(endpoint) for _ in range(3)]

    held.append(await connect(endpoint))
    async with asyncio.timeout(GUARD_S):
        while not listener.counters["refused"]:  # noqa: ASYNC110 - a counter has no event
            await asyncio.sleep(0)

    assert (await get(held[0])).endswith(b"here")
    for _, writer in held:
        writer.close()


async def test_garbage_is_a_bad_request_and_the_next_is_served(listener: Listener) -> None:
    [endpoint] = await listener.listen([LOCAL])
    broken = await connect(endpoint)
    broken[1].write(b"\x16\x03 this is not HTTP\r\n\r\n")
    async with asyncio.timeout(GUARD_S):
        said = await broken[0].read()
    broken[1].close()

    assert said.startswith(b"HTTP/1.1 400")
    fresh = await connect(endpoint)
    assert (await get(fresh)).endswith(b"here")
    fresh[1].close()
