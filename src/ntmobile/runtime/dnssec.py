"""Validates DNSSEC here, from a trust anchor down to one record.

What a resolver says of a signature (the AD bit) counts for nothing: it is asked for the records
with their signatures and told not to judge them.
Source: RFC 4035 section 5. Ours: docs/protocol.md section 1.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import dns.exception
import dns.message
import dns.name
import dns.rdata
import dns.zonefile
from dns.rdatatype import RdataType

from ntmobile.errors import NTMobileError
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.dnssec_proof import (
    Absent,
    Bogus,
    Exists,
    Unproven,
    ZoneKeys,
    denial,
    genuine,
    is_usable,
    keys_under,
)
from ntmobile.time import SECOND, Instant

IANA_ROOT = """
. 172800 IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D
. 172800 IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16
"""
"""The root's keys KSK-2017 and KSK-2024.

Source: IANA, https://data.iana.org/root-anchors/root-anchors.xml; the same as Debian's package
dns-root-data has in /usr/share/dns/root.ds.
"""
LONGEST_S = 86400
LONGEST_NEGATIVE_S = 300
"""A delegation that becomes signed is noticed within five minutes."""
MAX_ENTRIES = 2_000
MAX_LABELS = 12
"""Of a zone's name; each is two questions."""

Anchors = Mapping[dns.name.Name, tuple[dns.rdata.Rdata, ...]]
"""DS and DNSKEY records that are believed without a signature, by zone."""


class AnchorWrong(NTMobileError):
    """A file of trust anchors cannot be used."""


@dataclass(frozen=True, slots=True)
class Secure:
    """What the TXT records say, and the whole chain is signed; nothing where there are none."""

    texts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Insecure:
    """It is proven, or plain, that nobody signs these records; so they prove nothing."""

    why: str


@dataclass(frozen=True, slots=True)
class _Uncut:
    """The name is no zone of its own."""


_Step = ZoneKeys | Insecure | _Uncut


@dataclass(frozen=True, slots=True)
class _Entry:
    step: _Step
    expires: Instant


class Signed(Protocol):
    """A resolver that hands on signatures."""

    async def signed(self, name: dns.name.Name, kind: RdataType) -> dns.message.QueryMessage:
        """The answer with its signatures; raises ResolverError."""
        ...


class Validator:
    """Remembers the zones it walked through, by TTL."""

    def __init__(self, resolver: Signed, anchors: Anchors, clock: Clock) -> None:
        """Believes the anchors, and what they lead to."""
        self._resolver = resolver
        self._anchors = anchors
        self._clock = clock
        self._entries: OrderedDict[dns.name.Name, _Entry] = OrderedDict()

    def forget(self) -> None:
        """Walk from the anchors anew at the next question."""
        self._entries.clear()

    async def texts(self, name: str, zone: str) -> Secure | Insecure:
        """The TXT records of a name in a zone, neither with final dot.

        Raises Bogus when signatures are wrong or were taken away, ResolverError when the DNS does
        not answer.
        """
        owner, apex = dns.name.from_text(name), dns.name.from_text(zone)
        cached = bool(self._entries)
        try:
            return await self._texts(owner, apex)
        except Bogus:
            if not cached:
                raise
        # A zone that changed its keys in a hurry is not wrong: look at all of it again.
        self.forget()
        return await self._texts(owner, apex)

    async def _texts(self, name: dns.name.Name, zone: dns.name.Name) -> Secure | Insecure:
        keys = await self._walk(zone)
        if isinstance(keys, Insecure):
            return keys
        answer = await self._resolver.signed(name, RdataType.TXT)
        found = genuine(answer.answer, name, RdataType.TXT, keys, self._clock.wall())
        if found is not None:
            return Secure(tuple(b"".join(each.strings) for each in found.records))  # type: ignore[attr-defined]
        said, _ = denial(answer.authority, name, keys, self._clock.wall())
        if isinstance(said, Unproven):
            return Insecure(said.why)
        if isinstance(said, Exists) and said.types & {RdataType.TXT, RdataType.CNAME}:
            raise Bogus(f"{name}: its TXT record was taken out of the answer")
        return Secure(())

    async def _walk(self, zone: dns.name.Name) -> ZoneKeys | Insecure:
        top = next((name for name in _upwards(zone) if name in self._anchors), None)
        if top is None:
            return Insecure(f"no trust anchor is above {zone}")
        if len(zone) > MAX_LABELS:
            return Insecure(f"{zone} is too far below the root")
        step = await self._step(top, None)
        for name in reversed([each for each in _upwards(zone) if len(each) > len(top)]):
            if not isinstance(step, ZoneKeys):
                break
            below = await self._step(name, step)
            step = step if isinstance(below, _Uncut) else below
        assert not isinstance(step, _Uncut)
        if isinstance(step, ZoneKeys) and step.zone != zone:
            raise Bogus(f"{step.zone} signs that {zone} is no zone of its own")
        return step

    async def _step(self, name: dns.name.Name, above: ZoneKeys | None) -> _Step:
        entry = self._entries.get(name)
        if entry is not None and self._clock.now() < entry.expires:
            return entry.step
        step, ttl_s = await (self._begin(name) if above is None else self._descend(name, above))
        longest = LONGEST_S if isinstance(step, ZoneKeys) else LONGEST_NEGATIVE_S
        expires = self._clock.now() + min(ttl_s, longest) * SECOND
        self._entries[name] = _Entry(step, Instant(expires))
        self._entries.move_to_end(name)
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)
        return step

    async def _begin(self, name: dns.name.Name) -> tuple[_Step, int]:
        answer = await self._resolver.signed(name, RdataType.DNSKEY)
        if not any(rrset.rdtype == RdataType.RRSIG for rrset in answer.answer):
            # Many a home router knows nothing of DNSSEC.
            return Insecure(f"the resolver gives no signatures, not even those of {name}"), 0
        return keys_under(answer.answer, name, self._anchors[name], self._clock.wall())

    async def _descend(self, name: dns.name.Name, above: ZoneKeys) -> tuple[_Step, int]:
        answer = await self._resolver.signed(name, RdataType.DS)
        found = genuine(answer.answer, name, RdataType.DS, above, self._clock.wall())
        if found is None:
            return self._without(name, answer, above)
        usable = [record for record in found.records if is_usable(record)]
        if not usable:
            return Insecure(f"{name} is signed by no algorithm that is known here"), found.ttl_s
        answer = await self._resolver.signed(name, RdataType.DNSKEY)
        keys, ttl_s = keys_under(answer.answer, name, usable, self._clock.wall())
        return keys, min(ttl_s, found.ttl_s)

    def _without(
        self, name: dns.name.Name, answer: dns.message.Message, above: ZoneKeys
    ) -> tuple[_Step, int]:
        """What a name without DS record is: an unsigned zone, or no zone."""
        if genuine(answer.answer, name, RdataType.CNAME, above, self._clock.wall()) is not None:
            raise Bogus(f"{above.zone} signs that {name} is an alias")
        said, ttl_s = denial(answer.authority, name, above, self._clock.wall())
        match said:
            case Unproven(why):
                return Insecure(why), ttl_s
            case Absent():
                raise Bogus(f"{above.zone} signs that {name} does not exist")
            case Exists(types):
                if RdataType.DS in types:
                    raise Bogus(f"{name}: its DS record was taken out of the answer")
                if RdataType.SOA in types:
                    raise Bogus(f"{name}: the zone itself speaks for the one above it")
                if RdataType.NS in types:
                    return Insecure(f"{above.zone} has no DS record of {name}"), ttl_s
                return _Uncut(), ttl_s


def parse_anchors(text: str) -> Anchors:
    """Parse DS and DNSKEY records in master-file form; raises AnchorWrong."""
    try:
        rrsets = dns.zonefile.read_rrsets(text, rdclass=None, default_ttl=LONGEST_S)
    except (dns.exception.DNSException, ValueError) as error:
        raise AnchorWrong(f"not records in master-file form: {error}") from None
    anchors: dict[dns.name.Name, tuple[dns.rdata.Rdata, ...]] = {}
    for rrset in rrsets:
        unusable = next((record for record in rrset if not is_usable(record)), None)
        if unusable is not None:
            shown = f"{rrset.name} {rrset.rdtype.name}"
            raise AnchorWrong(f"{shown} is no DS or DNSKEY record of an algorithm known here")
        anchors[rrset.name] = (*anchors.get(rrset.name, ()), *rrset)
    if not anchors:
        raise AnchorWrong("it holds no DS or DNSKEY record")
    return anchors


def _upwards(name: dns.name.Name) -> Iterator[dns.name.Name]:
    """The name itself, and every one above it, the root last."""
    while name != dns.name.root:
        yield name
        name = name.parent()
    yield name
