"""The proxy model as the agent sees it: a stack in this process, proxies on loopback before it.

Source: paper, abstract (implementation models). Nothing of it needs root.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from types import TracebackType
from typing import Self

import structlog

from ntmobile.agent.resolv_conf import Nameservers
from ntmobile.agent.session import Session
from ntmobile.agent.state import State
from ntmobile.agent.views import DnsView
from ntmobile.errors import Remedy
from ntmobile.proto.node.events import Registered
from ntmobile.sockets.events import Events
from ntmobile.sockets.model import FrameworkModel
from ntmobile.sockets.names import Names
from ntmobile.sockets.proxy import http, socks
from ntmobile.sockets.proxy.dialing import Dialer
from ntmobile.sockets.proxy.pump import pump
from ntmobile.sockets.server import Server
from ntmobile.wire.endpoint import Endpoint

Place = tuple[str, int]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Dialer], Awaitable[None]]
SOCKS: Place = ("127.0.0.1", 1055)
HTTP: Place = ("127.0.0.1", 1056)
_LOG = structlog.get_logger(__name__)


class ProxyModel:
    """Entered before the node starts; attached once it is registered; detached first."""

    def __init__(self, state: State, *, socks: Place = SOCKS, http: Place = HTTP) -> None:
        """Reads the state when it attaches; both places must be on loopback."""
        self._framework = FrameworkModel(secrets.SystemRandom())
        self._state = state
        self._places = (socks, http)
        self._stack = AsyncExitStack()
        self._reach: tuple[Names, Events] | None = None
        self._exposed: dict[int, Server] = {}
        self.protect = self._framework.protect
        self.avoid = self._framework.avoid
        self.servers = Nameservers()
        self.attached = False

    async def __aenter__(self) -> Self:
        """Takes the places of the proxies, so that a clash shows at once; raises Remedy."""
        for place in self._places:
            if not ip_address(place[0]).is_loopback:
                raise Remedy(
                    f"{place[0]} is not on loopback, and the proxy asks for no password",
                    remedy="give an address such as 127.0.0.1",
                )
        self._stack.callback(self._framework.close)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Gives everything back."""
        await self.detach()

    async def look_around(
        self, towards: IPv4Address | None
    ) -> tuple[IPv4Network | IPv6Network, ...]:
        """Return no network: names decide which way a connection goes, not addresses."""
        return await self._framework.look_around(towards)

    async def attach(self, session: Session, registered: Registered) -> None:
        """Serves, or follows the node's new addresses; raises Remedy."""
        self._framework.attach(session, registered)
        if self.attached:
            return
        names = Names(session, self._state)
        events = Events(self._framework.stack, asyncio.get_running_loop())
        self._stack.callback(events.close)
        self._reach = names, events
        dialer = Dialer(names, events)
        for place, serve in zip(self._places, (socks.serve, http.serve), strict=True):
            await self._listen(place, serve, dialer)
        for port in self._state.choices.exposed:
            self.expose(port)
        self.attached = True

    async def detach(self) -> None:
        """Closes all; a second time does nothing."""
        self.attached = False
        self._reach = None
        self._exposed.clear()
        await self._stack.aclose()

    def follow_choices(self) -> None:
        """Nothing: only the system model leads to networks beyond nodes."""

    def troubles(self) -> list[str]:
        """What keeps the proxies from working: nothing that is not said when they begin."""
        return []

    def dns(self) -> DnsView:
        """Names are resolved inside the proxies; nothing is hooked."""
        return DnsView(
            hook="off",
            detail="the proxy model resolves names inside",
            stub=None,
            upstreams=tuple(map(str, self.servers())),
            zones=(),
            counters={},
        )

    def expose(self, port: int) -> None:
        """Offers a TCP port of this machine's loopback to peers, under the same number."""
        if self._reach is None or port in self._exposed:
            return
        names, events = self._reach

        def make() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(), serve)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                here = await asyncio.open_connection("localhost", port)
            except OSError as error:
                _LOG.warning("nothing listens on an exposed port", port=port, error=str(error))
                writer.transport.abort()
                return
            await pump((reader, writer), here)

        self._exposed[port] = Server(events, make, names.owner, port=port, backlog=100)

    def conceal(self, port: int) -> None:
        """Takes the offer back; connections that stand stay."""
        server = self._exposed.pop(port, None)
        if server is not None:
            server.close()

    async def _listen(self, place: Place, serve: Serve, dialer: Dialer) -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await serve(reader, writer, dialer)

        try:
            server = await asyncio.start_server(handle, *place)
        except OSError as error:
            raise Remedy(
                f"the proxy cannot listen on {Endpoint(ip_address(place[0]), place[1])}: "
                f"{error.strerror}",
                remedy="choose another port: ntm proxy --socks 127.0.0.1:PORT --http ...",
            ) from error
        self._stack.callback(server.close)
