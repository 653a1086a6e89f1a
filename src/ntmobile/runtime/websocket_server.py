"""The servers' end of WebSockets: which paths lead to which UDP port, and how many may be open.

What a stranger may open is bounded in number, in all and for each source, and each costs a file
descriptor and a port of the loopback address. What comes is handed to the role's UDP port, which
judges it like anything else from a stranger; only STUN is left out, whose answers a source network
shares. Ours: docs/protocol.md section 3.
"""

import asyncio
from collections import Counter

from websockets.server import ServerProtocol

from ntmobile.runtime.websocket import Carrier, loopback_socket
from ntmobile.wire.endpoint import WEB_HOST, Endpoint
from ntmobile.wire.stun import is_stun
from ntmobile.wire.web import MAX_MESSAGE

MAX_OPEN = 4000
MAX_PER_SOURCE = 400
"""A node needs two or three, and many share the address of an office or a proxy."""


class Doors:
    """The WebSockets of one process; counters: opened, refused."""

    def __init__(self) -> None:
        """None leads anywhere yet."""
        self.counters: Counter[str] = Counter()
        self._ports: dict[str, Endpoint] = {}
        self._open: dict[Carrier, str] = {}
        self._sources: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def lead(self, path: str, port: Endpoint) -> None:
        """Hand the datagrams that come under path to this UDP port of this machine."""
        self._ports[path] = port

    def leads(self, path: str) -> bool:
        """Whether a role of this process takes datagrams there."""
        return path in self._ports

    def enter(self, path: str, source: str, request: bytes, transport: asyncio.Transport) -> bool:
        """Take a connection over that asked to be upgraded; False when it must be refused."""
        crowded = len(self._open) >= MAX_OPEN or self._sources[source] >= MAX_PER_SOURCE
        protocol = ServerProtocol(max_size=MAX_MESSAGE)
        protocol.receive_data(request)
        wanted = next(iter(protocol.events_received()), None)
        if crowded or wanted is None:
            self.counters["refused"] += 1
            return False
        protocol.send_response(protocol.accept(wanted))  # type: ignore[arg-type]
        try:
            udp = loopback_socket(str(WEB_HOST), self._ports[path])
        except OSError:
            self.counters["refused"] += 1
            return False
        carrier = Carrier(
            protocol,
            udp,
            ended=lambda: self._leave(carrier),
            admits=lambda datagram: not is_stun(datagram),
            pings=False,
        )
        self._open[carrier] = source
        self._sources[source] += 1
        self.counters["opened"] += 1
        transport.set_protocol(carrier)
        carrier.connection_made(transport)
        if protocol.handshake_exc is not None:
            carrier.abort()
        return True

    def close(self) -> None:
        """Ends them all."""
        for carrier in tuple(self._open):
            carrier.close()

    def _leave(self, carrier: Carrier) -> None:
        source = self._open.pop(carrier, None)
        if source is None:
            return
        self._sources[source] -= 1
        if not self._sources[source]:
            del self._sources[source]
