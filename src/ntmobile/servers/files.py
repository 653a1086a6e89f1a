"""The directory of a domain's servers: which file is what, and how it is written.

::

    server.toml policy.toml     settings; a person's to edit
    zone                        further records, with --whole-zone
    ca.pem ca.key               the domain's own CA
    server.pem                  the servers' certificate by it, the chain, and the private key
    domain.key                  Ed25519, PKCS 8 in PEM: the domain's trust root
    zone.key                    ECDSA P-256, PKCS 8 in PEM: signs the zone (DNSSEC)
    vapid.key                   the same kind: the domain as Web Push services know it (RFC 8292)
    ntm.db                      SQLite
    relay-LABEL.paths           what an RS goes on with after a restart; it makes it itself
    admin-ROLES.sock            where a running `ntm serve` listens to `ntm admin`

The directory of an RS or NS alone has no secret but its own: of these it has `server.toml`,
`ca.pem` and `server.pem`, and besides them::

    domain.pub                  the domain's public key
    statement                   the domain's word for the certificate in server.pem
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from ntmobile.config import ConfigError, error_at
from ntmobile.errors import Remedy
from ntmobile.keys.certificates import Credential, make_server, needs_renewal
from ntmobile.keys.identity import public_of
from ntmobile.keys.node_certificates import authority_of
from ntmobile.runtime.dnssec import IANA_ROOT, Anchors, AnchorWrong, parse_anchors
from ntmobile.runtime.push.jwt import p256_key, public_point
from ntmobile.servers import config, policy
from ntmobile.servers.config import ServerConfig
from ntmobile.servers.dns_signing import ZoneSigner
from ntmobile.servers.policy import PolicyFile
from ntmobile.wire.device_token import encode64

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Source: FIPS 186-5, the order of the base point."""

MAKE_ANEW = "make this directory anew where the domain's is: ntm server relay, or notifier"
"""For the directory of an RS or NS alone."""


@dataclass(frozen=True, slots=True)
class ServerDirectory:
    """The DIR of `ntm server init DIR`; every read raises Remedy when it cannot be."""

    path: Path

    @property
    def settings_file(self) -> Path:
        """`server.toml`."""
        return self.path / config.FILE

    @property
    def policy_file(self) -> Path:
        """`policy.toml`."""
        return self.path / policy.FILE

    @property
    def zone_file(self) -> Path:
        """Further records of the zone, in master-file form; need not be there."""
        return self.path / "zone"

    @property
    def ca_file(self) -> Path:
        """What `ntm up --ca` takes."""
        return self.path / "ca.pem"

    def paths_file(self, label: str) -> Path:
        """Where the RS of that label keeps its paths."""
        return self.path / f"relay-{label}.paths"

    def config(self) -> ServerConfig:
        """Read the settings; a wrong one raises ConfigError with its line."""
        return config.parse_server(self._text(self.settings_file), str(self.settings_file))

    def setting_wrong(self, key: tuple[str | int, ...], problem: str, allowed: str) -> ConfigError:
        """Return the error for a setting whose value cannot be used, with its line."""
        text = self._text(self.settings_file)
        return error_at(text, str(self.settings_file), key, problem, allowed)

    def policy(self) -> PolicyFile:
        """Read the policy; a wrong one raises ConfigError with its line."""
        return policy.parse_policy(self._text(self.policy_file), str(self.policy_file))

    def domain_key(self) -> bytes:
        """Return the 32 bytes of the domain's Ed25519 private key."""
        file = self.path / "domain.key"
        try:
            key = serialization.load_pem_private_key(self._bytes(file), password=None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise Remedy(f"{file} is no Ed25519 key", remedy="restore it from a backup")
        return key.private_bytes_raw()

    @property
    def is_alone(self) -> bool:
        """Whether it was made for one RS or NS, which the domain's private key is kept from."""
        return (self.path / "domain.pub").exists()

    def domain_public(self) -> bytes:
        """Return the 32 bytes of the domain's public key."""
        if not self.is_alone:
            return public_of(self.domain_key())
        file = self.path / "domain.pub"
        try:
            key = serialization.load_pem_public_key(self._bytes(file))
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise Remedy(f"{file} is no Ed25519 key", remedy=MAKE_ANEW)
        return key.public_bytes_raw()

    def statement(self) -> bytes:
        """Return the domain's word for the certificate of an RS or NS alone."""
        return self._bytes(self.path / "statement")

    def write_domain_public(self, public: bytes, statement: bytes) -> None:
        """Write what an RS or NS alone shows of the domain, instead of the private key."""
        pem = Ed25519PublicKey.from_public_bytes(public).public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        write(self.path / "domain.pub", pem)
        write(self.path / "statement", statement)

    def ca(self) -> Credential:
        """Return the domain's own CA."""
        return Credential(self._bytes(self.ca_file), self._bytes(self.path / "ca.key"))

    def authorities(self, settings: ServerConfig) -> tuple[bytes, ...]:
        """Return the CAs of the domain's nodes in DER, its own first; raises Remedy."""
        own = (self.ca_file,) if settings.nodes.certificates else ()
        return tuple(map(self._authority, (*own, *self._named(settings.nodes.trusted_cas))))

    def _named(self, names: tuple[str, ...]) -> Iterator[Path]:
        return (self.path / name for name in names)

    def _authority(self, file: Path) -> bytes:
        try:
            return authority_of(self._bytes(file))
        except Remedy as error:
            raise Remedy(f"{file}: {error.problem}", remedy=error.remedy) from None

    def tls_files(self, settings: ServerConfig) -> tuple[Path, Path]:
        """Return the files of the servers' certificate chain and of its key."""
        server = settings.server
        if server.certificate:
            return self.path / server.certificate, self.path / server.key
        return self.path / "server.pem", self.path / "server.pem"

    def tls_certificate(self, settings: ServerConfig) -> bytes:
        """Return the PEM text that holds the certificate which the servers present."""
        return self._bytes(self.tls_files(settings)[0])

    def renew(
        self, settings: ServerConfig, names: tuple[str, ...], *, serial: int, now_s: int
    ) -> bool:
        """Issue a new server certificate where it is due or lacks a name; whether it was.

        One that the operator brought is left alone, and that of an RS alone.
        """
        if settings.server.certificate or self.is_alone:
            return False
        if not needs_renewal(self.tls_certificate(settings), names, now_s):
            return False
        ca = self.ca()
        made = make_server(ca, names, settings.addresses, serial=serial, now_s=now_s)
        self.write_tls(made, ca)
        return True

    def write_tls(self, server: Credential, ca: Credential) -> None:
        """Write the servers' certificate, its chain and its key."""
        # One file: a crash between two would leave a pair that does not fit.
        chain = server.certificate + ca.certificate + server.key
        write(self.path / "server.pem", chain, private=True)

    def write_domain_key(self, secret: bytes) -> None:
        """Write the domain's private key, given as 32 bytes."""
        pem = Ed25519PrivateKey.from_private_bytes(secret).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write(self.path / "domain.key", pem, private=True)

    def zone_key(self) -> EllipticCurvePrivateKey | None:
        """Return the private key of the zone; None when it has none and is not signed."""
        file = self.path / "zone.key"
        if not file.exists():
            return None
        try:
            key = serialization.load_pem_private_key(self._bytes(file), password=None)
        except (ValueError, TypeError):
            key = None
        if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
            return key
        raise Remedy(f"{file} is no ECDSA P-256 key", remedy="restore it from a backup")

    def zone_signer(self, domain: str) -> ZoneSigner | None:
        """Return what signs the zone with its key; None when it has none."""
        key = self.zone_key()
        return None if key is None else ZoneSigner(domain, key)

    def trust_anchors(self, settings: ServerConfig) -> Anchors:
        """Return what DNSSEC starts from: the root's keys, unless the settings name a file."""
        if not settings.server.trust_anchor:
            return parse_anchors(IANA_ROOT)
        file = self.path / settings.server.trust_anchor
        try:
            if not file.exists():
                raise AnchorWrong("there is no such file")
            return parse_anchors(self._text(file))
        except AnchorWrong as error:
            raise Remedy(
                f"{file}: {error}",
                remedy='write the DS records of a zone, or trust_anchor = "" for those of the root',
            ) from None

    def write_zone_key(self, secret: bytes) -> None:
        """Write the private key of the zone, given as 32 bytes."""
        write(self.path / "zone.key", _p256_pem(secret), private=True)

    def write_vapid_key(self, name: str, secret: bytes) -> None:
        """Write the private key for Web Push services, given as 32 bytes."""
        write(self.path / name, _p256_pem(secret), private=True)

    def vapid_public(self, settings: ServerConfig) -> str | None:
        """Return what apps subscribe with (applicationServerKey); None without `[push.web]`."""
        web = settings.push.web
        if web is None:
            return None
        try:
            return encode64(public_point(p256_key(self._bytes(self.path / web.vapid_key))))
        except ValueError as error:
            key = ("push", "web", "vapid_key")
            raise self.setting_wrong(key, str(error), "an EC private key on P-256") from None

    def store_url(self, settings: ServerConfig) -> str:
        """Return the database's URL; a relative SQLite file is meant from the directory."""
        if not settings.store.url:
            return f"sqlite+aiosqlite:///{self.path.absolute() / 'ntm.db'}"
        try:
            url = make_url(settings.store.url)
        except ArgumentError:
            raise Remedy(
                f"{self.settings_file}: [store] url is no database URL",
                remedy='write url = "" for a file in the directory',
            ) from None
        if url.get_backend_name() == "sqlite":
            file = self.path.absolute() / (url.database or "ntm.db")
            url = url.set(drivername="sqlite+aiosqlite", database=str(file))
        return url.render_as_string(hide_password=False)

    def _text(self, file: Path) -> str:
        try:
            return self._bytes(file).decode()
        except UnicodeDecodeError as error:
            line = self._bytes(file)[: error.start].count(b"\n") + 1
            raise ConfigError(str(file), line, "not text", "not UTF-8", "UTF-8") from None

    def _bytes(self, file: Path) -> bytes:
        try:
            return file.read_bytes()
        except FileNotFoundError:
            raise Remedy(
                f"{file} is missing: {self.path} is not the directory of a server",
                remedy="ntm server init DIR --domain DOMAIN --address ADDRESS",
            ) from None
        except OSError as error:
            raise Remedy(
                f"{file} cannot be read: {error.strerror}",
                remedy="run the command as the user that owns the directory",
            ) from None


def _p256_pem(secret: bytes) -> bytes:
    # Reduced to a number that the curve takes; what that loses of 256 bits is nothing.
    number = int.from_bytes(secret) % (P256_ORDER - 1) + 1
    return derive_private_key(number, SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def write(file: Path, content: bytes, *, private: bool = False) -> None:
    """Replace a file in one step, on disk before this returns; raises OSError.

    private: only its owner may read it.
    """
    fresh = file.with_name(f".{file.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with open(os.open(fresh, flags, 0o600 if private else 0o644), "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(file)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise
    sync(file.parent)


def sync(directory: Path) -> None:
    """Make renames in a directory outlast a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
