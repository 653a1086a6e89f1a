"""The knock of an RS at a node's door: does a stranger's datagram get in?

Layout (12 bytes, big-endian)::

    kind        1   0x06
    version     1   1
    spare       2   0
    token       8   from the DC; the node brings it back to prove that the knock got in

In clear: the token is worth nothing but to the DC, and only from the node it was made for.
Ours: docs/protocol.md section 7.
"""

import struct
from dataclasses import dataclass
from typing import Self

from ntmobile.errors import DecodeError
from ntmobile.wire.datagram import VERSION, Kind

_LAYOUT = struct.Struct("!BBxxQ")


@dataclass(frozen=True, slots=True)
class Knock:
    """One reachability probe as it travels."""

    token: int

    def encode(self) -> bytes:
        """Return the 12 bytes."""
        return _LAYOUT.pack(Kind.PROBE, VERSION, self.token)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Parse a datagram; raises DecodeError."""
        if len(data) != _LAYOUT.size:
            raise DecodeError(f"probe of {len(data)} bytes")
        kind, version, token = _LAYOUT.unpack(data)
        if (kind, version) != (Kind.PROBE, VERSION):
            raise DecodeError("not a probe")
        return cls(token)
