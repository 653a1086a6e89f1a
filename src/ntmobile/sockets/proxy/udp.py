"""Datagrams through the proxy: one UDP association of SOCKS. Source: RFC 1928, section 7."""

import asyncio
import struct
from ipaddress import IPv4Address, ip_address
from types import TracebackType
from typing import Any, NamedTuple, Self

from ntmobile.runtime.tasks import Tasks
from ntmobile.sockets.datagrams import Datagrams
from ntmobile.sockets.names import literal_of
from ntmobile.sockets.proxy.dialing import Dialer
from ntmobile.wire.endpoint import Host

MOST_NAMES = 256
IPV4, NAME, IPV6 = 1, 3, 4


class Carried(NamedTuple):
    """A datagram with the far end that the application names, or hears from."""

    host: str
    port: int
    payload: bytes


def decode(data: bytes) -> Carried | None:
    """Parse what an application sends; None for fragments and nonsense."""
    if len(data) < 5 or data[2] != 0:
        return None
    kind, rest = data[3], data[4:]
    if kind == NAME:
        size, rest = rest[0], rest[1:]
    else:
        size = {IPV4: 4, IPV6: 16}.get(kind, len(rest))
    if len(rest) < size + 2:
        return None
    packed, [port] = rest[:size], struct.unpack("!H", rest[size : size + 2])
    try:
        host = packed.decode("ascii") if kind == NAME else str(ip_address(packed))
    except ValueError:
        return None
    return Carried(host, port, rest[size + 2 :])


def encode(carried: Carried) -> bytes:
    """Return what an application receives; the host is an address."""
    address = ip_address(carried.host)
    kind = IPV4 if isinstance(address, IPv4Address) else IPV6
    place = address.packed + struct.pack("!H", carried.port)
    return b"\0\0\0" + bytes([kind]) + place + carried.payload


class Association:
    """One UDP port on loopback for the application, one of the node, one of the machine."""

    def __init__(self, dialer: Dialer, host: str) -> None:
        """Entered by `async with`; host is where the application reaches the proxy."""
        self._dialer = dialer
        self._host = host
        self._client: Any = None
        self._tasks = Tasks()
        self._known: dict[str, Host | None] = {}
        """By name: a node's virtual address, or None for the ordinary network."""

    async def __aenter__(self) -> Self:
        loop, names = asyncio.get_running_loop(), self._dialer.names
        await self._tasks.__aenter__()
        self._near, _ = await loop.create_datagram_endpoint(
            lambda: _Hears(self._from_application), local_addr=(self._host, 0)
        )
        self._far, _ = await loop.create_datagram_endpoint(
            lambda: _Hears(self._from_far), local_addr=("0.0.0.0", 0)
        )
        self._node = Datagrams(
            self._dialer.events,
            _Hears(self._from_far),
            port=0,
            own=lambda version: names.addresses[version == 6],
            remote=None,
            fqdn=None,
        )
        self._node.begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for transport in (self._near, self._far, self._node):
            transport.close()
        await self._tasks.close()

    @property
    def place(self) -> tuple[str, int]:
        """Where the application sends to."""
        host, port = self._near.get_extra_info("sockname")[:2]
        return host, port

    def _from_application(self, data: bytes, source: Any) -> None:  # noqa: ANN401
        # Whoever sends first is the application; nobody else may use the association.
        self._client = self._client or source
        carried = decode(data)
        if source != self._client or carried is None:
            return
        if carried.host in self._known:
            self._send(carried)
        elif len(self._known) < MOST_NAMES:
            self._tasks.start(self._find(carried), "name for a datagram")

    async def _find(self, carried: Carried) -> None:
        try:
            node = await self._dialer.is_node(carried.host)
            address = (await self._dialer.names.hosts(carried.host))[0] if node else None
        except OSError:
            return
        self._known[carried.host] = address
        self._send(carried)

    def _send(self, carried: Carried) -> None:
        address = self._known[carried.host]
        if address is not None:
            self._node.sendto(carried.payload, (str(address), carried.port))
        elif literal_of(carried.host) is not None:
            self._far.sendto(carried.payload, (carried.host, carried.port))
        else:
            self._tasks.start(self._send_by_name(carried), "datagram to a name")

    async def _send_by_name(self, carried: Carried) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(carried.host, carried.port)
        except OSError:
            return
        places = [place for *_, place in found if len(place) == 2]
        if places:
            self._far.sendto(carried.payload, places[0])

    def _from_far(self, data: bytes, source: Any) -> None:  # noqa: ANN401
        if self._client is not None:
            self._near.sendto(encode(Carried(source[0], source[1], data)), self._client)


class _Hears(asyncio.DatagramProtocol):
    def __init__(self, take: Any) -> None:  # noqa: ANN401
        self._take = take

    def datagram_received(self, data: bytes, addr: Any) -> None:  # noqa: ANN401
        self._take(data, addr)
