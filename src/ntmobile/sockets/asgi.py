"""An ASGI application reachable at its node's name.

    async with ntmobile.Node.open(state) as node, serve(node, app, port=80):
        ...

uvicorn's protocols run on the node's own server. `scope["extensions"]["ntmobile"]["fqdn"]` is the
authenticated name of who asks.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.lifespan.on import LifespanOn
from uvicorn.server import ServerState

from ntmobile.errors import StateError
from ntmobile.sockets.node import Node
from ntmobile.sockets.server import Server

STOP_S = 5.0
"""What answers under way get to finish."""


@asynccontextmanager
async def serve(
    node: Node, application: ASGIApp, *, port: int = 80, ssl: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """Serve HTTP and WebSockets while the context is entered; raises OSError (EADDRINUSE)."""
    named = _Named(node, application)
    config = uvicorn.Config(named, log_config=None, access_log=False, server_header=False)
    config.load()
    state, lifespan = ServerState(), LifespanOn(config)
    await lifespan.startup()
    if lifespan.should_exit:
        raise StateError("the application failed to start; its log says why")

    def make() -> asyncio.Protocol:
        kind: Any = config.http_protocol_class
        made: asyncio.Protocol = kind(config=config, server_state=state, app_state=lifespan.state)
        return made

    server = await node.create_server(make, port=port, ssl=ssl)
    try:
        yield server
    finally:
        server.close()
        await _finish(state)
        await lifespan.shutdown()


async def _finish(state: ServerState) -> None:
    for connection in list(state.connections):
        connection.shutdown()
    if state.tasks:
        await asyncio.wait(list(state.tasks), timeout=STOP_S)


class _Named:
    """The application, told who asks."""

    def __init__(self, node: Node, application: ASGIApp) -> None:
        self._node = node
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if client:
            extensions = scope.setdefault("extensions", {})
            extensions["ntmobile"] = {"fqdn": self._node.whois(ip_address(client[0]))}
        await self._application(scope, receive, send)
