"""What becomes of one push message. Ours: docs/protocol.md section 9."""

from dataclasses import dataclass
from typing import Protocol, TypeVar

T_contra = TypeVar("T_contra", contravariant=True)
TTL_S = 60
"""How long a service keeps a wake-up for a device it cannot reach: nobody waits longer."""
COLLAPSE = "ntm"
"""Of several wake-ups for one device only the newest is kept."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The push service took the message and will wake the device."""


@dataclass(frozen=True, slots=True)
class TokenGone:
    """The device or its app does not take messages under this token any more, for good."""

    detail: str


@dataclass(frozen=True, slots=True)
class TryLater:
    """The service cannot be reached or has no time now."""

    detail: str
    after_s: float | None = None
    """What the service asked for (Retry-After); None: nothing."""


@dataclass(frozen=True, slots=True)
class SettingsWrong:
    """The service does not take our word: credentials, topic or trust. The operator's to mend."""

    detail: str
    remedy: str


Outcome = Delivered | TokenGone | TryLater | SettingsWrong


class Pusher(Protocol[T_contra]):
    """A client of one push service."""

    async def push(self, token: T_contra) -> Outcome:
        """Say "contact your DC" to a device, once; raises nothing."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...
