"""A TCP port of the node on which peers may connect."""

import asyncio
from collections.abc import Callable
from typing import Self

from ntmobile.sockets.events import CLOSED, Events
from ntmobile.sockets.stream import Stream
from ntmobile.wire.endpoint import Endpoint, Host

Factory = Callable[[], asyncio.BaseProtocol]


class Server(asyncio.AbstractServer):
    """Accepts until it is closed; connections that stand stay."""

    def __init__(
        self,
        events: Events,
        factory: Factory,
        owner: Callable[[Host], str | None],
        *,
        port: int,
        backlog: int,
    ) -> None:
        """Takes the port, 0 for any free one; raises OSError (EADDRINUSE)."""
        self._events = events
        self._factory = factory
        self._owner = owner
        self._number, self.port = events.stack.listen(port, backlog)
        self._ended = asyncio.Event()
        events.subscribe(self._number, self._accept)

    def is_serving(self) -> bool:
        """Whether peers may connect."""
        return not self._ended.is_set()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""
        return self._events.loop

    async def start_serving(self) -> None:
        """Nothing to do: it serves from the beginning."""

    async def serve_forever(self) -> None:
        """Serve until cancelled, then close."""
        try:
            await self._ended.wait()
        finally:
            self.close()

    def close(self) -> None:
        """Gives the port back."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._events.forget(self._number)
        self._events.stack.close_listener(self._number)

    async def wait_closed(self) -> None:
        """Wait until it is closed."""
        await self._ended.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def _accept(self, what: int) -> None:
        if what & CLOSED:
            return self.close()
        while (accepted := self._events.stack.accept(self._number)) is not None:
            number, local, remote = accepted
            peer = Endpoint.of(*remote)
            stream = Stream(
                self._events,
                number,
                self._factory(),
                local=Endpoint.of(*local),
                remote=peer,
                fqdn=self._owner(peer.host),
            )
            stream.begin()
