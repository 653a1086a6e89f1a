"""Message encryption for Web Push: aes128gcm with keys by ECDH (RFC 8188, RFC 8291).

A message is one record::

    salt           16
    record size     4
    key id length   1   65
    key id         65   the sender's ephemeral public key, uncompressed point
    ciphertext      .   of the plaintext, the delimiter 0x02, no padding
    tag            16
"""

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ntmobile.errors import DecodeError
from ntmobile.runtime.push.jwt import public_point

RECORD_SIZE = 4096
_LAST = b"\x02"
_HEADER = struct.Struct("!16sIB")
_POINT = 65
_TAG = 16


def encrypt(
    plaintext: bytes,
    public: bytes,
    secret: bytes,
    *,
    ephemeral: ec.EllipticCurvePrivateKey,
    salt: bytes,
) -> bytes:
    """Return the body of a push message to the subscription with that key and secret.

    Ephemeral and salt (16 bytes) must be new for every message. Raises ValueError when public is
    no point of P-256.
    """
    own = public_point(ephemeral)
    shared = ephemeral.exchange(ec.ECDH(), _point(public))
    key, nonce = _derive(shared, secret, public, own, salt)
    header = _HEADER.pack(salt, RECORD_SIZE, len(own)) + own
    return header + AESGCM(key).encrypt(nonce, plaintext + _LAST, None)


def decrypt(body: bytes, private: ec.EllipticCurvePrivateKey, secret: bytes) -> bytes:
    """Return the plaintext of a push message of one record; raises DecodeError."""
    if len(body) < _HEADER.size + _POINT + _TAG + 1:
        raise DecodeError("push message: too short")
    salt, size, length = _HEADER.unpack_from(body)
    sealed = body[_HEADER.size + length :]
    if length != _POINT or len(sealed) > size:
        raise DecodeError("push message: not one record with a key of P-256")
    sender = body[_HEADER.size : _HEADER.size + length]
    try:
        shared = private.exchange(ec.ECDH(), _point(sender))
        key, nonce = _derive(shared, secret, public_point(private), sender, salt)
        padded = AESGCM(key).decrypt(nonce, sealed, None).rstrip(b"\0")
    except (ValueError, InvalidTag):
        raise DecodeError("push message: not encrypted to this subscription") from None
    if not padded.endswith(_LAST):
        raise DecodeError("push message: the record is not the last one")
    return padded[:-1]


def _point(public: bytes) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)


def _derive(
    shared: bytes, secret: bytes, receiver: bytes, sender: bytes, salt: bytes
) -> tuple[bytes, bytes]:
    """Key and nonce. Source: RFC 8291, section 3.4; RFC 8188, sections 2.2 and 2.3."""
    material = _hkdf(shared, secret, b"WebPush: info\0" + receiver + sender, 32)
    key = _hkdf(material, salt, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _hkdf(material, salt, b"Content-Encoding: nonce\0", 12)
    return key, nonce


def _hkdf(material: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt, info).derive(material)
