"""Ask a node's web application with httpx, without root: python web_client.py STATE NAME."""

import asyncio
import sys

import httpx

import ntmobile
from ntmobile.sockets.web import HttpTransport


async def main(state: str, name: str) -> None:
    """Ask twice, over one connection."""
    async with (
        ntmobile.Node.open(state) as node,
        httpx.AsyncClient(transport=HttpTransport(node)) as client,
    ):
        for _ in range(2):
            print((await client.get(f"http://{name}/")).text)


asyncio.run(main(*sys.argv[1:]))
