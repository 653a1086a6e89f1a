"""Two connections made one."""

import asyncio

PIECE = 1 << 16
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def pump(one: Streams, other: Streams) -> None:
    """Copy both ways until both have ended; the end of one half is passed on as such."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(one[0], other[1]))
            group.create_task(_copy(other[0], one[1]))
    except* OSError:
        for _, writer in (one, other):
            writer.transport.abort()
    finally:
        for _, writer in (one, other):
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(PIECE):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
