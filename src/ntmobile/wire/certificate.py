"""Folding certificates: X.509 in DER, as small as a datagram needs it.

A folded certificate is raw DEFLATE (RFC 1951) with a preset dictionary that both ends know::

    SKELETON | domain | device key (32) | FQDN | common name of the domain's own CA

so that only serial number, validity, the issuer's key identifier and the signature cost bytes: 388
bytes by the domain's own CA (ECDSA P-256) become about 172, and 837 by an RSA-2048 CA about 390.
RFC 8879 does the like for TLS. Ours: docs/protocol.md section 4.
"""

import zlib

from ntmobile.errors import DecodeError

MAX_DER = 4096
"""A certificate that unfolds to more is no node's."""
_RAW = -15
SKELETON = bytes.fromhex(
    "3081e7a003020102020101300a06082a8648ce3d040302301a3118301606035504030c0f4e544d6f"
    "62696c65204341206f6620301e170d3236303130313030303030305a170d32363031303830303030"
    "30305a3000302a300506032b65700321000000000000000000000000000000000000000000000000"
    "000000000000000000a3673065300c0603551d130101ff04023000300e0603551d0f0101ff040403"
    "02078030130603551d25040c300a06082b06010505070302300f0603551d110101ff040530038201"
    "78301f0603551d230418301680140000000000000000000000000000000000000000"
)
"""The signed part of a certificate as our CA issues it, with nothing of any node in it."""


def fold(der: bytes, fqdn: str, device: bytes) -> bytes:
    """Return the folded form of a node's certificate; raises ValueError when it is too long."""
    if len(der) > MAX_DER:
        raise ValueError(f"a certificate of {len(der)} bytes")
    folding = zlib.compressobj(9, zlib.DEFLATED, _RAW, 9, zdict=_dictionary(fqdn, device))
    return folding.compress(der) + folding.flush()


def unfold(folded: bytes, fqdn: str, device: bytes) -> bytes:
    """Return the DER; raises DecodeError, and never gives more than MAX_DER bytes."""
    unfolding = zlib.decompressobj(_RAW, zdict=_dictionary(fqdn, device))
    try:
        der = unfolding.decompress(folded, MAX_DER)
    except zlib.error:
        raise DecodeError("a certificate that does not unfold") from None
    if not unfolding.eof or unfolding.unused_data:
        raise DecodeError("a certificate that is cut off or goes on")
    return der


def _dictionary(fqdn: str, device: bytes) -> bytes:
    domain = fqdn.split(".", 2)[-1].encode()
    common_name = (b"NTMobile CA of " + domain)[:64]
    return SKELETON + domain + device + fqdn.encode() + common_name
