"""Which way a connection goes: to a node through its tunnel, else by the ordinary network."""

import asyncio
import errno
import socket
from dataclasses import dataclass

from ntmobile.sockets.connecting import connect
from ntmobile.sockets.events import Events
from ntmobile.sockets.names import Names, literal_of
from ntmobile.wire.endpoint import Endpoint

LIMIT = 1 << 16
CONNECT_S = 30.0
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Dialer:
    """Opens what an application asked the proxy for."""

    names: Names
    events: Events

    async def dial(self, host: str, port: int) -> Streams:
        """Connect; raises OSError, of which NameFailed says why there is no tunnel."""
        async with asyncio.timeout(CONNECT_S):
            if await self.is_node(host):
                return await self._through_tunnel(host, port)
            return await asyncio.open_connection(host, port, limit=LIMIT)

    async def is_node(self, host: str) -> bool:
        """Whether a host is a node's; one that the ordinary network knows is not.

        The order of docs/protocol.md section 6: names of the own domain and of known peers are
        nodes at once, all others go to the ordinary resolver first.
        """
        address = literal_of(host)
        if address is not None:
            return self.names.owner(address) is not None
        if self.names.is_known(host) and host != "localhost":
            return True
        try:
            await asyncio.get_running_loop().getaddrinfo(host, 0, type=socket.SOCK_STREAM)
        except OSError:
            return True
        return False

    async def _through_tunnel(self, host: str, port: int) -> Streams:
        remote = Endpoint((await self.names.hosts(host))[0], port)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LIMIT, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        fqdn = self.names.owner(remote.host)
        stream = await connect(self.events, remote, protocol, fqdn=fqdn)
        return reader, asyncio.StreamWriter(stream, protocol, reader, loop)


def errno_of(error: OSError) -> int:
    """Return the reason as a number; a time-out has one, too."""
    return errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno or errno.EIO
