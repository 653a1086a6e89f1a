"""PCP (RFC 6887): how a host asks its router for a port, and hears that the router restarted.

Header, 24 bytes, big-endian::

    request:   version 1 = 2, opcode 1, reserved 2, lifetime 4, client's address 16
    response:  version 1 = 2, opcode | 0x80 1, reserved 1, result 1, lifetime 4, epoch 4,
               reserved 12

MAP (opcode 1) adds 36: nonce 12, protocol 1, reserved 3, internal port 2, external port 2,
external address 16. ANNOUNCE (opcode 0) adds nothing. IPv4 addresses travel IPv4-mapped.
Source: RFC 6887, sections 7 and 11.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address
from typing import Self

from ntmobile.errors import DecodeError
from ntmobile.wire.endpoint import Endpoint, Host

VERSION = 2
PORT = 5351
ANNOUNCEMENT_PORT = 5350
"""Routers tell all hosts of the link there that they restarted (section 14.1)."""
NONCE_SIZE = 12
LONGEST = 1100
UDP = 17
ANNOUNCE, MAP = 0, 1
_RESPONSE = 0x80
_REQUEST_HEADER = struct.Struct("!BBxxI16s")
_RESPONSE_HEADER = struct.Struct("!BBxBII12x")
_MAP = struct.Struct("!12sB3xHH16s")


class Result(IntEnum):
    """Why a router refused. Source: RFC 6887, section 7.4."""

    SUCCESS = 0
    UNSUPP_VERSION = 1
    NOT_AUTHORIZED = 2
    MALFORMED_REQUEST = 3
    UNSUPP_OPCODE = 4
    UNSUPP_OPTION = 5
    MALFORMED_OPTION = 6
    NETWORK_FAILURE = 7
    NO_RESOURCES = 8
    UNSUPP_PROTOCOL = 9
    USER_EX_QUOTA = 10
    CANNOT_PROVIDE_EXTERNAL = 11
    ADDRESS_MISMATCH = 12
    EXCESSIVE_REMOTE_PEERS = 13


@dataclass(frozen=True, slots=True)
class MapRequest:
    """Asks for a UDP port; a lifetime of 0 gives it back."""

    lifetime_s: int
    client: Host
    nonce: bytes
    internal_port: int
    external: Endpoint
    """What is wished for; unspecified address, port 0 for anything."""

    def encode(self) -> bytes:
        """Return the 60 bytes."""
        header = _REQUEST_HEADER.pack(VERSION, MAP, self.lifetime_s, _packed(self.client))
        host, port = _packed(self.external.host), self.external.port
        return header + _MAP.pack(self.nonce, UDP, self.internal_port, port, host)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Parse what a host sends; raises DecodeError."""
        if len(data) < _REQUEST_HEADER.size + _MAP.size:
            raise DecodeError("PCP request cut short")
        version, opcode, lifetime, client = _REQUEST_HEADER.unpack_from(data)
        nonce, protocol, internal, external, host = _MAP.unpack_from(data, _REQUEST_HEADER.size)
        if (version, opcode, protocol) != (VERSION, MAP, UDP):
            raise DecodeError("no PCP MAP request for UDP")
        return cls(lifetime, _host(client), nonce, internal, Endpoint(_host(host), external))


@dataclass(frozen=True, slots=True)
class Mapped:
    """The body of a MAP response."""

    nonce: bytes
    internal_port: int
    external: Endpoint


@dataclass(frozen=True, slots=True)
class Response:
    """What a router answers or announces; body None for all but a MAP response."""

    result: int
    lifetime_s: int
    epoch_s: int
    """Seconds since the router lost its mappings last."""
    body: Mapped | None = None

    def encode(self) -> bytes:
        """Return the 24 or 60 bytes."""
        opcode = ANNOUNCE if self.body is None else MAP
        header = _RESPONSE_HEADER.pack(
            VERSION, opcode | _RESPONSE, self.result, self.lifetime_s, self.epoch_s
        )
        if self.body is None:
            return header
        nonce, external = self.body.nonce, self.body.external
        return header + _MAP.pack(
            nonce, UDP, self.body.internal_port, external.port, _packed(external.host)
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Parse a response to MAP or ANNOUNCE; raises DecodeError."""
        if not _RESPONSE_HEADER.size <= len(data) <= LONGEST:
            raise DecodeError(f"PCP response of {len(data)} bytes")
        version, opcode, result, lifetime, epoch = _RESPONSE_HEADER.unpack_from(data)
        if version != VERSION or opcode not in (ANNOUNCE | _RESPONSE, MAP | _RESPONSE):
            raise DecodeError(f"PCP version {version}, opcode {opcode}")
        if opcode == ANNOUNCE | _RESPONSE:
            return cls(result, lifetime, epoch)
        if len(data) < _RESPONSE_HEADER.size + _MAP.size:
            raise DecodeError("PCP MAP response cut short")
        nonce, protocol, internal, external, host = _MAP.unpack_from(data, _RESPONSE_HEADER.size)
        if protocol != UDP:
            raise DecodeError(f"PCP mapping of protocol {protocol}")
        mapped = Mapped(nonce, internal, Endpoint(_host(host), external))
        return cls(result, lifetime, epoch, mapped)


def _packed(host: Host) -> bytes:
    return host.packed if host.version == 6 else b"\x00" * 10 + b"\xff\xff" + host.packed


def _host(packed: bytes) -> Host:
    address = IPv6Address(packed)
    return address.ipv4_mapped or address
