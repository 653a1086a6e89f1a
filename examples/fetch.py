"""Fetch a page from another node by its name, without root: python fetch.py STATE NAME."""

import asyncio
import sys

import ntmobile


async def main(state: str, name: str) -> None:
    """Fetch it."""
    async with ntmobile.Node.open(state) as node:
        reader, writer = await node.open_connection(name, 80)
        writer.write(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        print(head.split(b"\r\n")[0].decode(), body.decode(), sep="\n", end="")
        writer.close()


asyncio.run(main(*sys.argv[1:]))
