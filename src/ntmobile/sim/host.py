"""A host: interfaces on networks, ports with programs behind them."""

from collections.abc import Callable
from dataclasses import dataclass

from ntmobile.errors import StateError
from ntmobile.sim.network import Drop, Network
from ntmobile.sim.packet import Packet, Transport
from ntmobile.wire.endpoint import Endpoint, Host

Receiver = Callable[[Endpoint, bytes, int], None]
"""Called with source, payload and the interface it came in by."""


@dataclass(eq=False, slots=True)
class Interface:
    """One network card: its number, its network and its addresses, one a family."""

    number: int
    place: str
    network: Network
    addresses: tuple[Host, ...]
    deliver: Callable[[Packet, "Interface"], None]

    def receive(self, packet: Packet, network: Network) -> None:
        """Take a packet from the network."""
        self.deliver(packet, self)

    def address(self, version: int) -> Host | None:
        """Return the address of a family, or None."""
        return next((a for a in self.addresses if a.version == version), None)


class SimHost:
    """A computer: it sends by the interface asked for, else by the one plugged in last."""

    def __init__(self, name: str) -> None:
        """Has no interface yet."""
        self.name = name
        self.up = True
        self.interfaces: dict[int, Interface] = {}
        self._numbers = 0
        self._ports: dict[tuple[Transport, int], Receiver] = {}

    def plug(self, network: Network, address: Host | None = None) -> Interface:
        """Join a network with an address a family, or with the one given."""
        allotted = (address,) if address is not None else (network.allot(4), network.allot(6))
        self._numbers += 1
        addresses = tuple(a for a in allotted if a is not None)
        interface = Interface(self._numbers, self.name, network, addresses, self._deliver)
        for own in addresses:
            network.attach(interface, own)
        self.interfaces[interface.number] = interface
        return interface

    def unplug(self, number: int) -> None:
        """Leave a network; what is on its way here is lost."""
        interface = self.interfaces.pop(number)
        for own in interface.addresses:
            interface.network.detach(own)

    def listen(self, transport: Transport, port: int, receiver: Receiver) -> None:
        """Put a program behind a port; raises StateError when one is there."""
        if (transport, port) in self._ports:
            raise StateError(f"{self.name}: {transport} port {port} is taken")
        self._ports[transport, port] = receiver

    def close(self, transport: Transport, port: int) -> None:
        """Take the program off the port."""
        self._ports.pop((transport, port), None)

    def free_port(self, transport: Transport, start: int) -> int:
        """Return the first port from start on that no program has."""
        port = start
        while (transport, port) in self._ports:
            port += 1
        return port

    def source_for(self, version: int, number: int = 0) -> tuple[Interface, Host] | None:
        """Return the interface and address that a packet of a family leaves by, or None."""
        chosen = [self.interfaces[number]] if number in self.interfaces else []
        for interface in chosen if number else reversed(self.interfaces.values()):
            address = interface.address(version)
            if address is not None:
                return interface, address
        return None

    def send(
        self, transport: Transport, port: int, to: Endpoint, payload: bytes, number: int = 0
    ) -> bool:
        """Send from a port; False without a route, as ENETUNREACH tells."""
        source = self.source_for(to.version, number)
        if source is None or not self.up:
            return False
        interface, address = source
        packet = Packet(transport, Endpoint(address, port), to, payload)
        interface.network.carry(packet, self.name)
        return True

    def _deliver(self, packet: Packet, interface: Interface) -> None:
        receiver = self._ports.get((packet.transport, packet.destination.port))
        if not self.up or interface.number not in self.interfaces:
            interface.network.drops[Drop.DOWN] += 1
        elif receiver is None:
            interface.network.drops[Drop.NO_PORT] += 1
        else:
            receiver(packet.source, packet.payload, interface.number)
