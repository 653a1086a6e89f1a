"""What a machine can be plugged into: the internet, or the inside of a NAT."""

from abc import abstractmethod
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from itertools import count
from typing import Protocol

from ntmobile.lab.addresses import AUTO, Pool
from ntmobile.lab.errors import LabError
from ntmobile.lab.namespace import Namespace, Place, checked
from ntmobile.lab.waiting import wait_until

GATEWAY_IPV6 = "fe80::1"
"""Every network's router, as seen from its machines."""

INTERFACE_NAME_MAX = 15
LINK_SCOPE, TENTATIVE = "20", 0x40
"""As the kernel's table of addresses has them."""
_INDEXES = count(1000)
"""The kernel takes notice of a carrier at once where the ends of the wire have different numbers,
and within a second where they happen to have the same, each in its own namespace."""


class Removable(Protocol):
    """An impairment of a wire."""

    def remove(self) -> None:
        """Mend the wire."""


@dataclass(eq=False)
class Uplink:
    """A machine's wire into a network, with the addresses the machine has there."""

    machine: Namespace
    interface: str
    """The wire's name at the machine."""
    network: "Network"
    far: str
    """The wire's other end, in the network's namespace."""
    ipv4: IPv4Interface | None
    ipv6: IPv6Interface | None
    metric: int
    """Of its default routes: the lowest of a machine's uplinks wins."""
    mtu: int
    port: str = ""
    """What the network is connected to: `far`, or an impairment's inner end."""
    link: "Removable | None" = None
    """What impairs the wire."""

    def __post_init__(self) -> None:
        """Start unimpaired."""
        self.port = self.port or self.far


class Network(Namespace):
    """A router and the machines plugged into it."""

    pool4: Pool[IPv4Address] | None
    pool6: Pool[IPv6Address] | None
    gateway4: IPv4Address | None
    shared_link: str | None = None
    """The bridge that the wires are ports of; it carries, like them, when the kernel says so."""

    def __init__(self, place: Place) -> None:
        """Make the router's machine."""
        super().__init__(place)
        self._wires = 0
        self.configure({"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"})

    @property
    @abstractmethod
    def prefix_lengths(self) -> tuple[int, int]:
        """How much of the network, in IPv4 and IPv6, machines believe to be local."""

    @abstractmethod
    def connect(self, uplink: Uplink) -> None:
        """Configure `uplink.port`, again if need be, to lead to the machine."""

    @abstractmethod
    def abandon(self, port: str) -> None:
        """Undo connect at a port that is not in use any more."""

    @abstractmethod
    def delegate(self, uplink: Uplink, network: IPv6Network | None = None) -> IPv6Network | None:
        """Return an IPv6 network, the given one or any, that is now routed to the machine."""

    def attach(
        self,
        machine: Namespace,
        interface: str,
        *,
        ipv4: str | None = AUTO,
        ipv6: str | None = AUTO,
        mtu: int = 1500,
        metric: int = 100,
    ) -> Uplink:
        """Plug a machine in and give it addresses and default routes."""
        uplink = Uplink(
            machine,
            interface,
            self,
            self._wire_name(machine),
            self._address4(ipv4),
            self._address6(ipv6),
            metric,
            mtu,
        )
        join(uplink)
        self.connect(uplink)
        # First the carrier, as every network manager does: until the kernel has taken notice of
        # it, a route over the new interface swallows what another one would carry.
        machine.ip(f"link set {interface} up")
        self._await_carrier(uplink, True)
        self._address_machine(uplink)
        return uplink

    def detach(self, uplink: Uplink) -> None:
        """Pull the wire out; the machine's interface is gone with it."""
        if uplink.link is not None:
            uplink.link.remove()
        uplink.machine.ip(f"link del {uplink.interface}")
        if self.pool4 is not None and uplink.ipv4 is not None:
            self.pool4.release(uplink.ipv4.ip)
        if self.pool6 is not None and uplink.ipv6 is not None:
            self.pool6.release(uplink.ipv6.ip)

    def renumber(self, uplink: Uplink, ipv4: str = AUTO) -> None:
        """Give the machine another IPv4 address here, in place of the one it has."""
        old, new = uplink.ipv4, self._address4(ipv4)
        if old is None or new is None:
            raise LabError(f"{uplink.machine.name} has no IPv4 address to change")
        device = uplink.interface
        # In this order: the last address of an interface takes its routes along.
        uplink.machine.ip(f"addr add {new} dev {device}", f"addr del {old} dev {device}")
        uplink.ipv4 = new
        self.connect(uplink)
        self.ip(f"route flush {old.ip}/32")
        if self.pool4 is not None:
            self.pool4.release(old.ip)

    def set_carrier(self, uplink: Uplink, up: bool) -> None:
        """Pull the plug at the network's end, or put it back; done on return."""
        self.ip(f"link set {uplink.far} {'up' if up else 'down'}")
        if up:
            # Going down took the routes and the IPv6 addresses along.
            self.connect(uplink)
        self._await_carrier(uplink, up)

    def _await_carrier(self, uplink: Uplink, up: bool) -> None:
        # The kernel handles a change of carrier later, up to a second if it likes.
        self._await_state(uplink.machine, uplink.interface, up)
        if up:
            self._await_state(self, uplink.far, up)
            if self.shared_link is not None:
                self._await_state(self, self.shared_link, up)

    def _await_state(self, machine: Namespace, interface: str, up: bool) -> None:
        state = machine.path(f"/sys/class/net/{interface}/operstate")
        wait_until(
            lambda: (state.read_text() == "up\n") is up,
            f"{machine.name}'s {interface} to go {'up' if up else 'down'}",
        )

    def _wire_name(self, machine: Namespace) -> str:
        self._wires += 1
        return f"p{self._wires}-{machine.name}"[:INTERFACE_NAME_MAX]

    def _address4(self, wanted: str | None) -> IPv4Interface | None:
        if self.pool4 is None:
            self._lacks_family(wanted)
            return None
        address = self.pool4.take(wanted)
        length = self.prefix_lengths[0]
        return None if address is None else IPv4Interface((address, length))

    def _address6(self, wanted: str | None) -> IPv6Interface | None:
        if self.pool6 is None:
            self._lacks_family(wanted)
            return None
        address = self.pool6.take(wanted)
        length = self.prefix_lengths[1]
        return None if address is None else IPv6Interface((address, length))

    def _lacks_family(self, wanted: str | None) -> None:
        if wanted not in (None, AUTO):
            raise LabError(f"{wanted}: {self.name} has no addresses of this family")

    def _address_machine(self, uplink: Uplink) -> None:
        device, metric = uplink.interface, uplink.metric
        lines = []
        if uplink.ipv4 is not None:
            lines.append(f"addr add {uplink.ipv4} dev {device}")
            via = f"via {self.gateway4} dev {device} onlink metric {metric}"
            lines.append(f"route add default {via}")
        if uplink.ipv6 is not None:
            lines.append(f"addr add {uplink.ipv6} dev {device} nodad")
            via = f"via {GATEWAY_IPV6} dev {device} metric {metric}"
            lines.append(f"route add default {via}")
        if lines:
            uplink.machine.ip(*lines)
        if uplink.ipv6 is not None:
            self._await_link_local(uplink)

    def _await_link_local(self, uplink: Uplink) -> None:
        # A router asks for its neighbours in the name of this address, and not at all without.
        table = uplink.machine.kernel_table("if_inet6")
        wait_until(
            lambda: _has_link_local(table.read_text(), uplink.interface),
            f"the link-local address of {uplink.machine.name}'s {uplink.interface}",
        )


def _has_link_local(table: str, interface: str) -> bool:
    rows = [line.split()[3:] for line in table.splitlines()]
    return any(
        device == interface and scope == LINK_SCOPE and not int(flags, 16) & TENTATIVE
        for scope, flags, device in rows
    )


def join(uplink: Uplink) -> None:
    """Lay the wire: a pair of interfaces, one in each namespace."""
    near, far = (
        f"name {name} index {next(_INDEXES)} mtu {uplink.mtu} netns {namespace.netns}"
        for name, namespace in (
            (uplink.interface, uplink.machine),
            (uplink.far, uplink.network),
        )
    )
    checked(f"ip link add {near} type veth peer {far}".split())
