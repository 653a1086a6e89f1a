"""The public half of a node's identity, as it travels through the DCs.

`signature` is the device key's, over b"ntm tunnel key 1" + tunnel, and binds the static key of the
Noise handshake to the device key that was enrolled at login. The certificate, where there is one,
is over the device key itself and rides along folded (`wire.certificate`).
Source: paper, Node authentication. Ours: docs/protocol.md sections 2 and 4.
"""

import hashlib
from enum import StrEnum
from typing import Annotated

import msgspec

from ntmobile.wire.message import Message, Secret

MAX_FOLDED = 400
"""Bytes of a folded certificate: two ends' worth of everything else still fits one datagram."""
FoldedCertificate = Annotated[bytes, msgspec.Meta(max_length=MAX_FOLDED)]
DIGEST_SIZE = 8
CertificateDigest = Annotated[bytes, msgspec.Meta(max_length=DIGEST_SIZE)]


class Authentication(StrEnum):
    """By what a node knows its peer. Source: paper, Node authentication."""

    CERTIFICATE = "certificate"
    DEVICE_KEY = "device-key"
    PASSWORD = "password"
    """By Ktmp alone (`NNpsk0`)."""


class Succession(Message, frozen=True):
    """An old device key's signature of the present one: who pinned the old takes the new."""

    old: Secret
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class PublicIdentity(Message, frozen=True):
    """Device key (Ed25519), tunnel key (X25519), and the one's signature of the other."""

    device: Secret
    tunnel: Secret
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    certificate: FoldedCertificate = b""
    """Over the device key; empty: none. Source: paper, Node authentication."""
    succession: Succession | None = None

    @property
    def keys(self) -> tuple[bytes, bytes]:
        """What makes two identities the same node's, whatever certificate rides along."""
        return self.device, self.tunnel

    @property
    def bare(self) -> "PublicIdentity":
        """The same without a certificate."""
        return msgspec.structs.replace(self, certificate=b"")

    @property
    def shown(self) -> bytes:
        """A name for the certificate that rides along; empty when none does."""
        return certificate_digest(self.certificate)


def certificate_digest(folded: bytes) -> bytes:
    """Return 8 bytes of the SHA-256 of a folded certificate; empty for none."""
    return hashlib.sha256(folded).digest()[:DIGEST_SIZE] if folded else b""
