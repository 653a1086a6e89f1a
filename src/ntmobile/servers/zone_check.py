"""Is a zone free to become a domain's own? Asked before `ntm server init` takes it over.

Ours: docs/protocol.md section 1.
"""

from dataclasses import dataclass

import dns.exception
import dns.name
import dns.resolver

PATIENCE_S = 3.0
TAKEN_BY = ("MX", "A", "AAAA", "NS")


@dataclass(frozen=True, slots=True)
class Free:
    """Nothing is there, or only what names our own DC."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The zone serves something else: records in master-file form."""

    records: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """The look-up failed; offline, perhaps."""

    reason: str


Finding = Free | Taken | Unknown


def examine(domain: str, own_server: str, resolver: dns.resolver.Resolver | None = None) -> Finding:
    """Look the zone up; blocks for some seconds at most, raises nothing."""
    found: list[str] = []
    try:
        asked = resolver or dns.resolver.Resolver()
        for kind in TAKEN_BY:
            found += _records(asked, domain, kind, own_server)
    except dns.exception.DNSException as error:
        return Unknown(str(error) or type(error).__name__)
    return Taken(tuple(found)) if found else Free()


def _records(resolver: dns.resolver.Resolver, domain: str, kind: str, own_server: str) -> list[str]:
    name = dns.name.from_text(domain)
    try:
        # search=False: a name with a final dot already; a search domain must not answer for it.
        answer = resolver.resolve(name, kind, lifetime=PATIENCE_S, search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    values = (record.to_text() for record in answer)
    return [f"{name} {kind} {value}" for value in values if value.rstrip(".") != own_server]
