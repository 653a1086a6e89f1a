"""What a node is told at its start, and what it can be asked about itself."""

from collections.abc import Container
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from ntmobile.proto.node.distances import Distance
from ntmobile.proto.node.events import HandoverDone, ReachedBy
from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.identity import Authentication
from ntmobile.wire.registration import KeepAliveChoice

IDLE_S = 600


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """A node's configuration and what its state directory remembers."""

    user: str
    name: str
    domain: str
    instance: bytes
    """16 random bytes, new at each start."""
    started: int
    """Grows with each start."""
    keepalive: KeepAliveChoice = KeepAliveChoice.UDP
    device_token: str | None = None
    """What wakes this node through its push service. Source: paper, Device Token Request."""
    relay_only: bool = False
    optimise: bool = True
    """Search a direct path where the first one is relayed."""
    aes: bool = True
    mapping_age_s: int | None = None
    """The age at which the NAT drops mappings; None: find out; 0: do nothing against it."""
    idle_s: int = IDLE_S
    """Silence after which a tunnel closes."""
    avoid: tuple[IPv4Network | IPv6Network, ...] = ()
    """Real networks here: virtual addresses step aside."""
    taken: Container[IPv4Address | IPv6Address] = ()
    """What other identities of this machine have: theirs, and their peers' as they see them. Looked
    into whenever an address is chosen."""

    @property
    def fqdn(self) -> str:
        """The node's permanent name."""
        return f"{self.name}.{self.user}.{self.domain}"


@dataclass(frozen=True, slots=True)
class Pin:
    """What is remembered of a peer: its first device key, and its addresses as seen here."""

    fqdn: str
    device: bytes
    ipv4: IPv4Address
    ipv6: IPv6Address
    certified: bool = False
    """It showed a good certificate once: from then on it must."""


@dataclass(frozen=True, slots=True)
class PeerView:
    """A peer, for `ntm status` and `ntm peers`."""

    fqdn: str
    virtual_ipv4: IPv4Address
    virtual_ipv6: IPv6Address
    authenticated: Authentication
    cipher: str
    peer_key: bytes
    relayed: bool
    remote: Endpoint | None
    rtt_ns: int | None
    mtu: int
    tx_bytes: int
    rx_bytes: int
    established_at: Instant
    negotiated_ns: int
    last_handover: HandoverDone | None
    web: bool = False
    """The path begins with a WebSocket to RS."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """The node itself, for `ntm status`."""

    fqdn: str
    state: str
    """up, down or degraded."""
    reason: str
    """Why it is not up; empty when it is."""
    virtual_ipv4: IPv4Address | None
    virtual_ipv6: IPv6Address | None
    mapped: tuple[Endpoint, ...]
    coordinator: str
    keepalive: KeepAliveChoice
    """As chosen."""
    reached: ReachedBy
    """How the DC reaches the node now."""
    keepalive_s: int
    """Seconds between keep-alives now; 0 where none is sent."""
    udp_blocked: bool = False
    """All goes by WebSocket."""
    web_refused: bool = False
    """The DC is silent over UDP, and no WebSocket stands either."""
    relays: tuple[Distance, ...] = ()
    """How far the domain's RS are, where it has several."""
    mapping_age_s: int | None = None
    """The NAT here drops UDP mappings at this age, however busy they are."""
