"""Directing a tunnel, node <-> DC under Kntmdc, DC <-> DC under Kdcdc, DC -> RS under Kdcrs.

Tags: 16 Direction Request, 17 Node Information Request, 18 Node Information Response,
19 Relay Direction, 20 Route Direction, 21 Reachability Probe, 22 Withdrawal.
Source: paper, Figs. 5 to 7. Ours: negotiation ids, candidate lists, authorisation.
"""

from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated

import msgspec

from ntmobile.wire.identity import CertificateDigest, PublicIdentity
from ntmobile.wire.message import (
    Endpoints,
    Fqdn,
    Id128,
    KeyIdentifier,
    Message,
    Seconds,
    Secret,
    Sequence,
)
from ntmobile.wire.round_trip import DomainRelays, RoundTrips
from ntmobile.wire.web import WebPlace


class Purpose(StrEnum):
    """Why MN asks."""

    CONNECT = "connect"
    RELAY = "relay"
    """The direct path that was directed stays silent: give one through RS."""
    MOVE = "move"
    """One end moved; the tunnel and its keys stand, the path may not."""


class DirectionRequest(Message, frozen=True, tag=16):
    """MN wants a tunnel to FQDNcn. Source: paper, Fig. 5."""

    fqdn: Fqdn
    negotiation: Id128
    identity: PublicIdentity
    """MN's public key and certificate. Source: paper, Node authentication."""
    purpose: Purpose = Purpose.CONNECT
    avoid: Endpoints = ()
    """Addresses of an RS that MN finds silent: another is to be preferred."""


class Cipher(StrEnum):
    """What seals capsules."""

    AES_256_GCM = "aes-256-gcm"
    CHACHA20_POLY1305 = "chacha20-poly1305"


Ciphers = Annotated[tuple[Cipher, ...], msgspec.Meta(max_length=8)]


class NodeInformation(Message, frozen=True):
    """What one DC tells another about its node. To another domain: no private address."""

    fqdn: Fqdn
    virtual_ipv4: IPv4Address
    virtual_ipv6: IPv6Address
    identity: PublicIdentity
    mapped: Endpoints
    """The node's addresses as the DC sees them, at most one a family."""
    local: Endpoints
    """The node's own addresses; only told within a domain or behind one mapped address."""
    reachable: Endpoints
    """Those of mapped that a stranger's datagram reaches."""
    groups: Annotated[tuple[str, ...], msgspec.Meta(max_length=32)] = ()
    ciphers: Ciphers = (Cipher.AES_256_GCM, Cipher.CHACHA20_POLY1305)
    """What the node can do, best first."""
    sleeps: bool = False
    """It must be woken first: only when it acknowledged its Route Direction is MN directed."""


class NodeInformationRequest(Message, frozen=True, tag=17):
    """DCmn asks DCcn for the whereabouts of CN, naming who asks."""

    fqdn: Fqdn
    mn: NodeInformation
    negotiation: Id128
    purpose: Purpose = Purpose.CONNECT
    relays: DomainRelays = ()
    """DCmn's RS, where it has several: how far is CN from each?"""


class NodeInformationResponse(Message, frozen=True, tag=18):
    """CN's real, NAT and virtual addresses. Source: paper, Fig. 5."""

    cn: NodeInformation
    round_trips: RoundTrips = ()
    """From CN to those RS, as far as it has measured them; DCmn does not hand them on."""


class RelayDirection(Message, frozen=True, tag=19):
    """DCmn lets RS relay one path. Source: paper, Fig. 7."""

    negotiation: Id128
    """The path identifier."""
    ktun_identifier: KeyIdentifier
    ktun: Secret
    lifetime_s: Seconds
    rate: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Bytes a second the path may carry, 0 for no bound."""
    pair: Id128 = bytes(16)
    """The same for all negotiations of two nodes: a new path takes over from their old one."""


class Action(StrEnum):
    """What the receiver of a Route Direction does with the Tunnel Request."""

    SEND = "send"
    AWAIT = "await"


class Role(StrEnum):
    """Which end of the negotiation one is."""

    MN = "mn"
    CN = "cn"


class Mode(StrEnum):
    """How Kmncn is agreed."""

    KKPSK0 = "KKpsk0"
    NNPSK0 = "NNpsk0"


class RouteDirection(Message, frozen=True, tag=20):
    """Directs one end of a tunnel. Source: paper, Figs. 6 and 7."""

    negotiation: Id128
    fqdn: Fqdn
    """Whom this directs: DCcn carries it to that node."""
    role: Role
    action: Action
    peer: NodeInformation
    ktmp: Secret
    ktun: Secret
    ktun_identifier: KeyIdentifier
    targets: Endpoints
    """Direct addresses for the Tunnel Request, best first; empty when it goes through RS only."""
    relay: Endpoints
    """RS, one address a family; empty when the path is direct."""
    valid_s: Seconds
    """How long the two may talk before the DC is asked again."""
    mode: Mode = Mode.KKPSK0
    purpose: Purpose = Purpose.CONNECT
    cipher: Cipher = Cipher.AES_256_GCM
    shown: CertificateDigest = b""
    """Which certificate of the receiver its peer is shown; empty: none."""
    relay_web: WebPlace | None = None
    """RS's HTTPS; told to an end that reaches no UDP."""


class ReachabilityProbe(Message, frozen=True, tag=21):
    """DC asks RS to knock at a node's mapped address from an address it never contacted."""

    target: Endpoints
    token: Sequence


class Withdrawal(Message, frozen=True, tag=22):
    """DC takes back the leave to talk to a peer; its tunnel closes at once."""

    peer: Fqdn
