"""Building and keeping a tunnel, between the two nodes and RS.

Sealed under Ktun as datagrams: 32 Hole Punching, 33 Tunnel Request, 34 Tunnel Response.
Inside control capsules, sealed under Kmncn: 33 and 34 again (rekey), 35 Path Update,
36 Path Challenge, 37 Path Response, 38 Tunnel Close, 39 Echo Request, 40 Echo Reply,
41 Tunnel Keep Alive, 42 Candidates. Source: paper, Figs. 6 and 7; 35 to 42 are ours.
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from ntmobile.wire.direction import Role
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.message import Endpoints, Id128, Index, Message, Sequence
from ntmobile.wire.nat import Behaviour, PortAssignment

Epoch = Annotated[int, msgspec.Meta(ge=0, le=3)]
NoiseMessage = Annotated[bytes, msgspec.Meta(min_length=32, max_length=512)]
EchoPadding = Annotated[bytes, msgspec.Meta(max_length=9216)]
"""As much as a jumbo frame holds."""
CapsuleCounter = Annotated[int, msgspec.Meta(ge=0, le=0x7FFF_FFFF_FFFF_FFFF)]


class HolePunching(Message, frozen=True, tag=32):
    """Opens the NAT towards RS and tells RS where this end is. Source: paper, Fig. 7."""

    role: Role
    sequence: Sequence
    """Grows with every Hole Punching and Tunnel Request of this end under this Ktun."""
    index: Index
    """The receiver index in capsules to this end."""
    padding: Annotated[bytes, msgspec.Meta(max_length=256)] = bytes(96)
    """Makes it so long that RS may forward a Tunnel Request against it (three times its size)."""


NO_HANDSHAKE = bytes(48)
"""In a Tunnel Response: the first Noise message did not fit what this end was told."""


class TunnelRequest(Message, frozen=True, tag=33):
    """First Noise message. Outer protection Ktun, psk Ktmp. Source: paper, Figs. 6 and 7."""

    negotiation: Id128
    role: Role
    sequence: Sequence
    index: Index
    epoch: Epoch
    noise: NoiseMessage


class TunnelResponse(Message, frozen=True, tag=34):
    """Second Noise message; Kmncn stands."""

    negotiation: Id128
    role: Role
    sequence: Sequence
    index: Index
    epoch: Epoch
    noise: NoiseMessage


class ReceiveState(Message, frozen=True):
    """Which capsules of one epoch have arrived: the highest, and a bitmap below it."""

    epoch: Epoch
    highest: CapsuleCounter
    bitmap: Annotated[bytes, msgspec.Meta(max_length=1024)]


class PathUpdate(Message, frozen=True, tag=35):
    """I moved: send to where this came from, and again what I miss."""

    sequence: Sequence
    received: Annotated[tuple[ReceiveState, ...], msgspec.Meta(max_length=2)]
    challenge: Sequence
    """Echoed in the Path Response, so that the mover knows the new path works both ways."""


class PathChallenge(Message, frozen=True, tag=36):
    """Answer from there, so that I know you are (RFC 9000, section 8.2)."""

    challenge: Sequence


class PathResponse(Message, frozen=True, tag=37):
    """Proves that the challenge arrived; carries what the sender of it misses."""

    challenge: Sequence
    observed: Endpoint
    received: Annotated[tuple[ReceiveState, ...], msgspec.Meta(max_length=2)] = ()


class CloseReason(StrEnum):
    """Why a tunnel ends."""

    LEAVING = "leaving"
    IDLE = "idle"
    WITHDRAWN = "withdrawn"
    REPLACED = "replaced"


class TunnelClose(Message, frozen=True, tag=38):
    """The sender forgets this tunnel now."""

    reason: CloseReason


class EchoRequest(Message, frozen=True, tag=39):
    """`ntm ping`; padded, the question whether the path carries so large a packet."""

    sequence: Sequence
    padding: EchoPadding = b""


class EchoReply(Message, frozen=True, tag=40):
    """Answers an Echo Request with its sequence."""

    sequence: Sequence
    padding: EchoPadding = b""


class TunnelKeepAlive(Message, frozen=True, tag=41):
    """Keeps the mappings of both NATs on a path where nothing else flows."""


class NatTold(Message, frozen=True):
    """How all NATs and firewalls before a node behave in IPv4, taken together."""

    mapping: Behaviour
    filtering: Behaviour
    ports: PortAssignment
    hairpin: bool
    newest_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    """The outer port of the NAT's newest mapping: where prediction begins; 0 when not measured."""


class Candidates(Message, frozen=True, tag=42):
    """Here I may be reached without RS: probe there, and I shall probe where you may be."""

    number: Sequence
    """Echoed in the Path Response that acknowledges it."""
    endpoints: Endpoints
    attempt: Sequence = 0
    """Both ends probe when they have told the same; who hears of a later one tells anew."""
    nat: NatTold | None = None
    """None while the sender does not know."""
    guess: bool = False
    """This attempt may guess a random port, if both ends say so."""


Control = (
    TunnelRequest
    | TunnelResponse
    | PathUpdate
    | PathChallenge
    | PathResponse
    | TunnelClose
    | EchoRequest
    | EchoReply
    | TunnelKeepAlive
    | Candidates
)
"""What travels in control capsules."""
