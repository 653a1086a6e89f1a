"""Builds the simulated internet: a core, home and office networks behind gateways, hosts.

Addresses come from the documentation ranges (RFC 5737, RFC 3849); inside a NAT from 192.168/16,
inside a carrier-grade one from 100.64/10.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Network

from ntmobile.errors import StateError
from ntmobile.sim.calendar import Calendar
from ntmobile.sim.entropy import SeededEntropy
from ntmobile.sim.gateway import Firewall, Gateway
from ntmobile.sim.host import SimHost
from ntmobile.sim.nat import EASY, Nat, NatBehaviour
from ntmobile.sim.network import Drop, Network, Prefix
from ntmobile.sim.packet import Packet, Transport
from ntmobile.sim.quality import MILLISECOND, PERFECT, Quality
from ntmobile.time import Instant

CORE = (IPv4Network("203.0.113.0/24"), IPv6Network("2001:db8:0:1::/64"))
EPOCH_S = 1_800_000_000
"""What clocks say when a run begins, in seconds since 1970."""
ONE_WAY = Quality(delay_ns=10 * MILLISECOND)
"""Crossing the core takes this; networks at the edge take none unless told, so that a run's length
is a whole number of one-way delays."""


class Internet:
    """The core network and everything that hangs off it."""

    def __init__(self, seed: int | str = 0, core: Quality = ONE_WAY) -> None:
        """Same seed and same calls give the same run, packet for packet."""
        self.calendar = Calendar()
        self.entropy = SeededEntropy(seed)
        self.core = self._network("internet", CORE, core)
        self.networks: dict[str, Network] = {self.core.name: self.core}
        self.gateways: dict[str, Gateway] = {}
        self.hosts: dict[str, SimHost] = {}

    @property
    def now(self) -> Instant:
        """The instant it is in there."""
        return self.calendar.now

    def host(self, name: str, network: Network | None = None) -> SimHost:
        """Add a host with one interface, on the core unless told; names are unique."""
        if name in self.hosts:
            raise StateError(f"there is a host {name}")
        host = self.hosts[name] = SimHost(name)
        host.plug(network or self.core)
        return host

    def island(self, name: str, *, ipv4: bool = True, ipv6: bool = True) -> Network:
        """Add a network without any gateway."""
        number = len(self.networks)
        prefixes: list[Prefix] = []
        if ipv4:
            prefixes.append(IPv4Network(f"192.168.{number}.0/24"))
        if ipv6:
            prefixes.append(IPv6Network(f"2001:db8:{number:x}:1::/64"))
        return self._add(name, tuple(prefixes), PERFECT)

    def home(
        self,
        name: str,
        nat: NatBehaviour | None = EASY,
        *,
        outer: Network | None = None,
        ipv6: bool = False,
        firewall: Firewall | None = None,
        blocked: tuple[Transport, ...] = (),
        quality: Quality = PERFECT,
    ) -> Network:
        """Add a network behind a gateway called as the network; nat None leaves IPv4 out."""
        network = self.island(name, ipv4=nat is not None, ipv6=ipv6)
        network.quality = quality
        self._gateway(network, outer or self.core, nat, firewall, blocked)
        return network

    def carrier(self, name: str, nat: NatBehaviour, quality: Quality = PERFECT) -> Network:
        """Add a provider's network behind a carrier-grade NAT; homes take it as their outer."""
        prefix = IPv4Network(f"100.{64 + len(self.networks) % 64}.0.0/16")
        network = self._add(name, (prefix,), quality)
        self._gateway(network, self.core, nat, None, ())
        return network

    def site(self, name: str, *, ipv4: bool = True, ipv6: bool = True) -> Network:
        """Add a network of global addresses, routed without NAT or firewall."""
        number = len(self.networks)
        prefixes: list[Prefix] = []
        if ipv4:
            prefixes.append(IPv4Network(f"198.51.100.{(number % 16) * 16}/28"))
        if ipv6:
            prefixes.append(IPv6Network(f"2001:db8:{number:x}:1::/64"))
        network = self._add(name, tuple(prefixes), PERFECT)
        self.gateways[name] = Gateway(name, network, self.core)
        return network

    def inject(self, packet: Packet) -> None:
        """Put a packet onto the core, as an attacker does who forges sources."""
        self.core.carry(packet, "attacker")

    def drops(self, reason: Drop) -> int:
        """How many packets vanished everywhere for that reason."""
        return sum(network.drops[reason] for network in self.networks.values())

    def _gateway(
        self,
        inner: Network,
        outer: Network,
        behaviour: NatBehaviour | None,
        firewall: Firewall | None,
        blocked: tuple[Transport, ...],
    ) -> None:
        nat = None
        if behaviour is not None:
            address = outer.allot(4)
            if not isinstance(address, IPv4Address):
                raise StateError(f"{outer.name} has no IPv4 address for {inner.name}")
            nat = Nat(address, behaviour, self.entropy.fork(f"nat {inner.name}"))
        self.gateways[inner.name] = Gateway(
            inner.name, inner, outer, nat=nat, firewall=firewall, blocked=blocked
        )

    def _add(self, name: str, prefixes: tuple[Prefix, ...], quality: Quality) -> Network:
        if name in self.networks:
            raise StateError(f"there is a network {name}")
        self.networks[name] = self._network(name, prefixes, quality)
        return self.networks[name]

    def _network(self, name: str, prefixes: tuple[Prefix, ...], quality: Quality) -> Network:
        entropy = self.entropy.fork(f"network {name}")
        return Network(name, self.calendar, entropy, prefixes=prefixes, quality=quality)
