"""Serve a page at this node's name, without root: python serve.py STATE."""

import asyncio
import sys

import ntmobile


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request."""
    await reader.readuntil(b"\r\n\r\n")
    page = f"hello, {writer.get_extra_info('fqdn')}\n".encode()
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(page))
    writer.write(page)
    await writer.drain()
    writer.close()


async def main() -> None:
    """Serve until interrupted."""
    async with ntmobile.Node.open(sys.argv[1]) as node:
        server = await node.start_server(handle, port=80)
        print(f"http://{node.fqdn}/", flush=True)
        await server.serve_forever()


asyncio.run(main())
