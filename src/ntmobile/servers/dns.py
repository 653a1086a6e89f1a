"""Answers DNS questions about the domain's zone; no sockets here.

Authoritative only: no recursion, no transfer, minimal ANY (RFC 8482), cookies (RFC 7873, RFC
9018's layout), EDNS with 1232 bytes over UDP. Every name below the zone that is no server's gets
the same NODATA, so the public DNS never tells which nodes exist. Where the zone has a key, who asks
for signatures gets them (DO, RFC 4035 section 3.1).
Ours: docs/protocol.md section 6.
"""

import hmac
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from ntmobile.servers.dns_zone import NEGATIVE_TTL_S, Zone

UDP_SIZE = 1232
"""DNS flag day 2020: never fragments."""
PLAIN_SIZE = 512
HEADER_SIZE = 12
COOKIE_LIFETIME_S = 3600
COOKIE_SKEW_S = 300
MAX_CHAIN = 8

_MINIMAL = (dns.rdatatype.ANY, dns.rdatatype.RRSIG)
_TRANSFERS = (dns.rdatatype.AXFR, dns.rdatatype.IXFR)


@dataclass(frozen=True, slots=True)
class Answered:
    """What to send back, and whether the asker proved its address by a cookie."""

    wire: bytes
    proven: bool
    kind: str
    """For the metrics: data, nodata, referral, or the refusing rcode."""


class Responder:
    """Turns one question into one answer. Garbage gives None, and never raises."""

    def __init__(self, zone: Zone, secret: bytes) -> None:
        """Secret keys the cookies: 32 random bytes, new at each start."""
        self.zone = zone
        self._secret = secret
        self.counters: Counter[str] = Counter()

    def respond(self, data: bytes, source: str, now_s: int, *, stream: bool) -> Answered | None:
        """Answer the wire of a query; source is the asker's address, now_s wall-clock time.

        None: not a query, to be dropped.
        """
        if len(data) < HEADER_SIZE or data[2] & 0x80:
            self.counters["dropped"] += 1
            return None
        try:
            query = dns.message.from_wire(data)
        except (dns.exception.DNSException, ValueError, UnicodeError):
            self.counters["FORMERR"] += 1
            return Answered(_format_error(data), proven=False, kind="FORMERR")
        return self._respond(query, source, now_s, stream=stream)

    def truncated(self, data: bytes) -> bytes | None:
        """An answer that only says: ask again over TCP. None when the query makes no sense."""
        if len(data) < HEADER_SIZE or data[2] & 0x80:
            return None
        try:
            reply = dns.message.make_response(dns.message.from_wire(data, ignore_trailing=True))
            reply.flags |= dns.flags.TC
            return reply.to_wire()
        except (dns.exception.DNSException, ValueError, UnicodeError):
            return None

    def _respond(
        self, query: dns.message.Message, source: str, now_s: int, *, stream: bool
    ) -> Answered:
        reply = dns.message.make_response(query, our_payload=UDP_SIZE)
        proven = False
        if query.edns > 0:
            reply.use_edns(0, payload=UDP_SIZE)
            reply.set_rcode(dns.rcode.BADVERS)
            kind = "BADVERS"
        else:
            proven = self._exchange_cookies(query, reply, source, now_s)
            if query.ednsflags & dns.flags.DO:
                reply.want_dnssec()
            reply.flags |= query.flags & dns.flags.CD
            kind = self._fill(query, reply)
            if query.ednsflags & dns.flags.DO:
                self._sign(reply, now_s)
        self.counters[kind] += 1
        limit = 0xFFFF if stream else min(max(query.payload, PLAIN_SIZE), UDP_SIZE)
        wire = reply.to_wire(max_size=limit, prefer_truncation=True)
        return Answered(wire, proven, kind)

    def _fill(self, query: dns.message.Message, reply: dns.message.Message) -> str:
        if query.opcode() != dns.opcode.QUERY:
            return _refuse(reply, dns.rcode.NOTIMP)
        if len(query.question) != 1:
            return _refuse(reply, dns.rcode.FORMERR)
        question = query.question[0]
        inside = question.name.is_subdomain(self.zone.origin)
        if question.rdclass != dns.rdataclass.IN or not inside:
            return _refuse(reply, dns.rcode.REFUSED)
        if question.rdtype in _TRANSFERS:
            return _refuse(reply, dns.rcode.REFUSED)
        return self._look_up(question.name, question.rdtype, reply)

    def _look_up(
        self, name: dns.name.Name, kind: dns.rdatatype.RdataType, reply: dns.message.Message
    ) -> str:
        name = dns.name.Name(label.lower() for label in name.labels)
        cut = self.zone.cut_above(name)
        if cut is not None and not (kind == dns.rdatatype.DS and name == cut.name):
            return self._refer(cut, reply)
        reply.flags |= dns.flags.AA
        if kind in _MINIMAL:
            reply.answer.append(_minimal_any(name))
            return "data"
        if kind == dns.rdatatype.NSEC and (proof := self._proof(name)) is not None:
            reply.answer.append(proof)
            return "data"
        for _ in range(MAX_CHAIN):
            if (found := self.zone.find(name, kind)) is not None:
                reply.answer.append(found)
                self._add_addresses(found, reply)
                return "data"
            alias = self.zone.find(name, dns.rdatatype.CNAME)
            if alias is None:
                break
            reply.answer.append(alias)
            name = alias[0].target
            if not name.is_subdomain(self.zone.origin) or self.zone.cut_above(name) is not None:
                return "data"
        reply.authority.append(self.zone.soa)
        self._deny(name, reply)
        return "nodata"

    def _refer(self, cut: dns.rrset.RRset, reply: dns.message.Message) -> str:
        reply.authority.append(cut)
        signed = self.zone.find(cut.name, dns.rdatatype.DS)
        if signed is None:
            self._deny(cut.name, reply)
        elif reply.ednsflags & dns.flags.DO:
            reply.authority.append(signed)
        self._add_addresses(cut, reply)
        return "referral"

    def _deny(self, name: dns.name.Name, reply: dns.message.Message) -> None:
        """Adds the proof of what a name has not, for those who ask for proofs."""
        if reply.ednsflags & dns.flags.DO and (proof := self._proof(name)) is not None:
            reply.authority.append(proof)

    def _proof(self, name: dns.name.Name) -> dns.rrset.RRset | None:
        if self.zone.signer is None:
            return None
        return self.zone.signer.nsec(name, self.zone.types(name), NEGATIVE_TTL_S)

    def _sign(self, reply: dns.message.Message, now_s: int) -> None:
        if (signer := self.zone.signer) is None:
            return
        for section in (reply.answer, reply.authority):
            for rrset in tuple(section):
                # The NS records of a delegation are the other zone's to sign.
                if rrset.rdtype != dns.rdatatype.NS or rrset.name == self.zone.origin:
                    section.append(signer.sign(rrset, now_s))

    def _add_addresses(self, found: dns.rrset.RRset, reply: dns.message.Message) -> None:
        for record in found:
            target = getattr(record, "target", None)
            for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
                addresses = self.zone.find(target, kind) if target is not None else None
                if addresses is not None and addresses not in reply.additional:
                    reply.additional.append(addresses)

    def _exchange_cookies(
        self, query: dns.message.Message, reply: dns.message.Message, source: str, now_s: int
    ) -> bool:
        given = [each for each in query.options if isinstance(each, dns.edns.CookieOption)]
        if not given:
            return False
        cookie = given[0]
        fresh = self._cookie(cookie.client, source, now_s)
        options: list[dns.edns.Option] = [dns.edns.CookieOption(cookie.client, fresh)]
        reply.use_edns(0, payload=UDP_SIZE, options=options)
        return self._is_genuine(cookie, source, now_s)

    def _cookie(self, client: bytes, source: str, at_s: int) -> bytes:
        head = b"\x01\0\0\0" + (at_s & 0xFFFF_FFFF).to_bytes(4)
        return head + hmac.digest(self._secret, client + head + source.encode(), sha256)[:8]

    def _is_genuine(self, cookie: dns.edns.CookieOption, source: str, now_s: int) -> bool:
        at_s = int.from_bytes(cookie.server[4:8])
        if not -COOKIE_SKEW_S <= now_s - at_s <= COOKIE_LIFETIME_S:
            return False
        return hmac.compare_digest(cookie.server, self._cookie(cookie.client, source, at_s))


def _refuse(reply: dns.message.Message, code: dns.rcode.Rcode) -> str:
    reply.set_rcode(code)
    return dns.rcode.to_text(code)


def _minimal_any(name: dns.name.Name) -> dns.rrset.RRset:
    return dns.rrset.from_text(name, 3600, "IN", "HINFO", '"RFC8482" ""')


def _format_error(data: bytes) -> bytes:
    """The header back with FORMERR, nothing else: never longer than the question."""
    flags = bytes((0x80 | data[2] & 0x79, dns.rcode.FORMERR))
    return data[:2] + flags + bytes(8)
