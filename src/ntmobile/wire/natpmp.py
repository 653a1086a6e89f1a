"""NAT-PMP (RFC 6886): the older, IPv4-only way to ask a router for a port.

Big-endian::

    address request    version 1 = 0, opcode 1 = 0
    address response   version 1, opcode 1 = 128, result 2, epoch 4, external address 4
    map request        version 1, opcode 1 = 1 (UDP), reserved 2, internal port 2,
                       wished external port 2, lifetime 4
    map response       version 1, opcode 1 = 129, result 2, epoch 4, internal port 2,
                       external port 2, lifetime 4

A router that speaks it answers any other version, PCP's too, with version 0 and result 1.
Source: RFC 6886, sections 3.2 to 3.5.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Self

from ntmobile.errors import DecodeError

VERSION = 0
SUCCESS = 0
UNSUPPORTED_VERSION = 1
ADDRESS_OPCODE, MAP_OPCODE = 0, 1
_RESPONSE = 128
_MAP_REQUEST = struct.Struct("!BBxxHHI")
_HEADER = struct.Struct("!BBHI")
_ADDRESS = struct.Struct("!BBHI4s")
_MAPPED = struct.Struct("!BBHIHHI")

ADDRESS_REQUEST = bytes((VERSION, ADDRESS_OPCODE))


@dataclass(frozen=True, slots=True)
class MapRequest:
    """Asks for a UDP port; lifetime and external port 0 give it back."""

    internal_port: int
    external_port: int
    lifetime_s: int

    def encode(self) -> bytes:
        """Return the 12 bytes."""
        ports = (self.internal_port, self.external_port)
        return _MAP_REQUEST.pack(VERSION, MAP_OPCODE, *ports, self.lifetime_s)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Parse what a host sends; raises DecodeError."""
        if len(data) != _MAP_REQUEST.size or data[:2] != bytes((VERSION, MAP_OPCODE)):
            raise DecodeError("no NAT-PMP request for a UDP port")
        return cls(*_MAP_REQUEST.unpack(data)[2:])


@dataclass(frozen=True, slots=True)
class ExternalAddress:
    """The router's address outside; also announced unasked after it restarted."""

    result: int
    epoch_s: int
    address: IPv4Address

    def encode(self) -> bytes:
        """Return the 12 bytes."""
        opcode = _RESPONSE | ADDRESS_OPCODE
        return _ADDRESS.pack(VERSION, opcode, self.result, self.epoch_s, self.address.packed)


@dataclass(frozen=True, slots=True)
class MapResponse:
    """A port granted."""

    result: int
    epoch_s: int
    internal_port: int
    external_port: int
    lifetime_s: int

    def encode(self) -> bytes:
        """Return the 16 bytes."""
        opcode = _RESPONSE | MAP_OPCODE
        ports = (self.internal_port, self.external_port)
        return _MAPPED.pack(VERSION, opcode, self.result, self.epoch_s, *ports, self.lifetime_s)


@dataclass(frozen=True, slots=True)
class Refusal:
    """No, without anything that can be used."""

    result: int
    epoch_s: int

    def encode(self) -> bytes:
        """Return 8 bytes."""
        return _HEADER.pack(VERSION, _RESPONSE, self.result, self.epoch_s)


def decode_response(data: bytes) -> ExternalAddress | MapResponse | Refusal:
    """Parse what a router sends; raises DecodeError."""
    if len(data) < _HEADER.size or data[0] != VERSION or not data[1] & _RESPONSE:
        raise DecodeError("no NAT-PMP response")
    _, opcode, result, epoch = _HEADER.unpack_from(data)
    if result != SUCCESS:
        return Refusal(result, epoch)
    if opcode == _RESPONSE | ADDRESS_OPCODE and len(data) >= _ADDRESS.size:
        return ExternalAddress(result, epoch, IPv4Address(data[8:12]))
    if opcode == _RESPONSE | MAP_OPCODE and len(data) >= _MAPPED.size:
        return MapResponse(*_MAPPED.unpack_from(data)[2:])
    raise DecodeError(f"NAT-PMP opcode {opcode} in {len(data)} bytes")
