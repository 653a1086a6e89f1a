"""Ask a node's web application with aiohttp, without root: python aiohttp_client.py STATE NAME."""

import asyncio
import sys

import aiohttp

import ntmobile
from ntmobile.sockets.aiohttp_connector import NodeConnector


async def main(state: str, name: str) -> None:
    """Ask for its page, then over a WebSocket."""
    async with (
        ntmobile.Node.open(state) as node,
        aiohttp.ClientSession(connector=NodeConnector(node)) as session,
    ):
        async with session.get(f"http://{name}/") as answer:
            print(await answer.text())
        async with session.ws_connect(f"http://{name}/echo") as socket:
            await socket.send_str("still there?")
            print(await socket.receive_str())


asyncio.run(main(*sys.argv[1:]))
