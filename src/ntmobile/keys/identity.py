"""A node's own keys: the device key (Ed25519) and the tunnel key (X25519) it vouches for.

Ours: docs/protocol.md sections 2 and 4.
"""

from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Self

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ntmobile.wire.identity import PublicIdentity, Succession

_TUNNEL_KEY = b"ntm tunnel key 1\0"
_SUCCESSOR = b"ntm successor 1\0"


def sign(private: bytes, data: bytes) -> bytes:
    """Return the Ed25519 signature of data by a 32-byte private key."""
    return Ed25519PrivateKey.from_private_bytes(private).sign(data)


def verify(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether signature is the Ed25519 signature of data by the holder of public."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def public_of(private: bytes) -> bytes:
    """Return the Ed25519 public key of a private one."""
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


@dataclass(frozen=True, slots=True)
class Identity:
    """The private half; kept in the node's state directory, never sent."""

    device: bytes = field(repr=False)
    tunnel: bytes = field(repr=False)
    public: PublicIdentity

    @classmethod
    def of(cls, device: bytes, tunnel: bytes) -> Self:
        """Build from two 32-byte private keys (random bytes make good ones)."""
        static = X25519PrivateKey.from_private_bytes(tunnel).public_key().public_bytes_raw()
        signature = sign(device, _TUNNEL_KEY + static)
        return cls(device, tunnel, PublicIdentity(public_of(device), static, signature))

    def after(self, old: bytes, signature: bytes) -> Self:
        """Return the same, showing that the old device key signed this one (see `succeed`)."""
        succession = Succession(old, signature)
        public = msgspec.structs.replace(self.public, succession=succession)
        return replace(self, public=public)

    def sign(self, data: bytes) -> bytes:
        """Sign with the device key."""
        return sign(self.device, data)


def is_genuine(identity: PublicIdentity) -> bool:
    """Whether the device key really vouches for the tunnel key."""
    return verify(identity.device, identity.signature, _TUNNEL_KEY + identity.tunnel)


def is_successor(old: bytes, new: bytes, signature: bytes) -> bool:
    """Whether the old device key signed the new one."""
    return verify(old, signature, _SUCCESSOR + new)


def succeed(old: bytes, new: bytes) -> bytes:
    """Return the old private device key's signature of the new public one."""
    return sign(old, _SUCCESSOR + new)


def fingerprint(public: bytes) -> str:
    """Return SHA256:hex of a public key or a certificate, as people compare it."""
    return "SHA256:" + sha256(public).hexdigest()
