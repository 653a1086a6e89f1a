"""The domain's own CA and the certificates of its servers, ECDSA on P-256.

The CA can only speak for names under the domain and for the servers' addresses: whoever trusts it
(`ntm up --ca`) hands it nothing else. An operator may use a public CA's certificate instead.
Ours: docs/protocol.md sections 1 and 4.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ntmobile.errors import Remedy

CA_LIFETIME = timedelta(days=20 * 365)
"""Nodes keep the CA for life: a machine without a head must not be locked out."""
SERVER_LIFETIME = timedelta(days=5 * 365)
SKEW = timedelta(days=2)
"""Clocks of nodes may be that much behind ours: a day is what people get wrong."""

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes = field(repr=False)

    @classmethod
    def of(cls, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Self:
        """Build from the parsed forms."""
        return cls(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )


def make_ca(
    domain: str,
    addresses: tuple[Address, ...],
    *,
    serial: int,
    now_s: int,
    secret: bytes | None = None,
) -> Credential:
    """Return a new CA of a domain.

    Its key is made of 32 random bytes, or by the system's randomness (OpenSSL's) without them.
    """
    if secret is None:
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = ec.derive_private_key(int.from_bytes(secret[:31]) + 1, ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"NTMobile CA of {domain}"[:64])])
    permitted = [x509.DNSName(domain), *(x509.IPAddress(_alone(each)) for each in addresses)]
    builder = (
        _builder(name, name, key.public_key(), serial, now_s, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs_certificates=True), critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
    )
    signed = builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    return Credential.of(signed, key)


def make_server(
    ca: Credential,
    names: tuple[str, ...],
    addresses: tuple[Address, ...],
    *,
    serial: int,
    now_s: int,
) -> Credential:
    """Return a new server certificate by the CA, for those names and addresses.

    Addresses that the CA may not speak for (they came after it) are left out.
    """
    issuer = read_certificate(ca.certificate)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    spoken = [each for each in addresses if _permitted(issuer, each)]
    alternatives = [*map(x509.DNSName, names), *map(x509.IPAddress, spoken)]
    builder = (
        _builder(subject, issuer.subject, key.public_key(), serial, now_s, SERVER_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(authority_identifier(issuer), critical=False)
    )
    return Credential.of(builder.sign(private_key(ca.key), hashes.SHA256()), key)


def needs_renewal(certificate: bytes, names: tuple[str, ...], now_s: int) -> bool:
    """Whether less than a third of its life is left, or it lacks one of the names."""
    parsed = read_certificate(certificate)
    start, end = parsed.not_valid_before_utc, parsed.not_valid_after_utc
    left = end - datetime.fromtimestamp(now_s, UTC)
    return left * 3 < end - start or not set(names) <= set(names_of(parsed))


def read_certificate(pem: bytes) -> x509.Certificate:
    """Parse the first certificate of a PEM file; raises Remedy when there is none."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise Remedy("not a certificate in PEM", remedy="give the file ca.pem") from None


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the DNS names a certificate speaks for."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(extension.value.get_values_for_type(x509.DNSName))


def der_digest(pem: bytes) -> bytes:
    """Return the SHA-256 of the certificate in DER: what fingerprints and statements carry."""
    return sha256(read_certificate(pem).public_bytes(serialization.Encoding.DER)).digest()


def fingerprint(pem: bytes) -> str:
    """Return SHA256:hex of the certificate, as `ntm up --fingerprint` takes it."""
    return "SHA256:" + der_digest(pem).hex()


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    serial: int,
    now_s: int,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.fromtimestamp(now_s, UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key)
    return (
        x509.CertificateBuilder(issuer, subject, key, serial)
        .not_valid_before(now - SKEW)
        .not_valid_after(now + lifetime)
        .add_extension(identifier, critical=False)
    )


def usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """What a key may do: sign certificates, or sign for itself."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def authority_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """By which of its keys an issuer signs."""
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Parse the CA's private key; raises Remedy when it is of another kind."""
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Remedy("the CA's key is not an elliptic-curve key", remedy="restore ca.key")
    return key


def _alone(address: Address) -> IPv4Network | IPv6Network:
    return ip_network(address)


def _permitted(issuer: x509.Certificate, address: Address) -> bool:
    constraints = issuer.extensions.get_extension_for_class(x509.NameConstraints).value
    alone = _alone(address)
    subtrees = constraints.permitted_subtrees or []
    return any(isinstance(each, x509.IPAddress) and each.value == alone for each in subtrees)
