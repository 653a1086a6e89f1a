"""What a node's machine tells its driver: commands to the packet loops, and events.

The packet loops (the Rust tunnel in production, a small model over the same Rust capsules in the
simulator) carry out the commands in the order given.
"""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from ntmobile.proto.journal import Step
from ntmobile.proto.node.causes import Cause
from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import KeepAliveChoice, Reason, RelayPlace
from ntmobile.wire.tunnel import CloseReason, ReceiveState
from ntmobile.wire.web import WebPlace

OTHER_PORT = 1 << 31
"""The number of the second of the node's two ports, among sockets."""


@dataclass(frozen=True, slots=True)
class OpenTunnel:
    """A tunnel to a peer exists from now; index is what the peer writes into its capsules."""

    index: int
    fqdn: str
    own_ipv4: IPv4Address
    own_ipv6: IPv6Address
    peer_ipv4: IPv4Address
    """The peer's addresses as this node sees them (an alias where they clash)."""
    peer_ipv6: IPv6Address


@dataclass(frozen=True, slots=True)
class InstallKeys:
    """Kmncn of one epoch: capsules of it open from now; sending starts at ActivateKeys.

    Source: paper, Capsule.
    """

    index: int
    epoch: int
    cipher: str
    send_key: bytes = field(repr=False)
    receive_key: bytes = field(repr=False)
    remote_index: int


@dataclass(frozen=True, slots=True)
class ActivateKeys:
    """Seal with this epoch from now."""

    index: int
    epoch: int


@dataclass(frozen=True, slots=True)
class RetireKeys:
    """Forget this epoch."""

    index: int
    epoch: int


@dataclass(frozen=True, slots=True)
class SetPath:
    """Send this tunnel's capsules there; packets that waited for a path go now, unless held."""

    index: int
    remote: Endpoint
    interface: int
    mtu: int
    """Largest inner packet."""
    socket: int = 0
    """One of the tunnel's own; 0: the node's port."""
    hold: bool = False
    """Keep data (bounded) until the next SetPath or Resend: they would be lost on this path."""


@dataclass(frozen=True, slots=True)
class ClearPath:
    """No way to the peer now: keep packets (bounded) until SetPath."""

    index: int


@dataclass(frozen=True, slots=True)
class SendControl:
    """Seal these bytes into a control capsule; to the path, or to an explicit address."""

    index: int
    payload: bytes
    destination: Endpoint | None = None
    interface: int = 0
    socket: int = 0
    """Where the destination is explicit; the path has its own."""


@dataclass(frozen=True, slots=True)
class OpenSockets:
    """Open sockets of the tunnel's own, in IPv4, numbered from `first` on; as many as can be."""

    index: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class CloseSockets:
    """Close the tunnel's own sockets but those of these numbers."""

    index: int
    keep: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChangePort:
    """The node's two ports change their numbers, also in paths that were set: 0 and OTHER_PORT.

    What goes from 0 goes from the other one now, which is opened at the first time, in IPv4. Where
    that is not to be had nothing changes, and both numbers are the one port's. Both receive.
    """


@dataclass(frozen=True, slots=True)
class Resend:
    """Send again, unchanged, the kept capsules that the peer's receive states lack."""

    index: int
    told: tuple[ReceiveState, ...]
    """Of one epoch each; later epochs than the oldest, not told, lack everything."""


@dataclass(frozen=True, slots=True)
class CloseTunnel:
    """Forget the tunnel and its keys."""

    index: int


@dataclass(frozen=True, slots=True)
class RefuseAddress:
    """Answer packets to this virtual address as unreachable, and those that wait for it."""

    address: IPv4Address | IPv6Address


Command = (
    OpenTunnel
    | InstallKeys
    | ActivateKeys
    | RetireKeys
    | SetPath
    | ClearPath
    | SendControl
    | OpenSockets
    | CloseSockets
    | ChangePort
    | Resend
    | CloseTunnel
    | RefuseAddress
)


@dataclass(frozen=True, slots=True)
class OpenWeb:
    """Carry datagrams to and from this endpoint in a WebSocket; answered by handle_web.

    The machine goes on using the endpoint: as destination, and as source of what comes.
    """

    remote: Endpoint
    """Of the DC or of an RS, of whatever family."""
    place: WebPlace
    relay: bool
    """An RS: datagrams wait for the WebSocket. To a DC they leave by UDP until it stands, and
    STUN always does."""


@dataclass(frozen=True, slots=True)
class CloseWeb:
    """Datagrams to this endpoint leave by UDP again."""

    remote: Endpoint


WebCommand = OpenWeb | CloseWeb


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the packet loops saw of one tunnel."""

    tx_bytes: int
    rx_bytes: int
    last_tx: Instant | None
    """When application data was last sent; None for never."""
    last_rx: Instant | None
    """When any authentic capsule last came."""


class Observations(Protocol):
    """What the machine may look up in the packet loops; reading changes nothing.

    It may ask for a tunnel that it has not yet told them to open: one whose Tunnel Request came
    before the Route Direction begins and gets its keys at once. Such a tunnel has seen nothing.
    """

    def receive_state(self, index: int) -> tuple[ReceiveState, ...]:
        """What arrived in the epochs that are open, newest epoch first, at most two."""
        ...

    def traffic(self, index: int) -> Traffic:
        """Counters of the tunnel."""
        ...


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """One address of an uplink; the driver reports all of them at every change."""

    endpoint: Endpoint
    """With the node's UDP port of that family."""
    interface: int
    mtu: int
    preferred: bool
    """On the uplink that the system's default route of that family uses."""


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Source: paper, Fig. 2. The driver keeps this (never the key) in the state directory."""

    fqdn: str
    coordinator: str
    coordinator_endpoints: tuple[Endpoint, ...]
    domain_key: bytes
    certificate: bytes = b""
    """Of the device key, in DER, by the domain's CA; empty where the AS issues none."""


@dataclass(frozen=True, slots=True)
class LoginFailed:
    """The AS refused or could not be reached; code is a wire.login.LoginRefused or a Reason."""

    code: str
    detail: str
    retry_at: Instant | None
    """When the node tries again by itself; None when it needs a person."""


@dataclass(frozen=True, slots=True)
class Registered:
    """Source: paper, Fig. 3. Sent at the first registration and when an address changed."""

    virtual_ipv4: IPv4Address
    virtual_ipv6: IPv6Address
    mapped: Endpoint


@dataclass(frozen=True, slots=True)
class RegistrationLost:
    """The DC stopped answering or refused; the node goes on trying."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class ReachedBy:
    """The way by which the DC reaches this node changed. Source: paper, Fig. 4."""

    keepalive: KeepAliveChoice
    server: str = ""
    """FQDNns, for TCP."""
    problem: Reason | None = None
    """Why it is not what the user chose."""


@dataclass(frozen=True, slots=True)
class NameResolved:
    """Answers `resolve`: the application may have these addresses."""

    query: int
    fqdn: str
    ipv4: IPv4Address
    ipv6: IPv6Address


@dataclass(frozen=True, slots=True)
class NameRefused:
    """Answers `resolve`: no such name for the application; reason is for `ntm`."""

    query: int
    fqdn: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class PeerPinned:
    """The driver keeps the peer's device key and local addresses in the state directory."""

    fqdn: str
    device: bytes
    ipv4: IPv4Address
    ipv6: IPv6Address
    certified: bool = False


@dataclass(frozen=True, slots=True)
class AuthoritiesPinned:
    """The driver keeps the CAs of a domain, as they were first stated, in the state directory."""

    domain: str
    authorities: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class PeerRefused:
    """A peer was not believed, whoever asked for the tunnel."""

    fqdn: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class TunnelEstablished:
    """Keys and a path stand; the first time, or again by a new negotiation."""

    fqdn: str
    index: int
    remote: Endpoint
    relayed: bool
    elapsed_ns: int
    """Since the negotiation began here."""


@dataclass(frozen=True, slots=True)
class HandoverDone:
    """A handover is over: the new path works both ways."""

    fqdn: str
    at: Instant
    outage_ns: int
    """From the change of this node's address, or from the last capsule by the path before, to the
    first authentic capsule by the new path."""
    old: Endpoint | None
    """Where the path before led to; None: there was none."""
    new: Endpoint
    cause: Cause
    was_relayed: bool
    relayed: bool


@dataclass(frozen=True, slots=True)
class TunnelClosed:
    """The tunnel is gone; the next packet or query builds another."""

    fqdn: str
    reason: CloseReason


@dataclass(frozen=True, slots=True)
class Pong:
    """A peer answered `ping`."""

    fqdn: str
    sequence: int
    rtt_ns: int
    remote: Endpoint
    relayed: bool


@dataclass(frozen=True, slots=True)
class ServersTold:
    """Answers `ask_servers`: the RS of the domain; none when the DC kept silent."""

    relays: tuple[RelayPlace, ...]


@dataclass(frozen=True, slots=True)
class NatWanted:
    """How do NAT and firewall behave here? Answered by `handle_finding`."""

    servers: tuple[Endpoint, ...]
    """DC and RS, observation points for a Discovery, in IPv4."""


@dataclass(frozen=True, slots=True)
class NewestPortWanted:
    """Which outer port does a mapping get that is made now? Answered by `handle_newest_port`."""

    server: Endpoint
    """Asked by STUN from a fresh socket."""


@dataclass(frozen=True, slots=True)
class RoundTripsWanted:
    """How far are these servers? Answered by `handle_round_trips`, with the same number."""

    number: int
    servers: tuple[Endpoint, ...]
    """Asked by STUN from a fresh socket."""


Event = (
    LoggedIn
    | LoginFailed
    | Registered
    | RegistrationLost
    | ReachedBy
    | NameResolved
    | NameRefused
    | PeerPinned
    | AuthoritiesPinned
    | PeerRefused
    | TunnelEstablished
    | HandoverDone
    | TunnelClosed
    | Pong
    | ServersTold
    | NatWanted
    | NewestPortWanted
    | RoundTripsWanted
    | Step
)
