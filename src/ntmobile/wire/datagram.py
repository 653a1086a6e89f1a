"""Signalling datagrams: a clear header and one sealed envelope.

Header (28 bytes, big-endian; the AEAD's associated data)::

    kind        1   0x05; 0-3 are STUN, 4 a capsule, 6 a probe, 7 a hint (RFC 7983 keeps the rest)
    version     1   1
    sender      1   role of the sender: its subkey seals
    spare       1   0
    identifier  8   random name of the key (docs/protocol.md section 3)
    salt        8   the sender's boot salt
    counter     8   nonce, and place in the replay window

Then the ciphertext of the envelope, a msgpack array `[transaction, token, message]`, which a
request fills up to the size of a Challenge, and a 16-byte tag. At most 1200 bytes in all, 1300
where a Notification carries another datagram.
Ours: the paper gives no formats.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Self

import msgspec

from ntmobile.errors import DecodeError
from ntmobile.wire import direction, notification, registration, tunnel
from ntmobile.wire.message import Token, decode, decoder, encode

MAX_DATAGRAM = 1200
MAX_CARRYING = 1300
"""Of what carries a whole datagram: a Notification, between servers or in a connection."""
HEADER_SIZE = 28
TAG_SIZE = 16
LONGEST_TOKEN = 32
"""As wire.message has it."""
VERSION = 1
_HEADER = struct.Struct("!BBBx8s8sQ")


class Kind(IntEnum):
    """The first byte of everything on a node's, a DC's or an RS's UDP port."""

    CAPSULE = 4
    SIGNALLING = 5
    PROBE = 6
    HINT = 7


class Sender(IntEnum):
    """The role that sealed a datagram; a key's two directions never share a subkey."""

    NODE = 1
    DC = 2
    NS = 3
    RS = 4
    DCMN = 5
    DCCN = 6
    MN = 7
    CN = 8


_SENDERS = frozenset(int(sender) for sender in Sender)


@dataclass(frozen=True, slots=True)
class Header:
    """The clear part of a signalling datagram."""

    sender: Sender
    identifier: bytes
    salt: bytes
    counter: int

    def encode(self) -> bytes:
        """Return the 28 bytes."""
        return _HEADER.pack(
            Kind.SIGNALLING,
            VERSION,
            self.sender,
            self.identifier,
            self.salt,
            self.counter,
        )

    @classmethod
    def decode(cls, data: bytes, most: int = MAX_DATAGRAM) -> Self:
        """Parse the header of a whole datagram of that many bytes at most; raises DecodeError."""
        if not HEADER_SIZE + TAG_SIZE < len(data) <= most:
            raise DecodeError(f"datagram of {len(data)} bytes")
        kind, version, sender, identifier, salt, counter = _HEADER.unpack_from(data)
        if kind != Kind.SIGNALLING:
            raise DecodeError("not signalling")
        if version != VERSION:
            raise DecodeError(f"version {version}")
        if sender not in _SENDERS:
            raise DecodeError("unknown sender role")
        return cls(Sender(sender), identifier, salt, counter)


Signal = (
    registration.RegistrationRequest
    | registration.RegistrationResponse
    | registration.UdpKeepAlive
    | registration.KeepAliveAnswer
    | registration.Challenge
    | registration.NtmAck
    | registration.Refusal
    | registration.Superseded
    | registration.ReachabilityReport
    | registration.ServersRequest
    | registration.ServersResponse
    | direction.DirectionRequest
    | direction.NodeInformationRequest
    | direction.NodeInformationResponse
    | direction.RelayDirection
    | direction.RouteDirection
    | direction.ReachabilityProbe
    | direction.Withdrawal
    | notification.NotificationDirection
    | notification.NotificationRegistration
    | notification.TcpKeepAlive
    | notification.Notification
    | tunnel.HolePunching
    | tunnel.TunnelRequest
    | tunnel.TunnelResponse
)
"""Every message that travels in a signalling datagram."""

TransactionId = Annotated[int, msgspec.Meta(ge=0, le=0x7FFF_FFFF_FFFF_FFFF)]


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """What is sealed: a message, the transaction it belongs to, a challenge's token."""

    transaction: TransactionId
    token: Token
    message: Signal

    def encode(self, at_least: int = 0) -> bytes:
        """Return the plaintext, filled up to a size with a field that no reader looks at."""
        plaintext = encode(self)
        if len(plaintext) >= at_least:
            return plaintext
        filling = bytes(at_least - len(plaintext))
        return encode((self.transaction, self.token, self.message, filling))

    @classmethod
    def decode(cls, data: bytes) -> "Envelope":
        """Parse an opened plaintext; raises DecodeError."""
        return decode(_ENVELOPE, data)


_ENVELOPE = decoder(Envelope)
_CONTROL: msgspec.msgpack.Decoder[tunnel.Control] = decoder(tunnel.Control)  # type: ignore[arg-type]


def fits(message: Signal) -> bool:
    """Whether a message goes in one datagram, beside the longest token."""
    envelope = Envelope((1 << 63) - 1, bytes(LONGEST_TOKEN), message).encode()
    return HEADER_SIZE + len(envelope) + TAG_SIZE <= MAX_DATAGRAM


def encode_control(message: tunnel.Control) -> bytes:
    """Return the plaintext of a control capsule."""
    return encode(message)


def decode_control(data: bytes) -> tunnel.Control:
    """Parse the plaintext of a control capsule; raises DecodeError."""
    return decode(_CONTROL, data)
