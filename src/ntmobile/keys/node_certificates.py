"""Certificates of nodes: issued over the device key, and judged by whoever meets the node.

A node's certificate is X.509 with the node's Ed25519 device key as its public key and its FQDN as a
dNSName, directly by a CA that the judge knows. What the CA may say is judged here too: a domain's
CA speaks for names under that domain only, whatever its own name constraint permits.
Source: paper, Node authentication. Ours: docs/protocol.md sections 2 and 4.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from ntmobile.errors import DecodeError, Remedy
from ntmobile.keys.certificates import Credential, authority_identifier, private_key, usage
from ntmobile.wire.certificate import MAX_DER, unfold

LIFETIME = timedelta(days=7)
"""Of what the AS issues at login; renewed when a third is left, so a peer's clock may be two days
ahead at any time."""
GIVEN_LIFETIME = timedelta(days=90)
"""Of what `ntm admin certificate issue` writes: it only has to last until the first login."""
SKEW = timedelta(days=2)
"""How much earlier than now a certificate begins: clocks of peers may be that much behind."""


class Fault(StrEnum):
    """What is wrong with a certificate; the values are those of wire.registration.Reason."""

    MISSING = "certificate-missing"
    WITHHELD = "certificate-withheld"
    """Missing, though the peer had one before."""
    STRIPPED = "certificate-stripped"
    """The other end was shown another certificate than its owner has."""
    MALFORMED = "certificate-malformed"
    SELF_SIGNED = "certificate-self-signed"
    AUTHORITY = "certificate-authority-unknown"
    FORGED = "certificate-forged"
    """It names a CA that is known, which did not sign it."""
    CONSTRAINT = "certificate-authority-overstepped"
    """Its CA may not speak for that name."""
    USAGE = "certificate-usage"
    NAME = "certificate-name"
    KEY = "certificate-key"
    EXPIRED = "certificate-expired"
    EARLY = "certificate-not-yet-valid"


@dataclass(frozen=True, slots=True)
class Anchor:
    """A CA that is believed, and for what."""

    der: bytes
    domain: str | None
    """It speaks for names under this domain; None: for all that its own constraints permit."""


@dataclass(frozen=True, slots=True)
class Life:
    """From when until when a certificate is good, in seconds since 1970, and who issued it."""

    begins_s: int
    ends_s: int
    issuer: str
    """SHA256:hex of the CA's certificate where it is known, else its distinguished name."""


def issue(
    ca: Credential,
    fqdn: str,
    device: bytes,
    *,
    serial: int,
    now_s: int,
    lifetime: timedelta = LIFETIME,
) -> bytes:
    """Return, in DER, the CA's certificate that this device key is fqdn's."""
    issuer = x509.load_pem_x509_certificate(ca.certificate)
    now = datetime.fromtimestamp(now_s, UTC)
    begins = max(now - SKEW, issuer.not_valid_before_utc)
    ends = min(now + lifetime, issuer.not_valid_after_utc)
    # An empty subject makes the alternative name critical (RFC 5280, section 4.2.1.6).
    builder = (
        x509.CertificateBuilder(issuer.subject, x509.Name([]), _public(device), serial)
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(fqdn)]), critical=True)
        .add_extension(authority_identifier(issuer), critical=False)
    )
    signed = builder.sign(private_key(ca.key), hashes.SHA256(), ecdsa_deterministic=True)
    return signed.public_bytes(serialization.Encoding.DER)


def judge_folded(
    folded: bytes, fqdn: str, device: bytes, anchors: Iterable[Anchor], now_s: float
) -> Fault | None:
    """Judge a folded certificate as it travels; None when it proves that the key is fqdn's."""
    if not folded:
        return Fault.MISSING
    try:
        der = unfold(folded, fqdn, device)
    except DecodeError:
        return Fault.MALFORMED
    return judge(der, fqdn, device, anchors, now_s)


def judge(
    der: bytes, fqdn: str, device: bytes, anchors: Iterable[Anchor], now_s: float
) -> Fault | None:
    """Judge a certificate in DER; None when it proves that the device key is fqdn's."""
    try:
        certificate = _parsed(der)
        return _who_signed(certificate, fqdn, tuple(anchors), now_s) or _what_it_says(
            certificate, fqdn, device, now_s
        )
    except Exception:
        # A stranger's bytes: the parser reads lazily, and has an exception of its own for
        # each way in which an extension, a key or a signature can be wrong.
        return Fault.MALFORMED


def device_credential(der: bytes, secret: bytes) -> Credential:
    """Return a certificate and its device key (32 bytes) as people handle them, in PEM."""
    private = Ed25519PrivateKey.from_private_bytes(secret)
    return Credential(
        x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM),
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def read_device_credential(certificate: bytes, key: bytes) -> tuple[bytes, bytes]:
    """Return the certificate in DER and the 32 bytes of its key; raises Remedy.

    Both in PEM. Of a chain the first certificate counts: its issuer must be trusted itself.
    """
    try:
        parsed = x509.load_pem_x509_certificate(certificate)
        public = parsed.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise Remedy("not a certificate in PEM", remedy="give it by --certificate FILE") from None
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Remedy(
            "not a private key in PEM without a pass phrase", remedy="give it by --key FILE"
        ) from None
    if not isinstance(private, Ed25519PrivateKey) or not isinstance(public, Ed25519PublicKey):
        raise Remedy(
            "the key of a node's certificate must be Ed25519, because it becomes its device key",
            remedy="have one issued for a key of: openssl genpkey -algorithm ed25519",
        )
    if public != private.public_key():
        raise Remedy("the certificate is for another key", remedy="give the key that belongs to it")
    return parsed.public_bytes(serialization.Encoding.DER), private.private_bytes_raw()


def life_of(der: bytes) -> Life:
    """Return from when until when a certificate is good; raises Remedy when it is none."""
    try:
        parsed = _parsed(der)
        name = parsed.issuer.rfc4514_string()
        begins, ends = parsed.not_valid_before_utc, parsed.not_valid_after_utc
    except ValueError:
        raise Remedy("not a certificate", remedy="give a certificate in PEM") from None
    return Life(int(begins.timestamp()), int(ends.timestamp()), name)


def authority_of(pem_or_der: bytes) -> bytes:
    """Return a CA's certificate in DER; raises Remedy when it is no CA's."""
    try:
        is_pem = pem_or_der.lstrip()[:5] == b"-----"
        load = x509.load_pem_x509_certificate if is_pem else x509.load_der_x509_certificate
        parsed = load(pem_or_der)
        is_ca = _is_ca(parsed)
    except (ValueError, x509.ExtensionNotFound):
        raise Remedy("not a certificate of a CA", remedy="give the CA's file in PEM") from None
    if not is_ca:
        raise Remedy(
            "this certificate may not issue others", remedy="give the CA's own certificate, in PEM"
        )
    return parsed.public_bytes(serialization.Encoding.DER)


def trusted_authorities(pem: str) -> tuple[bytes, ...]:
    """Return every CA of a PEM text, in DER; raises Remedy when one is no CA's."""
    end = "-----END CERTIFICATE-----"
    parts = [part[part.index("-----BEGIN") :] for part in pem.split(end) if "-----BEGIN" in part]
    if pem.strip() and not parts:
        raise Remedy("no certificate in PEM is in it", remedy="give the CA's file in PEM")
    return tuple(authority_of(f"{part}{end}\n".encode()) for part in parts)


def authority_name(der: bytes) -> str:
    """Return SHA256:hex of a CA's certificate, as people compare it."""
    return "SHA256:" + sha256(der).hexdigest()


def may_speak_for(anchor: Anchor, fqdn: str) -> bool:
    """Whether a CA may issue for that name: its constraints, and the domain it is believed for."""
    if anchor.domain is not None and not _is_under(fqdn, anchor.domain):
        return False
    try:
        constraints = _parsed(anchor.der).extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound:
        return True
    permitted, excluded = (
        [each.value for each in trees or () if isinstance(each, x509.DNSName)]
        for trees in (constraints.value.permitted_subtrees, constraints.value.excluded_subtrees)
    )
    within = not permitted or any(_is_under(fqdn, each) for each in permitted)
    return within and not any(_is_under(fqdn, each) for each in excluded)


def _who_signed(
    certificate: x509.Certificate, fqdn: str, anchors: tuple[Anchor, ...], now_s: float
) -> Fault | None:
    named = [each for each in anchors if _parsed(each.der).subject == certificate.issuer]
    if not named:
        alone = certificate.issuer == certificate.subject
        return Fault.SELF_SIGNED if alone else Fault.AUTHORITY
    signers = [each for each in named if _signed(certificate, each)]
    if not signers:
        return Fault.FORGED
    able = [each for each in signers if _is_ca(_parsed(each.der)) and may_speak_for(each, fqdn)]
    if not able:
        return Fault.CONSTRAINT
    faults = [_out_of_time(_parsed(each.der), now_s) for each in able]
    return None if None in faults else faults[0]


def _what_it_says(
    certificate: x509.Certificate, fqdn: str, device: bytes, now_s: float
) -> Fault | None:
    if not _is_for_clients(certificate):
        return Fault.USAGE
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if fqdn not in [name.lower() for name in names.get_values_for_type(x509.DNSName)]:
        return Fault.NAME
    key = certificate.public_key()
    if not isinstance(key, Ed25519PublicKey) or key.public_bytes_raw() != device:
        return Fault.KEY
    return _out_of_time(certificate, now_s)


_UNDERSTOOD = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
)


def _is_for_clients(certificate: x509.Certificate) -> bool:
    """Whether its extensions let the key sign as a client; a critical one unknown forbids it."""
    for extension in certificate.extensions:
        match extension.value:
            case x509.BasicConstraints(ca=True):
                return False
            case x509.KeyUsage(digital_signature=False):
                return False
            case x509.ExtendedKeyUsage() as purposes:
                allowed = {
                    ExtendedKeyUsageOID.CLIENT_AUTH,
                    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
                }
                if not allowed & set(purposes):
                    return False
            case other if extension.critical and not isinstance(other, _UNDERSTOOD):
                return False
            case _:
                pass
    return True


def _signed(certificate: x509.Certificate, anchor: Anchor) -> bool:
    try:
        certificate.verify_directly_issued_by(_parsed(anchor.der))
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def _is_ca(certificate: x509.Certificate) -> bool:
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    try:
        signs = certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        signs = True
    return basic.ca and signs


def _out_of_time(certificate: x509.Certificate, now_s: float) -> Fault | None:
    if now_s < certificate.not_valid_before_utc.timestamp():
        return Fault.EARLY
    return Fault.EXPIRED if now_s >= certificate.not_valid_after_utc.timestamp() else None


def _is_under(fqdn: str, domain: str) -> bool:
    suffix = domain.lower().lstrip(".")
    return fqdn == suffix or fqdn.endswith("." + suffix)


def _public(device: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(device)


@lru_cache(maxsize=256)
def _parsed(der: bytes) -> x509.Certificate:
    if len(der) > MAX_DER:
        raise ValueError("too long")
    return x509.load_der_x509_certificate(der)
