"""Which packets of this machine go into the tunnel device.

A route per peer carries the size of that peer's path; before there is a path, only what every path
carries, and the first packet starts a tunnel. All of them are this device's own: their metric is
unlike anybody else's, so no foreign route is ever replaced, and they vanish with the device.

Ours: docs/protocol.md sections 5 and 7.
"""

import struct
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from errno import EACCES, EOPNOTSUPP
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from socket import AF_INET, AF_INET6

from ntmobile.agent.links_netlink import (
    RT_TABLE_MAIN,
    RTM,
    RTM_DELROUTE,
    RTM_NEWROUTE,
    RTN_UNICAST,
    Route,
    read_routes,
)
from ntmobile.agent.netlink import CREATE, NESTED, REPLACE, attribute, change
from ntmobile.errors import Remedy

Host = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

SMALLEST_MTU = {4: 576, 6: 1280}
"""Inner bytes that every path carries. Source: RFC 8200, section 5."""
PROTOCOL = 78
"""Marks our routes in `ip route`; no protocol of iproute2's list has this number."""
METRIC = 20_000
"""Plus the index of the device, so that agents side by side never replace each other's routes."""
NO_IPV6 = frozenset({EACCES, EOPNOTSUPP})
"""What the kernel says of IPv6 where it has none."""
_RTA_DST, _RTA_OIF, _RTA_PRIORITY, _RTA_METRICS, _RTAX_MTU = 1, 4, 6, 8, 2
_SCOPE_LINK = 253
"""The kernel's own default for an IPv4 route without a gateway; IPv6 knows no other than 0."""
_U32 = struct.Struct("=I")


class SystemRefused(Remedy):
    """The kernel refused a change of its network configuration."""

    def __init__(
        self, what: str, reason: object, remedy: str = "run ntm up as root; ntm bugreport"
    ) -> None:
        """Says what was tried and the kernel's reason; no address, because this is logged."""
        super().__init__(f"the kernel refused to {what}: {reason}", remedy=remedy)


@dataclass(frozen=True, slots=True)
class Overlap:
    """A virtual range and a real route that claim the same addresses."""

    virtual: Network
    real: Network
    interface: int


def overlaps(ranges: Collection[Network], *, own: Collection[int] = ()) -> tuple[Overlap, ...]:
    """Returns which routes of this network namespace collide with virtual ranges.

    own are the indices of the agent's devices, whose routes do not count. A default route is no
    collision.
    """
    real = [route for route in read_routes() if route.interface not in own and _is_routed(route)]
    return tuple(
        Overlap(virtual, route.destination, route.interface)
        for virtual in ranges
        for route in real
        if virtual.version == route.destination.version and virtual.overlaps(route.destination)
    )


def _is_routed(route: Route) -> bool:
    return not (route.destination.is_link_local or route.destination.is_multicast)


class Routes:
    """The routes of one tunnel device; remembers them, so a repetition costs nothing.

    Set within the call, and not by pyroute2, which waits: the answer to a peer's first packet may
    leave at once, and it must not find the default route.
    """

    def __init__(self, interface: int) -> None:
        """Interface is the index of the device."""
        self._interface = interface
        self._routes: dict[Host, int] = {}
        """The MTU of each."""

    def set_peer(self, host: Host, mtu: int) -> None:
        """Sends this peer's packets into the device, at most mtu bytes each.

        An mtu below 1280 counts as 1280 for IPv6 (RFC 8200, section 5). A machine whose kernel
        has no IPv6 goes without the IPv6 routes. Raises SystemRefused.
        """
        mtu = max(mtu, SMALLEST_MTU[host.version])
        if self._routes.get(host) == mtu:
            return
        try:
            change(RTM_NEWROUTE, CREATE | REPLACE, self._body(host, mtu))
        except OSError as error:
            if host.version == 4 or error.errno not in NO_IPV6:
                raise SystemRefused("route a peer into the tunnel", error.strerror) from error
        self._routes[host] = mtu

    def drop(self, host: Host) -> None:
        """Leaves this address to whoever else has it; one that was not routed is let be."""
        mtu = self._routes.pop(host, None)
        if mtu is not None:
            with suppress(OSError):
                change(RTM_DELROUTE, 0, self._body(host, mtu))

    def __contains__(self, host: Host) -> bool:
        return host in self._routes

    def _body(self, host: Host, mtu: int) -> bytes:
        family, scope = (AF_INET, _SCOPE_LINK) if host.version == 4 else (AF_INET6, 0)
        head = RTM.pack(
            family, host.max_prefixlen, 0, 0, RT_TABLE_MAIN, PROTOCOL, scope, RTN_UNICAST, 0
        )
        return head + b"".join(
            (
                attribute(_RTA_DST, host.packed),
                attribute(_RTA_OIF, _U32.pack(self._interface)),
                attribute(_RTA_PRIORITY, _U32.pack(METRIC + self._interface)),
                attribute(_RTA_METRICS | NESTED, attribute(_RTAX_MTU, _U32.pack(mtu))),
            )
        )
