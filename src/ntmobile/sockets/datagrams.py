"""A UDP port of the node as an asyncio transport."""

import asyncio
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from ntmobile.sockets.events import CLOSED, Events
from ntmobile.wire.endpoint import Endpoint, Host

READS_AT_ONCE = 64
"""After so many the event loop gets a turn."""


class Datagrams(asyncio.DatagramTransport):
    """Addresses are (host, port) with a virtual address as the host.

    With a remote only its datagrams arrive, and `sendto` needs no address.
    """

    def __init__(
        self,
        events: Events,
        protocol: asyncio.DatagramProtocol,
        *,
        port: int,
        own: Callable[[int], Host],
        remote: Endpoint | None,
        fqdn: str | None,
    ) -> None:
        """Takes the port, 0 for any free one; raises OSError (EADDRINUSE)."""
        self._events = events
        self._stack = events.stack
        self._number, self.port = self._stack.bind(port)
        version = remote.version if remote is not None else 4
        names: dict[str, Any] = {"sockname": (str(own(version)), self.port)}
        if remote is not None:
            names |= {"peername": (str(remote.host), remote.port), "fqdn": fqdn}
        super().__init__(names)
        self._protocol = protocol
        self._remote = remote
        self._closed = False
        events.subscribe(self._number, self._read)

    def begin(self) -> None:
        """Tell the protocol."""
        self._protocol.connection_made(self)

    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None:  # noqa: ANN401
        """Sends one datagram; what the path cannot carry is told to error_received."""
        there = self._remote if addr is None else Endpoint(ip_address(addr[0]), addr[1])
        if there is None:
            raise ValueError("sendto() needs an address: this endpoint has no remote")
        if self._closed:
            return
        try:
            self._stack.send_to(self._number, there.host.packed, there.port, bytes(data))
        except OSError as error:
            self._protocol.error_received(error)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Replaces the protocol."""
        assert isinstance(protocol, asyncio.DatagramProtocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Returns the protocol."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self._closed

    def close(self) -> None:
        """Gives the port back."""
        if not self._closed:
            self._closed = True
            self._events.forget(self._number)
            self._stack.unbind(self._number)
            self._events.loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        """Gives the port back."""
        self.close()

    def _read(self, what: int = 0) -> None:
        if what & CLOSED:
            return self.close()
        for _ in range(READS_AT_ONCE):
            if self._closed:
                return
            try:
                datagram = self._stack.receive_from(self._number)
            except OSError as error:
                self._protocol.error_received(error)
                continue
            if datagram is None:
                return
            self._give(datagram[1], Endpoint.of(*datagram[0]))
        self._events.loop.call_soon(self._read)

    def _give(self, payload: bytes, source: Endpoint) -> None:
        if self._remote in (None, source):
            self._protocol.datagram_received(payload, (str(source.host), source.port))
