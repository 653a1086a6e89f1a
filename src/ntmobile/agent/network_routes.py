"""How the machine sends packets for networks beyond peers into the tunnel device.

They have a routing table of their own, and two rules per family, as wg-quick has them: routes of
the main table go first, but for its default route, so that the local network stays reachable; and
what the agent's own marked sockets send never looks into the table, so that a capsule cannot loop
into the tunnel, whatever the networks cover. Rules outlive a killed agent, its table does not: they
then do nothing, and the next agent removes them.

What lies behind this node is reached with this node's address (masquerade), so that machines
there need no route back. Source: ip-rule(8), wg-quick(8). Ours: docs/protocol.md section 5.
"""

import struct
from collections.abc import Collection
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from socket import AF_INET, AF_INET6

import structlog

from ntmobile.agent.dns_hook_table import MARK, MARK_MASK
from ntmobile.agent.links_netlink import RT_TABLE_MAIN, RTM, RTM_DELROUTE, RTM_NEWROUTE, RTN_UNICAST
from ntmobile.agent.netlink import CREATE, NESTED, REPLACE, attribute, change
from ntmobile.agent.nft import Nft
from ntmobile.agent.routes import METRIC, NO_IPV6, PROTOCOL, SystemRefused

Network = IPv4Network | IPv6Network
TABLE = 7_800
"""Plus the index of the device."""
NETWORK_MTU = 1280
"""A path that carries less answers larger packets with that size."""
NEAR_PRIORITY, BEYOND_PRIORITY = 7_800, 7_801
FORWARDING = {
    4: Path("/proc/sys/net/ipv4/ip_forward"),
    6: Path("/proc/sys/net/ipv6/conf/all/forwarding"),
}
_RULE = struct.Struct("=8BI")
_RTM_NEWRULE, _RTM_DELRULE, _TO_TABLE, _INVERT, _EXCLUSIVE = 32, 33, 1, 2, 0x200
_PRIORITY, _FWMARK, _SUPPRESS, _TABLE, _FWMASK, _RULE_PROTOCOL = 6, 10, 14, 15, 16, 21
_RTA_DST, _RTA_OIF, _RTA_PRIORITY, _RTA_METRICS, _RTA_TABLE, _RTAX_MTU = 1, 4, 6, 8, 15, 2
_FAMILIES = {4: AF_INET, 6: AF_INET6}
_SCOPES = {4: 253, 6: 0}
_MASQUERADE = """
create table inet {table} {{ flags owner; }}
add chain inet {table} out {{ type nat hook postrouting priority 100; }}
add rule inet {table} out iifname "{device}" oifname != "{device}" masquerade
"""
log = structlog.get_logger()


class NetworkRoutes:
    """Those of one tunnel device; `close` takes the rules away, all else goes with the device."""

    def __init__(self, device: str, index: int) -> None:
        """Changes nothing yet."""
        self._device, self._index = device, index
        self._routed: frozenset[Network] = frozenset()
        self._behind: tuple[Network, ...] = ()
        self._nft: Nft | None = None

    def set(self, beyond: Collection[Network], behind: Collection[Network]) -> None:
        """Routes into the device just these, and lets peers through to those behind.

        Raises SystemRefused.
        """
        wanted = frozenset(beyond)
        for network in self._routed - wanted:
            with suppress(OSError):
                change(RTM_DELROUTE, 0, self._route(network))
        for version in (4, 6):
            self._follow_rules(version, any(each.version == version for each in wanted))
        for network in wanted - self._routed:
            self._add(network)
        self._routed, self._behind = wanted, tuple(behind)
        self._masquerade()

    def troubles(self) -> list[str]:
        """What keeps peers from what lies behind."""
        return [
            f"peers cannot reach what lies behind: this machine does not forward IPv{version}; "
            f"next: echo 1 > {FORWARDING[version]}, and in /etc/sysctl.d for good"
            for version in sorted({each.version for each in self._behind})
            if not _forwards(version)
        ]

    def close(self) -> None:
        """Takes all of it away."""
        self._routed, self._behind = frozenset(), ()
        for version in (4, 6):
            self._follow_rules(version, False)
        self._masquerade()

    def _add(self, network: Network) -> None:
        try:
            change(RTM_NEWROUTE, CREATE | REPLACE, self._route(network))
        except OSError as error:
            if network.version == 4 or error.errno not in NO_IPV6:
                raise SystemRefused("route a network into the tunnel", error.strerror) from error

    def _follow_rules(self, version: int, wanted: bool) -> None:
        """Those of a killed agent too are taken away, as far as their device had our number."""
        for rule in self._rules(version):
            with suppress(OSError):
                change(_RTM_DELRULE, 0, rule)
            if wanted:
                try:
                    change(_RTM_NEWRULE, CREATE | _EXCLUSIVE, rule)
                except OSError as error:
                    raise SystemRefused("add a routing rule", error.strerror) from error

    def _rules(self, version: int) -> tuple[bytes, bytes]:
        near = _rule(version, RT_TABLE_MAIN, NEAR_PRIORITY, 0, (_SUPPRESS, 0))
        marks = ((_FWMARK, MARK), (_FWMASK, MARK_MASK))
        return near, _rule(version, self._table, BEYOND_PRIORITY, _INVERT, *marks)

    @property
    def _table(self) -> int:
        return TABLE + self._index

    def _route(self, network: Network) -> bytes:
        head = RTM.pack(
            _FAMILIES[network.version],
            network.prefixlen,
            0,
            0,
            0,
            PROTOCOL,
            _SCOPES[network.version],
            RTN_UNICAST,
            0,
        )
        parts = [
            attribute(_RTA_TABLE, struct.pack("=I", self._table)),
            attribute(_RTA_OIF, struct.pack("=I", self._index)),
            attribute(_RTA_PRIORITY, struct.pack("=I", METRIC + self._index)),
            attribute(_RTA_METRICS | NESTED, attribute(_RTAX_MTU, struct.pack("=I", NETWORK_MTU))),
        ]
        if network.prefixlen:
            parts.append(attribute(_RTA_DST, network.network_address.packed))
        return head + b"".join(parts)

    def _masquerade(self) -> None:
        if not self._behind:
            if self._nft is not None:
                self._nft.close()
                self._nft = None
            return
        if self._nft is not None:
            return
        try:
            self._nft = Nft()
        except OSError as error:
            raise SystemRefused("let peers through", error) from error
        table = f"ntmobile-routes-{self._index}"
        if problem := self._nft.run(_MASQUERADE.format(table=table, device=self._device)):
            raise SystemRefused("let peers through", problem)


def _rule(version: int, table: int, priority: int, flags: int, *more: tuple[int, int]) -> bytes:
    head = _RULE.pack(_FAMILIES[version], 0, 0, 0, 0, 0, 0, _TO_TABLE, flags)
    numbers = ((_PRIORITY, priority), (_TABLE, table), *more)
    body = b"".join(attribute(kind, struct.pack("=I", value)) for kind, value in numbers)
    return head + body + attribute(_RULE_PROTOCOL, bytes([PROTOCOL]))


def _forwards(version: int) -> bool:
    try:
        return FORWARDING[version].read_text(encoding="ascii").strip() != "0"
    except OSError:
        return False
