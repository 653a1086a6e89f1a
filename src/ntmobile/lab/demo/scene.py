"""What the demo shows at this moment: written by its story, read by its screen."""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

SAMPLES = 44
"""Of throughput and of round trips: columns of a graph."""

LAPTOP = "laptop"
PC = "pc"
TV = "tv"
PHONE = "phone"
ORG = "ntm.example.org"
NET = "ntm.example.net"


class Where(StrEnum):
    """What the laptop is plugged into."""

    HOME = "home NAT"
    CAFE = "café NAT"
    INTERNET = "internet"


class Way(StrEnum):
    """How a tunnel's capsules go."""

    RELAY = "relay"
    DIRECT = "direct"


@dataclass
class Scene:
    """The two organisations, the laptop, and what its download and its pings are like now."""

    doing: str = ""
    """What is being waited for, in a few words."""
    up: set[str] = field(default_factory=set)
    """Domains whose servers answer, and nodes that are registered."""
    addresses: dict[str, str] = field(default_factory=dict)
    """Real addresses by the name of their box on the map."""
    where: Where | None = Where.HOME
    """None while the laptop has no network."""
    way: Way | None = None
    """None while there is no tunnel between the laptop and the pc."""
    size: int = 0
    """Bytes of the download; 0 before it begins."""
    received: int = 0
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    """Bytes a second, oldest first."""
    rtts_ms: deque[float | None] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    """Round trips through the tunnel, oldest first; None where no answer came."""
