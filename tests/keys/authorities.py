"""CAs of every kind, made once; certificates that differ from a good one in what a test says."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ntmobile.keys.certificates import Credential, make_ca
from ntmobile.keys.identity import public_of
from ntmobile.keys.node_certificates import authority_of

NOW_S = 1_800_000_000
DAY_S = 86_400
DOMAIN = "ntm.example.org"
FQDN = f"laptop.alice.{DOMAIN}"
SECRET = bytes(range(32))
DEVICE = public_of(SECRET)

CaKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | Ed25519PrivateKey


@cache
def authority(domain: str = DOMAIN, number: int = 1) -> Credential:
    """Return the CA of a domain; another number is another CA under the same name."""
    return make_ca(domain, (), serial=number, now_s=NOW_S, secret=bytes((number,)) * 32)


def der_of(ca: Credential) -> bytes:
    """Return the certificate of a CA in DER."""
    return authority_of(ca.certificate)


@dataclass(frozen=True)
class Issuer:
    """A CA outside every domain."""

    key: CaKey
    name: str = "Example Corporation CA"
    now_s: int = NOW_S

    @property
    def der(self) -> bytes:
        """Its own certificate."""
        return self._sign(
            self._builder(self.name, self.key.public_key()).add_extension(
                x509.BasicConstraints(ca=True, path_length=0), critical=True
            )
        )

    def certificate(
        self,
        fqdn: str | None,
        device: bytes = DEVICE,
        *,
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
        signs: bool = True,
        ca: bool = False,
        key: ec.EllipticCurvePublicKey | None = None,
        subject: str = "",
        unknown: bool = False,
        begins_s: int | None = None,
        ends_s: int | None = None,
    ) -> bytes:
        """Return a certificate in DER; good unless told otherwise."""
        public = key or Ed25519PublicKey.from_public_bytes(device)
        builder = (
            self._builder(subject, public, begins_s, ends_s or self.now_s + 30 * DAY_S)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(signs, *[False] * 8), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        )
        if fqdn is not None:
            name = x509.SubjectAlternativeName([x509.DNSName(fqdn)])
            builder = builder.add_extension(name, critical=True)
        if unknown:
            strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"")
            builder = builder.add_extension(strange, critical=True)
        return self._sign(builder)

    def _builder(
        self,
        subject: str,
        public: object,
        begins_s: int | None = None,
        ends_s: int | None = None,
    ) -> x509.CertificateBuilder:
        begins_s = self.now_s - DAY_S if begins_s is None else begins_s
        ends_s = self.now_s + 365 * DAY_S if ends_s is None else ends_s
        begins = datetime.fromtimestamp(begins_s, UTC)
        ends = begins + timedelta(seconds=ends_s - begins_s)
        names = [x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else []
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        return x509.CertificateBuilder(issuer, x509.Name(names), public, 7, begins, ends)  # type: ignore[arg-type]

    def _sign(self, builder: x509.CertificateBuilder) -> bytes:
        algorithm = None if isinstance(self.key, Ed25519PrivateKey) else hashes.SHA256()
        same = True if isinstance(self.key, ec.EllipticCurvePrivateKey) else None
        signed = builder.sign(self.key, algorithm, ecdsa_deterministic=same)
        return signed.public_bytes(serialization.Encoding.DER)


@cache
def ec_key(number: int = 1) -> Issuer:
    """Return a CA with an ECDSA key."""
    return Issuer(ec.derive_private_key(number, ec.SECP256R1()))


@cache
def rsa_key(bits: int) -> Issuer:
    """Return a CA with an RSA key."""
    return Issuer(rsa.generate_private_key(65537, bits))


@cache
def edwards_key() -> Issuer:
    """Return a CA with an Ed25519 key."""
    return Issuer(Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\1"))
