"""What a run of the demo has measured, and whether it kept what was promised."""

from dataclasses import dataclass
from typing import Any

from ntmobile.lab.demo.scene import Way, Where
from ntmobile.time import Instant


@dataclass(frozen=True, slots=True)
class SetUp:
    """A tunnel that came to life because an application asked for a name."""

    fqdn: str
    address: str
    """The peer's, virtual."""
    query_ms: float
    """From DNS query to DNS answer, as the application saw it."""
    figure: str
    """Of the paper, whose situation it was."""
    delays: int
    """One-way delays."""
    steps: tuple[dict[str, Any], ...]
    """Of `ntm trace --json`."""


@dataclass(frozen=True, slots=True)
class Move:
    """One move of the laptop."""

    origin: Where
    goal: Where
    away: Instant
    """When the old network went."""
    back: Instant
    """When the new one could be used."""


@dataclass(frozen=True, slots=True)
class Outage:
    """What a move did to the download."""

    move: Move
    gap_ms: float
    """The longest time in which curl got nothing."""
    told_ms: float | None
    """What `ntm handovers` says; None if it does not know of the move."""


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """The pings from one place by one way."""

    where: Where
    way: Way
    remote: str
    """Where the capsules went last."""
    rtt_ms: float
    """Median."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What one run has shown."""

    start_s: float
    """From nothing to servers that answer and nodes that are registered."""
    set_ups: tuple[SetUp, ...]
    """The first of them is of organisations that meet, so it includes Key Sharing."""
    outages: tuple[Outage, ...]
    round_trips: tuple[RoundTrip, ...]
    size: int
    """Bytes of the file."""
    received: int
    right_hash: bool
    dead: tuple[str, ...]
    """Processes that ended though they should not."""

    def broken_promises(self) -> list[str]:
        """Return, in words, what did not hold; empty when all is well."""
        broken = [f"{name} died" for name in self.dead]
        if self.received != self.size:
            broken.append(f"{self.received} of {self.size} bytes came")
        if not self.right_hash:
            broken.append("what came is not what was sent")
        unknown = [outage.move for outage in self.outages if outage.told_ms is None]
        broken += [f"ntm handovers knows of no move to the {move.goal}" for move in unknown]
        return broken
