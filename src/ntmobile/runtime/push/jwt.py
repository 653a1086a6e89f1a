"""Signed claims as push services want them: JSON Web Tokens (RFC 7519) by RS256 and ES256."""

from collections.abc import Mapping

import msgspec
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from ntmobile.wire.device_token import encode64

Claims = Mapping[str, str | int]
_HALF = 32
"""Bytes of each number of an ES256 signature. Source: RFC 7518, section 3.4."""


def rs256(claims: Claims, key: rsa.RSAPrivateKey, key_id: str) -> str:
    """Return claims signed by RSA."""
    signed = _signed("RS256", claims, key_id)
    return _joined(signed, key.sign(signed, padding.PKCS1v15(), hashes.SHA256()))


def es256(claims: Claims, key: ec.EllipticCurvePrivateKey, key_id: str | None = None) -> str:
    """Return claims signed by ECDSA on P-256, always the same (RFC 6979)."""
    signed = _signed("ES256", claims, key_id)
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    r, s = decode_dss_signature(key.sign(signed, algorithm))
    return _joined(signed, r.to_bytes(_HALF) + s.to_bytes(_HALF))


def p256_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Parse a P-256 private key, as Apple's .p8 files and openssl's PEM files hold it.

    Raises ValueError.
    """
    key = _private(pem)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a private key on P-256")
    return key


def rsa_key(pem: bytes) -> rsa.RSAPrivateKey:
    """Parse an RSA private key; raises ValueError."""
    key = _private(pem)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("not an RSA private key")
    return key


def public_point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the 65 bytes of the public key (uncompressed point)."""
    return key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


def _private(pem: bytes) -> object:
    try:
        return serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        raise ValueError("not a private key in PEM without a passphrase") from None


def _signed(algorithm: str, claims: Claims, key_id: str | None) -> bytes:
    header = {"alg": algorithm, "typ": "JWT"} | ({"kid": key_id} if key_id is not None else {})
    return f"{_part(header)}.{_part(claims)}".encode()


def _part(value: Claims) -> str:
    return encode64(msgspec.json.encode(dict(value)))


def _joined(signed: bytes, signature: bytes) -> str:
    return f"{signed.decode()}.{encode64(signature)}"
