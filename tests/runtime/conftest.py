import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from ntmobile._core import Port

NAME = "dc.ntm.example.org"
START = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
END = datetime.datetime(2080, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Files:
    """A server certificate with its key, and the authority that signed it."""

    certificate: Path
    key: Path
    authority: str

    @property
    def digest(self) -> bytes:
        loaded = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        return sha256(loaded.public_bytes(Encoding.DER)).digest()


def write_certificates(folder: Path, name: str = NAME, address: str = "127.0.0.1") -> Files:
    folder.mkdir(parents=True, exist_ok=True)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
    basic = x509.BasicConstraints(ca=True, path_length=0)
    ca = build(ca_name, ca_name, ca_key.public_key(), basic, []).sign(ca_key, SHA256())
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName(name), x509.IPAddress(ip_address(address))]
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    leaf = x509.BasicConstraints(ca=False, path_length=None)
    server = build(own, ca_name, key.public_key(), leaf, names).sign(ca_key, SHA256())
    files = Files(folder / "tls.pem", folder / "tls.key", ca.public_bytes(Encoding.PEM).decode())
    files.certificate.write_bytes(server.public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert load_pem_private_key(pem, None)
    files.key.write_bytes(pem)
    return files


def build(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    basic: x509.BasicConstraints,
    names: list[x509.GeneralName],
) -> x509.CertificateBuilder:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(END)
        .add_extension(basic, critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return write_certificates(tmp_path / "server")


@pytest.fixture
def other_files(tmp_path: Path) -> Files:
    """Another authority's certificate for the same name."""
    return write_certificates(tmp_path / "other")


@pytest.fixture
def port() -> Iterator[Port]:
    opened = Port()
    yield opened
    opened.close()


@pytest.fixture
def peer() -> Iterator[Port]:
    opened = Port()
    yield opened
    opened.close()
