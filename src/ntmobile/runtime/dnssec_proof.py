"""What signed records prove: that a record is genuine, or that there is none.

Pure: no question is asked here. Everything is bounded, because whoever is judged chose the numbers
(CVE-2023-50387, CVE-2023-50868).
Source: RFC 4035 section 5, RFC 5155 section 8, RFC 6840 section 4.
"""

import base64
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import dns.dnssec
import dns.dnssectypes
import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.ANY.DS import DS
from dns.rdtypes.ANY.NSEC import NSEC
from dns.rdtypes.ANY.NSEC3 import NSEC3
from dns.rdtypes.ANY.RRSIG import RRSIG

from ntmobile.errors import NTMobileError

MAX_SIGNATURES = 4
"""Of one record set and by keys of the zone; more are not looked at."""
MAX_KEYS = 24
MAX_KEYS_OF_A_TAG = 2
MAX_PROOFS = 8
"""NSEC or NSEC3 records of one answer."""
MAX_ITERATIONS = 50
"""Of an NSEC3 hash. Source: RFC 9276 section 3.2 lets more count as unsigned."""
SHA1 = 1
"""The only hash of NSEC3."""
OPT_OUT = 1

ALGORITHMS = frozenset(
    (
        dns.dnssec.RSASHA256,
        dns.dnssec.RSASHA512,
        dns.dnssec.ECDSAP256SHA256,
        dns.dnssec.ECDSAP384SHA384,
        dns.dnssec.ED25519,
        dns.dnssec.ED448,
    )
)
"""Source: RFC 8624 section 3.1, without those it advises against."""
DIGESTS = frozenset((dns.dnssectypes.DSDigest.SHA256, dns.dnssectypes.DSDigest.SHA384))

Section = Sequence[dns.rrset.RRset]


class Bogus(NTMobileError):
    """Records contradict their signatures, or lack them where the zone above promises them."""


@dataclass(frozen=True, slots=True)
class ZoneKeys:
    """A zone, and the keys that may sign its records."""

    zone: dns.name.Name
    keys: tuple[DNSKEY, ...]


@dataclass(frozen=True, slots=True)
class Genuine:
    """Records with a valid signature, good for ttl_s seconds."""

    records: tuple[dns.rdata.Rdata, ...]
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Exists:
    """The name exists and has exactly these types, besides those of zones below it."""

    types: frozenset[RdataType]


@dataclass(frozen=True, slots=True)
class Absent:
    """There is no such name."""


@dataclass(frozen=True, slots=True)
class Unproven:
    """The zone's operator chose not to prove this."""

    why: str


Denial = Exists | Absent | Unproven


def find(section: Section, name: dns.name.Name, kind: RdataType) -> dns.rrset.RRset | None:
    """The records of a name and type in a section of an answer."""
    for rrset in section:
        if rrset.match(name, dns.rdataclass.IN, kind, RdataType.NONE):
            return rrset
    return None


def genuine(
    section: Section, name: dns.name.Name, kind: RdataType, keys: ZoneKeys, now_s: float
) -> Genuine | None:
    """The records of a name and type, if the zone signed them; None when there are none.

    now_s: wall-clock time. Raises Bogus.
    """
    rrset = find(section, name, kind)
    if rrset is None:
        return None
    return Genuine(tuple(rrset), check(rrset, section, keys, now_s))


def check(rrset: dns.rrset.RRset, section: Section, keys: ZoneKeys, now_s: float) -> int:
    """The seconds for which a signed record set is good; raises Bogus.

    One that a wildcard made is not: nothing we look for is a wildcard's.
    """
    why = f"no signature of {keys.zone}"
    trusted = {keys.zone: dns.rdataset.from_rdata_list(0, keys.keys)} if keys.keys else {}
    for signature in islice(_signatures(section, rrset, keys), MAX_SIGNATURES):
        try:
            dns.dnssec.validate_rrsig(rrset, signature, trusted, now=now_s)  # type: ignore[arg-type]
        except (dns.exception.DNSException, ValueError) as error:
            why = str(error)
        else:
            left_s = int(signature.expiration - now_s)
            return max(0, min(rrset.ttl, signature.original_ttl, left_s))
    raise Bogus(f"{rrset.name} {rrset.rdtype.name}: {why}")


def keys_under(
    section: Section,
    zone: dns.name.Name,
    anchors: Iterable[dns.rdata.Rdata],
    now_s: float,
) -> tuple[ZoneKeys, int]:
    """The keys of a zone whose DS or DNSKEY records are believed, and for how many seconds.

    Raises Bogus.
    """
    rrset = find(section, zone, RdataType.DNSKEY)
    if rrset is None:
        raise Bogus(f"{zone} has no DNSKEY record")
    keys = _bounded(zone, [key for key in rrset if isinstance(key, DNSKEY)])
    entry = [key for key in keys if any(_is_meant(zone, key, anchor) for anchor in anchors)]
    if not entry:
        raise Bogus(f"no key of {zone} is the one that the zone above names")
    return ZoneKeys(zone, keys), check(rrset, section, ZoneKeys(zone, tuple(entry)), now_s)


def is_usable(anchor: dns.rdata.Rdata) -> bool:
    """Whether a DS or DNSKEY record is of an algorithm that is validated here."""
    if isinstance(anchor, DS):
        return anchor.algorithm in ALGORITHMS and anchor.digest_type in DIGESTS
    return isinstance(anchor, DNSKEY) and anchor.algorithm in ALGORITHMS


def denial(
    section: Section, name: dns.name.Name, keys: ZoneKeys, now_s: float
) -> tuple[Denial, int]:
    """What the signed NSEC or NSEC3 records say of a name, and for how many seconds.

    Raises Bogus when they are wrong, or say nothing.
    """
    proofs = [each for each in section if each.rdtype in (RdataType.NSEC, RdataType.NSEC3)]
    for rrset in proofs[:MAX_PROOFS]:
        if not rrset.name.is_subdomain(keys.zone):
            continue
        ttl_s = check(rrset, section, keys, now_s)
        for record in rrset:
            said: Denial | None = None
            if isinstance(record, NSEC):
                said = _nsec(rrset.name, record, name, keys.zone)
            elif isinstance(record, NSEC3):
                said = _nsec3(rrset.name, record, name, keys.zone)
            if said is not None:
                return said, ttl_s
    raise Bogus(f"{name}: {keys.zone} does not prove that the record is missing")


def _signatures(section: Section, rrset: dns.rrset.RRset, keys: ZoneKeys) -> Iterator[RRSIG]:
    """Those that a key of the zone may have made of just these records."""
    tags = {dns.dnssec.key_id(key) for key in keys.keys}
    # Neither the root nor an asterisk counts (RFC 4034 section 3.1.3).
    labels = len(rrset.name) - 1 - rrset.name.is_wild()
    for each in section:
        if each.match(rrset.name, rrset.rdclass, RdataType.RRSIG, rrset.rdtype):
            for record in each:
                of_the_zone = isinstance(record, RRSIG) and record.signer == keys.zone
                if of_the_zone and record.key_tag in tags and record.labels == labels:
                    yield record


def _bounded(zone: dns.name.Name, keys: list[DNSKEY]) -> tuple[DNSKEY, ...]:
    tags = Counter((key.algorithm, dns.dnssec.key_id(key)) for key in keys)
    if len(keys) > MAX_KEYS or max(tags.values(), default=0) > MAX_KEYS_OF_A_TAG:
        raise Bogus(f"{zone} has more keys than anybody needs")
    return tuple(key for key in keys if key.algorithm in ALGORITHMS)


def _is_meant(zone: dns.name.Name, key: DNSKEY, anchor: dns.rdata.Rdata) -> bool:
    if isinstance(anchor, DNSKEY):
        return bool(key == anchor)
    if not isinstance(anchor, DS) or anchor.digest_type not in DIGESTS:
        return False
    if (anchor.algorithm, anchor.key_tag) != (key.algorithm, dns.dnssec.key_id(key)):
        return False
    digest = dns.dnssectypes.DSDigest(anchor.digest_type)
    return bool(dns.dnssec.make_ds(zone, key, digest, validating=True) == anchor)


def _nsec(
    owner: dns.name.Name, record: NSEC, name: dns.name.Name, zone: dns.name.Name
) -> Denial | None:
    types = _types(record.windows)
    if owner == name:
        return Exists(types)
    if not _lies_between(owner, name, record.next, zone):
        return None
    delegated = RdataType.NS in types and RdataType.SOA not in types
    if name.is_subdomain(owner) and (delegated or RdataType.DNAME in types):
        # It speaks of the zone above that cut, and not of what lies below it.
        return None
    return Exists(frozenset()) if record.next.is_subdomain(name) else Absent()


def _lies_between(
    owner: dns.name.Name, name: dns.name.Name, following: dns.name.Name, zone: dns.name.Name
) -> bool:
    return bool(owner < name and (name < following or following == zone))


def _nsec3(
    owner: dns.name.Name, record: NSEC3, name: dns.name.Name, zone: dns.name.Name
) -> Denial | None:
    if owner == dns.name.root or owner.parent() != zone or record.algorithm != SHA1:
        return None
    if record.iterations > MAX_ITERATIONS:
        return Unproven(f"{zone} hashes names {record.iterations} times over")
    first = owner.labels[0].upper()
    following = base64.b32hexencode(record.next).rstrip(b"=")
    hashed = dns.dnssec.nsec3_hash(name, record.salt, record.iterations, SHA1).encode()
    if hashed == first:
        return Exists(_types(record.windows))
    wraps = following <= first
    if not (first < hashed < following or (wraps and (hashed > first or hashed < following))):
        return None
    if record.flags & OPT_OUT:
        return Unproven(f"{zone} does not sign the delegation of {name}")
    return Absent()


def _types(windows: Iterable[tuple[int, bytes]]) -> frozenset[RdataType]:
    return frozenset(
        RdataType.make(window * 256 + place * 8 + bit)
        for window, bitmap in windows
        for place, byte in enumerate(bitmap)
        for bit in range(8)
        if byte & 0x80 >> bit
    )
