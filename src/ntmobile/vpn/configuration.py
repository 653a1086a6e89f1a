"""What the operating system is told to set up, and what it tells of the network; pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from ntmobile.agent.names import DOMAIN_PREFIX
from ntmobile.agent.real_networks import POOLS
from ntmobile.wire.endpoint import Host

AnyNetwork = IPv4Network | IPv6Network

MTU = 1280
"""Bytes of an inner packet that every path carries. Source: RFC 8200, section 5."""
DNS_IPV4 = IPv4Address("192.0.2.53")
"""Where the node answers DNS. No real network has it. Source: RFC 5737 (TEST-NET-1)."""
DNS_IPV6_HOST = 0x53
"""The same in the /48 of the node's own domain, where hosts come from hashes of 80 bits."""


@dataclass(frozen=True, slots=True)
class Network:
    """The real network that the node's own packets leave by, as LinkProperties on Android."""

    addresses: tuple[Host, ...]
    """This machine's, without link-local ones; those of the preferred uplink first."""
    dns: tuple[Host, ...] = ()
    """Its ordinary name servers."""
    routes: tuple[AnyNetwork, ...] = ()
    """What is on it besides the Internet, so that no virtual address hides it."""
    mtu: int = 1500
    interface: int = 0
    """Index of the uplink; 0 leaves it to the system."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the VPN service sets up for its device: VpnService.Builder on Android."""

    addresses: tuple[Host, ...]
    """The node's virtual ones: addAddress, with all bits as the prefix."""
    routes: tuple[AnyNetwork, ...]
    """What goes into the device: addRoute."""
    dns: tuple[Host, ...]
    """Where the node answers name queries: addDnsServer."""
    search: tuple[str, ...]
    """Suffixes of short names: addSearchDomain."""
    mtu: int = MTU


def dns_hosts(ipv6: IPv6Address) -> tuple[IPv4Address, IPv6Address]:
    """Return where a node of this virtual address answers DNS."""
    return DNS_IPV4, domain_network(ipv6)[DNS_IPV6_HOST]


def configure(
    own: tuple[IPv4Address, IPv6Address],
    peers: Iterable[Host],
    real: Collection[AnyNetwork],
    search: tuple[str, ...],
) -> Configuration:
    """Return what to set up for a node with these addresses and peers, among real networks."""
    dns = dns_hosts(own[1])
    return Configuration(own, routes_of(own, peers, real), dns, search)


def routes_of(
    own: tuple[IPv4Address, IPv6Address], peers: Iterable[Host], real: Collection[AnyNetwork]
) -> tuple[AnyNetwork, ...]:
    """Return what goes into the device: whole ranges, but single addresses near real networks.

    Every change costs the system a new device, so a range covers peers that are not met yet.
    """
    routes: list[AnyNetwork] = [IPv4Network(DNS_IPV4), domain_network(own[1])]
    pool = next((each for each in POOLS if own[0] in each), None)
    if pool is not None and not any(pool.overlaps(net) for net in real if net.version == 4):
        routes.append(pool)
    for host in sorted(peers, key=lambda host: (host.version, host)):
        if not any(host in route for route in routes):
            routes.append(_route(host))
    return tuple(sorted(routes, key=lambda net: (net.version, net)))


def covers(configuration: Configuration, hosts: Iterable[Host]) -> bool:
    """Whether packets to all of these addresses go into the device."""
    return all(any(host in route for route in configuration.routes) for host in hosts)


def domain_network(ipv6: IPv6Address) -> IPv6Network:
    """Return the range of a domain's virtual addresses, of one in it."""
    return IPv6Network((ipv6, DOMAIN_PREFIX), strict=False)


def _route(host: Host) -> AnyNetwork:
    return IPv4Network(host) if host.version == 4 else domain_network(IPv6Address(host))
