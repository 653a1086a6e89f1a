"""RS, or DCcn to another DC, tells a sender that it knows nothing of what was sent.

Layout (12 bytes, big-endian)::

    kind        1   0x07
    version     1   1
    what        1   1 a capsule's receiver index, 2 a datagram's key identifier
    spare       1   0
    name        8   the index behind four zeros, or the identifier

In clear, for it shares no key with who it does not know. So it is a hint and never more: who gets
it asks under a key, or negotiates anew, which silence would have made it do a little later. It is
shorter than whatever it answers. Ours: docs/protocol.md section 8.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from ntmobile.errors import DecodeError
from ntmobile.wire.datagram import VERSION, Kind

_LAYOUT = struct.Struct("!BBBx8s")
_INDEX_ZEROS = bytes(4)


class What(IntEnum):
    """What is unknown."""

    INDEX = 1
    KEY = 2


@dataclass(frozen=True, slots=True)
class Hint:
    """One hint as it travels."""

    what: What
    name: bytes

    @classmethod
    def index(cls, index: int) -> Self:
        """No capsule from that address with this receiver index is forwarded."""
        return cls(What.INDEX, index.to_bytes(8))

    @classmethod
    def key(cls, identifier: bytes) -> Self:
        """No key of this identifier is shared."""
        return cls(What.KEY, identifier)

    def encode(self) -> bytes:
        """Return the 12 bytes."""
        return _LAYOUT.pack(Kind.HINT, VERSION, self.what, self.name)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Parse a datagram; raises DecodeError."""
        if len(data) != _LAYOUT.size:
            raise DecodeError(f"hint of {len(data)} bytes")
        kind, version, what, name = _LAYOUT.unpack(data)
        if (kind, version) != (Kind.HINT, VERSION) or what not in (What.INDEX, What.KEY):
            raise DecodeError("not a hint")
        if what == What.INDEX and name[:4] != _INDEX_ZEROS:
            raise DecodeError("an index of more than 32 bits")
        return cls(What(what), name)
