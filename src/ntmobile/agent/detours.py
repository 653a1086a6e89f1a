"""Where datagrams to an address really go from here, and whose those are that come.

The machine speaks of the addresses of servers and peers as everybody knows them. Behind NAT64 an
IPv4 address is reached at an IPv6 one (RFC 6052); where UDP is blocked a server is reached through
the loopback socket of a WebSocket. Ours: docs/protocol.md section 3.
"""

from collections.abc import Callable, Iterable

from ntmobile.proto.node.events import LocalAddress
from ntmobile.runtime.nat64 import CLAT_HOST, OVERHEAD, Prefix
from ntmobile.wire.endpoint import Endpoint


class Detours:
    """What stands between the machine's addresses and those on the wire."""

    def __init__(self) -> None:
        """Everything is where it says."""
        self.prefix: Prefix | None = None
        """Of this network's NAT64, where this machine has no IPv4 of its own."""
        self.on_change: Callable[[Endpoint], None] = lambda remote: None
        """Called when another way leads to an address."""
        self._out: dict[Endpoint, Endpoint] = {}
        self._in: dict[Endpoint, Endpoint] = {}

    def lead(self, remote: Endpoint, to: Endpoint) -> None:
        """Datagrams to remote go there, and what comes from there is from remote."""
        self.drop(remote)
        self._out[remote], self._in[to] = to, remote
        self.on_change(remote)

    def drop(self, remote: Endpoint) -> None:
        """They go by UDP again."""
        if (to := self._out.pop(remote, None)) is not None:
            del self._in[to]
            self.on_change(remote)

    def translate(self, remote: Endpoint) -> Endpoint:
        """Return the address on the wire, by whatever transport."""
        return remote if self.prefix is None else self.prefix.embed(remote)

    def outward(self, remote: Endpoint) -> Endpoint:
        """Return where to send what is for remote."""
        to = self._out.get(remote)
        return self.translate(remote) if to is None else to

    def inward(self, source: Endpoint, interface: int) -> tuple[Endpoint, int]:
        """Return whose datagram it is that came from there, and by which uplink."""
        remote = self._in.get(source)
        if remote is not None:
            return remote, 0
        return source if self.prefix is None else self.prefix.extract(source), interface


def only_ipv6(addresses: Iterable[LocalAddress]) -> bool:
    """Whether this machine has IPv6 and no IPv4."""
    return {address.endpoint.version for address in addresses} == {6}


def with_ipv4(addresses: tuple[LocalAddress, ...]) -> tuple[LocalAddress, ...]:
    """Add what stands for the IPv4 address that the NAT64 lends to each uplink."""
    best = next((each for each in addresses if each.preferred), addresses[0])
    lent = LocalAddress(
        Endpoint(CLAT_HOST, best.endpoint.port),
        best.interface,
        best.mtu - OVERHEAD,
        best.preferred,
    )
    return (*addresses, lent)
