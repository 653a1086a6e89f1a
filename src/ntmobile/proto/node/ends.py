"""The two ends of a tunnel, and a path between them."""

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from ntmobile.keys.identity import Identity
from ntmobile.proto.node.events import OTHER_PORT
from ntmobile.proto.node.handshake import Terms
from ntmobile.wire.direction import Action, Cipher, Mode, NodeInformation, Role, RouteDirection
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.identity import PublicIdentity


@dataclass(frozen=True, slots=True)
class Path:
    """Where this tunnel's capsules go."""

    remote: Endpoint
    relayed: bool
    interface: int = 0
    hears: Endpoint | None = None
    """Where the peer's capsules come from, when its NAT maps each way anew."""
    socket: int = 0
    """One of the tunnel's own that it leads through; 0: the node's port; OTHER_PORT."""

    @property
    def by_other_port(self) -> bool:
        """Whether it leads through the port that the node sends nothing else from."""
        return self.socket == OTHER_PORT

    def turned(self) -> "Path":
        """Return this path with the numbers that the node's two ports have after a change."""
        if self.remote.version != 4 or self.socket not in (0, OTHER_PORT):
            return self
        return replace(self, socket=OTHER_PORT - self.socket)


@dataclass(frozen=True, slots=True)
class Ends:
    """Who the two ends are; fixed for the tunnel's life."""

    own_fqdn: str
    identity: Identity
    own_ipv6: IPv6Address
    """As the DC allotted it: part of what a handshake binds."""
    peer: NodeInformation
    cipher: Cipher
    own_here: tuple[IPv4Address, IPv6Address]
    peer_here: tuple[IPv4Address, IPv6Address]

    @property
    def leads(self) -> bool:
        """Whether this end has the smaller FQDN: a fixed difference between the two."""
        return self.own_fqdn < self.peer.fqdn

    @property
    def role(self) -> Role:
        """This end's role in handshakes inside the tunnel."""
        return Role.MN if self.leads else Role.CN

    def terms(self, negotiation: bytes, sender: Role) -> Terms:
        """What a handshake inside the tunnel must agree on."""
        # Certificates change while a tunnel stands; the epoch before vouches for them.
        own = (self.own_fqdn, self.identity.public.bare, self.own_ipv6)
        peer = (self.peer.fqdn, self.peer.identity.bare, self.peer.virtual_ipv6)
        mn, cn = (own, peer) if self.leads else (peer, own)
        return Terms(
            negotiation, Mode.KKPSK0, self.cipher, mn[0], cn[0], sender, mn[1], cn[1], mn[2], cn[2]
        )


def terms_of(route: RouteDirection, own: tuple[str, PublicIdentity, IPv6Address]) -> Terms:
    """Return what the handshake binds: both certificates, as each end was told of them.

    own is this end: its FQDN, the identity that it showed, its address from the DC.
    """
    peer = (route.peer.fqdn, route.peer.identity, route.peer.virtual_ipv6)
    mn, cn = (own, peer) if route.role is Role.MN else (peer, own)
    other = Role.CN if route.role is Role.MN else Role.MN
    return Terms(
        route.negotiation,
        route.mode,
        route.cipher,
        mn[0],
        cn[0],
        route.role if route.action is Action.SEND else other,
        mn[1],
        cn[1],
        mn[2],
        cn[2],
    )
