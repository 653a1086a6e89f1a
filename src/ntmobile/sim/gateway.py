"""Gateways: what stands between two networks. NAT for IPv4, firewall for IPv6, or plain routing."""

from collections.abc import Collection
from ipaddress import IPv4Address

from ntmobile.errors import StateError
from ntmobile.sim.nat import Nat
from ntmobile.sim.network import Drop, Network
from ntmobile.sim.packet import Packet, Transport
from ntmobile.sim.quality import PERFECT, Quality
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.nat import Behaviour


class Firewall:
    """Lets out everything and in what was asked for. Source: RFC 6092 (simple security)."""

    def __init__(
        self,
        filtering: Behaviour = Behaviour.ADDRESS_AND_PORT_DEPENDENT,
        lifetime_s: int = 300,
    ) -> None:
        """Filtering as a NAT's: which far ends may answer."""
        self.filtering = filtering
        self.lifetime_ns = lifetime_s * SECOND
        self._seen: dict[tuple[Transport, Endpoint, object], Instant] = {}

    def outbound(self, packet: Packet, now: Instant) -> None:
        """Remember that an inner end spoke to an outer one."""
        self._seen[self._key(packet.transport, packet.source, packet.destination)] = now

    def admits(self, packet: Packet, now: Instant) -> bool:
        """Whether a packet from outside answers what was sent lately."""
        key = self._key(packet.transport, packet.destination, packet.source)
        seen = self._seen.get(key)
        return seen is not None and now - seen <= self.lifetime_ns

    def reboot(self) -> None:
        """Forget everything."""
        self._seen.clear()

    def _key(
        self, transport: Transport, inner: Endpoint, outer: Endpoint
    ) -> tuple[Transport, Endpoint, object]:
        return transport, inner, self.filtering.view(outer)


class Gateway:
    """Joins an inner network to an outer one; nested gateways make carrier-grade NAT.

    `blocked` transports pass neither way; `up` False passes nothing.
    """

    def __init__(
        self,
        name: str,
        inner: Network,
        outer: Network,
        *,
        nat: Nat | None = None,
        firewall: Firewall | None = None,
        blocked: Collection[Transport] = (),
        uplink: Quality = PERFECT,
    ) -> None:
        """Becomes the inner network's way out; raises StateError when that has one."""
        if inner.default is not None:
            raise StateError(f"{inner.name} has a gateway")
        self.place = name
        self.inner = inner
        self.outer = outer
        self.nat = nat
        self.firewall = firewall
        self.blocked = frozenset(blocked)
        self.uplink = uplink
        self.up = True
        inner.default = self
        if nat is not None:
            outer.attach(self, nat.address)
        for prefix in inner.prefixes:
            if prefix.version == 6 or nat is None:
                outer.route(prefix, self)

    def reboot(self, address: IPv4Address | None = None) -> None:
        """Lose all mappings and states; come back with another outer IPv4 address if given."""
        if self.firewall is not None:
            self.firewall.reboot()
        if self.nat is not None:
            self.outer.detach(self.nat.address)
            self.nat.reboot(address)
            self.outer.attach(self, self.nat.address)

    def receive(self, packet: Packet, network: Network) -> None:
        """Take a packet from either side."""
        if not self.up:
            network.drops[Drop.DOWN] += 1
        elif packet.transport in self.blocked:
            network.drops[Drop.BLOCKED] += 1
        elif network is self.inner:
            self._out(packet)
        else:
            self._in(packet)

    def _out(self, packet: Packet) -> None:
        now = self.inner.calendar.now
        if packet.version == 6 or self.nat is None:
            if self.firewall is not None:
                self.firewall.outbound(packet, now)
            self._send_up(packet)
        elif packet.destination.host == self.nat.address:
            self._pass_in(self.nat.hairpin(packet, now))
        else:
            translated = self.nat.outbound(packet, now)
            if translated is None:
                self.inner.drops[Drop.FILTERED] += 1
            else:
                self._send_up(translated)

    def _in(self, packet: Packet) -> None:
        now = self.inner.calendar.now
        if packet.version == 4 and self.nat is not None:
            self._pass_in(self.nat.inbound(packet, now))
        elif self.firewall is not None and not self.firewall.admits(packet, now):
            self._pass_in(None)
        else:
            self._pass_in(packet)

    def _pass_in(self, packet: Packet | None) -> None:
        if packet is None:
            self.outer.drops[Drop.FILTERED] += 1
        else:
            self._over_uplink(packet, self.inner)

    def _send_up(self, packet: Packet) -> None:
        self._over_uplink(packet, self.outer)

    def _over_uplink(self, packet: Packet, onto: Network) -> None:
        if packet.size > self.uplink.mtu:
            onto.drops[Drop.TOO_BIG] += 1
            return
        fates = self.uplink.fates(onto.entropy)
        onto.drops[Drop.LOST] += not fates
        for delay_ns in fates:
            onto.calendar.after(delay_ns, lambda: onto.carry(packet, self.place))
