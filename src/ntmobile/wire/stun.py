"""STUN Binding (RFC 8489) with what of RFC 5780 needs no second address of the server.

Message: type 2, length 2, magic cookie 4, transaction id 12, then attributes of type 2, length 2
and a value padded to 4. Attributes made and read::

    XOR-MAPPED-ADDRESS 0x0020   response: 0, family, port ^ the cookie's first 16 bits,
                                address ^ (cookie, transaction id)
    CHANGE-REQUEST     0x0003   request: flags 4; 0x2: answer from your other port
    RESPONSE-PORT      0x0027   request: answer to this port of my address 2, padding 2
    OTHER-ADDRESS      0x802c   response to CHANGE-REQUEST: 0, family, other port, 0.0.0.0 for
                                "this same address"
    ERROR-CODE         0x0009   error: 0 2, class 1, number 1
    UNKNOWN-ATTRIBUTES 0x000a   error: types of 2

So a client that does not ask for OTHER-ADDRESS is answered with XOR-MAPPED-ADDRESS only. The flag
"answer from your other address" (0x4) is refused: that source is another server, and the same is
learned by RESPONSE-PORT at that one. Source: RFC 8489, sections 5 and 14; RFC 5780, section 7.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from ntmobile.errors import DecodeError
from ntmobile.wire.endpoint import Endpoint

MAGIC = 0x2112A442
HEADER_SIZE = 20
TRANSACTION_SIZE = 12
REQUEST = 0x0001
SUCCESS = 0x0101
ERROR = 0x0111
CHANGE_REQUEST = 0x0003
UNKNOWN_ATTRIBUTES = 0x000A
ERROR_CODE = 0x0009
XOR_MAPPED_ADDRESS = 0x0020
RESPONSE_PORT = 0x0027
OTHER_ADDRESS = 0x802C
FINGERPRINT = 0x8028
OPTIONAL = 0x8000
"""From here on who does not know an attribute ignores it."""
HARMLESS = frozenset({0x0006, 0x0008, 0x0014, 0x0015, 0x001C, 0x001D, 0x001E, 0x0024, 0x0025})
"""Credentials and ICE's attributes: a Binding answer to anybody does not depend on them."""
_CHANGE_ADDRESS, _CHANGE_PORT = 4, 2
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
    asks_other_port: bool = False
    """Wants OTHER-ADDRESS, so that the port can be asked too."""
    from_other_port: bool = False
    """The answer shall leave from the server's other port."""
    response_port: int | None = None
    """The answer shall go to this port of the asker's address."""
    unknown: tuple[int, ...] = ()
    """Attributes that forbid an answer by whoever does not know them."""

    def encode(self) -> bytes:
        """Return the 20 to 36 bytes."""
        attributes = b""
        if self.asks_other_port or self.from_other_port:
            flags = _CHANGE_PORT if self.from_other_port else 0
            attributes += _attribute(CHANGE_REQUEST, flags.to_bytes(4))
        if self.response_port is not None:
            attributes += _attribute(RESPONSE_PORT, struct.pack("!Hxx", self.response_port))
        return _message(REQUEST, self.transaction, attributes)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Parse a request; raises DecodeError. What it may not be answered for is in unknown."""
        transaction = _transaction(data, REQUEST)
        asks = change = False
        port: int | None = None
        unknown: list[int] = []
        for kind, value in _attributes(data):
            if kind == CHANGE_REQUEST and len(value) == 4 and not value[3] & _CHANGE_ADDRESS:
                asks, change = True, bool(value[3] & _CHANGE_PORT)
            elif kind == RESPONSE_PORT and len(value) in (2, 4):
                port = int.from_bytes(value[:2])
            elif kind < OPTIONAL and kind not in HARMLESS:
                unknown.append(kind)
        return cls(transaction, asks, change, port, tuple(unknown))


@dataclass(frozen=True, slots=True)
class BindingResponse:
    """Says: your datagram came from there."""

    transaction: bytes
    mapped: Endpoint
    other_port: int | None = None
    """Where else the server that answered can be asked."""

    def encode(self) -> bytes:
        """Return the 32 to 56 bytes."""
        host = _mask(self.mapped.host.packed, self.transaction)
        port = self.mapped.port ^ MAGIC >> 16
        family = _FAMILIES[self.mapped.version]
        attributes = _attribute(XOR_MAPPED_ADDRESS, _address(family, port, host))
        if self.other_port is not None:
            same = _address(1, self.other_port, bytes(4))
            attributes += _attribute(OTHER_ADDRESS, same)
        return _message(SUCCESS, self.transaction, attributes)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Parse a success response; raises DecodeError when it has no readable address."""
        transaction = _transaction(data, SUCCESS)
        mapped: Endpoint | None = None
        other: int | None = None
        for kind, value in _attributes(data):
            if kind == XOR_MAPPED_ADDRESS and mapped is None:
                mapped = _mapped(value, transaction)
            elif kind == OTHER_ADDRESS and len(value) >= 4:
                other = int.from_bytes(value[2:4]) or None
        if mapped is None:
            raise DecodeError("no XOR-MAPPED-ADDRESS")
        return cls(transaction, mapped, other)


@dataclass(frozen=True, slots=True)
class UnknownAttributes:
    """Error 420: I may not answer a request with these attributes. Source: RFC 8489, 6.3.1."""

    transaction: bytes
    unknown: tuple[int, ...]

    def encode(self) -> bytes:
        """Return the bytes: at most 12 more than the request had."""
        types = b"".join(kind.to_bytes(2) for kind in self.unknown)
        attributes = _attribute(ERROR_CODE, bytes((0, 0, 4, 20)))
        attributes += _attribute(UNKNOWN_ATTRIBUTES, types)
        return _message(ERROR, self.transaction, attributes)


def _message(kind: int, transaction: bytes, attributes: bytes) -> bytes:
    return _HEADER.pack(kind, len(attributes), MAGIC, transaction) + attributes


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(kind, len(value)) + value + bytes(-len(value) % 4)


def _address(family: int, port: int, host: bytes) -> bytes:
    return struct.pack("!xBH", family, port) + host


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes up to the first that is cut short."""
    rest = data[HEADER_SIZE:]
    while len(rest) >= _ATTRIBUTE.size:
        kind, size = _ATTRIBUTE.unpack_from(rest)
        value = rest[_ATTRIBUTE.size : _ATTRIBUTE.size + size]
        if len(value) < size:
            return
        yield kind, value
        rest = rest[_ATTRIBUTE.size + size + -size % 4 :]


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
