"""Notification: DC -> NS by UDP under Kdcns, node <-> NS over TCP under Kntmns.

Tags 80-95: 80 Notification Direction, 81 Notification Registration, 82 TCP Keep Alive,
83 Notification. Source: paper, Fig. 4.

What a Notification carries is a signalling datagram that the DC sealed for the node under Kntmdc,
as it is: NS brings it and cannot read it. Ours: docs/protocol.md section 9.
"""

from typing import Annotated

import msgspec

from ntmobile.wire.message import (
    Endpoints,
    Fqdn,
    KeyIdentifier,
    Message,
    Seconds,
    Secret,
    Sequence,
)

MIN_INTERVAL_S = 15
"""NS takes no shorter interval between keep-alives for what it waits for."""
MAX_INTERVAL_S = 3600


class NotificationDirection(Message, frozen=True, tag=80):
    """DC lets a node hold a connection to NS; lifetime 0 takes the leave back."""

    fqdn: Fqdn
    identifier: KeyIdentifier
    kntmns: Secret
    lifetime_s: Seconds


class NotificationRegistration(Message, frozen=True, tag=81):
    """The first frame of a connection: which node this is."""

    fqdn: Fqdn
    sequence: Sequence
    """Grows with every connection under one Kntmns, so that a recorded one is of no use."""
    interval_s: Seconds
    """When the next frame of the node is due at the latest."""


class TcpKeepAlive(Message, frozen=True, tag=82):
    """Holds the NAT mapping of the connection; each is answered with NTM ACK."""

    interval_s: Seconds


class Notification(Message, frozen=True, tag=83):
    """A datagram of the DC for the node of that Kntmns. Source: paper, Figs. 6 and 7."""

    identifier: KeyIdentifier
    payload: Annotated[bytes, msgspec.Meta(max_length=1200)]


class NotificationPlace(Message, frozen=True):
    """Where a node shall hold its connection, in the Registration Response."""

    fqdn: Fqdn
    """FQDNns."""
    endpoints: Endpoints
    identifier: KeyIdentifier
    kntmns: Secret
    lifetime_s: Seconds
