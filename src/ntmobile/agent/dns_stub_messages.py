"""What the stub reads out of DNS messages and the answers it makes itself; no I/O.

Source: RFC 1035, RFC 2308 (negative answers), RFC 6891 (EDNS).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset
from dns.rdatatype import RdataType

TTL_S = 30
"""Of everything the stub answers itself: a virtual address may change at a clash."""
PAYLOAD_BYTES = 1232
"""Largest UDP answer that the stub offers to take; the DNS flag day's size."""
NEGATIVE_TTL_S = 60
"""Of a negative answer without a SOA record to say otherwise."""
_HEADER_BYTES = 12
_TRUNCATED = 0x02


@dataclass(frozen=True, slots=True)
class Answer:
    """The virtual addresses of a name, as this node sees them."""

    ipv4: IPv4Address
    ipv6: IPv6Address


@dataclass(frozen=True, slots=True)
class Refused:
    """For the application there is no such name; `ntm` knows why."""


@dataclass(frozen=True, slots=True)
class Negative:
    """A NODATA or NXDOMAIN answer: the zone that says so (None: unknown), and for how long."""

    zone: str | None
    ttl_s: int


def parse_query(wire: bytes) -> dns.message.QueryMessage | None:
    """Returns the query when it is one the stub may answer; None for all that only passes."""
    try:
        query = dns.message.from_wire(wire)
    except (dns.exception.DNSException, ValueError):
        return None
    ordinary = (
        isinstance(query, dns.message.QueryMessage)
        and query.opcode() == dns.opcode.QUERY
        and not query.flags & dns.flags.QR
        and len(query.question) == 1
        and query.question[0].rdclass == dns.rdataclass.IN
    )
    return query if ordinary and isinstance(query, dns.message.QueryMessage) else None


def question_of(wire: bytes) -> bytes | None:
    """Returns name, type and class of the first question as they stand; None when cut short."""
    at = _HEADER_BYTES
    while at < len(wire) and wire[at]:
        if wire[at] > 63:
            return None
        at += 1 + wire[at]
    end = at + 5
    return wire[_HEADER_BYTES:end] if end <= len(wire) else None


def name_of(query: dns.message.QueryMessage) -> str:
    """Returns the name asked for, in lower case without the final dot."""
    return query.question[0].name.to_text().rstrip(".").lower()


def type_of(query: dns.message.QueryMessage) -> RdataType:
    """Returns the type asked for."""
    return query.question[0].rdtype


def reversed_address(name: str) -> IPv4Address | IPv6Address | None:
    """Returns the address that a name below in-addr.arpa or ip6.arpa stands for, if complete."""
    if not name.endswith((".in-addr.arpa", ".ip6.arpa")):
        return None
    try:
        return ip_address(dns.reversename.to_address(dns.name.from_text(name)))
    except (dns.exception.DNSException, ValueError):
        return None


def negative_of(response: bytes) -> Negative | None:
    """Judges another server's answer; None when it holds data, failed, or was cut short."""
    try:
        message = dns.message.from_wire(response)
    except (dns.exception.DNSException, ValueError):
        return None
    if message.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return None
    if message.flags & dns.flags.TC or not message.question:
        return None
    asked = message.question[0].rdtype
    if any(rrset.rdtype == asked for rrset in message.answer):
        return None
    for rrset in message.authority:
        if rrset.rdtype == RdataType.SOA:
            zone = rrset.name.to_text().rstrip(".").lower()
            return Negative(zone, min(rrset.ttl, rrset[0].minimum))
    return Negative(None, NEGATIVE_TTL_S)


def srv_ttl_of(response: bytes) -> int | None:
    """Returns the TTL of the SRV records that a response holds, None when it holds none."""
    try:
        message = dns.message.from_wire(response)
    except (dns.exception.DNSException, ValueError):
        return None
    return next((r.ttl for r in message.answer if r.rdtype == RdataType.SRV), None)


def make_srv_query(zone: str) -> bytes:
    """Asks whether a zone is an NTMobile domain's. Ours: docs/protocol.md section 1."""
    return dns.message.make_query(
        f"_ntm._udp.{zone}.", RdataType.SRV, use_edns=0, payload=PAYLOAD_BYTES
    ).to_wire()


def answer_addresses(query: dns.message.QueryMessage, answer: Answer, fqdn: str) -> bytes:
    """Answers an A or AAAA query; a short name is answered as an alias of its FQDN."""
    response = _response(query)
    owner = query.question[0].name
    target = dns.name.from_text(fqdn)
    if owner != target:
        _add(response, owner, RdataType.CNAME, [target.to_text()])
        owner = target
    address = answer.ipv4 if type_of(query) == RdataType.A else answer.ipv6
    _add(response, owner, type_of(query), [str(address)])
    return response.to_wire()


def answer_name(query: dns.message.QueryMessage, fqdn: str) -> bytes:
    """Answers a PTR query."""
    response = _response(query)
    _add(response, query.question[0].name, RdataType.PTR, [f"{fqdn}."])
    return response.to_wire()


def answer_nothing(
    query: dns.message.QueryMessage, rcode: dns.rcode.Rcode = dns.rcode.NOERROR
) -> bytes:
    """Answers without data: NODATA, or the rcode given."""
    response = _response(query)
    response.set_rcode(rcode)
    return response.to_wire()


def truncated(answer: bytes, most: int) -> bytes:
    """Returns the answer, or only that it has more than so many bytes: to be asked by TCP."""
    question = question_of(answer)
    if len(answer) <= most or question is None:
        return answer
    flags = bytes([answer[2] | _TRUNCATED, answer[3]])
    return answer[:2] + flags + (1).to_bytes(2) + bytes(6) + question


def _response(query: dns.message.QueryMessage) -> dns.message.Message:
    return dns.message.make_response(query, recursion_available=True, our_payload=PAYLOAD_BYTES)


def _add(
    response: dns.message.Message, owner: dns.name.Name, kind: RdataType, values: Iterable[str]
) -> None:
    rrset = dns.rrset.from_text(owner, TTL_S, dns.rdataclass.IN, kind, *values)
    response.answer.append(rrset)
