"""The global network: every machine on it reaches every other without translation."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from ntmobile.lab.addresses import Pool
from ntmobile.lab.namespace import Place
from ntmobile.lab.network import GATEWAY_IPV6, Network, Uplink

IPV4 = "203.0.113.0/24"
IPV6 = "2001:db8::/64"
DELEGATED = "2001:db8::/32"
"""Networks handed to routers are /64 pieces of this one (RFC 3849)."""


class Internet(Network):
    """A router with a wire to each machine; no two machines share a link.

    Machines have /32 and /128 addresses, so any address, also one of another
    prefix, can be given to any machine.
    """

    def __init__(self, place: Place, ipv4: str = IPV4, ipv6: str = IPV6) -> None:
        """Give machines addresses out of `ipv4` and `ipv6`."""
        super().__init__(place)
        network4 = IPv4Network(ipv4)
        self.pool4 = Pool(IPv4Address, network4)
        self.pool6 = Pool(IPv6Address, IPv6Network(ipv6))
        self.gateway4 = network4[1]
        self._free_networks = IPv6Network(DELEGATED).subnets(new_prefix=64)
        next(self._free_networks)
        self._delegated: dict[Uplink, IPv6Network] = {}

    @property
    def prefix_lengths(self) -> tuple[int, int]:
        """Nothing but the machine itself is local."""
        return 32, 128

    def connect(self, uplink: Uplink) -> None:
        """Route the machine's addresses to its wire."""
        port = uplink.port
        lines = [
            f"link set {port} up",
            f"addr replace {self.gateway4}/32 dev {port}",
            f"addr replace {GATEWAY_IPV6}/64 dev {port} nodad",
        ]
        if uplink.ipv4 is not None:
            lines.append(f"route replace {uplink.ipv4} dev {port}")
        if uplink.ipv6 is not None:
            lines.append(f"route replace {uplink.ipv6} dev {port}")
        if (delegated := self._delegated.get(uplink)) is not None:
            lines.append(_route(delegated, uplink))
        self.ip(*lines)

    def abandon(self, port: str) -> None:
        """Take the router's addresses off the port."""
        self.ip(f"addr flush dev {port}")

    def delegate(self, uplink: Uplink, network: IPv6Network | None = None) -> IPv6Network | None:
        """Return a network, by default a fresh /64, routed to the machine; None if no IPv6."""
        if uplink.ipv6 is None:
            return None
        network = network or next(self._free_networks)
        self._delegated[uplink] = network
        self.ip(_route(network, uplink))
        return network


def _route(network: IPv6Network, uplink: Uplink) -> str:
    assert uplink.ipv6 is not None
    return f"route replace {network} via {uplink.ipv6.ip} dev {uplink.port} onlink"
