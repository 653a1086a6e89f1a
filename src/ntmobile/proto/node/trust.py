"""Whom a node believes: device keys and CAs it has pinned, and what it asks of its peers.

A peer is judged at each Route Direction, by what came with it::

    its device key        is the pinned one, or signed by that; the first seen is pinned
    its certificate       by a CA that was given to this node for that name; else by one of those
                          that were first stated for the peer's domain
    no certificate        is refused where certificates are asked for, of a peer that had one, and
                          of one whose domain has a CA: that gives a certificate to every node

The CAs of a domain are pinned as they were first stated; the own AS states them, never a DC.
Source: paper, Node authentication. Ours: docs/protocol.md section 4.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType

from ntmobile.keys.identity import is_genuine, is_successor
from ntmobile.keys.node_certificates import Anchor, judge_folded, may_speak_for
from ntmobile.proto.node.settings import Pin
from ntmobile.time import SECOND, Instant
from ntmobile.wire.identity import Authentication, PublicIdentity
from ntmobile.wire.registration import Reason

LABELS_OF_A_NODE = 2
"""NAME and USER, below its domain."""
AGAIN_NS = 60 * SECOND
"""How soon the AS is asked again about a domain of whose CAs it said nothing."""
MAX_DOMAINS = 4096

WallClock = Callable[[Instant], float]
"""Seconds since 1970 at an Instant, as the machine's clock has it."""


@dataclass(frozen=True, slots=True)
class TrustSettings:
    """What the state directory remembers of CAs, and what the person asked for."""

    authorities: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)
    """By domain, the CAs that were first stated for it, in DER."""
    given: tuple[bytes, ...] = ()
    """CAs that the person trusts: where one may speak for a name, only these do."""
    asked: Authentication = Authentication.DEVICE_KEY
    """CERTIFICATE: peers without one are refused."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The CAs of the peer's domain must be asked for first."""

    domain: str


Verdict = Authentication | Reason | Unknown


class Trust:
    """What one node believes of its peers."""

    def __init__(
        self, domain: str, settings: TrustSettings, pins: Iterable[Pin], wall: WallClock
    ) -> None:
        """Starts from what is remembered; domain is the node's own."""
        self._own_domain = domain
        self._given = settings.given
        self._own_wish = settings.asked
        self._domain_wish = Authentication.DEVICE_KEY
        self._authorities = dict(settings.authorities)
        self._silent: dict[str, Instant] = {}
        """Domains of which the AS said nothing, and when."""
        self._pins = {pin.fqdn: pin for pin in pins}
        self._wall = wall

    @property
    def authorities(self) -> Mapping[str, tuple[bytes, ...]]:
        """The pinned CAs, by domain."""
        return MappingProxyType(self._authorities)

    @property
    def asks_for_certificates(self) -> bool:
        """Whether a peer without a certificate is refused."""
        return Authentication.CERTIFICATE in (self._own_wish, self._domain_wish)

    def set_wish(self, given: tuple[bytes, ...], asked: Authentication) -> None:
        """The person changed what to ask of peers."""
        self._given, self._own_wish = given, asked

    def set_domain_wish(self, asked: Authentication) -> None:
        """What the own domain asks its nodes to ask of peers; the stricter of the two counts."""
        self._domain_wish = asked

    def judge(self, fqdn: str, identity: PublicIdentity, now: Instant) -> Verdict:
        """Say by what a peer is known, or why it is refused."""
        pin = self._pins.get(fqdn)
        if not is_genuine(identity) or not (pin is None or _continues(pin.device, identity)):
            return Reason.IDENTITY_CHANGED
        anchors = self._anchors(fqdn)
        if not identity.certificate:
            return self._judge_bare(fqdn, anchors, now)
        if not anchors:
            domain = domain_of(fqdn)
            return Unknown(domain) if self._may_ask(domain, now) else self.judge_alone(fqdn)
        fault = judge_folded(identity.certificate, fqdn, identity.device, anchors, self._wall(now))
        return Authentication.CERTIFICATE if fault is None else Reason(fault.value)

    def judge_alone(self, fqdn: str) -> Authentication | Reason:
        """Judge a peer of a domain whose CAs nobody told us.

        Its device key was good, or judge would not have said Unknown.
        """
        pin = self._pins.get(fqdn)
        if self.asks_for_certificates or (pin is not None and pin.certified):
            return Reason.CERTIFICATE_AUTHORITY
        return Authentication.DEVICE_KEY

    def _judge_bare(self, fqdn: str, anchors: tuple[Anchor, ...], now: Instant) -> Verdict:
        """Judge a peer that shows no certificate."""
        pin = self._pins.get(fqdn)
        if pin is not None and pin.certified:
            return Reason.CERTIFICATE_WITHHELD
        if anchors or self.asks_for_certificates:
            return Reason.CERTIFICATE_MISSING
        domain = self.wants(fqdn, now)
        return Authentication.DEVICE_KEY if domain is None else Unknown(domain)

    def wants(self, fqdn: str, now: Instant) -> str | None:
        """Return the domain whose CAs will be needed to meet that peer and are not known.

        None too while the own AS has not stated those of the own domain: it knows no others'.
        """
        domain = domain_of(fqdn)
        known = self._own_domain not in self._authorities or self._anchors(fqdn)
        return None if known or not self._may_ask(domain, now) else domain

    def learn(self, domain: str, authorities: tuple[bytes, ...], now: Instant) -> bool:
        """Take what the AS states of a domain; whether it was pinned, as only the first is."""
        if not authorities:
            self._silent[domain] = now
            if len(self._silent) > MAX_DOMAINS:
                del self._silent[next(iter(self._silent))]
        elif domain not in self._authorities and len(self._authorities) < MAX_DOMAINS:
            self._authorities[domain] = authorities
            return True
        return False

    def extend(self, authorities: tuple[bytes, ...]) -> bool:
        """Take the own domain's CAs: further ones too, if none that is pinned went."""
        pinned = self._authorities.get(self._own_domain, ())
        if not authorities or authorities == pinned or not set(pinned) <= set(authorities):
            return False
        self._authorities[self._own_domain] = authorities
        return True

    def readdress(self, fqdn: str, ipv4: IPv4Address, ipv6: IPv6Address) -> Pin | None:
        """A pinned peer has other virtual addresses here; returns its pin, None without one."""
        pin = self._pins.get(fqdn)
        if pin is None:
            return None
        self._pins[fqdn] = replace(pin, ipv4=ipv4, ipv6=ipv6)
        return self._pins[fqdn]

    def pin(self, seen: Pin, identity: PublicIdentity, by: Authentication) -> Pin | None:
        """Remember a peer that was let in; returns the pin when it is new or says more."""
        before = self._pins.get(seen.fqdn)
        certified = by is Authentication.CERTIFICATE or (before is not None and before.certified)
        new = replace(seen, device=identity.device, certified=certified)
        if before is not None and (before.device, before.certified) == (new.device, certified):
            return None
        self._pins[seen.fqdn] = new
        return new

    def forget(self, name: str) -> bool:
        """Forget the key of a peer, or the CAs of a domain: what comes next is pinned anew."""
        self._silent.pop(name, None)
        known = name in self._pins or name in self._authorities
        self._pins.pop(name, None)
        self._authorities.pop(name, None)
        return known

    def _anchors(self, fqdn: str) -> tuple[Anchor, ...]:
        """The CAs that may speak for a name: those given, and only else those stated."""
        given = tuple(Anchor(der, None) for der in self._given)
        given = tuple(anchor for anchor in given if may_speak_for(anchor, fqdn))
        domain = domain_of(fqdn)
        stated = (Anchor(der, domain) for der in self._authorities.get(domain, ()))
        return given or tuple(stated)

    def _may_ask(self, domain: str, now: Instant) -> bool:
        asked = self._silent.get(domain)
        return asked is None or now - asked >= AGAIN_NS


def domain_of(fqdn: str) -> str:
    """Return the domain of a node's name."""
    return fqdn.split(".", LABELS_OF_A_NODE)[-1]


def _continues(pinned: bytes, identity: PublicIdentity) -> bool:
    """Whether an identity is the pinned one, or signed by it."""
    if pinned == identity.device:
        return True
    before = identity.succession
    return (
        before is not None
        and before.old == pinned
        and is_successor(pinned, identity.device, before.signature)
    )
