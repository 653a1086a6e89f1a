"""Frames on a TCP connection: a length, then a signalling datagram.

    length      2   of what follows, big-endian; 45 to 1300
    datagram        as `wire.datagram`; counters rise by one a frame and direction

Ours: docs/protocol.md section 9.
"""

from ntmobile.errors import DecodeError
from ntmobile.wire.datagram import HEADER_SIZE, MAX_CARRYING, TAG_SIZE

LENGTH_SIZE = 2


def frame(datagram: bytes) -> bytes:
    """Return the datagram as a frame."""
    return len(datagram).to_bytes(LENGTH_SIZE) + datagram


def split(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the whole datagrams at the start of what came, and the rest.

    Raises DecodeError where a length is impossible: the frames after it are lost for good.
    """
    found, start = [], 0
    while len(data) - start >= LENGTH_SIZE:
        length = int.from_bytes(data[start : start + LENGTH_SIZE])
        if not HEADER_SIZE + TAG_SIZE < length <= MAX_CARRYING:
            raise DecodeError(f"frame of {length} bytes")
        end = start + LENGTH_SIZE + length
        if len(data) < end:
            break
        found.append(data[start + LENGTH_SIZE : end])
        start = end
    return found, data[start:]
