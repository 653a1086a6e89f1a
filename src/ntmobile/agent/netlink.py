"""The frame of netlink messages: a header, and attributes that may hold attributes.

Source: netlink(7).
"""

import os
import socket
import struct
from collections.abc import Iterator

HEADER = struct.Struct("=IHHII")
"""Length with the header, type, flags, sequence, port."""
ERROR, DONE = 2, 3
REQUEST, ACK, DUMP_INTERRUPTED, DUMP = 0x1, 0x4, 0x10, 0x300
REPLACE, CREATE = 0x100, 0x400
NESTED = 0x8000

_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE_BYTES = 1 << 13


def open_netlink() -> socket.socket:
    """Returns a connection to the network namespace that the calling thread is in."""
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    kernel.settimeout(1)
    kernel.bind((0, 0))
    return kernel


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yields type, flags and body of each netlink message."""
    at = 0
    while at + HEADER.size <= len(data):
        size, kind, flags, _, _ = HEADER.unpack_from(data, at)
        if size < HEADER.size:
            return
        yield kind, flags, data[at + HEADER.size : at + size]
        at += (size + 3) & ~3


def change(kind: int, flags: int, body: bytes) -> None:
    """Changes one thing; the kernel answers within the call, no waiting.

    Raises OSError with the kernel's reason.
    """
    header = HEADER.pack(HEADER.size + len(body), kind, REQUEST | ACK | flags, 1, 0)
    with open_netlink() as kernel:
        kernel.send(header + body)
        for answer, _, payload in messages(kernel.recv(_RECEIVE_BYTES)):
            code = -struct.unpack_from("=i", payload)[0] if answer == ERROR else 0
            if code:
                raise OSError(code, os.strerror(code))


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
