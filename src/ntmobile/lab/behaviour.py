"""How a NAT behaves, in the words of RFC 4787, and how its IPv6 side does."""

from dataclasses import dataclass
from enum import Enum


class Mapping(Enum):
    """When two destinations see the same mapped port of one inside endpoint.

    Source: RFC 4787, section 4.1.
    """

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


class Filtering(Enum):
    """Who may send to a mapped port: anyone, or those that were sent to.

    Source: RFC 4787, section 5.
    """

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


class Ports(Enum):
    """Which port a new mapping gets. Source: RFC 4787, section 4.2."""

    PRESERVED = "the inside port if it is free, else a random one"
    RANDOM = "a random one"
    SEQUENTIAL = "the next one"


class IPv6Service(Enum):
    """What the machines behind a NAT get besides IPv4."""

    NONE = None
    ROUTED = "routed"
    """Global addresses, reachable by anyone."""
    FIREWALLED = "firewalled"
    """Global addresses, reachable by those that were sent to (RFC 6092)."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """All that a NAT does to UDP; TCP and ICMP are translated in the plain way."""

    mapping: Mapping = Mapping.ENDPOINT_INDEPENDENT
    filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    ports: Ports = Ports.PRESERVED
    hairpin: bool = False
    """Whether two machines inside reach each other's mapped ports (REQ-9)."""
    udp_lifetime_s: int = 120
    """Life of an idle mapping; 120 is the least that RFC 4787 REQ-5 allows."""
    block_udp: bool = False
    """Nothing but TCP, ICMP and DNS passes, as in many company networks."""
    ipv6: IPv6Service = IPv6Service.NONE
