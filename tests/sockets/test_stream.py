import asyncio
import ssl
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from tests.stacks import ALICE, BOB

from ntmobile.sockets.connecting import connect
from ntmobile.sockets.secure import client_side, server_side
from ntmobile.sockets.server import Server
from ntmobile.sockets.stream import HIGH_WATER, Stream
from ntmobile.wire.endpoint import Endpoint

pytestmark = pytest.mark.paper("Implementation models")

if TYPE_CHECKING:
    from conftest import End

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Ends = tuple["End", "End"]
MUCH = bytes(range(256)) * 8000
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])


def serve(end: "End", handle: Callable[..., Awaitable[None] | None]) -> Server:
    def make() -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), handle)

    return end.serve(make)


async def open_streams(end: "End", server: Server, family: int = 0) -> Streams:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    remote = Endpoint.of(BOB[family], server.port)
    stream = await connect(end.events, remote, protocol, fqdn="bob")
    return reader, asyncio.StreamWriter(stream, protocol, reader, asyncio.get_running_loop())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


@FAMILIES
async def test_what_is_written_comes_back_and_then_the_end(ends: Ends, family: int) -> None:
    alice, bob = ends
    async with serve(bob, echo) as server:
        reader, writer = await open_streams(alice, server, family)
        writer.write(MUCH)
        writer.write_eof()

        assert await reader.read() == MUCH
        writer.close()
        await writer.wait_closed()


async def test_both_ends_know_the_addresses_and_the_name_of_the_other(ends: Ends) -> None:
    alice, bob = ends
    heard: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(writer)

    async with serve(bob, handle) as server:
        _, here = await open_streams(alice, server)
        there = await heard

    own, peer = str(ip_address(ALICE[0])), str(ip_address(BOB[0]))
    assert here.get_extra_info("peername") == (peer, server.port)
    assert here.get_extra_info("fqdn") == "bob"
    assert there.get_extra_info("peername") == here.get_extra_info("sockname")
    assert there.get_extra_info("peername")[0] == own
    assert there.get_extra_info("fqdn") == f"owner of {own}"
    here.close()
    there.close()


async def test_who_does_not_read_makes_the_writer_wait(ends: Ends) -> None:
    alice, bob = ends
    go = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(b"%d" % len(await reader.read()))
        writer.close()

    async with serve(bob, handle) as server:
        reader, writer = await open_streams(alice, server)
        written = 0
        stream = writer.transport
        assert isinstance(stream, Stream)
        while stream.get_write_buffer_size() <= HIGH_WATER:
            writer.write(MUCH)
            written += len(MUCH)
            await asyncio.sleep(0)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(writer.drain())
            await asyncio.sleep(0)
            assert not waiting.done()
            go.set()
        writer.write_eof()
        assert await reader.read() == b"%d" % written
        writer.close()


@FAMILIES
async def test_a_node_reaches_its_own_server(ends: Ends, family: int) -> None:
    _, bob = ends
    async with serve(bob, echo) as server:
        reader, writer = await open_streams(bob, server, family)
        writer.write(MUCH)
        writer.write_eof()

        assert await reader.read() == MUCH
        assert writer.get_extra_info("peername")[0] == writer.get_extra_info("sockname")[0]
        writer.close()


async def test_where_it_does_not_listen_a_node_refuses_itself(ends: Ends) -> None:
    _, bob = ends

    with pytest.raises(ConnectionRefusedError):
        await connect(bob.events, Endpoint.of(BOB[0], 9), asyncio.Protocol(), fqdn=None)


async def test_where_nobody_listens_connecting_is_refused(ends: Ends) -> None:
    alice, _ = ends

    with pytest.raises(ConnectionRefusedError):
        await connect(alice.events, Endpoint.of(BOB[0], 9), asyncio.Protocol(), fqdn=None)

    assert alice.stack.count() == len(alice.events) == 0


async def test_a_cancelled_attempt_leaves_nothing(ends: Ends) -> None:
    alice, _ = ends
    alice.engine.clear_path(7)
    async with asyncio.TaskGroup() as group:
        trying = group.create_task(
            connect(alice.events, Endpoint.of(BOB[0], 9), asyncio.Protocol(), fqdn=None)
        )
        await asyncio.sleep(0)
        assert alice.stack.count() == 1
        trying.cancel()

    assert alice.stack.count() == len(alice.events) == 0


async def test_an_abort_is_a_reset_at_the_other_end(ends: Ends) -> None:
    alice, bob = ends
    seen: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"accepted")
        try:
            await reader.read()
        except ConnectionError as error:
            seen.set_result(error)
        writer.close()

    async with serve(bob, handle) as server:
        reader, writer = await open_streams(alice, server)
        assert await reader.readexactly(8) == b"accepted"
        writer.transport.abort()

        assert isinstance(await seen, ConnectionResetError)
    assert writer.is_closing()


async def test_a_closed_server_refuses_and_its_connections_stay(ends: Ends) -> None:
    alice, bob = ends
    server = serve(bob, echo)
    reader, writer = await open_streams(alice, server)
    writer.write(b"accepted")
    assert await reader.readexactly(8) == b"accepted"
    server.close()
    await server.wait_closed()

    writer.write(b"still here")
    assert await reader.readexactly(10) == b"still here"
    with pytest.raises(ConnectionRefusedError):
        await open_streams(alice, server)
    assert not server.is_serving()
    writer.close()


async def test_a_port_serves_once(ends: Ends) -> None:
    _, bob = ends
    async with serve(bob, echo) as server:
        with pytest.raises(OSError, match="in use"):
            bob.serve(asyncio.Protocol, port=server.port)


async def test_paused_reading_gives_nothing_until_it_is_resumed(ends: Ends) -> None:
    alice, bob = ends
    got = asyncio.Queue[bytes]()

    accepted: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()

    class Taker(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, Stream)
            transport.pause_reading()
            accepted.set_result(transport)

        def data_received(self, data: bytes) -> None:
            got.put_nowait(data)

    async with bob.serve(Taker) as server:
        _, writer = await open_streams(alice, server)
        writer.write(b"later")
        sender, taker = writer.transport, await accepted
        assert isinstance(sender, Stream)
        # All of it is acknowledged: it is there.
        await until(lambda: alice.stack.unsent(sender._number) == 0)
        await asyncio.sleep(0)
        assert got.empty()
        taker.resume_reading()

        assert await got.get() == b"later"
        writer.close()


async def test_a_hundred_connections_at_once_and_nothing_is_left(ends: Ends) -> None:
    alice, bob = ends

    async def ask(number: int) -> bytes:
        reader, writer = await open_streams(alice, server)
        writer.write(b"%d" % number)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async with serve(bob, echo) as server:
        # As many at once as the server's backlog holds.
        answers = []
        for begin in range(0, 100, 8):
            batch = [ask(number) for number in range(begin, min(begin + 8, 100))]
            answers += await asyncio.gather(*batch)
    await until(lambda: alice.stack.count() == bob.stack.count() == 0)

    assert answers == [b"%d" % number for number in range(100)]
    assert len(alice.events) == len(bob.events) == 0


async def test_tls_works_inside(ends: Ends, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    alice, bob = ends
    client, server_context = tls

    def make() -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), echo)

    async with bob.serve(server_side(server_context, make)) as server:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        secured = client_side(client, protocol, "bob.example")
        remote = Endpoint.of(BOB[0], server.port)
        stream = await connect(alice.events, remote, secured.protocol, fqdn=None)
        transport = await secured.transport(stream)
        transport.write(b"secret")

        assert await reader.readexactly(6) == b"secret"
        transport.close()


async def test_a_wrong_name_ends_tls_and_the_connection(
    ends: Ends, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    alice, bob = ends
    client, server_context = tls
    make = server_side(server_context, asyncio.Protocol)
    async with bob.serve(make) as server:
        secured = client_side(client, asyncio.Protocol(), "eve.example")
        remote = Endpoint.of(BOB[0], server.port)
        stream = await connect(alice.events, remote, secured.protocol, fqdn=None)

        with pytest.raises(ssl.SSLCertVerificationError):
            await secured.transport(stream)

    await until(lambda: alice.stack.count() == 0)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loops work until something holds."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)
