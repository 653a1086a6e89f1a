"""What `ntm server show` tells of a directory."""

from dataclasses import dataclass

from ntmobile.keys.certificates import fingerprint
from ntmobile.keys.identity import fingerprint as key_fingerprint
from ntmobile.servers.config import Role, ServerConfig
from ntmobile.servers.files import ServerDirectory
from ntmobile.servers.init import parent_records


@dataclass(frozen=True, slots=True)
class ServerView:
    """The public face of a domain's servers."""

    domain: str
    domain_key: str
    """SHA256:hex, as `ntm admin federation add --key` takes it."""
    tls_fingerprint: str
    """SHA256:hex, as `ntm up --fingerprint` takes it."""
    records: tuple[str, ...]
    """For the parent zone."""
    signed: bool
    """Whether the zone has a key, so that DNSSEC can prove the domain's."""
    addresses: tuple[str, ...]
    ports: dict[str, dict[str, int]]
    """By server (as, dc, ns, rs, a further RS's name) and "dns", then "tcp" and "udp".

    NS also "held": TCP for the connections that nodes hold.
    """
    servers: dict[str, tuple[str, ...]]
    """Addresses by host name."""
    roles: tuple[str, ...]
    federation: str
    web_push_key: str | None
    """base64url, as browsers take it for applicationServerKey; None: no Web Push."""


def view(directory: ServerDirectory) -> ServerView:
    """Read the directory; raises Remedy."""
    settings = directory.config()
    signer = directory.zone_signer(settings.domain)
    return ServerView(
        domain=settings.domain,
        domain_key=key_fingerprint(directory.domain_public()),
        tls_fingerprint=fingerprint(directory.tls_certificate(settings)),
        records=parent_records(settings, signer),
        signed=signer is not None,
        addresses=tuple(map(str, settings.addresses)),
        ports=_ports(settings),
        servers={
            settings.host_of(each): tuple(map(str, each.addresses)) for each in settings.sites
        },
        roles=tuple(map(str, settings.server.roles)),
        federation=str(settings.federation.mode),
        web_push_key=directory.vapid_public(settings),
    )


def _ports(settings: ServerConfig) -> dict[str, dict[str, int]]:
    ports: dict[str, dict[str, int]] = {}
    for site in settings.sites:
        ports[site.label] = {"tcp": site.https}
        if site.udp is not None:
            ports[site.label]["udp"] = site.udp
        if site.role is Role.NS and site.udp is not None:
            ports[site.label]["held"] = site.udp
        if site.role is Role.DC:
            ports["dns"] = {"udp": settings.dns.port, "tcp": settings.dns.port}
    return ports
