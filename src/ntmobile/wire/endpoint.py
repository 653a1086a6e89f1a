"""Transport addresses as they travel: host (4 or 16 bytes) then port (2), big-endian."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Self

Host = IPv4Address | IPv6Address

WEB_HOST = IPv4Address("127.87.83.1")
"""A server knows the nodes behind its WebSockets by this address, each by a port of its own.

No packet from a network can bear it: it is a loopback address, and not the one that others use.
Ours: docs/protocol.md section 3.
"""


class Endpoint:
    """A transport address: an IP address and a UDP or TCP port."""

    __slots__ = ("host", "port")
    __match_args__ = ("host", "port")

    host: Host
    port: int

    def __init__(self, host: Host | str, port: int) -> None:
        """Host as an address or its text form; port within 0 to 65535."""
        if not 0 <= port <= 0xFFFF:
            raise ValueError(f"port {port} is out of range")
        object.__setattr__(self, "host", ip_address(host) if isinstance(host, str) else host)
        object.__setattr__(self, "port", port)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("an Endpoint never changes")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Endpoint) and self.port == other.port and self.host == other.host

    def __hash__(self) -> int:
        return hash((self.host, self.port))

    def __repr__(self) -> str:
        return f"Endpoint({self})"

    def __str__(self) -> str:
        if self.host.version == 6:
            return f"[{self.host}]:{self.port}"
        return f"{self.host}:{self.port}"

    @property
    def is_web(self) -> bool:
        """Whether it stands for a node whose datagrams come in a WebSocket."""
        return self.host == WEB_HOST

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.host.version

    def pack(self) -> bytes:
        """Return the 6 or 18 bytes of the address."""
        return self.host.packed + self.port.to_bytes(2)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Parse 6 or 18 bytes; raises ValueError on any other length."""
        if len(data) not in (6, 18):
            raise ValueError("an endpoint is 6 or 18 bytes")
        return cls.of(data[:-2], int.from_bytes(data[-2:]))

    @classmethod
    def of(cls, host: bytes, port: int) -> Self:
        """Build from the packed address (4 or 16 bytes) that the packet loops hand over."""
        return cls(IPv4Address(host) if len(host) == 4 else IPv6Address(host), port)
