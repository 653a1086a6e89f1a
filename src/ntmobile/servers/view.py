"""What `ntm server show` tells of a directory."""

from dataclasses import dataclass

from ntmobile.keys.certificates import fingerprint
from ntmobile.keys.identity import fingerprint as key_fingerprint
from ntmobile.keys.identity import public_of
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
    addresses: tuple[str, ...]
    ports: dict[str, dict[str, int]]
    """By role and "dns", then "tcp" and "udp"."""
    roles: tuple[str, ...]
    federation: str


def view(directory: ServerDirectory) -> ServerView:
    """Read the directory; raises Remedy."""
    settings = directory.config()
    ports: dict[str, dict[str, int]] = {}
    for role, transport, port in settings.ports():
        ports.setdefault(role, {})[transport] = port
    return ServerView(
        domain=settings.domain,
        domain_key=key_fingerprint(public_of(directory.domain_key())),
        tls_fingerprint=fingerprint(directory.tls_certificate(settings)),
        records=parent_records(settings),
        addresses=tuple(map(str, settings.server.addresses)),
        ports=ports,
        roles=tuple(map(str, settings.server.roles)),
        federation=str(settings.federation.mode),
    )
