"""Checks JSON Web Tokens as a push service does (RFC 7515, RFC 7519)."""

from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from ntmobile.errors import NTMobileError
from ntmobile.wire.device_token import decode64

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
_ES256_SIZE = 64


class TokenWrong(NTMobileError):
    """It is no token, or not signed by that key."""


def header_of(token: str) -> dict[str, Any]:
    """Return the header, which is not checked yet."""
    return _object(token.partition(".")[0])


def claims_of(token: str, key: PublicKey) -> dict[str, Any]:
    """Return the claims that the key signed; raises TokenWrong."""
    signed, _, signature = token.rpartition(".")
    wanted = "RS256" if isinstance(key, rsa.RSAPublicKey) else "ES256"
    if header_of(token).get("alg") != wanted:
        raise TokenWrong(f"the algorithm is not {wanted}")
    try:
        _verify(key, decode64(signature), signed.encode())
    except (InvalidSignature, ValueError):
        raise TokenWrong("the signature is wrong") from None
    return _object(signed.partition(".")[2])


def _verify(key: PublicKey, signature: bytes, signed: bytes) -> None:
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        return
    if len(signature) != _ES256_SIZE:
        raise ValueError("not two numbers of 32 bytes")
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))


def _object(part: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(decode64(part), type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError):
        raise TokenWrong("not a JSON Web Token") from None
