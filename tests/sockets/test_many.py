"""A thousand connections through one node, and nothing that stays of them."""

import asyncio
import gc
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from tests.stacks import BOB

from ntmobile.sockets.connecting import connect
from ntmobile.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from conftest import End

Ends = tuple["End", "End"]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
MANY = 1000
AT_ONCE = 8
"""As many as the server's backlog holds."""
MORE = 40
HUNDREDS = 400
MIB = 1 << 20
MAPPED = 64 * MIB
"""Far less than the buffers of a hundred connections."""


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


def make() -> asyncio.StreamReaderProtocol:
    return asyncio.StreamReaderProtocol(asyncio.StreamReader(), echo)


async def open_many(end: "End", port: int, count: int) -> list[Streams]:
    opened = []
    for begin in range(0, count, AT_ONCE):
        batch = (open_one(end, port) for _ in range(min(AT_ONCE, count - begin)))
        opened += await asyncio.gather(*batch)
    return opened


async def open_one(end: "End", port: int) -> Streams:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    stream = await connect(end.events, Endpoint.of(BOB[0], port), protocol, fqdn=None)
    writer = asyncio.StreamWriter(stream, protocol, reader, asyncio.get_running_loop())
    # Accepted, so that it takes no place in the backlog.
    writer.write(b"?")
    assert await reader.readexactly(1) == b"?"
    return reader, writer


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    said = secrets.token_bytes(5000)
    writer.write(said)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer == said


async def until_none_is_left(*ends: "End") -> None:
    while any(end.stack.count() or len(end.events) for end in ends):  # noqa: ASYNC110
        await asyncio.sleep(0)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def mapped() -> int:
    """Bytes of address space: a connection's buffers count whether touched or not."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def test_a_thousand_connections_at_once_are_all_served(ends: Ends) -> None:
    alice, bob = ends
    server = bob.serve(make)
    streams = await open_many(alice, server.port, MANY)
    assert alice.stack.count() == bob.stack.count() == MANY

    right = await asyncio.gather(*(exchange(*each) for each in streams))

    assert right == [True] * MANY
    server.close()
    await until_none_is_left(alice, bob)


async def test_hundreds_one_after_the_other_leave_no_memory_and_no_descriptor(ends: Ends) -> None:
    alice, bob = ends
    server = bob.serve(make)

    async def batch() -> None:
        opened = await open_many(alice, server.port, AT_ONCE)
        assert all(await asyncio.gather(*(exchange(*each) for each in opened)))

    await batch()
    # What other tests left goes now, not in between.
    gc.collect()
    before = descriptors(), mapped()
    for _ in range(HUNDREDS // AT_ONCE):
        await batch()
    server.close()
    await until_none_is_left(alice, bob)

    assert descriptors() == before[0]
    assert mapped() - before[1] < MAPPED


async def test_what_is_kept_open_is_what_costs(ends: Ends) -> None:
    """The negative twin: the measure sees connections that stay."""
    alice, bob = ends
    server = bob.serve(make)
    kept = await open_many(alice, server.port, AT_ONCE)
    before = mapped()

    kept += await open_many(alice, server.port, MORE)

    assert alice.stack.count() == len(kept) == AT_ONCE + MORE
    # Two ends, each with a buffer of a MiB both ways; some of it may lie where others were before.
    assert mapped() - before > MAPPED
    assert all(await asyncio.gather(*(exchange(*each) for each in kept)))
    server.close()
    await until_none_is_left(alice, bob)
