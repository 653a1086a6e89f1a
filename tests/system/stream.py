"""A web server that sends numbered blocks at an even pace: GET /BLOCKS. Run as a program."""

import asyncio
import sys
from contextlib import suppress

BLOCK = 8192
NUMBER = 8
PACE_S = 0.004
"""A block every 4 ms: 2 MB/s, so that a stall shows as time and not as a full buffer."""


def block(number: int) -> bytes:
    """Return the block of that number, which no other block equals."""
    return number.to_bytes(NUMBER) * (BLOCK // NUMBER)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send as many blocks as the request's path says."""
    # The other end may go away at any time; the next one is welcome.
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        request = await reader.readuntil(b"\r\n\r\n")
        await send(int(request.split()[1].strip(b"/")), writer)
    writer.close()


async def send(blocks: int, writer: asyncio.StreamWriter) -> None:
    """Send so many blocks, each at its time; raises ConnectionError."""
    writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % (blocks * BLOCK))
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(blocks):
        writer.write(block(number))
        await writer.drain()
        await asyncio.sleep(began + number * PACE_S - loop.time())


async def main(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.start_server(answer, None, port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
