"""Passwords and pre-authorised keys: what is kept of them, and how they are checked.

Ours: docs/protocol.md section 2.
"""

from base64 import b32encode
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type, hash_secret
from argon2.low_level import verify_secret as _verify

from ntmobile.errors import Remedy

SALT_SIZE = 16
AUTHORITY_SIZE = 20
"""Bytes of a pre-authorised key: enough that one hash of it needs no slowness."""
SHORTEST = 8
LONGEST = 1024
"""Characters of a password (wire.login)."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one check of a password costs. The defaults: OWASP's first choice for Argon2id.

    RFC 9106's second choice (3 passes, 64 MiB, 4 lanes) costs 3.4 times the CPU time, which a
    small machine cannot spend on strangers while its own nodes log in.
    """

    passes: int = 1
    memory_kib: int = 47_104
    lanes: int = 1


USUAL: Final = Cost()


def hash_password(password: str, salt: bytes, cost: Cost = USUAL) -> str:
    """Return the Argon2id hash in PHC form; salt is 16 random bytes. Takes about 0.05 s."""
    return hash_secret(
        password.encode(),
        salt,
        time_cost=cost.passes,
        memory_cost=cost.memory_kib,
        parallelism=cost.lanes,
        hash_len=32,
        type=Type.ID,
    ).decode()


def verify_password(hashed: str, password: str) -> bool:
    """Whether the password made that hash; costs what making it did."""
    try:
        return _verify(hashed.encode(), password.encode(), Type.ID)
    except (VerificationError, InvalidHashError):
        return False


def check_new_password(password: str) -> str:
    """Return the password; raises Remedy when it is too short, too long or not one line."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise Remedy(
            f"a password has {SHORTEST} to {LONGEST} characters, this one has {len(password)}",
            remedy="nothing was changed; run the command again with another password",
        )
    if not password.isprintable():
        raise Remedy(
            "a password cannot hold control characters",
            remedy="nothing was changed; run the command again with one line of text",
        )
    return password


def authority_text(secret: bytes) -> str:
    """Return a pre-authorised key as people pass it on: ntmkey- and lower-case base 32."""
    return "ntmkey-" + b32encode(secret).decode().lower().rstrip("=")


def authority_digest(authority: str) -> bytes:
    """Return what the store keeps of a pre-authorised key."""
    return sha256(b"ntm authority 1\0" + authority.encode()).digest()
