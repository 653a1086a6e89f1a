"""What a DC is told at its start, and what it hands out to be kept."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint, Host
from ntmobile.wire.identity import PublicIdentity
from ntmobile.wire.registration import KeepAliveChoice, Reason
from ntmobile.wire.web import HTTPS_PORT

KEEPALIVE_S = 20
"""Source: paper, Fig. 3 (damaged there)."""


@dataclass(frozen=True, slots=True)
class Relay:
    """An RS of this domain."""

    name: str
    endpoints: tuple[Endpoint, ...]
    """Where nodes and the DC reach it: at most one a family."""
    https: int = HTTPS_PORT
    """TCP port of its HTTPS, where it takes datagrams in a WebSocket too."""


@dataclass(frozen=True, slots=True)
class Notifier:
    """An NS of this domain."""

    name: str
    """FQDNns."""
    endpoints: tuple[Endpoint, ...]
    """Where the DC reaches it by UDP, and nodes by TCP: at most one a family."""


@dataclass(frozen=True, slots=True)
class CoordinatorSettings:
    """A DC's configuration."""

    domain: str
    relays: tuple[Relay, ...] = ()
    hosts: tuple[Host, ...] = ()
    """The DC's own addresses: an RS on one of them cannot tell what a stranger reaches."""
    ipv4_pool: IPv4Network = field(default=IPv4Network("100.64.0.0/10"))
    """Virtual IPv4 addresses are proposed from here; they mean something only locally."""
    keepalive_s: int = KEEPALIVE_S
    registration_s: int = 90
    """Silence after which a node counts as gone: four lost keep-alives and a little."""
    authorisation_s: int = 3600
    relay_idle_s: int = 300
    """How long RS keeps a path that carries nothing."""
    relay_rate: int = 0
    """Bytes a second per relayed path; 0 for no bound."""
    server_key_s: int = 86400
    """Lifetime of Kdcdc, Kdcrs, Kdcns and Kntmns."""
    domain_key: bytes = bytes(32)
    """Public: it vouches for the certificates of the domain's servers."""
    push: frozenset[str] | None = None
    """Kinds of device tokens ("fcm") whose services are set up; None: any."""
    notifiers: tuple[Notifier, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredNode:
    """What must survive a restart of the DC; expires is on the machine's clock."""

    fqdn: str
    identity: PublicIdentity
    groups: tuple[str, ...]
    kntmdc: bytes = field(repr=False)
    identifier: bytes
    expires: Instant
    virtual_ipv4: IPv4Address
    virtual_ipv6: IPv6Address
    instance: bytes = bytes(16)
    started: int = 0
    sequence: int = 0
    local: tuple[Endpoint, ...] = ()
    mapped: tuple[Endpoint, ...] = ()
    relay_only: bool = False
    aes: bool = True
    keepalive: KeepAliveChoice = KeepAliveChoice.UDP
    """How it wants to be reached."""
    device_token: str | None = field(default=None, repr=False)
    gone_token: str | None = field(default=None, repr=False)
    """A device token that its push service disowned: never used again."""

    notifier: str = ""
    """FQDNns of the NS that holds its connection."""
    kntmns: bytes = b""
    """Identifier of the key for that, never the key."""
    interval_s: int = 0
    """Between its UDP keep-alives; 0: as this DC says."""

    @property
    def is_held(self) -> bool:
        """Whether an NS was given this node."""
        return self.keepalive is KeepAliveChoice.TCP and bool(self.kntmns)

    @property
    def push_token(self) -> str | None:
        """What wakes the node, if anything does."""
        if self.keepalive is not KeepAliveChoice.PUSH or self.device_token == self.gone_token:
            return None
        return self.device_token


@dataclass(frozen=True, slots=True)
class NodeStored:
    """Write this to the database."""

    node: StoredNode


@dataclass(frozen=True, slots=True)
class Audit:
    """A decision about who may talk to whom."""

    at: Instant
    mn: str
    cn: str
    allowed: bool
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class WakeUpFailed:
    """A node could not be woken; for the operator."""

    at: Instant
    fqdn: str
    reason: Reason
    detail: str
