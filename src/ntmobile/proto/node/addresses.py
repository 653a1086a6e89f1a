"""Virtual addresses as this node sees them: its own, and an alias for each peer where they clash.

A virtual IPv4 address means something only locally, so two domains may well propose the same one.
The peer's own is taken when it is free here; else the next free one of the first pool that overlaps
no real network. What another identity of this machine has is not free: a packet is told apart by
its addresses only. Ours: docs/protocol.md section 5.
"""

import hashlib
from collections.abc import Collection, Container, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import count

from ntmobile.proto.node.settings import Pin

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
POOLS = (
    IPv4Network("100.64.0.0/10"),
    IPv4Network("198.18.0.0/15"),
    IPv4Network("10.0.0.0/8"),
)
ALIAS_OFFSET = 1 << 16
"""Aliases start well above what a DC allots first."""
ALIAS_PREFIX = b"\xfd\x4e\x54\x4d\x6f\x62"
"""ULA /48 of IPv6 aliases: fd4e:544d:6f62::/48."""


class Addresses:
    """Who has which virtual address here."""

    def __init__(
        self,
        avoid: tuple[Network, ...],
        pins: Iterable[Pin],
        taken: Container[Address] = (),
    ) -> None:
        """Remembered peers keep their addresses; those taken belong to other identities here.

        What is taken may change: it is looked into at each choice.
        """
        self._avoid = avoid
        self._taken = taken
        self._own: tuple[IPv4Address, IPv6Address] | None = None
        self._allotted: IPv6Address | None = None
        """What the DC allotted to this node; its own address here may be an alias."""
        self._peers: dict[str, tuple[IPv4Address, IPv6Address]] = {}
        self._names: dict[IPv4Address | IPv6Address, str] = {}
        for pin in pins:
            self._keep(pin.fqdn, pin.ipv4, pin.ipv6)

    def avoid(self, networks: tuple[Network, ...]) -> None:
        """These are the real networks here from now; `step_aside` gives way to them."""
        self._avoid = networks

    def step_aside(self, in_use: Collection[str]) -> tuple[str, ...]:
        """Give other addresses to whoever hides a real network, except to peers in use.

        While any peer is in use this node keeps its own too: connections are bound to them.
        Returns the peers whose addresses changed.
        """
        moved = []
        for fqdn, here in tuple(self._peers.items()):
            if fqdn in in_use or not any(self._hides(address) for address in here):
                continue
            del self._peers[fqdn]
            for address in here:
                del self._names[address]
            self.meet(fqdn, *here)
            moved.append(fqdn)
        if self._own is not None and not in_use and any(self._hides(each) for each in self._own):
            (ipv4, ipv6), allotted = self._own, self._allotted
            self._own = None
            self._own = self._choose(ipv4, ipv6)
            self._allotted = allotted
        return tuple(moved)

    @property
    def own(self) -> tuple[IPv4Address, IPv6Address] | None:
        """This node's virtual addresses, once registered."""
        return self._own

    def take_own(self, ipv4: IPv4Address, ipv6: IPv6Address) -> tuple[IPv4Address, IPv6Address]:
        """Take what the DC proposes, unless a real network or a peer has it here."""
        if self._own is not None and self._allotted == ipv6:
            return self._own
        self._own, self._allotted = None, ipv6
        self._own = self._choose(ipv4, ipv6)
        return self._own

    def name(self, address: IPv4Address | IPv6Address) -> str | None:
        """Return the peer that has this address here."""
        return self._names.get(address)

    def __contains__(self, address: Address) -> bool:
        """Whether somebody has this address here."""
        return address in self._names or (self._own is not None and address in self._own)

    def of(self, fqdn: str) -> tuple[IPv4Address, IPv6Address] | None:
        """Return the addresses of a peer that was met before."""
        return self._peers.get(fqdn)

    def meet(
        self, fqdn: str, ipv4: IPv4Address, ipv6: IPv6Address
    ) -> tuple[IPv4Address, IPv6Address]:
        """Return the peer's addresses here, choosing aliases where the proposed ones clash."""
        known = self._peers.get(fqdn)
        if known is not None:
            return known
        if not self._is_free(ipv4):
            ipv4 = next(self._free())
        if not self._is_free(ipv6):
            ipv6 = self._alias(fqdn)
        return self._keep(fqdn, ipv4, ipv6)

    def _choose(self, ipv4: IPv4Address, ipv6: IPv6Address) -> tuple[IPv4Address, IPv6Address]:
        """This node's own addresses: the proposed ones where they are free."""
        if not self._is_free(ipv4):
            ipv4 = next(self._free())
        if not self._is_free(ipv6):
            ipv6 = self._alias(str(ipv6))
        return ipv4, ipv6

    def _alias(self, name: str) -> IPv6Address:
        """Another identity here may have met the same peer, under the alias one would choose."""
        return next(filter(self._is_free, (_alias(name, number) for number in count())))

    def _hides(self, address: IPv4Address | IPv6Address) -> bool:
        return address in self._taken or any(address in network for network in self._avoid)

    def _keep(
        self, fqdn: str, ipv4: IPv4Address, ipv6: IPv6Address
    ) -> tuple[IPv4Address, IPv6Address]:
        self._peers[fqdn] = (ipv4, ipv6)
        self._names[ipv4] = fqdn
        self._names[ipv6] = fqdn
        return ipv4, ipv6

    def _is_free(self, address: IPv4Address | IPv6Address) -> bool:
        return address not in self and not self._hides(address)

    def _free(self) -> Iterator[IPv4Address]:
        for pool in POOLS:
            if any(pool.overlaps(net) for net in self._avoid if isinstance(net, IPv4Network)):
                continue
            for offset in range(ALIAS_OFFSET, pool.num_addresses - 1):
                address = pool.network_address + offset
                if self._is_free(address):
                    yield address
        raise OverflowError("no virtual IPv4 address is left")


def _alias(name: str, number: int) -> IPv6Address:
    more = b"" if number == 0 else b"\0%d" % number
    tail = hashlib.sha256(b"ntm alias 1\0" + name.encode() + more).digest()[:10]
    return IPv6Address(ALIAS_PREFIX + tail)
