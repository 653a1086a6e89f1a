"""Between servers over HTTPS: Key Sharing, and what a domain says of itself.

Source: paper, Figs. 4, 5, 7.

Tags 64-79: 64 Key Sharing, 65 Domain Statement.

Every request between servers is signed by the asking domain's key over `request_bytes`; TLS gives
secrecy, the signature gives the asker, and the certificate's hash in it binds the two.
Ours: docs/protocol.md section 1.
"""

import hashlib
from enum import StrEnum
from typing import Annotated

import msgspec

from ntmobile.wire.login import Authorities
from ntmobile.wire.message import Fqdn, KeyIdentifier, Message, Seconds, Secret, Sequence

Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
REQUEST_LIFETIME_S = 300


class SharedKey(StrEnum):
    """Which key of Table 1 a Key Sharing hands over."""

    KDCDC = "Kdcdc"
    KDCRS = "Kdcrs"
    KDCNS = "Kdcns"


class KeySharing(Message, frozen=True, tag=64):
    """The DC that created a key hands it to the server it will talk to."""

    key: SharedKey
    identifier: KeyIdentifier
    secret: Secret
    lifetime_s: Seconds
    creator: Fqdn
    """The creator's domain; the receiver checks it against the request's signature."""


class DomainStatement(Message, frozen=True, tag=65):
    """Served at /.well-known/ntm: the domain, its key, and its TLS certificates."""

    domain: Fqdn
    key: Secret
    """Ed25519 public key."""
    certificates: Annotated[tuple[Secret, ...], msgspec.Meta(max_length=16)]
    """SHA-256 of each server certificate in DER."""
    issued: Sequence
    """Seconds since 1970."""
    signature: Signature = bytes(64)
    """The domain key's, over `statement_bytes`."""
    previous: Secret | None = None
    """The key before this one, and its signature of this one, after a change of keys."""
    previous_signature: Signature | None = None
    authorities: Authorities = ()
    """The CAs of the domain's nodes, in DER, its own first. Source: paper, Node authentication."""


def statement_bytes(statement: DomainStatement) -> bytes:
    """What the domain key signs of its statement."""
    return b"".join(
        (
            b"ntm domain 1\0",
            statement.domain.encode() + b"\0",
            statement.key,
            statement.issued.to_bytes(8),
            *statement.certificates,
            *((b"authorities\0",) if statement.authorities else ()),
            *(hashlib.sha256(der).digest() for der in statement.authorities),
        )
    )


def request_bytes(
    *,
    path: str,
    body: bytes,
    asker: str,
    asked: str,
    time_s: int,
    nonce: bytes,
    certificate: bytes,
) -> bytes:
    """What the asker's domain key signs of a POST request.

    `certificate` is the SHA-256 of the server certificate that the asker saw, so that a request
    cannot be replayed to, or relayed through, another server.
    """
    names = "\0".join(("POST", path, asker, asked)).encode()
    digest = hashlib.sha256(body).digest()
    return b"ntm request 1\0" + names + b"\0" + digest + time_s.to_bytes(8) + nonce + certificate
