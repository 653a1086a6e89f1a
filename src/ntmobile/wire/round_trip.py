"""How far a node is from the RS of its domain: a bounded list in its UDP Keep Alive.

A round trip is `[relay, ms]`: one address of the RS as packed bytes, and whole milliseconds, 0 to
2000; 2000 also says that it did not answer. Ours: docs/protocol.md section 7.
"""

from typing import Annotated

import msgspec

from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.message import Message

MOST_ROUND_TRIPS = 16
LONGEST_MS = 2000
"""Longer is as bad as silence; a forged figure weighs no more than this."""

MOST_RELAYS_A_DOMAIN = 8
RelayPlaces = Annotated[tuple[Endpoint, ...], msgspec.Meta(max_length=2)]
"""Where one RS is: at most one address a family."""
DomainRelays = Annotated[tuple[RelayPlaces, ...], msgspec.Meta(max_length=MOST_RELAYS_A_DOMAIN)]
NamedRelays = Annotated[tuple[RelayPlaces, ...], msgspec.Meta(max_length=MOST_ROUND_TRIPS)]


class RoundTrip(Message, frozen=True):
    """The round trip from a node to one RS."""

    relay: Endpoint
    """Its first address, as the DC told it, whichever family was measured."""
    ms: Annotated[int, msgspec.Meta(ge=0, le=LONGEST_MS)]


RoundTrips = Annotated[tuple[RoundTrip, ...], msgspec.Meta(max_length=MOST_ROUND_TRIPS)]
