"""Who may talk to whom. By FQDN only, never by address.

Default: nodes of one domain may talk; a foreign domain as the operator listed it. A rule names
patterns of FQDNs (`*` for any run of characters) or groups (`@name`); the first match decides. A
group has only nodes of the own domain: what a foreign DC says of its nodes' groups counts nothing.
Ours: docs/protocol.md section 2.
"""

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from ntmobile.wire.registration import Reason


class Federation(StrEnum):
    """Which foreign domains a domain talks to."""

    OPEN = "open"
    LISTED = "listed"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of policy."""

    source: str
    """Pattern of an FQDN, or @group."""
    destination: str
    allow: bool


@dataclass(frozen=True, slots=True)
class Subject:
    """One end, as policy sees it."""

    fqdn: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """All that a DC goes by."""

    domain: str
    federation: Federation = Federation.LISTED
    listed: frozenset[str] = frozenset()
    rules: tuple[Rule, ...] = ()
    revoked: frozenset[str] = frozenset()
    """FQDNs of nodes that may not take part."""
    pins: frozenset[tuple[str, str]] = frozenset()
    """Foreign domains, each with what the operator said of its key."""

    def refuses_domain(self, domain: str) -> Reason | None:
        """Why a foreign domain is refused as a whole, or None."""
        match self.federation:
            case Federation.OPEN:
                return None
            case Federation.LISTED if domain in self.listed:
                return None
            case _:
                return Reason.FOREIGN_DOMAIN

    def refuses(self, mn: Subject, cn: Subject) -> Reason | None:
        """Why MN may not open a tunnel to CN, or None."""
        for end in (mn, cn):
            if end.fqdn in self.revoked:
                return Reason.REVOKED
            if not is_below(end.fqdn, self.domain):
                zone = next((d for d in self.listed if is_below(end.fqdn, d)), end.fqdn)
                if (reason := self.refuses_domain(zone)) is not None:
                    return reason
        for rule in self.rules:
            if self._matches(rule.source, mn) and self._matches(rule.destination, cn):
                return None if rule.allow else Reason.NOT_ALLOWED
        return None

    def _matches(self, pattern: str, subject: Subject) -> bool:
        if pattern.startswith("@"):
            return is_below(subject.fqdn, self.domain) and pattern[1:] in subject.groups
        return fnmatchcase(subject.fqdn, pattern)


def is_below(fqdn: str, domain: str) -> bool:
    """Whether a name lies under a domain."""
    return fqdn.endswith("." + domain)
