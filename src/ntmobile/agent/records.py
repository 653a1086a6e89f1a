"""What the state directory holds, as typed records; JSON on disk, unknown fields ignored.

Never a password, never Kntmdc or any other key of Table 1.
"""

from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeVar

import msgspec

from ntmobile.runtime.proxy import Proxy, proxy_of_environment
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.identity import Authentication

R = TypeVar("R")


class Model(StrEnum):
    """Where the node hooks into the machine. Source: paper, Implementation models."""

    SYSTEM = "system"
    """TUN device, routes and DNS hook: every application takes part. Needs root."""
    PROXY = "proxy"
    """A SOCKS and an HTTP proxy on loopback: applications that use them take part. No root."""


class KeepAlive(StrEnum):
    """How the DC is to reach this node; the user's choice. Source: paper, Fig. 4."""

    UDP = "udp"
    TCP = "tcp"
    PUSH = "push"
    AUTO = "auto"


class Trust(msgspec.Struct, frozen=True):
    """How the account server's certificate is judged; neither field: the system's store."""

    ca: str | None = None
    """PEM text, copied when the account was made, so that the file may vanish."""
    fingerprint: str | None = None
    """SHA256:hex of the certificate itself."""


class SavedAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Who this node is and what it needs to log in again without a person."""

    user: str
    name: str
    domain: str
    server: str | None = None
    """URL given by --as; None finds it by SRV _ntm-as._tcp.DOMAIN."""
    trust: Trust = Trust()
    model: Model = Model.SYSTEM
    enrolled: bool = False
    """The AS took the device key: no password is needed any more."""
    keepalive: KeepAlive = KeepAlive.UDP
    device_token: str | None = None
    """What wakes this node, as wire.device_token has it; kept for its user, like a key."""

    @property
    def fqdn(self) -> str:
        """The permanent name."""
        return f"{self.name}.{self.user}.{self.domain}"

    @property
    def who(self) -> str:
        """What tells the identities of one agent apart: USER@DOMAIN."""
        return f"{self.user}@{self.domain}"


class LastGood(msgspec.Struct, frozen=True):
    """Where the servers were last reached, so that a dead resolver locks nobody out."""

    account_server: str | None = None
    """Name in its certificate."""
    account_endpoints: tuple[Endpoint, ...] = ()
    coordinator: str | None = None
    coordinator_endpoints: tuple[Endpoint, ...] = ()
    domain_key: bytes | None = None


class VirtualAddresses(msgspec.Struct, frozen=True):
    """The node's own permanent addresses."""

    ipv4: IPv4Address
    ipv6: IPv6Address


class SavedPeer(msgspec.Struct, frozen=True):
    """A peer's pinned key, and the addresses this node knows it by."""

    device: bytes
    ipv4: IPv4Address
    ipv6: IPv6Address
    seen_s: int
    """Wall clock, seconds since 1970: an alias is not given to another peer for 30 days."""
    certified: bool = False
    """It showed a good certificate: from then on it must."""


class SavedCertificates(msgspec.Struct, frozen=True):
    """Certificates in DER: this node's, and those of the CAs that were stated for domains."""

    issued: bytes = b""
    given: bytes = b""
    """By `ntm up --certificate`."""
    authorities: dict[str, tuple[bytes, ...]] = {}
    """By domain, as they were first stated."""


class Choices(msgspec.Struct, frozen=True):
    """What `ntm set` changes."""

    operator: str | None = None
    """A user who may run `ntm` on this state without root."""
    accept_dns: bool = True
    """Hook the applications' DNS queries."""
    relay_only: bool = False
    """Tell no address of this node to anyone; all traffic goes through the relay."""
    seek_direct: bool = True
    """Search a direct path where the first one goes through the relay."""
    map_port: bool = True
    """Ask the router to let others in at the node's UDP port (PCP, NAT-PMP, UPnP)."""
    mapping_age_s: int | None = None
    """The age at which the NAT drops mappings, in seconds; None: find out; 0: never mind."""
    proxy: str | None = None
    """URL of an HTTP proxy, perhaps with a password; None: that of HTTPS_PROXY."""
    authentication: Authentication = Authentication.DEVICE_KEY
    """What this node asks of its peers; what its domain asks counts besides."""
    trusted_ca: str = ""
    """PEM text of CAs: where one may speak for a name, only these do."""

    routes: str = ""
    """Networks beyond nodes: PREFIX@NODE,..."""
    advertised: str = ""
    """Networks behind this node that nodes of its domain may reach: PREFIX,..."""
    exposed: tuple[int, ...] = ()
    """TCP ports of this machine's loopback that a node of the proxy model offers to peers."""

    @property
    def http_proxy(self) -> Proxy | None:
        """The proxy to use."""
        return proxy_of_environment() if self.proxy is None else Proxy.parse(self.proxy)

    def __repr__(self) -> str:
        # The proxy's URL may hold a password.
        return "Choices(...)"


class SavedIdentity(msgspec.Struct, frozen=True):
    """The private keys: 32 random bytes each. Only in a file of mode 0600."""

    device: bytes
    tunnel: bytes
    before: bytes | None = None
    """The public device key before this one, and its signature of this one."""
    signature: bytes | None = None

    def __repr__(self) -> str:
        return "SavedIdentity(...)"


def encode(record: object) -> bytes:
    """Return the JSON text, indented so that a person can read it."""
    return msgspec.json.format(msgspec.json.encode(record, enc_hook=_enc_hook), indent=2) + b"\n"


def decode(kind: type[R], data: bytes) -> R:
    """Parse what `encode` made; raises ValueError (msgspec's is one) when damaged."""
    return msgspec.json.decode(data, type=kind, dec_hook=_dec_hook)


def parse_endpoint(text: str) -> Endpoint:
    """Parse 192.0.2.1:4330 or [2001:db8::1]:4330; raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        raise ValueError(f"{text!r} is not an address and a port")
    return Endpoint(host.strip("[]"), int(port))


def _enc_hook(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, Endpoint | IPv4Address | IPv6Address):
        return str(value)
    raise NotImplementedError(f"{type(value)} is not kept")


def _dec_hook(kind: type, value: Any) -> object:  # noqa: ANN401
    if kind is Endpoint:
        return parse_endpoint(value)
    if kind is IPv4Address or kind is IPv6Address:
        return kind(value)
    raise NotImplementedError(f"{kind} is not kept")
