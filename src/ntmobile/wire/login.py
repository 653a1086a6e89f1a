"""Login, node -> AS, and key distribution, AS -> DC; bodies of HTTPS requests.

Source: paper, Fig. 2.

Each is the msgpack array of the message, tags 48-63: 48 Nonce Request, 49 Nonce, 50 Login Request,
51 Login Response, 52 Login Refusal, 53 Key Distribution, 54 Authority Request,
55 Authority Response.

Ours: the nonce, so that the device key is proven without comparing clocks.
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from ntmobile.wire.identity import Authentication, PublicIdentity
from ntmobile.wire.message import Endpoints, Fqdn, KeyIdentifier, Message, Seconds, Secret, Token
from ntmobile.wire.registration import NtmAck
from ntmobile.wire.web import HTTPS_PORT, Port

Label = Annotated[
    str, msgspec.Meta(min_length=1, max_length=63, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
]
"""One label of a name: a user or a node."""
Der = Annotated[bytes, msgspec.Meta(max_length=4096)]
"""A certificate, X.509 in DER."""
Authorities = Annotated[tuple[Der, ...], msgspec.Meta(max_length=8)]
"""Certificates of the CAs that speak for a domain's nodes, its own first."""


class NonceRequest(Message, frozen=True, tag=48):
    """Asks for something fresh to sign."""


class Nonce(Message, frozen=True, tag=49):
    """Good for one minute, for any login at this AS."""

    nonce: Token


class LoginRequest(Message, frozen=True, tag=50):
    """Identity and what proves it: a password, a pre-authorised key, the enrolled device key.

    Or a certificate over a device key that is not enrolled yet: it rides in the identity, and the
    signature proves that its key is held. Source: paper, Node authentication.
    """

    user: Label
    name: Label
    """The node's own label: its FQDN is name.user.domain."""
    identity: PublicIdentity
    nonce: Token
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    """The device key's, over `login_bytes`."""
    password: Annotated[str, msgspec.Meta(max_length=1024)] | None = None
    authority: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    """A pre-authorised key (`ntm admin key create`)."""
    successor: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)] | None = None
    """The old device key's signature of the new one, where the device key changed."""


class Neighbour(Message, frozen=True):
    """A domain that this one deals with, and the CAs of its nodes."""

    domain: Fqdn
    authorities: Authorities


class LoginResponse(Message, frozen=True, tag=51):
    """Source: paper, Fig. 2 (node's FQDN, Kntmdc). Ours: the DC, the lifetime."""

    fqdn: Fqdn
    kntmdc_identifier: KeyIdentifier
    kntmdc: Secret
    lifetime_s: Seconds
    coordinator: Fqdn
    coordinator_endpoints: Endpoints
    domain_key: Secret
    certificate: Der = b""
    """Of the node's device key, by the domain's CA; empty where the AS has none."""
    certificate_s: Seconds = 0
    """How long it is good, so that no clock is compared."""
    authorities: Authorities = ()
    authentication: Authentication = Authentication.DEVICE_KEY
    """What the domain asks its nodes to ask of their peers."""
    neighbours: Annotated[tuple[Neighbour, ...], msgspec.Meta(max_length=64)] = ()
    """Of these domains no node need ask when it meets the first of theirs."""
    coordinator_https: Port = HTTPS_PORT
    """TCP port of the DC's HTTPS, where it takes datagrams in a WebSocket too."""


class LoginRefused(StrEnum):
    """Why a login failed."""

    CREDENTIALS = "credentials"
    """Wrong user, password or key; never said which."""
    REVOKED = "revoked"
    BUSY = "busy"
    SLOW_DOWN = "slow-down"
    STORE = "store"
    """The server cannot write: its disk is full or its database is gone."""
    COORDINATOR = "coordinator"
    """The DC did not take the key."""
    NONCE = "nonce"
    IDENTITY = "identity"
    NAME_TAKEN = "name-taken"
    CERTIFICATE_MALFORMED = "certificate-malformed"
    CERTIFICATE_SELF_SIGNED = "certificate-self-signed"
    CERTIFICATE_AUTHORITY = "certificate-authority-unknown"
    CERTIFICATE_FORGED = "certificate-forged"
    CERTIFICATE_CONSTRAINT = "certificate-authority-overstepped"
    CERTIFICATE_USAGE = "certificate-usage"
    CERTIFICATE_NAME = "certificate-name"
    CERTIFICATE_KEY = "certificate-key"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_EARLY = "certificate-not-yet-valid"


class LoginRefusal(Message, frozen=True, tag=52):
    """No login, and why."""

    reason: LoginRefused
    retry_after_s: Seconds = 0


class KeyDistribution(Message, frozen=True, tag=53):
    """AS hands Kntmdc to the node's DC. Source: paper, Fig. 2."""

    fqdn: Fqdn
    identity: PublicIdentity
    kntmdc_identifier: KeyIdentifier
    kntmdc: Secret
    lifetime_s: Seconds
    groups: Annotated[tuple[str, ...], msgspec.Meta(max_length=32)] = ()


class AuthorityRequest(Message, frozen=True, tag=54):
    """Whose certificates speak for the nodes of that domain?"""

    domain: Fqdn


class AuthorityResponse(Message, frozen=True, tag=55):
    """The CAs of a domain, as its domain key states them."""

    domain: Fqdn
    authorities: Authorities


LoginAnswer = LoginResponse | LoginRefusal | Nonce | AuthorityResponse
KeyDistributionAnswer = NtmAck | LoginRefusal


def login_bytes(domain: str, request: LoginRequest) -> bytes:
    """What the device key signs at a login."""
    parts = (domain, request.user, request.name)
    head = b"ntm login 1\0" + "\0".join(parts).encode() + b"\0"
    return head + request.nonce + request.identity.device + request.identity.tunnel
