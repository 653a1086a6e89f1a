"""Which packets of this machine go into the tunnel device.

A route per peer carries the size of that peer's path; before there is a path, only what every path
carries, and the first packet starts a tunnel. All of them are this device's own: their metric is
unlike anybody else's, so no foreign route is ever replaced, and they vanish with the device.

Ours: docs/protocol.md sections 5 and 7.
"""

from collections.abc import Collection
from dataclasses import dataclass
from errno import EACCES, EOPNOTSUPP
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from ntmobile.agent.kernel import Kernel, NetlinkError
from ntmobile.agent.links_netlink import Route, read_routes
from ntmobile.errors import Remedy

Host = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

SMALLEST_MTU = 1280
"""Inner bytes that every path carries. Source: RFC 8200, section 5."""
PROTOCOL = 78
"""Marks our routes in `ip route`; no protocol of iproute2's list has this number."""
METRIC = 20_000
"""Plus the index of the device, so that agents side by side never replace each other's routes."""
NO_IPV6 = frozenset({EACCES, EOPNOTSUPP})
"""What the kernel says of IPv6 where it has none."""


class SystemRefused(Remedy):
    """The kernel refused a change of its network configuration."""

    def __init__(self, what: str, reason: object) -> None:
        """Says what was tried and the kernel's reason; no address, because this is logged."""
        super().__init__(
            f"the kernel refused to {what}: {reason}",
            remedy="run ntm up as root; ntm bugreport",
        )


@dataclass(frozen=True, slots=True)
class Overlap:
    """A virtual range and a real route that claim the same addresses."""

    virtual: Network
    real: Network
    interface: int


def overlaps(ranges: Collection[Network], *, own: int = 0) -> tuple[Overlap, ...]:
    """Returns which routes of this network namespace collide with virtual ranges.

    own is the index of the agent's device, whose routes do not count. A default route is no
    collision.
    """
    real = [route for route in read_routes() if route.interface != own and _is_routed(route)]
    return tuple(
        Overlap(virtual, route.destination, route.interface)
        for virtual in ranges
        for route in real
        if virtual.version == route.destination.version and virtual.overlaps(route.destination)
    )


def _is_routed(route: Route) -> bool:
    return not (route.destination.is_link_local or route.destination.is_multicast)


class Routes:
    """The routes of one tunnel device; remembers them, so a repetition costs nothing."""

    def __init__(self, kernel: Kernel, interface: int) -> None:
        """Interface is the index of the device."""
        self._kernel = kernel
        self._interface = interface
        self._routes: dict[Network, int] = {}
        """The MTU of each."""

    async def set_peer(self, host: Host, mtu: int) -> None:
        """Sends this peer's packets into the device, at most mtu bytes each.

        An mtu below 1280 counts as 1280. A machine whose kernel has no IPv6 goes without the IPv6
        routes. Raises SystemRefused.
        """
        network, mtu = ip_network(host), max(mtu, SMALLEST_MTU)
        if self._routes.get(network) == mtu:
            return
        try:
            await self._kernel.route("replace", **self._key(network), metrics={"mtu": mtu})
        except NetlinkError as error:
            if host.version == 4 or error.code not in NO_IPV6:
                raise SystemRefused("route a peer into the tunnel", error) from error
        self._routes[network] = mtu

    def _key(self, network: Network) -> dict[str, object]:
        return {
            "dst": str(network),
            "oif": self._interface,
            "priority": METRIC + self._interface,
            "proto": PROTOCOL,
            # The kernel's own default for a route without a gateway; IPv6 knows no other.
            **({"scope": "link"} if network.version == 4 else {}),
        }
