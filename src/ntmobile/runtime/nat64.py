"""NAT64: IPv4 addresses inside IPv6 ones, and how the network's prefix is found.

`find_prefix` asks for the IPv6 address of ipv4only.arpa, which has none: what a network's DNS64
answers shows its prefix. Source: RFC 6052, section 2.2; RFC 7050, section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network

import dns.message
import dns.rdatatype

from ntmobile.runtime.dns_client import ask
from ntmobile.runtime.protection import Protect, unprotected
from ntmobile.wire.endpoint import Endpoint

WELL_KNOWN = IPv6Network("64:ff9b::/96")
ONLY_IPV4 = "ipv4only.arpa"
ITS_ADDRESSES = (IPv4Address("192.0.0.170"), IPv4Address("192.0.0.171"))
CLAT_HOST = IPv4Address("192.0.0.2")
"""Stands for the IPv4 address that this machine lacks. Source: RFC 7335."""
OVERHEAD = 20
"""Bytes by which an IPv6 header is longer."""
TRY_S = 2.0
LENGTHS = (96, 64, 56, 48, 40, 32)
_RESERVED = 8
"""Byte 8 of such an address is always zero."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """A network's NAT64 prefix, of one of RFC 6052's lengths."""

    network: IPv6Network

    def __post_init__(self) -> None:
        """Raises ValueError for any other length."""
        if self.network.prefixlen not in LENGTHS:
            raise ValueError(f"a NAT64 prefix has one of the lengths {LENGTHS}")

    def embed(self, endpoint: Endpoint) -> Endpoint:
        """Return where an IPv4 endpoint is reached; any other is where it is."""
        if not isinstance(endpoint.host, IPv4Address) or endpoint.host.is_loopback:
            return endpoint
        packed = bytearray(self.network.network_address.packed)
        for place, byte in zip(_places(self.network.prefixlen), endpoint.host.packed, strict=True):
            packed[place] = byte
        return Endpoint.of(bytes(packed), endpoint.port)

    def extract(self, endpoint: Endpoint) -> Endpoint:
        """Return the IPv4 endpoint that `embed` was given; any other is what it is."""
        host = endpoint.host
        if not isinstance(host, IPv6Address) or host not in self.network:
            return endpoint
        inside = bytes(host.packed[place] for place in _places(self.network.prefixlen))
        return Endpoint.of(inside, endpoint.port)


def prefix_of(address: IPv6Address) -> Prefix | None:
    """Return the prefix under which a DNS64 embedded an address of ipv4only.arpa."""
    for length in LENGTHS:
        prefix = Prefix(IPv6Network((address, length), strict=False))
        found = prefix.extract(Endpoint(address, 0))
        if found.host in ITS_ADDRESSES and prefix.embed(found).host == address:
            return prefix
    return None


async def find_prefix(
    servers: Sequence[Endpoint], *, protect: Protect = unprotected
) -> Prefix | None:
    """Return the prefix of the network's NAT64 as its name servers show it, None without one."""
    for server in servers:
        question = dns.message.make_query(ONLY_IPV4, dns.rdatatype.AAAA)
        try:
            answer = await ask(server, question, timeout_s=TRY_S, protect=protect)
        except OSError:
            continue
        for rrset in answer.answer:
            for record in rrset if rrset.rdtype == dns.rdatatype.AAAA else ():
                if (found := prefix_of(IPv6Address(record.address))) is not None:
                    return found
        return None
    return None


def _places(length: int) -> tuple[int, ...]:
    """Which bytes of the address hold the IPv4 address."""
    start = length // 8
    places = [place for place in range(start, 16) if place != _RESERVED or length == 96]
    return tuple(places[:4])
