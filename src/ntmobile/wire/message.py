"""What all messages share: msgpack arrays, tagged by a small integer.

A message is a msgpack array `[tag, field, field, ...]`; fields are added at the end only, and
unknown trailing ones are ignored (forward compatibility). Tags by family: 1-15 registration,
16-31 direction, 32-47 tunnel, 48-63 login, 64-79 between servers, 80-95 notification.
"""

from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, TypeVar

import msgspec

from ntmobile.errors import DecodeError
from ntmobile.wire.endpoint import Endpoint

MAX_CANDIDATES = 16
"""Addresses one end may name (docs/protocol.md section 7)."""

Fqdn = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=253, pattern=r"^[a-z0-9_]([a-z0-9_.-]*)$"),
]
"""A fully qualified name: lower case, no final dot."""
KeyIdentifier = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
Secret = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
"""Key bytes on their way; only inside sealed datagrams or TLS."""
Id128 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Token = Annotated[bytes, msgspec.Meta(max_length=32)]
Index = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
Sequence = Annotated[int, msgspec.Meta(ge=0, le=0x7FFF_FFFF_FFFF_FFFF)]
Seconds = Annotated[int, msgspec.Meta(ge=0, le=10 * 366 * 86400)]
Endpoints = Annotated[tuple[Endpoint, ...], msgspec.Meta(max_length=MAX_CANDIDATES)]


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Base of every message."""


def enc_hook(value: Any) -> Any:  # noqa: ANN401
    """Addresses travel as their packed bytes."""
    if isinstance(value, Endpoint):
        return value.pack()
    if isinstance(value, IPv4Address | IPv6Address):
        return value.packed
    raise NotImplementedError(f"{type(value)} does not travel")


def dec_hook(kind: type, value: Any) -> Any:  # noqa: ANN401
    """Parse what enc_hook made; a wrong length is a ValueError, so a DecodeError."""
    if kind is Endpoint:
        return Endpoint.unpack(value)
    if kind is IPv4Address or kind is IPv6Address:
        if not isinstance(value, bytes):
            raise ValueError("an address is packed bytes")
        return kind(value)
    raise NotImplementedError(f"{kind} does not travel")


M = TypeVar("M")
_ENCODER = msgspec.msgpack.Encoder(enc_hook=enc_hook)


def encode(message: object) -> bytes:
    """Return the msgpack bytes of a message."""
    return _ENCODER.encode(message)


def decoder(kind: type[M]) -> "msgspec.msgpack.Decoder[M]":
    """Return a decoder for a message type or a union of them; keep it, it is costly."""
    return msgspec.msgpack.Decoder(kind, dec_hook=dec_hook)


def decode(using: "msgspec.msgpack.Decoder[M]", data: bytes) -> M:
    """Parse bytes from the network; raises DecodeError, and nothing else."""
    try:
        return using.decode(data)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise DecodeError(str(error)) from None
