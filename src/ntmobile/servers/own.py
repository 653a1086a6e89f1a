"""The domain that this process serves, as other servers see it: names, key, certificates."""

from dataclasses import dataclass, field
from typing import Self

from ntmobile.errors import Remedy
from ntmobile.keys.certificates import der_digest
from ntmobile.proto.io import Entropy
from ntmobile.runtime.domains import Domain, TrustedBy
from ntmobile.runtime.https import DomainKey, Place
from ntmobile.runtime.signed import Signer
from ntmobile.runtime.statement import StatementWrong, check_statement, make_statement
from ntmobile.servers.config import Role, ServerConfig, Site
from ntmobile.servers.dns_zone import Services
from ntmobile.servers.files import MAKE_ANEW, ServerDirectory
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.message import encode


@dataclass(frozen=True, slots=True)
class OwnDomain:
    """One domain with its keys; made anew at each reload."""

    settings: ServerConfig
    public: bytes
    """The domain's Ed25519 public key."""
    certificate: bytes
    """SHA-256 of the certificate that the servers present, in DER."""
    proof: bytes = field(repr=False)
    """The domain's private key; for an RS or NS alone a statement that was made with it."""
    is_alone: bool = False
    authorities: tuple[bytes, ...] = ()
    """The CAs of the domain's nodes, in DER, its own first."""

    @classmethod
    def read(cls, directory: ServerDirectory, settings: ServerConfig) -> Self:
        """Read the keys; raises Remedy."""
        public = directory.domain_public()
        certificate = der_digest(directory.tls_certificate(settings))
        if not directory.is_alone:
            stated = directory.authorities(settings)
            key = directory.domain_key()
            return cls(settings, public, certificate, key, authorities=stated)
        statement = directory.statement()
        try:
            check_statement(statement, settings.domain, public, certificate)
        except StatementWrong as error:
            raise Remedy(str(error), remedy=MAKE_ANEW) from None
        return cls(settings, public, certificate, statement, is_alone=True)

    @property
    def name(self) -> str:
        """The zone of the domain's nodes."""
        return self.settings.domain

    @property
    def trust(self) -> DomainKey:
        """How the servers of the domain know each other."""
        return DomainKey(self.name, self.public)

    def place(self, role: Role) -> Place:
        """Where a role of this domain takes HTTPS."""
        return self._place(self.settings.site(role))

    def relay(self, name: str) -> Place | None:
        """Where the RS of that host name takes HTTPS; None when the domain has none of it."""
        for site in self.settings.relays:
            if self.settings.host_of(site) == name:
                return self._place(site)
        return None

    def notifier(self, name: str) -> Place | None:
        """Where the NS of that host name takes HTTPS; None when the domain has none of it."""
        for site in self.settings.notifiers:
            if self.settings.host_of(site) == name:
                return self._place(site)
        return None

    def domain(self) -> Domain:
        """The domain as the judge of domains knows it."""
        places = (self.place(Role.DC),)
        return Domain(self.name, self.public, TrustedBy.OWN, self.signalling(), places, None)

    def signalling(self) -> tuple[Endpoint, ...]:
        """Where the DC takes datagrams."""
        return self.settings.site(Role.DC).signalling()

    def signer(self, entropy: Entropy) -> Signer:
        """Return what signs requests in the domain's name; not for an RS or NS alone."""
        assert not self.is_alone
        return Signer(self.name, self.proof, entropy)

    def statement(self, now_s: int) -> bytes:
        """Return what is served at /.well-known/ntm."""
        if self.is_alone:
            return self.proof
        certificates = (self.certificate,)
        statement = make_statement(
            self.name, self.proof, self.public, certificates, now_s, self.authorities
        )
        return encode(statement)

    def services(self, serial: int) -> Services:
        """Return what the zone tells the world."""
        settings = self.settings
        return Services(
            domain=self.name,
            domain_key=self.public,
            hosts=tuple((site.label, site.addresses) for site in settings.sites),
            udp=settings.dc.udp,
            dc_https=settings.dc.https,
            as_https=settings.as_.https,
            serial=serial,
        )

    def _place(self, site: Site) -> Place:
        return Place(self.settings.host_of(site), site.at(site.https))
