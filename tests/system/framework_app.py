"""An application that is a node; run as a program on a machine of the lab.

``framework_app.py STATE serve`` sends AMOUNT bytes to whoever connects, and takes as many.
``framework_app.py STATE ask NAME`` connects there, exchanges them at an even pace, says `moving`
once some have come, and at the end prints a JSON object.
"""

import asyncio
import hashlib
import json
import sys

import ntmobile

PORT = 7
AMOUNT = 4_000_000
PIECE = 20_000
PACE_S = 0.02
"""Between two pieces: it takes four seconds."""


def piece(number: int) -> bytes:
    """Return a piece of the stream, unlike all others."""
    return hashlib.shake_128(number.to_bytes(4)).digest(PIECE)


async def send(writer: asyncio.StreamWriter) -> None:
    """Send everything at an even pace."""
    for number in range(AMOUNT // PIECE):
        writer.write(piece(number))
        await writer.drain()
        await asyncio.sleep(PACE_S)
    writer.write_eof()


async def receive(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Return how much came, and whether it was right; says `moving` after a quarter."""
    count, right = 0, True
    while count < AMOUNT:
        got = await reader.readexactly(PIECE)
        right = right and got == piece(count // PIECE)
        count += PIECE
        if count == AMOUNT // 4 and sys.argv[2] == "ask":
            print("moving", flush=True)
    return count, right and await reader.read() == b""


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, bool]:
    """Send and receive at once."""
    async with asyncio.TaskGroup() as group:
        group.create_task(send(writer))
        received = group.create_task(receive(reader))
    writer.close()
    return received.result()


async def serve(state: str) -> None:
    """Exchange with whoever connects."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, right = await exchange(reader, writer)
        assert right

    async with ntmobile.Node.open(state) as node:
        server = await node.start_server(handle, port=PORT)
        print("ready", flush=True)
        await server.serve_forever()


async def ask(state: str, name: str) -> None:
    """Exchange with a node."""
    async with ntmobile.Node.open(state) as node:
        reader, writer = await node.open_connection(name, PORT)
        count, right = await exchange(reader, writer)
        moves = [peer for peer in node.status().peers if peer.last_handover is not None]
        print(json.dumps({"bytes": count, "right": right, "handovers": len(moves)}), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]) if sys.argv[2] == "serve" else ask(sys.argv[1], sys.argv[3]))
