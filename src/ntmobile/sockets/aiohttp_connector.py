"""aiohttp over a node: sessions whose URLs name nodes. Needs aiohttp (`pip install aiohttp`).

async with ntmobile.Node.open(state) as node:
    async with aiohttp.ClientSession(connector=NodeConnector(node)) as session:
        async with session.get("http://pc.bob.ntm.example.net/") as answer:
            print(await answer.text())
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from aiohttp import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.tracing import Trace

    from ntmobile.sockets.node import Node


class NodeConnector(aiohttp.BaseConnector):
    """For aiohttp.ClientSession(connector=...), WebSockets too; other arguments are aiohttp's."""

    def __init__(self, node: Node, *, verify: ssl.SSLContext | None = None, **more: Any) -> None:  # noqa: ANN401
        """Belongs to the running loop; verify is for https, by default the system's trust."""
        super().__init__(**more)
        self._node = node
        self._verify = verify

    async def _create_connection(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109
    ) -> ResponseHandler:
        """What aiohttp has each of its connectors define."""
        host, port = req.url.raw_host, req.url.port
        assert host is not None
        assert port is not None
        secure: ssl.SSLContext | bool | None = self._secure(req)
        try:
            async with asyncio.timeout(timeout.sock_connect):
                _, protocol = await self._node.create_connection(
                    lambda: ResponseHandler(loop=self._loop), host, port, ssl=secure
                )
        except TimeoutError:
            # aiohttp makes its own of it.
            raise
        except OSError as error:
            raise aiohttp.ClientConnectorError(req.connection_key, error) from error
        return protocol

    def _secure(self, req: ClientRequest) -> ssl.SSLContext | bool | None:
        if not req.is_ssl():
            return None
        asked = req.ssl
        return asked if isinstance(asked, ssl.SSLContext) else self._verify or True
