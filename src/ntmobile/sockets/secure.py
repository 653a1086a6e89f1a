"""TLS inside a connection, for applications that speak it anyway.

The tunnel is encrypted and its peer known without: nothing needs this.
"""

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable

from ntmobile.sockets.stream import Stream


class Secured:
    """A protocol wrapped in TLS, until its handshake is over."""

    def __init__(self, protocol: SSLProtocol, done: asyncio.Future[None]) -> None:
        """Done is set by the handshake."""
        self.protocol = protocol
        self._done = done

    async def transport(self, stream: Stream) -> asyncio.Transport:
        """Return what the wrapped protocol writes to; raises ssl.SSLError, OSError."""
        try:
            await self._done
        except BaseException:
            stream.abort()
            raise
        transport: asyncio.Transport = self.protocol._app_transport
        return transport


def client_side(
    context: bool | ssl.SSLContext, protocol: asyncio.BaseProtocol, hostname: str
) -> Secured:
    """Wrap the protocol of a client; True is the system's trust."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    used = context if isinstance(context, ssl.SSLContext) else ssl.create_default_context()
    wrapped = SSLProtocol(loop, protocol, used, done, server_side=False, server_hostname=hostname)
    return Secured(wrapped, done)


def server_side(
    context: ssl.SSLContext, factory: Callable[[], asyncio.BaseProtocol]
) -> Callable[[], asyncio.BaseProtocol]:
    """Wrap the protocols of a server; a failed handshake costs only its connection."""
    loop = asyncio.get_running_loop()

    def make() -> asyncio.BaseProtocol:
        done: asyncio.Future[None] = loop.create_future()
        # Who failed to shake hands is gone; there is nobody to tell.
        done.add_done_callback(lambda shaken: shaken.cancelled() or shaken.exception())
        return SSLProtocol(loop, factory(), context, done, server_side=True)

    return make
