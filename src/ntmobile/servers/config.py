"""`server.toml`: what a domain's servers are and where they listen.

Ours: docs/protocol.md sections 1 and 10.
"""
# ruff: noqa: RUF009 -- the calls in class bodies make fields

from collections.abc import Iterator, Mapping
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
    is_label,
    list_of,
    one_of,
    parse,
    required,
    setting,
    table,
    tables,
    text,
)
from ntmobile.proto.coordinator.policy import Federation
from ntmobile.servers.push_settings import PushSettings
from ntmobile.wire.endpoint import Endpoint

FILE = "server.toml"
HTTPS_PORT = 443
UDP_PORT = 4330
NOTIFICATION_PORT = 4434
"""NS: nodes connect by TCP, the DC asks by UDP. Not 443, where HTTPS of the same machine is."""
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


def _further_name(value: object) -> str:
    if not isinstance(value, str) or not is_label(value) or value in set(Role):
        raise ValueError
    return value


def _name_like(example: str) -> Kind[str]:
    return Kind(f'one label like "{example}", and not the name of a role', _further_name)


_PATH = text('a file, from the directory of server.toml, or "" for none')


Addresses = tuple[IPv4Address | IPv6Address, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """`[server]`."""

    domain: str = required(DOMAIN)
    """The zone of the domain's nodes."""
    addresses: Addresses = required(list_of(ADDRESS))
    """Where the servers answer, and their A and AAAA records, unless a role has its own."""
    roles: tuple[Role, ...] = setting(list_of(one_of(Role)), (Role.AS, Role.DC, Role.RS))
    whole_zone: bool = setting(BOOLEAN, False)
    """Serve the records of DIR/zone too, because the zone holds more than nodes."""
    resolver: IPv4Address | IPv6Address | None = setting(RESOLVER, None)
    """Where the DC looks up foreign zones; None: the system's resolver."""
    trust_anchor: str = setting(_PATH, "")
    """Where DNSSEC starts: DS or DNSKEY records in master-file form; empty: the root's keys."""
    certificate: str = setting(_PATH, "")
    """A certificate chain from a public CA, in PEM; empty: the domain's own CA issues one."""
    key: str = setting(_PATH, "")
    """Private key of `certificate`, in PEM."""
    metrics: Endpoint | None = setting(LISTENER, None)
    """Where /metrics is served, without any protection: a loopback address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSettings:
    """`[as]`."""

    addresses: Addresses = setting(list_of(ADDRESS), ())
    """Where AS answers, when not at [server] addresses: on a machine of its own."""
    https: int = setting(PORT, HTTPS_PORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorPorts:
    """`[dc]`."""

    addresses: Addresses = setting(list_of(ADDRESS), ())
    """Where DC and the zone's DNS answer, when not at [server] addresses."""
    https: int = setting(PORT, HTTPS_PORT)
    udp: int = setting(PORT, UDP_PORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationPorts:
    """`[ns]`."""

    addresses: Addresses = setting(list_of(ADDRESS), ())
    """Where NS answers, when not at [server] addresses."""
    https: int = setting(PORT, HTTPS_PORT)
    port: int = setting(PORT, NOTIFICATION_PORT)
    """TCP for the connections that nodes hold, and UDP for the DC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayPorts:
    """`[rs]`."""

    addresses: Addresses = setting(list_of(ADDRESS), ())
    """Where RS answers, when not at [server] addresses. UDP: at the first of each family."""
    https: int = setting(PORT, HTTPS_PORT)
    udp: int = setting(PORT, RELAY_UDP_PORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class FurtherRelay:
    """`[[relay]]`: one more RS of the domain, on a machine of its own."""

    name: str = required(_name_like("rs2"))
    """Its host name's first label: rs2 is rs2.ntm.example.org."""
    addresses: Addresses = required(list_of(ADDRESS))
    https: int = setting(PORT, HTTPS_PORT)
    udp: int = setting(PORT, RELAY_UDP_PORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class FurtherNotifier:
    """`[[notifier]]`: one more NS of the domain, on a machine of its own."""

    name: str = required(_name_like("ns2"))
    """Its host name's first label: ns2 is ns2.ntm.example.org."""
    addresses: Addresses = required(list_of(ADDRESS))
    https: int = setting(PORT, HTTPS_PORT)
    port: int = setting(PORT, NOTIFICATION_PORT)
    """As of `[ns]`. 443 gets through proxies that lead nowhere else; https is another one then."""


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
    """What every node asks of its peers: with certificate, one without is refused."""
    certificates: bool = setting(BOOLEAN, True)
    """The AS gives every node a certificate by the domain's own CA (ca.pem, ca.key)."""
    certificate_s: int = setting(integer(60, 90 * 86400, "seconds"), 7 * 86400)
    """How long it lasts; the node renews it alone when a third is left."""
    trusted_cas: tuple[str, ...] = setting(list_of(_PATH), ())
    """Further CAs, in PEM: their certificates let nodes in, and speak for them to peers."""
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


FURTHER: Mapping[Role, str] = {Role.NS: "notifier", Role.RS: "relay"}
"""Roles of which a domain may have several, and the sections of the further ones."""


@dataclass(frozen=True, slots=True)
class Site:
    """One server of the domain: what it is, and where it answers."""

    role: Role
    label: str
    """Of its host name."""
    addresses: Addresses
    https: int
    """TCP port."""
    udp: int | None
    """UDP port, for the roles that have one."""

    @property
    def heading(self) -> str:
        """Its section of server.toml."""
        if self.label == self.role:
            return f"[{self.label}]"
        return f"[[{FURTHER[self.role]}]] {self.label}"

    def at(self, port: int) -> tuple[Endpoint, ...]:
        """Return every address of the server with that port."""
        return tuple(Endpoint(address, port) for address in self.addresses)

    def signalling(self) -> tuple[Endpoint, ...]:
        """Return where it takes datagrams: RS and NS at one address a family, as paths need."""
        assert self.udp is not None
        endpoints = self.at(self.udp)
        if self.role not in (Role.RS, Role.NS):
            return endpoints
        first = {endpoint.version: endpoint for endpoint in reversed(endpoints)}
        return tuple(each for each in endpoints if each in first.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """All of `server.toml`; the section `[as]` is the field `as_`."""

    server: ServerSettings = table(ServerSettings)
    as_: AccountSettings = table(AccountSettings)
    dc: CoordinatorPorts = table(CoordinatorPorts)
    ns: NotificationPorts = table(NotificationPorts)
    rs: RelayPorts = table(RelayPorts)
    relay: tuple[FurtherRelay, ...] = tables(FurtherRelay)
    notifier: tuple[FurtherNotifier, ...] = tables(FurtherNotifier)
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

    def host_of(self, site: Site) -> str:
        """Return the host name of a server."""
        return f"{site.label}.{self.domain}"

    def site(self, role: Role) -> Site:
        """Return the server of a role; of RS the one of `[rs]`, of NS the one of `[ns]`."""
        match role:
            case Role.AS:
                here, https, udp = self.as_.addresses, self.as_.https, None
            case Role.DC:
                here, https, udp = self.dc.addresses, self.dc.https, self.dc.udp
            case Role.NS:
                here, https, udp = self.ns.addresses, self.ns.https, self.ns.port
            case Role.RS:
                here, https, udp = self.rs.addresses, self.rs.https, self.rs.udp
        return Site(role, str(role), here or self.server.addresses, https, udp)

    @property
    def sites(self) -> tuple[Site, ...]:
        """All servers of the domain, on whatever machine."""
        relays = (
            Site(Role.RS, each.name, each.addresses, each.https, each.udp) for each in self.relay
        )
        notifiers = (
            Site(Role.NS, each.name, each.addresses, each.https, each.port)
            for each in self.notifier
        )
        return (*map(self.site, self.server.roles), *relays, *notifiers)

    def all_of(self, role: Role) -> tuple[Site, ...]:
        """Return all servers of a role."""
        return tuple(site for site in self.sites if site.role is role)

    @property
    def notifiers(self) -> tuple[Site, ...]:
        """All NS of the domain."""
        return self.all_of(Role.NS)

    @property
    def relays(self) -> tuple[Site, ...]:
        """All RS of the domain."""
        return self.all_of(Role.RS)

    @property
    def names(self) -> tuple[str, ...]:
        """Host names in every server's certificate, the domain itself first.

        Without those of further RS and NS: theirs have them, and the certificate of the others,
        whose fingerprint people write down, stays when one is added.
        """
        return (self.domain, *map(self.name_of, self.server.roles))

    @property
    def addresses(self) -> Addresses:
        """Every address of every server."""
        return tuple(dict.fromkeys(address for site in self.sites for address in site.addresses))


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
    taken: set[str] = set()
    sections: dict[str, tuple[FurtherRelay | FurtherNotifier, ...]] = {
        "relay": config.relay,
        "notifier": config.notifier,
    }
    for section, further in sections.items():
        for number, one in enumerate(further):
            if not one.addresses:
                yield (section, number, "addresses"), "is empty", ADDRESS.allowed
            if one.name in taken:
                yield (section, number, "name"), f'"{one.name}" is taken', "a name of its own"
            taken.add(one.name)
    yield from _collisions(config)


def _collisions(config: ServerConfig) -> Iterator[tuple[Path, str, str]]:
    """Ports that two servers would open at the same address; HTTPS they share."""
    taken: dict[Endpoint, str] = {}
    for site, path in zip(config.sites, _paths(config), strict=True):
        key = "port" if site.role is Role.NS else "udp"
        endpoints = [] if site.udp is None else [(site.signalling(), site.label, (*path, key))]
        if site.role is Role.DC:
            endpoints.append((site.at(config.dns.port), "dns", ("dns", "port")))
        if site.role is Role.NS and (web := _web_at(config, site)) is not None:
            yield (*path, key), f"TCP port {site.udp} is HTTPS of {web} already", "another port"
        for opened, owner, place in endpoints:
            for endpoint in opened:
                other = taken.setdefault(endpoint, owner)
                if other != owner:
                    problem = f"UDP port {endpoint.port} is {other}'s already"
                    yield place, problem, "a port of its own"


def _web_at(config: ServerConfig, notifier: Site) -> str | None:
    """Return whose HTTPS is where nodes shall connect to an NS."""
    for site in config.sites:
        if site.https == notifier.udp and set(site.addresses) & set(notifier.addresses):
            return site.label
    return None


def _paths(config: ServerConfig) -> Iterator[Path]:
    """The section of each server, in the order of `sites`."""
    yield from ((str(role),) for role in config.server.roles)
    yield from (("relay", number) for number in range(len(config.relay)))
    yield from (("notifier", number) for number in range(len(config.notifier)))
