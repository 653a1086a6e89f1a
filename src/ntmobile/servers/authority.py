"""The domain's CA as its AS uses it: gives nodes certificates, judges those that nodes bring.

Source: paper, Node authentication. Ours: docs/protocol.md sections 2 and 4.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Self

import structlog

from ntmobile.errors import Remedy
from ntmobile.keys.certificates import Credential
from ntmobile.keys.node_certificates import (
    Anchor,
    Fault,
    issue,
    judge_folded,
    life_of,
)
from ntmobile.proto.account.account import Vouching
from ntmobile.proto.io import Entropy
from ntmobile.runtime.clock import Clock
from ntmobile.servers.config import ServerConfig
from ntmobile.servers.files import ServerDirectory
from ntmobile.servers.init import serial
from ntmobile.wire.identity import Authentication, PublicIdentity

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate in DER, and how long it is good."""

    der: bytes
    lifetime_s: int


class NodeAuthority:
    """What an AS says of certificates; made anew at each reload."""

    def __init__(
        self,
        settings: ServerConfig,
        ca: Credential | None,
        authorities: tuple[bytes, ...],
        entropy: Entropy,
        clock: Clock,
    ) -> None:
        """Issues by ca, none without; believes authorities (in DER) of its own nodes."""
        self._domain = settings.domain
        self._lifetime_s = settings.nodes.certificate_s
        self._ca = ca
        self._anchors = tuple(Anchor(der, settings.domain) for der in authorities)
        self._entropy = entropy
        self._clock = clock
        asked = Authentication(settings.nodes.authentication.value)
        self.vouching = Vouching(authorities, asked)
        """What every node is told at its login."""

    @classmethod
    def read(
        cls, directory: ServerDirectory, settings: ServerConfig, entropy: Entropy, clock: Clock
    ) -> Self:
        """Read the CA; raises Remedy when a CA that server.toml names cannot be read."""
        authorities = directory.authorities(settings)
        ca = None
        if settings.nodes.certificates:
            try:
                ca = directory.ca()
            except Remedy as error:
                log.error("no node gets a certificate", why=error.problem, next=error.remedy)
        return cls(settings, ca, authorities, entropy, clock)

    def issue(self, fqdn: str, device: bytes) -> Issued | None:
        """Give a node that was let in a certificate over its device key."""
        if self._ca is None:
            return None
        now_s = int(self._clock.wall())
        lifetime = timedelta(seconds=self._lifetime_s)
        der = issue(
            self._ca, fqdn, device, serial=serial(self._entropy), now_s=now_s, lifetime=lifetime
        )
        return Issued(der, max(0, life_of(der).ends_s - now_s))

    def judge(self, fqdn: str, identity: PublicIdentity) -> Fault | None:
        """Judge the certificate that came with a login; None when it lets its node in."""
        return judge_folded(
            identity.certificate, fqdn, identity.device, self._anchors, self._clock.wall()
        )
