"""What travels in the simulated internet: transport, addresses and bytes, no IP header."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from ntmobile.wire.endpoint import Endpoint, Host

HOP_LIMIT = 32
_IP_HEADER = {4: 20, 6: 40}
_TRANSPORT_HEADER = 8


class Transport(StrEnum):
    """Where ports live; TCP carries the frames of `ntmobile.sim.exchange`."""

    UDP = "udp"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet on its way."""

    transport: Transport
    source: Endpoint
    destination: Endpoint
    payload: bytes
    hops: int = 0

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.destination.version

    @property
    def size(self) -> int:
        """Bytes on the link, headers included, as an MTU counts them."""
        return _IP_HEADER[self.version] + _TRANSPORT_HEADER + len(self.payload)

    def hop(self) -> Self:
        """Return the packet as it leaves a router."""
        return replace(self, hops=self.hops + 1)

    def come_from(self, source: Endpoint) -> Self:
        """Return the packet with another source, as a NAT sends it out."""
        return replace(self, source=source)

    def go_to(self, destination: Endpoint) -> Self:
        """Return the packet with another destination, as a NAT lets it in."""
        return replace(self, destination=destination)


def with_host(endpoint: Endpoint, host: Host) -> Endpoint:
    """Return the endpoint at another address, same port."""
    return Endpoint(host, endpoint.port)
