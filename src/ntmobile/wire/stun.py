"""STUN Binding (RFC 8489): a request, and the answer that says which address it came from.

Message: type 2, length 2, magic cookie 4, transaction id 12, then attributes of type 2, length 2
and a value padded to 4. Of all attributes only XOR-MAPPED-ADDRESS (0x0020) is made or read:
0, family, port ^ the cookie's first 16 bits, address ^ (cookie, transaction id). Source: RFC 8489,
sections 5 and 14.2.
"""

import struct
from dataclasses import dataclass
from typing import Self

from ntmobile.errors import DecodeError
from ntmobile.wire.endpoint import Endpoint

MAGIC = 0x2112A442
HEADER_SIZE = 20
TRANSACTION_SIZE = 12
REQUEST = 0x0001
SUCCESS = 0x0101
XOR_MAPPED_ADDRESS = 0x0020
FINGERPRINT = 0x8028
_HEADER = struct.Struct("!HHI12s")
_ATTRIBUTE = struct.Struct("!HH")
_MAGIC = MAGIC.to_bytes(4)
_FAMILIES = {4: 1, 6: 2}
_SIZES = {1: 4, 2: 16}


def is_stun(data: bytes) -> bool:
    """Whether a datagram is STUN by its first bits and its cookie (RFC 7983, section 7)."""
    return len(data) >= HEADER_SIZE and data[0] < 4 and data[4:8] == _MAGIC


@dataclass(frozen=True, slots=True)
class BindingRequest:
    """Asks: what is my address?"""

    transaction: bytes

    def encode(self) -> bytes:
        """Return the 20 bytes."""
        return _HEADER.pack(REQUEST, 0, MAGIC, self.transaction)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Parse a request, whatever attributes it has; raises DecodeError."""
        return cls(_transaction(data, REQUEST))


@dataclass(frozen=True, slots=True)
class BindingResponse:
    """Says: your datagram came from there."""

    transaction: bytes
    mapped: Endpoint

    def encode(self) -> bytes:
        """Return the 32 (IPv4) or 44 (IPv6) bytes."""
        host = self.mapped.host.packed
        family = _FAMILIES[self.mapped.version]
        port = self.mapped.port ^ MAGIC >> 16
        value = struct.pack("!xBH", family, port) + _mask(host, self.transaction)
        attribute = _ATTRIBUTE.pack(XOR_MAPPED_ADDRESS, len(value)) + value
        return _HEADER.pack(SUCCESS, len(attribute), MAGIC, self.transaction) + attribute

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Parse a success response; raises DecodeError when it has no readable address."""
        transaction = _transaction(data, SUCCESS)
        rest = data[HEADER_SIZE:]
        while len(rest) >= _ATTRIBUTE.size:
            kind, size = _ATTRIBUTE.unpack_from(rest)
            value = rest[_ATTRIBUTE.size : _ATTRIBUTE.size + size]
            if len(value) < size:
                break
            if kind == XOR_MAPPED_ADDRESS:
                return cls(transaction, _mapped(value, transaction))
            rest = rest[_ATTRIBUTE.size + size + -size % 4 :]
        raise DecodeError("no XOR-MAPPED-ADDRESS")


def _transaction(data: bytes, wanted: int) -> bytes:
    if not is_stun(data):
        raise DecodeError("not STUN")
    kind, size, _, transaction = _HEADER.unpack_from(data)
    if kind != wanted:
        raise DecodeError(f"STUN type {kind:#06x}")
    if size % 4 or size != len(data) - HEADER_SIZE:
        raise DecodeError("wrong STUN length")
    return bytes(transaction)


def _mapped(value: bytes, transaction: bytes) -> Endpoint:
    if len(value) < 4 or _SIZES.get(value[1]) != len(value) - 4:
        raise DecodeError("wrong XOR-MAPPED-ADDRESS")
    port = int.from_bytes(value[2:4]) ^ MAGIC >> 16
    return Endpoint.of(_mask(value[4:], transaction), port)


def _mask(host: bytes, transaction: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(host, _MAGIC + transaction, strict=False))
