"""The frame of netlink messages: a header, and attributes that may hold attributes.

Source: netlink(7).
"""

import struct

HEADER = struct.Struct("=IHHII")
"""Length with the header, type, flags, sequence, port."""
ERROR, DONE = 2, 3
REQUEST, DUMP_INTERRUPTED, DUMP = 0x1, 0x10, 0x300
NESTED = 0x8000

_ATTRIBUTE = struct.Struct("=HH")


def attribute(kind: int, payload: bytes) -> bytes:
    """Returns one attribute, padded to four bytes."""
    return (
        _ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + payload + bytes(-len(payload) % 4)
    )


def attributes(data: bytes, at: int = 0) -> dict[int, bytes]:
    """Returns the payloads by type, flags taken off; the last of a type wins."""
    found: dict[int, bytes] = {}
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[at + _ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3
    return found
