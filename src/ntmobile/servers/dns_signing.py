"""Signs the zone's answers while they are made, each signature once.

One ECDSA P-256 key signs everything; that algorithm every validator and every registrar knows (RFC
8624 section 3.1). What does not exist is denied with an NSEC record for just that name (RFC 9824,
compact denial), so nobody learns the names of the zone by walking along it; and every name below
the zone is said to exist without records, so that nobody learns which nodes there are.
Source: RFC 4034, RFC 4035 section 3. Ours: docs/protocol.md section 1.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import dns.dnssec
import dns.dnssectypes
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.NSEC import NSEC
from dns.rdtypes.util import Bitmap

VALID_S = 14 * 86400
"""A server that does not come back leaves a valid zone in the caches for its TTL, not longer."""
RENEW_S = 7 * 86400
"""A signature is older than that at no time."""
SKEW_S = 3600
"""By which a validator's clock may be slow."""
DNSKEY_TTL_S = 3600
SECURE_ENTRY_KEY = 0x0101
"""Flags of the only key: it signs the zone (ZONE) and the parent's DS names it (SEP)."""
MAX_SIGNATURES = 4096
"""Kept; anybody can ask for ever new names."""

_EMPTY = frozenset((RdataType.RRSIG, RdataType.NSEC))
_Key = tuple[dns.name.Name, RdataType]


@dataclass(frozen=True, slots=True)
class _Signature:
    rrset: dns.rrset.RRset
    made_s: int


class ZoneSigner:
    """The zone's key with the signatures it made lately."""

    def __init__(self, domain: str, key: EllipticCurvePrivateKey) -> None:
        """Signs for the zone of a domain."""
        self.origin = dns.name.from_text(domain)
        self._private = key
        self._key = dns.dnssec.make_dnskey(
            key.public_key(), dns.dnssec.ECDSAP256SHA256, SECURE_ENTRY_KEY
        )
        self.dnskey = dns.rrset.from_rdata(self.origin, DNSKEY_TTL_S, self._key)
        """What the zone publishes."""
        self._signatures: OrderedDict[_Key, _Signature] = OrderedDict()

    @property
    def ds(self) -> str:
        """What the parent zone must have, without owner and TTL: DS 12345 13 2 ..."""
        digest = dns.dnssec.make_ds(self.origin, self._key, dns.dnssectypes.DSDigest.SHA256)
        return f"DS {digest.to_text()}"

    @property
    def kept(self) -> int:
        """How many signatures are remembered."""
        return len(self._signatures)

    def sign(self, rrset: dns.rrset.RRset, now_s: int) -> dns.rrset.RRset:
        """The signature of records that stay the same while this signer lives.

        now_s: wall-clock time.
        """
        key = (rrset.name, rrset.rdtype)
        kept = self._signatures.get(key)
        if kept is None or not 0 <= now_s - kept.made_s < RENEW_S:
            kept = _Signature(self._sign(rrset, now_s), now_s)
            self._signatures[key] = kept
        self._signatures.move_to_end(key)
        if len(self._signatures) > MAX_SIGNATURES:
            self._signatures.popitem(last=False)
        return kept.rrset

    def nsec(
        self, name: dns.name.Name, types: Iterable[RdataType], ttl_s: int
    ) -> dns.rrset.RRset | None:
        """The record that says: the name has these types and no other.

        None for a name so long that no name can follow it.
        """
        try:
            following = dns.name.Name((b"\0", *name.labels))
        except dns.name.NameTooLong:
            return None
        windows = Bitmap.from_rdtypes([*_EMPTY.union(types)]).windows
        record = NSEC(dns.rdataclass.IN, RdataType.NSEC, following, windows)  # type: ignore[no-untyped-call]
        return dns.rrset.from_rdata(name, ttl_s, record)

    def _sign(self, rrset: dns.rrset.RRset, now_s: int) -> dns.rrset.RRset:
        signature = dns.dnssec.sign(
            rrset,
            self._private,
            self.origin,
            self._key,
            inception=now_s - SKEW_S,
            expiration=now_s + VALID_S,
        )
        return dns.rrset.from_rdata(rrset.name, rrset.ttl, signature)
