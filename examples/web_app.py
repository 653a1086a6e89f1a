"""A web application reachable at its node's name, without root: python web_app.py STATE."""

import asyncio
import sys

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

import ntmobile
from ntmobile.sockets.asgi import serve


async def who(request: Request) -> JSONResponse:
    """Tell who asks; the tunnel proves it."""
    return JSONResponse({"you": request.scope["extensions"]["ntmobile"]["fqdn"]})


async def echo(socket: WebSocket) -> None:
    """Send back what comes."""
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


app = Starlette(routes=[Route("/", who), WebSocketRoute("/echo", echo)])


async def main() -> None:
    """Serve until interrupted."""
    async with ntmobile.Node.open(sys.argv[1]) as node, serve(node, app, port=80):
        print(f"http://{node.fqdn}/", flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
