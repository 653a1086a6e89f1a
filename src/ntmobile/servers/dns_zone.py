"""The records of a domain's zone: which servers it has and where, and never a node.

A node's name exists in the public DNS exactly as much as any other name below the zone: with no
records. Ours: docs/protocol.md sections 1 and 6.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import dns.exception
import dns.name
import dns.rdata
import dns.rdatatype
import dns.rrset
import dns.zone
import dns.zonefile

from ntmobile.errors import Remedy
from ntmobile.keys.identity import fingerprint
from ntmobile.servers.dns_signing import ZoneSigner
from ntmobile.wire.endpoint import Host

TTL_S = 3600
NEGATIVE_TTL_S = 60
"""Short, so that a domain that is just being set up is found soon."""
SERVICE_TTL_S = 300
"""Servers move within five minutes."""
_SOA_TIMES = "7200 1800 1209600"

NTM = "_ntm._udp"
"""SRV: the zone is an NTMobile domain, and its DCs take signalling there."""
NTM_DC = "_ntm-dc._tcp"
"""SRV: where the DCs take HTTPS."""
NTM_AS = "_ntm-as._tcp"
"""SRV: where a node logs in."""
NTM_KEY = "_ntm"
"""TXT: the domain key's fingerprint."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the zone tells the world; host labels are relative to the zone."""

    domain: str
    domain_key: bytes
    hosts: tuple[tuple[str, tuple[Host, ...]], ...]
    """Labels of the servers (dc, as, rs), and their addresses."""
    udp: int
    dc_https: int
    as_https: int
    serial: int


_AT_A_CUT = frozenset((dns.rdatatype.NS, dns.rdatatype.DS))
_Key = tuple[dns.name.Name, dns.rdatatype.RdataType]


class Zone:
    """Records by name and type."""

    def __init__(
        self,
        services: Services,
        extra: Iterable[dns.rrset.RRset] = (),
        signer: ZoneSigner | None = None,
    ) -> None:
        """Build the zone; extra records never replace the zone's own.

        Signer None: the zone is not signed.
        """
        self.origin = dns.name.from_text(services.domain)
        self.signer = signer
        self._sets: dict[_Key, dns.rrset.RRset] = {}
        self._types: dict[dns.name.Name, frozenset[dns.rdatatype.RdataType]] = {}
        self._cuts: set[dns.name.Name] = set()
        for line in _lines(services):
            self._add(_parse_line(line, self.origin))
        self.soa = self._sets[self.origin, dns.rdatatype.SOA]
        if signer is not None:
            self._add(signer.dnskey)
        own = set(self._sets)
        for rrset in extra:
            if (rrset.name, rrset.rdtype) not in own:
                self._add(rrset)

    def find(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.rrset.RRset | None:
        """Return the records of a name and type."""
        return self._sets.get((name, kind))

    def types(self, name: dns.name.Name) -> frozenset[dns.rdatatype.RdataType]:
        """Return the types that a name has here; of a delegated one those of this side."""
        found = self._types.get(name, frozenset())
        return found & _AT_A_CUT if name in self._cuts else found

    def cut_above(self, name: dns.name.Name) -> dns.rrset.RRset | None:
        """Return the NS records of the delegation that a name lies in or at, if any."""
        while self._cuts and name != self.origin and len(name) > len(self.origin):
            if name in self._cuts:
                return self._sets[name, dns.rdatatype.NS]
            name = name.parent()
        return None

    def _add(self, rrset: dns.rrset.RRset) -> None:
        key = (rrset.name, rrset.rdtype)
        if key in self._sets:
            for record in rrset:
                self._sets[key].add(record)
        else:
            self._sets[key] = rrset
            self._types[rrset.name] = self.types(rrset.name) | {rrset.rdtype}
        if rrset.rdtype == dns.rdatatype.NS and rrset.name != self.origin:
            self._cuts.add(rrset.name)


def read_extra(text: str, domain: str) -> tuple[dns.rrset.RRset, ...]:
    """Parse a zone file (`--whole-zone`); raises Remedy with line and problem.

    Names outside the zone are ignored, as BIND does.
    """
    head = f"$TTL {TTL_S}\n"
    try:
        parsed = dns.zone.from_text(
            head + text, origin=f"{domain}.", relativize=False, check_origin=False
        )
    except (dns.exception.DNSException, ValueError) as error:
        line, problem = _where(str(error), head.count("\n"))
        remedy = "correct it; it is an ordinary master file (RFC 1035)"
        raise Remedy(f"the zone file is wrong{line}: {problem}", remedy=remedy) from None
    return tuple(
        dns.rrset.from_rdata_list(name, rdataset.ttl, list(rdataset))
        for name, rdataset in parsed.iterate_rdatasets()
    )


def _where(error: str, skipped: int) -> tuple[str, str]:
    """Split dnspython's "<string>:LINE: problem"."""
    found = re.fullmatch(r"<[a-z]+>:(\d+): (.*)", error, re.DOTALL)
    if found is None:
        return "", error
    return f" in line {int(found[1]) - skipped}", found[2]


def _lines(services: Services) -> Iterable[str]:
    soa = f"dc hostmaster {services.serial} {_SOA_TIMES} {NEGATIVE_TTL_S}"
    yield f"@ {TTL_S} IN SOA {soa}"
    yield f"@ {TTL_S} IN NS dc"
    yield f"{NTM} {SERVICE_TTL_S} IN SRV 0 0 {services.udp} dc"
    yield f"{NTM_DC} {SERVICE_TTL_S} IN SRV 0 0 {services.dc_https} dc"
    yield f"{NTM_AS} {SERVICE_TTL_S} IN SRV 0 0 {services.as_https} as"
    yield f'{NTM_KEY} {SERVICE_TTL_S} IN TXT "v=ntm1 key={fingerprint(services.domain_key)}"'
    for host, addresses in services.hosts:
        for address in addresses:
            kind = "A" if address.version == 4 else "AAAA"
            yield f"{host} {SERVICE_TTL_S} IN {kind} {address}"


def _parse_line(line: str, origin: dns.name.Name) -> dns.rrset.RRset:
    [rrset] = dns.zonefile.read_rrsets(line, origin=origin, relativize=False, rdclass=None)
    return rrset
