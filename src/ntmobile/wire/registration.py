"""Registration and keep-alive, node <-> DC, sealed under Kntmdc.

Tags: 1 Registration Request, 2 Registration Response, 3 UDP Keep Alive, 4 Keep Alive Answer,
5 Challenge, 6 NTM ACK, 7 Refusal, 8 Superseded, 9 Reachability Report,
14 Servers Request, 15 Servers Response. Source: paper, Fig. 3.

Ours: the Challenge (a new source or a new boot salt is believed only after a round trip), the
sequence number, the instance id, the mapped address and the boot id in the answers.
"""

from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated

import msgspec

from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.identity import FoldedCertificate, PublicIdentity
from ntmobile.wire.message import (
    Endpoints,
    Fqdn,
    Id128,
    KeyIdentifier,
    Message,
    Seconds,
    Sequence,
    Token,
)
from ntmobile.wire.notification import NotificationPlace
from ntmobile.wire.round_trip import NamedRelays, RoundTrips

MAX_RELAYS_TOLD = 8
LONGEST_RELAY_NAME = 72
"""So many of such names fit into one datagram."""


class KeepAliveChoice(StrEnum):
    """How the DC reaches the node; the user's choice. Source: paper, Fig. 4."""

    UDP = "udp"
    TCP = "tcp"
    PUSH = "push"


class Reason(StrEnum):
    """Why a request was refused; each has one message and one remedy for people."""

    UNKNOWN_NAME = "unknown-name"
    """Also said of names that the asker may not know of."""
    NOT_REGISTERED = "not-registered"
    """The peer exists and is not registered now."""
    NOT_ALLOWED = "not-allowed"
    FOREIGN_DOMAIN = "foreign-domain-not-listed"
    DOMAIN_UNREACHABLE = "domain-unreachable"
    DOMAIN_KEY = "domain-key-not-trusted"
    CLOCK = "clock-wrong"
    """The servers of two domains do not agree on the time."""
    NO_RELAY = "no-relay"
    NO_COMMON_PATH = "no-common-path"
    KEY_EXPIRED = "key-expired"
    REVOKED = "revoked"
    BUSY = "busy"
    SUPERSEDED = "superseded"
    IDENTITY_CHANGED = "identity-changed"
    TIMED_OUT = "timed-out"
    INDEX_IN_USE = "index-in-use"
    TOLD_DIFFERENTLY = "told-differently"
    """The two ends were told different things of each other: keys, certificates, names."""
    CERTIFICATE_MISSING = "certificate-missing"
    CERTIFICATE_WITHHELD = "certificate-withheld"
    """None is shown, though the peer had one before."""
    CERTIFICATE_STRIPPED = "certificate-stripped"
    """The other end was told another certificate than the node has."""
    CERTIFICATE_MALFORMED = "certificate-malformed"
    CERTIFICATE_SELF_SIGNED = "certificate-self-signed"
    CERTIFICATE_AUTHORITY = "certificate-authority-unknown"
    CERTIFICATE_FORGED = "certificate-forged"
    CERTIFICATE_CONSTRAINT = "certificate-authority-overstepped"
    CERTIFICATE_USAGE = "certificate-usage"
    CERTIFICATE_NAME = "certificate-name"
    CERTIFICATE_KEY = "certificate-key"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_EARLY = "certificate-not-yet-valid"
    PUSH_DOWN = "push-service-down"
    """The peer sleeps, and its push service takes no wake-up now."""
    PUSH_REFUSED = "push-refused"
    """The peer sleeps, and its push service refuses the settings of the peer's domain."""
    TOKEN_GONE = "device-token-gone"
    """The push service knows the node's device token no more, or the node gave none."""
    NO_NOTIFICATION = "no-notification-server"
    """No NS of the node's domain answers."""
    NOTIFICATION_SILENT = "notification-server-silent"
    """The NS that holds the peer's connection does not answer, nor does the peer by UDP."""
    NOT_WOKEN = "not-woken"
    """The push service took the wake-up, and the node did not contact its DC in time."""


class RegistrationRequest(Message, frozen=True, tag=1):
    """Tells the DC where the node is and how it wants to be reached."""

    fqdn: Fqdn
    instance: Id128
    """Made at each start: of two copies of one state directory the newer wins."""
    started: Sequence
    """Grows with every start of the node; kept in its state."""
    sequence: Sequence
    """Grows with every request of this instance."""
    endpoints: Endpoints
    """The node's own addresses with its UDP port, best first."""
    keepalive: KeepAliveChoice = KeepAliveChoice.UDP
    device_token: Annotated[str, msgspec.Meta(max_length=512)] | None = None
    relay_only: bool = False
    """Tell no address of mine to anyone."""
    virtual_ipv4: IPv4Address | None = None
    """The address kept from last time; the DC confirms it when it is free."""
    aes: bool = True
    """Whether the node has AES instructions; without them ChaCha20-Poly1305 is offered first."""
    certificate: FoldedCertificate = b""
    """What the DC tells peers of this node from now. Source: paper, Node authentication."""
    kntmns: KeyIdentifier | None = None
    """The Kntmns that the node holds and is content with."""
    failed: Annotated[tuple[Fqdn, ...], msgspec.Meta(max_length=4)] = ()
    """NS that it could not reach, or that did not know it."""
    interval_s: Seconds = 0
    """Between UDP keep-alives, where the network allows longer ones; 0: as the DC says."""
    opened: Annotated[tuple[Endpoint, ...], msgspec.Meta(max_length=2)] = ()
    """Where a router says that it lets anybody in to the node's port. The DC believes it when an
    RS knocked there and got in."""


class RegistrationResponse(Message, frozen=True, tag=2):
    """The virtual addresses, and what the DC saw."""

    virtual_ipv4: IPv4Address
    virtual_ipv6: IPv6Address
    mapped: Endpoint
    """The source of the request as the DC saw it (XOR-mapped address in STUN's words)."""
    boot: Sequence
    """Changes when the DC restarts."""
    lifetime_s: Seconds
    keepalive_s: Seconds
    spares: Annotated[tuple[KeyIdentifier, ...], msgspec.Meta(max_length=8)] = ()
    """Further names of Kntmdc, one for each network the node will visit."""
    keepalive: KeepAliveChoice = KeepAliveChoice.UDP
    """How the DC will reach the node: what it chose, or UDP where that is not to be had."""
    problem: Reason | None = None
    """Why it is not what the node chose."""
    notification: NotificationPlace | None = None
    """Where to hold the connection, and under what; None: the one that the request named stands."""
    relays: NamedRelays = ()
    """The node is asked how far it is from each of these RS: those of the domain, where it has
    several, and of domains whose nodes asked for it."""


class UdpKeepAlive(Message, frozen=True, tag=3):
    """Holds the NAT mapping open; every 20 s. Source: paper, Fig. 3."""

    answer: bool = False
    """Asks for a Keep Alive Answer; every third one does."""
    round_trips: RoundTrips = ()
    """To the RS that the Registration Response named, where they were measured (anew)."""


class KeepAliveAnswer(Message, frozen=True, tag=4):
    """Lets the node notice a NAT reboot (mapped changed) or a DC restart (boot changed)."""

    mapped: Endpoint
    boot: Sequence
    relays: NamedRelays = ()
    """As in the Registration Response, where they are others by now."""


class Challenge(Message, frozen=True, tag=5):
    """Ask again with this token, so that I know your source and your salt are real."""

    token: Token


class NtmAck(Message, frozen=True, tag=6):
    """The generic acknowledgement. Source: paper, Figs. 2 to 7."""

    identity: PublicIdentity | None = None
    """CN's public key rides in its ACK. Source: paper, Node authentication."""


class Refusal(Message, frozen=True, tag=7):
    """The request is understood and refused."""

    reason: Reason
    negotiation: Id128 | None = None


class Superseded(Message, frozen=True, tag=8):
    """A newer instance of this node registered; this one must not fight it."""

    instance: Id128


class ReachabilityReport(Message, frozen=True, tag=9):
    """A stranger's knock got in: the node brings its token (wire.probe) to its DC."""

    token: Sequence


class ServersRequest(Message, frozen=True, tag=14):
    """A node that examines its network asks which RS it may look from."""


class RelayPlace(Message, frozen=True):
    """One RS of the domain."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_RELAY_NAME)]
    endpoints: Annotated[tuple[Endpoint, ...], msgspec.Meta(max_length=2)]
    """At most one a family."""


class ServersResponse(Message, frozen=True, tag=15):
    """The RS of the domain."""

    relays: Annotated[tuple[RelayPlace, ...], msgspec.Meta(max_length=MAX_RELAYS_TOLD)]
