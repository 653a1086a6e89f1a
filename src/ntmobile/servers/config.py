"""`server.toml`: what a domain's servers are and where they listen.

Ours: docs/protocol.md sections 1 and 10.
"""
# ruff: noqa: RUF009 -- the calls in class bodies make fields

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from ntmobile.config import (
    ADDRESS,
    BOOLEAN,
    DOMAIN,
    IPV4_NETWORK,
    PORT,
    Kind,
    Path,
    error_at,
    integer,
    list_of,
    one_of,
    optional_table,
    parse,
    required,
    setting,
    table,
    text,
)
from ntmobile.proto.coordinator.policy import Federation
from ntmobile.wire.endpoint import Endpoint

FILE = "server.toml"
HTTPS_PORT = 443
UDP_PORT = 4330
RELAY_UDP_PORT = 4331
"""RS shares DC's addresses where both run in one process, so it needs its own port."""
DNS_PORT = 53


class Role(StrEnum):
    """A server of the paper that this machine runs."""

    AS = "as"
    DC = "dc"
    NS = "ns"
    RS = "rs"


class Authentication(StrEnum):
    """By what nodes know each other. Source: paper, Node authentication."""

    DEVICE_KEY = "device-key"
    CERTIFICATE = "certificate"


def _endpoint(value: object) -> Endpoint | None:
    if value == "":
        return None
    if not isinstance(value, str):
        raise ValueError
    host, _, port = value.rpartition(":")
    return Endpoint(host.removeprefix("[").removesuffix("]"), int(port))


LISTENER = Kind(
    'an address and port like "127.0.0.1:9433", or "" for none', _endpoint, lambda e: str(e or "")
)


def _resolver(value: object) -> IPv4Address | IPv6Address | None:
    return None if value == "" else ADDRESS.parse(value)


RESOLVER = Kind(
    'an address like "192.0.2.53", or "" for the system\'s', _resolver, lambda a: str(a or "")
)
_PATH = text('a file, from the directory of server.toml, or "" for none')
_URL = text("an https URL, or empty for the vendor's")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """`[server]`."""

    domain: str = required(DOMAIN)
    """The zone of the domain's nodes."""
    addresses: tuple[IPv4Address | IPv6Address, ...] = required(list_of(ADDRESS))
    """Where the servers answer; also their A and AAAA records."""
    roles: tuple[Role, ...] = setting(list_of(one_of(Role)), (Role.AS, Role.DC, Role.RS))
    whole_zone: bool = setting(BOOLEAN, False)
    """Serve the records of DIR/zone too, because the zone holds more than nodes."""
    resolver: IPv4Address | IPv6Address | None = setting(RESOLVER, None)
    """Where the DC looks up foreign zones; None: the system's resolver."""
    certificate: str = setting(_PATH, "")
    """A certificate chain from a public CA, in PEM; empty: the domain's own CA issues one."""
    key: str = setting(_PATH, "")
    """Private key of `certificate`, in PEM."""
    metrics: Endpoint | None = setting(LISTENER, None)
    """Where /metrics is served, without any protection: a loopback address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSettings:
    """`[as]`."""

    https: int = setting(PORT, HTTPS_PORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorPorts:
    """`[dc]`."""

    https: int = setting(PORT, HTTPS_PORT)
    udp: int = setting(PORT, UDP_PORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationPorts:
    """`[ns]`."""

    https: int = setting(PORT, HTTPS_PORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayPorts:
    """`[rs]`."""

    https: int = setting(PORT, HTTPS_PORT)
    udp: int = setting(PORT, RELAY_UDP_PORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsSettings:
    """`[dns]`."""

    port: int = setting(PORT, DNS_PORT)
    """Anything but 53 is for tests and for a forwarder in front."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationSettings:
    """`[federation]`."""

    mode: Federation = setting(one_of(Federation), Federation.LISTED)
    """Open: every domain whose key is trusted; listed: those the operator added; closed: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """`[nodes]`."""

    authentication: Authentication = setting(one_of(Authentication), Authentication.DEVICE_KEY)
    ipv4_pool: IPv4Network = setting(IPV4_NETWORK, IPv4Network("100.64.0.0/10"))
    """Virtual IPv4 addresses that the DC proposes (RFC 6598)."""
    keepalive_s: int = setting(integer(5, 3600, "seconds"), 20)
    """Source: paper, Fig. 3."""
    lifetime_s: int = setting(integer(300, 90 * 86400, "seconds"), 86400)
    """How long Kntmdc lasts before the node logs in again by its device key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """`[store]`."""

    url: str = setting(text('a database URL, or "" for DIR/ntm.db'), "")
    """SQLAlchemy's form: sqlite+aiosqlite:///FILE, postgresql+asyncpg://USER@HOST/DATABASE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FcmSettings:
    """`[push.fcm]`: Firebase Cloud Messaging, HTTP v1."""

    endpoint: str = setting(_URL, "")
    token_endpoint: str = setting(_URL, "")
    project: str = required(text("the Firebase project's id", empty=False))
    credentials: str = required(text("the service account's JSON file", empty=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class ApnsSettings:
    """`[push.apns]`: Apple Push Notification service, by token."""

    endpoint: str = setting(_URL, "")
    key: str = required(text("the .p8 file", empty=False))
    key_id: str = required(text("the key's 10 characters", empty=False))
    team_id: str = required(text("the team's 10 characters", empty=False))
    topic: str = required(text("the app's bundle id", empty=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class WebPushSettings:
    """`[push.web]`: Web Push (RFC 8030, RFC 8292)."""

    vapid_key: str = required(text("a PEM file with the VAPID key", empty=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class PushSettings:
    """`[push]`."""

    fcm: FcmSettings | None = optional_table(FcmSettings)
    apns: ApnsSettings | None = optional_table(ApnsSettings)
    web: WebPushSettings | None = optional_table(WebPushSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """All of `server.toml`; the section `[as]` is the field `as_`."""

    server: ServerSettings = table(ServerSettings)
    as_: AccountSettings = table(AccountSettings)
    dc: CoordinatorPorts = table(CoordinatorPorts)
    ns: NotificationPorts = table(NotificationPorts)
    rs: RelayPorts = table(RelayPorts)
    dns: DnsSettings = table(DnsSettings)
    federation: FederationSettings = table(FederationSettings)
    nodes: NodeSettings = table(NodeSettings)
    store: StoreSettings = table(StoreSettings)
    push: PushSettings = table(PushSettings)

    @property
    def domain(self) -> str:
        """The zone of the domain's nodes."""
        return self.server.domain

    def name_of(self, role: Role) -> str:
        """Return the host name of a role's server: dc.ntm.example.org."""
        return f"{role}.{self.domain}"

    @property
    def names(self) -> tuple[str, ...]:
        """Host names of the servers of this machine, the domain itself first."""
        return (self.domain, *(self.name_of(role) for role in self.server.roles))

    def endpoints(self, port: int) -> tuple[Endpoint, ...]:
        """Return every server address with that port."""
        return tuple(Endpoint(address, port) for address in self.server.addresses)

    def ports(self) -> Iterator[tuple[str, str, int]]:
        """Each listener of the roles that run: role, "tcp" or "udp", port."""
        https = {Role.AS: self.as_.https, Role.DC: self.dc.https}
        https |= {Role.NS: self.ns.https, Role.RS: self.rs.https}
        udp = {Role.DC: self.dc.udp, Role.RS: self.rs.udp}
        for role in self.server.roles:
            yield str(role), "tcp", https[role]
            if role in udp:
                yield str(role), "udp", udp[role]
            if role is Role.DC:
                yield "dns", "udp", self.dns.port
                yield "dns", "tcp", self.dns.port


def parse_server(toml: str, file: str = FILE) -> ServerConfig:
    """Parse `server.toml`; raises ConfigError."""
    config = parse(toml, file, ServerConfig)
    for path, problem, allowed in _contradictions(config):
        raise error_at(toml, file, path, problem, allowed)
    return config


def _contradictions(config: ServerConfig) -> Iterator[tuple[Path, str, str]]:
    server = config.server
    if not server.addresses:
        yield ("server", "addresses"), "is empty", ADDRESS.allowed
    if not server.roles:
        yield ("server", "roles"), "is empty", one_of(Role).allowed
    if bool(server.certificate) != bool(server.key):
        yield ("server", "key"), "goes with certificate", "both or neither"
    if server.metrics is not None and not server.metrics.host.is_loopback:
        yield ("server", "metrics"), "would be open to everybody", "a loopback address"
    taken: dict[int, str] = {}
    for role, transport, port in config.ports():
        if transport == "udp" and taken.setdefault(port, role) != role:
            place = ("dns", "port") if role == "dns" else (role, "udp")
            yield place, f"UDP port {port} is {taken[port]}'s already", "a port of its own"
