"""How Kmncn is agreed: Noise with Ktmp as pre-shared key, bound to all that was negotiated.

The prologue holds version, mode, cipher, negotiation id, both FQDNs and virtual IPv6 addresses, who
sent the first message, and both public keys; a difference in any of them fails the handshake. (The
virtual IPv4 addresses mean something only locally.) Ours: docs/protocol.md section 4; the paper
sends Kmncn encrypted with Ktmp or with the peer's public key.
"""

from dataclasses import dataclass, field
from ipaddress import IPv6Address

from ntmobile._core import HandshakeError, Noise
from ntmobile.keys.identity import Identity
from ntmobile.keys.sealing import derive
from ntmobile.proto.io import Entropy, random_bytes
from ntmobile.wire.direction import Cipher, Mode, Role
from ntmobile.wire.identity import PublicIdentity
from ntmobile.wire.message import encode

VERSION = 1

__all__ = ["Handshake", "HandshakeError", "Secrets", "Terms", "rekey_psk"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What both ends must agree on, byte for byte."""

    negotiation: bytes
    mode: Mode
    cipher: Cipher
    mn: str
    cn: str
    sender: Role
    """Who sends the Tunnel Request."""
    mn_identity: PublicIdentity
    cn_identity: PublicIdentity
    mn_ipv6: IPv6Address
    cn_ipv6: IPv6Address

    def prologue(self) -> bytes:
        """Return the bytes that go into the handshake hash."""
        return encode(
            (
                VERSION,
                self.mode,
                self.cipher,
                self.negotiation,
                self.mn,
                self.cn,
                self.sender,
                self.mn_identity,
                self.cn_identity,
                self.mn_ipv6,
                self.cn_ipv6,
            )
        )


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a finished handshake gives: Kmncn, one key a direction, and a name for it."""

    send_key: bytes = field(repr=False)
    receive_key: bytes = field(repr=False)
    hash: bytes


class Handshake:
    """One end of one handshake."""

    def __init__(
        self,
        terms: Terms,
        psk: bytes,
        own_role: Role,
        own: Identity,
        peer: PublicIdentity,
        entropy: Entropy,
    ) -> None:
        """psk is derived from Ktmp, or from the epoch before when rekeying."""
        static = terms.mode is Mode.KKPSK0
        self._noise = Noise(
            terms.mode.value,
            initiator=terms.sender is own_role,
            cipher=terms.cipher.value,
            prologue=terms.prologue(),
            psk=derive(psk, b"ntm handshake psk 1"),
            ephemeral=random_bytes(entropy, 32),
            local_private=own.tunnel if static else None,
            remote_public=peer.tunnel if static else None,
        )

    def write(self) -> bytes:
        """Return this end's message."""
        return self._noise.write(b"")

    def read(self, message: bytes) -> None:
        """Take the peer's message; raises HandshakeError and changes nothing when it is wrong."""
        self._noise.read(message)

    def finish(self) -> Secrets:
        """Return the keys once both messages went over."""
        return Secrets(*self._noise.split(), self._noise.hash)


def rekey_psk(secrets: Secrets) -> bytes:
    """Return the pre-shared key for the next epoch: the same at both ends."""
    both = sorted((secrets.send_key, secrets.receive_key))
    return derive(both[0] + both[1], b"ntm rekey psk 1")
