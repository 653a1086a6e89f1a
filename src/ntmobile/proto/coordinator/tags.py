"""What a DC's requests to its nodes are about: comes back with the answer."""

from dataclasses import dataclass

from ntmobile.keys.table import CommonKey
from ntmobile.wire.direction import Role


@dataclass(frozen=True, slots=True)
class RouteToEnd:
    """A Route Direction of a negotiation of ours, to one of its ends."""

    negotiation: bytes
    role: Role
    ktun: bytes
    """Identifier of the Ktun that was directed: another RS means another."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A Route Direction that another DC gave us for our node."""

    domain: str
    ktun: bytes
    """Identifier of the Ktun in it: that of this negotiation, through this RS."""
    keys: tuple[CommonKey, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """A message whose answer changes nothing here."""


NodeTag = RouteToEnd | Carried | Notice
