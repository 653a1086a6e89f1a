"""Which of its two ports a node sends from, where a NAT lets mappings die of age.

The two take turns. A while before the mapping of one is due to die the other one sends, and makes
its own; the first goes on receiving, and sends what is not proven by the other way yet. By the time
its turn comes again the NAT has forgotten it, and makes it a mapping anew.

States::

    Resting --due--> Changing --a moment later--> Proving --the DC sees another address--> Resting
    Proving --the DC sees the same one--> Barred; --silence--> Returning --likewise--> Barred
    any --move--> Resting

Two steps, because the packet loops must know of the change before anything is sent by it. Barred:
the other port gets nowhere, or not elsewhere; both is true until the node is in another network.
Ours: docs/protocol.md section 8.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import assert_never

from ntmobile.proto.io import Timeout
from ntmobile.time import SECOND, Instant

SHOW_AFTER_NS = SECOND // 1000
"""Time for the packet loops to change before anything is sent."""
PROOF_NS = 2 * SECOND
"""A DC that is there answers sooner, and UDP is given up later."""
LONGEST_LEAD_NS = 10 * SECOND
LEAD_PART = 4
"""Of a short life a quarter."""


def lead_ns(age_ns: int) -> int:
    """Return how long before its death the next mapping is made."""
    return min(LONGEST_LEAD_NS, age_ns // LEAD_PART)


class Turn(Enum):
    """What the node has to do now."""

    CHANGE = auto()
    """Have the packet loops send from the other port, what is proven by this one excepted."""
    SHOW = auto()
    """Show DC, RS and peers the port that sends."""


@dataclass(frozen=True, slots=True)
class _Resting:
    """One port serves for everything."""


@dataclass(frozen=True, slots=True)
class _Changing:
    """The packet loops are told; back says that this undoes a change."""

    at: Instant
    back: bool


@dataclass(frozen=True, slots=True)
class _Proving:
    """The DC was sent something from the port that was changed to."""

    until: Instant


@dataclass(frozen=True, slots=True)
class _Barred:
    """The other port is of no use in this network."""


class Rotation:
    """Of one node; told when a mapping is due to die, and what the DC sees."""

    def __init__(self) -> None:
        """One port serves."""
        self._state: _Resting | _Changing | _Proving | _Barred = _Resting()
        self._due: Instant | None = None
        self._turns: deque[Turn] = deque()

    @property
    def is_under_way(self) -> bool:
        """Whether both ports are in use, and the DC has not answered yet."""
        return isinstance(self._state, _Changing | _Proving)

    def plan(self, due: Instant | None) -> None:
        """Change ports then; None: no mapping is going to die."""
        self._due = due

    def move(self) -> None:
        """Another network: what is under way has no meaning there."""
        self._state, self._due = _Resting(), None
        self._turns.clear()

    def prove(self, *, elsewhere: bool) -> None:
        """The DC answered what was sent from here; does it see another address than before?"""
        if isinstance(self._state, _Proving):
            self._state = _Resting() if elsewhere else _Barred()

    def handle_timeout(self, now: Instant) -> None:
        """Change, show, or go back."""
        match self._state:
            case _Resting() if self._due is not None and now >= self._due:
                self._due = None
                self._change(now, back=False)
            case _Changing(at, back) if now >= at:
                self._state = _Barred() if back else _Proving(Instant(now + PROOF_NS))
                self._turns.append(Turn.SHOW)
            case _Proving(until) if now >= until:
                self._change(now, back=True)
            case _:
                pass

    def poll_turn(self) -> Turn | None:
        """Next thing to do."""
        return self._turns.popleft() if self._turns else None

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        match self._state:
            case _Resting():
                return None if self._due is None else Timeout(self._due, "rotation")
            case _Changing(at):
                return Timeout(at, "rotation")
            case _Proving(until):
                return Timeout(until, "rotation")
            case _Barred():
                return None
            case _:
                assert_never(self._state)

    def _change(self, now: Instant, *, back: bool) -> None:
        self._turns.append(Turn.CHANGE)
        self._state = _Changing(Instant(now + SHOW_AFTER_NS), back)
