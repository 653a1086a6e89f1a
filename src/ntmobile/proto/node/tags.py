"""What a node's requests to its DC are about: comes back with the answer."""

from dataclasses import dataclass

from ntmobile.time import SECOND, Instant
from ntmobile.wire.direction import Purpose

LATE_NS = 3 * SECOND
"""A Route Direction that comes so long after it was asked for: the peer may have begun then, and
given up. One that slept was directed first, and is there."""


@dataclass(frozen=True, slots=True)
class Registering:
    """A Registration Request over one family."""

    family: int


@dataclass(frozen=True, slots=True)
class KeptAlive:
    """An answered keep-alive over one family."""

    family: int


@dataclass(frozen=True, slots=True)
class Directing:
    """A Direction Request."""

    negotiation: bytes


@dataclass(frozen=True, slots=True)
class Reporting:
    """A Reachability Report."""


@dataclass(frozen=True, slots=True)
class AskingServers:
    """A Servers Request."""


DCTag = Registering | KeptAlive | Directing | Reporting | AskingServers


@dataclass(frozen=True, slots=True)
class Asking:
    """A Direction Request of ours, until its negotiation begins or is refused."""

    fqdn: str
    purpose: Purpose
    began: Instant

    def is_late(self, now: Instant) -> bool:
        """Whether the direction was long in coming."""
        return now - self.began >= LATE_NS
