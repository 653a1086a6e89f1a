"""An application's datagram between virtual addresses, as it travels inside capsules.

Layout: version of the addresses (1 byte, 4 or 6), destination port (2), source port (2), zeros up
to the size of IP and UDP headers, data. The addresses themselves do not travel: the receiver stamps
its own view of both, as the real packet loops do (docs/protocol.md section 5).
"""

import struct
from dataclasses import dataclass
from typing import Self

_HEAD = struct.Struct("!BHH")
OVERHEAD = {4: 28, 6: 48}
"""Size of IP and UDP headers."""


@dataclass(frozen=True, slots=True)
class Inner:
    """One datagram of an application."""

    version: int
    source_port: int
    port: int
    data: bytes

    @property
    def size(self) -> int:
        """Bytes as an MTU counts them."""
        return OVERHEAD[self.version] + len(self.data)

    def encode(self) -> bytes:
        """Return the bytes that are sealed."""
        head = _HEAD.pack(self.version, self.port, self.source_port)
        return head.ljust(OVERHEAD[self.version], b"\0") + self.data

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """Parse what was opened: it comes from an authentic peer of this simulator."""
        version, port, source_port = _HEAD.unpack_from(content)
        return cls(version, source_port, port, content[OVERHEAD[version] :])
