"""What `ntm` shows, as other programs may rely on it: `--json` prints these as they are.

Times are ISO 8601 in UTC; a field that is not known is null. Fields are only ever added.
"""

from typing import Literal

import msgspec


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of everything shown."""


class ServerView(View, frozen=True):
    """One server this node depends on."""

    role: Literal["AS", "DC", "RS", "NS"]
    name: str
    address: str | None
    healthy: bool
    detail: str
    """Why not, or what it is good for now."""


class PathView(View, frozen=True):
    """Where a tunnel's capsules go now."""

    kind: Literal["direct", "relay"]
    local: str | None
    """The uplink's own address, and the port that capsules leave from."""
    remote: str
    family: Literal["ipv4", "ipv6"]
    rtt_ms: float | None
    mtu: int
    """Largest inner packet, bytes."""
    websocket: bool = False
    """The relay is reached by WebSocket, because UDP is blocked here."""


class HandoverPathView(View, frozen=True):
    """The way of a tunnel before or after a handover."""

    kind: Literal["direct", "relay"]
    local: str | None
    """This node's own address, as far as it can be told."""
    remote: str
    """The peer's address, or that of RS."""


class HandoverView(View, frozen=True):
    """One handover of one tunnel."""

    fqdn: str
    at: str
    """When it was over."""
    outage_ms: float
    from_: str | None = msgspec.field(name="from")
    """This node's address where it moved itself, else where the path led to."""
    to: str
    cause: str = "new-network"
    """As in docs/node.md."""
    before: HandoverPathView | None = None
    """Null: there was no path."""
    after: HandoverPathView | None = None
    resent_capsules: int = 0
    """What this node sent again because the path before had swallowed it."""
    identity: str | None = None
    """Whose tunnel, USER@DOMAIN, where the agent has several identities."""


class PeerStatus(View, frozen=True):
    """One peer there is a tunnel to."""

    fqdn: str
    virtual_ipv4: str
    virtual_ipv6: str
    authenticated: Literal["certificate", "device-key", "password"]
    cipher: str
    peer_key: str
    """SHA256:hex of the peer's device key."""
    path: PathView | None
    """Null while there is no way to the peer; packets wait."""
    tx_bytes: int
    rx_bytes: int
    established_ms: float | None
    """How long the negotiation took."""
    last_handover: HandoverView | None


class CertificateView(View, frozen=True):
    """A certificate of this node."""

    issuer: str
    begins: str
    ends: str
    given: bool
    """By `ntm up --certificate`; else by the AS, and renewed alone."""
    renewed: bool = True
    """False: the node was shut out, and gets no other."""


class RefusedView(View, frozen=True):
    """A peer that this node did not believe, and why."""

    fqdn: str
    reason: str
    detail: str
    """What it means, and what to do next."""


class AuthorityView(View, frozen=True):
    """A CA that this node believes."""

    domain: str | None
    """Pinned for names under this domain; null: given by `ntm set trusted-ca`."""
    fingerprint: str


class KeepAliveView(View, frozen=True):
    """How the DC reaches this node."""

    chosen: Literal["udp", "tcp", "push", "auto"]
    now: Literal["udp", "tcp", "push"]
    server: str | None
    """FQDNns, while it holds the connection."""
    interval_s: int
    """Between keep-alives; 0: none is sent."""
    problem: str | None
    """Why it is not as chosen."""
    mapping_s: int | None
    """How long idle UDP mappings live in this network, at least, where `auto` measured it; 0 with
    no `mapping_dead_s`: that could not be measured."""
    mapping_dead_s: int | None = None
    """After how long they were gone; None where that was not seen."""


class StatusView(View, frozen=True):
    """`ntm status`."""

    fqdn: str | None
    state: Literal["up", "down", "degraded"]
    reasons: tuple[str, ...]
    """What keeps the state from being `up`, and what was kept; empty when up."""
    virtual_ipv4: str | None
    virtual_ipv6: str | None
    servers: tuple[ServerView, ...]
    peers: tuple[PeerStatus, ...]
    model: str
    device_key: str
    """SHA256:hex of this node's device key."""
    version: str
    notices: tuple[str, ...] = ()
    """What is worth knowing of the network this node is in."""
    certificate: CertificateView | None = None
    """Null where the domain gives none."""
    refused: tuple[RefusedView, ...] = ()
    """Peers that were not believed lately."""
    keepalive: KeepAliveView | None = None
    """Null while the node is down."""
    dns: str | None = None
    """How the machine's name queries come to this node: as `hook` of DnsView."""
    identity: str | None = None
    """USER@DOMAIN, what `--identity` takes; null where nobody is logged in."""
    identities: tuple["StatusView", ...] = ()
    """Where the agent has several identities and none was chosen: each of them; the fields above
    are the first one's."""


class KnownPeer(View, frozen=True):
    """A peer this node has met, with or without a tunnel now."""

    fqdn: str
    virtual_ipv4: str
    virtual_ipv6: str
    peer_key: str
    connected: bool
    certified: bool = False
    """It showed a good certificate once: from then on it must."""
    identity: str | None = None
    """Who has met it, USER@DOMAIN, where the agent has several identities."""


class PeersView(View, frozen=True):
    """`ntm peers`."""

    peers: tuple[KnownPeer, ...]


class PongView(View, frozen=True):
    """One try of `ntm ping`."""

    fqdn: str
    sequence: int
    rtt_ms: float | None
    """Null: no answer in time."""
    kind: Literal["direct", "relay"] | None
    remote: str | None


class PingSummary(View, frozen=True):
    """The end of `ntm ping`."""

    fqdn: str
    sent: int
    received: int
    rtt_min_ms: float | None
    rtt_median_ms: float | None
    rtt_max_ms: float | None
    direct: bool
    """Whether the last answer came over a direct path."""


class KeyView(View, frozen=True):
    """One key of Table 1 at this node: never its bytes."""

    key: str
    identifier: str
    owners: tuple[str, ...]
    created_by: tuple[str, ...]
    expires: str


class KeyActView(View, frozen=True):
    """Something that happened to a key at this node."""

    at: str
    act: str
    key: str
    identifier: str


class KeysView(View, frozen=True):
    """`ntm keys`."""

    keys: tuple[KeyView, ...]
    history: tuple[KeyActView, ...]
    certificate: CertificateView | None = None
    authorities: tuple[AuthorityView, ...] = ()


class StepView(View, frozen=True):
    """One message of a sequence, seen from this node."""

    at: str
    """To the microsecond."""
    ms: float
    """Since the first step."""
    message: str
    here: str
    there: str
    sent: bool
    detail: str
    names: tuple[str, ...]
    """The nodes that the message names."""


class TraceView(View, frozen=True):
    """`ntm trace`."""

    fqdn: str
    """The peer; this node itself for its login and registration."""
    own: str
    at: str
    negotiation: str
    """By which the servers know it, in hexadecimal; empty for a login."""
    steps: tuple[StepView, ...]


class HandoversView(View, frozen=True):
    """`ntm handovers`, oldest first; also those of earlier runs."""

    handovers: tuple[HandoverView, ...]
    trouble: str | None = None
    """Why they are not kept on disk; null when they are."""


class WhoisView(View, frozen=True):
    """`ntm whois`."""

    address: str
    fqdn: str
    peer_key: str | None
    """Null for this node itself."""


class ChoicesView(View, frozen=True):
    """`ntm set`: every setting and its value as one would type it."""

    choices: dict[str, str]
    notes: tuple[str, ...] = ()
    """What takes effect only later."""


class DnsView(View, frozen=True):
    """`ntm dns status`."""

    hook: Literal["systemd-resolved", "nftables", "resolv.conf", "off"]
    detail: str
    stub: str | None
    upstreams: tuple[str, ...]
    zones: tuple[str, ...]
    """Known NTMobile zones: names in them never reach an ordinary resolver."""
    counters: dict[str, int]


class BugReport(View, frozen=True):
    """`ntm bugreport`: no key, no password."""

    text: str


class LifetimeView(View, frozen=True):
    """Between which two idle times the NAT forgets a UDP mapping."""

    alive_s: int
    """Mappings lived that long; 0: not even the shortest time that was tried."""
    dead_s: int | None
    """Null: not seen to die."""


class FamilyView(View, frozen=True):
    """How one address family behaves here; the words are those of RFC 4787."""

    local: tuple[str, ...]
    """This machine's own addresses."""
    udp: bool
    mapped: str | None
    """The address and port that the servers saw."""
    translated: bool | None
    mapping: str | None
    """endpoint-independent, address-dependent, address-and-port-dependent; null when the domain's
    servers cannot tell two of them apart."""
    mapping_possible: tuple[str, ...]
    filtering: str | None
    filtering_possible: tuple[str, ...]
    ports: str | None
    """preserving, sequential, random; null without NAT."""
    hairpin: bool | None
    lifetime: LifetimeView | None
    """Null unless it was asked for."""


class ObservationView(View, frozen=True):
    """One server that was asked, at one address."""

    role: Literal["DC", "RS"]
    name: str
    address: str
    rtt_ms: float | None
    """Null: no answer."""


class PortMappingView(View, frozen=True):
    """What the router was asked for."""

    protocol: Literal["PCP", "NAT-PMP", "UPnP"] | None
    """Null: no port is mapped."""
    external: str | None
    """The router's own address, and the port that leads to this node."""
    behind_another_nat: bool
    """The router's own address is private too: the mapping does not reach the Internet."""
    reason: str
    """Why none is mapped; empty when one is."""


class NetcheckView(View, frozen=True):
    """`ntm netcheck`."""

    udp: bool
    """Whether any server answered over UDP."""
    ipv4: FamilyView | None
    """Null: this machine, or every server, lacks the family."""
    ipv6: FamilyView | None
    port_mapping: PortMappingView
    servers: tuple[ObservationView, ...]
