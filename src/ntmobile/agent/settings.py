"""What `ntm set` changes, by name: the one list that its help and its refusals are made of."""

from types import MappingProxyType
from typing import Final

SETTINGS: Final = MappingProxyType(
    {
        "operator": "operator=USER lets that user run ntm without root (operator= ends it)",
        "keepalive": "keepalive=udp|tcp|push|auto: how the DC reaches this node",
        "accept-dns": "accept-dns=yes|no",
        "map-port": "map-port=yes|no",
        "seek-direct": "seek-direct=yes|no",
        "mapping-age": "mapping-age=auto|never|SECONDS: when the NAT drops UDP mappings",
        "relay-only": "relay-only=yes|no",
        "proxy": "proxy=http://HOST:PORT: where only an HTTP proxy leads out (proxy= ends it)",
        "authentication": "authentication=certificate|device-key: what to ask of peers",
        "routes": "routes=NETWORK@FQDN,...: reach these networks through that node",
        "advertise-routes": "advertise-routes=NETWORK,...: lead peers to these networks",
        "trusted-ca": "trusted-ca=FILE: believe these CAs (PEM) where they may speak, and no "
        "others there (trusted-ca= ends it)",
        "forget": "forget=NAME: the pinned key of a peer, or the pinned CAs of a domain",
    }
)
"""How each is typed and what it does, for a person. docs/node.md says more."""


def setting_names() -> str:
    """Return all of them in a sentence."""
    *names, last = SETTINGS
    return f"{', '.join(names)} and {last}"
