"""A node's own certificates: which one it shows, and which it showed before.

The AS issues one at each login. One that the person gave (`ntm up --certificate`) is shown before
that as long as it is good: peers that trust its CA alone would believe no other.
Source: paper, Node authentication. Ours: docs/protocol.md sections 2 and 4.
"""

from dataclasses import dataclass, field

import msgspec

from ntmobile.errors import Remedy
from ntmobile.keys.identity import Identity
from ntmobile.keys.node_certificates import life_of
from ntmobile.wire.certificate import MAX_DER, fold
from ntmobile.wire.identity import MAX_FOLDED, PublicIdentity, certificate_digest

KEPT = 4
"""Certificates shown before that a peer may still be told of."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the state directory remembers, in DER; empty: none."""

    issued: bytes = b""
    """The newest by the own AS."""
    given: bytes = field(default=b"")
    """By the person, for the login and for peers."""


class Credentials:
    """One node's own identity, with the certificates over it."""

    def __init__(self, fqdn: str, identity: Identity, certificates: Certificates) -> None:
        """Starts from what is remembered; raises Remedy when a given one cannot travel."""
        self._fqdn = fqdn
        self._identity = identity
        self._given = certificates.given
        self._issued = certificates.issued
        self._shown: dict[bytes, bytes] = {b"": b""}
        if self._given:
            folded(self._given, fqdn, identity.public.device)
        self._current = b""
        self._show(0.0)

    @property
    def certificate(self) -> bytes:
        """The folded certificate that is shown now; empty without one."""
        return self._current

    @property
    def public(self) -> PublicIdentity:
        """What peers are told of this node now."""
        return self._with(self._current)

    @property
    def shows_given(self) -> bool:
        """Whether the one shown is the person's."""
        return bool(self._current) and self._current == self._fold(self._given)

    def take(self, issued: bytes, now_s: float) -> None:
        """The AS issued a new certificate, in DER; nothing when it has none to give."""
        if issued:
            self._issued = issued
        self._show(now_s)

    def shown(self, digest: bytes) -> PublicIdentity | None:
        """Return the own identity as a peer was shown it; None when it never was so."""
        folded = self._shown.get(digest)
        return None if folded is None or (not digest and self._current) else self._with(folded)

    def _show(self, now_s: float) -> None:
        self._current = self._fold(shown_first(self._issued, self._given, now_s))
        self._shown[certificate_digest(self._current)] = self._current
        while len(self._shown) > KEPT:
            oldest = next(digest for digest in self._shown if digest)
            del self._shown[oldest]

    def _fold(self, der: bytes) -> bytes:
        small = (
            fold(der, self._fqdn, self._identity.public.device) if 0 < len(der) <= MAX_DER else b""
        )
        return small if len(small) <= MAX_FOLDED else b""

    def _with(self, certificate: bytes) -> PublicIdentity:
        return msgspec.structs.replace(self._identity.public, certificate=certificate)


def shown_first(issued: bytes, given: bytes, now_s: float) -> bytes:
    """Return which certificate peers are shown: the short-lived one of the AS.

    But one by another CA that the person gave, as long as it is good: peers that trust that CA
    alone would believe no other.
    """
    if not given or not issued:
        return given or issued
    mine, theirs = life_of(given), life_of(issued)
    return given if mine.issuer != theirs.issuer and now_s < mine.ends_s else issued


def folded(der: bytes, fqdn: str, device: bytes) -> bytes:
    """Return a certificate as it travels; raises Remedy when it is too long for a datagram."""
    small = fold(der, fqdn, device) if len(der) <= MAX_DER else der
    if len(small) > MAX_FOLDED:
        raise Remedy(
            f"the certificate is too long to travel: {len(small)} bytes folded, of {MAX_FOLDED}",
            remedy="let a CA with an ECDSA, Ed25519 or RSA-2048 key issue it, with short names",
        )
    return small
