"""How the DC reaches this node: over a UDP mapping kept alive, through NS, or by a wake-up.

The user chooses; the DC says what is to be had; the connection to NS comes and goes. Whenever it
does not stand, the UDP mapping is kept alive, so that the node is reached at any time.
Source: paper, Figs. 3 and 4. Ours: docs/protocol.md section 9.
"""

from collections import deque

from ntmobile.proto.node.events import ReachedBy
from ntmobile.proto.node.notification import LinkLost, LinkStood, LinkWanted, NotificationLink
from ntmobile.proto.node.registration import Registration
from ntmobile.time import Instant
from ntmobile.wire.registration import KeepAliveChoice, Reason, RegistrationResponse

MARGIN = 5
"""Of a lifetime that was seen, four fifths: a keep-alive may be late, or be lost and repeated."""
LONG_ENOUGH_S = 120
"""From this interval on UDP costs fewer than 40 packets an hour, and no connection at NS."""
LONGEST_S = 300
LOST = ReachedBy(KeepAliveChoice.UDP, problem=Reason.NO_NOTIFICATION)


class Reach:
    """Joins a node's registration and its connection to NS; drain `poll_event` after each call."""

    def __init__(self, registration: Registration, link: NotificationLink) -> None:
        """Both stay the node's own."""
        self._registration = registration
        self._link = link
        self._reached = ReachedBy(KeepAliveChoice.UDP)
        self._events: deque[ReachedBy | LinkWanted] = deque()
        registration.heed(lambda: link.content)

    @property
    def choice(self) -> KeepAliveChoice:
        """What the user wants."""
        return self._registration.choice

    @property
    def reached(self) -> ReachedBy:
        """How the DC reaches the node now."""
        return self._reached

    @property
    def interval_s(self) -> int:
        """Seconds between keep-alives now; 0 where none is sent."""
        return self._link.interval_s if self._link.stands else self._registration.interval_s

    def choose(self, choice: KeepAliveChoice, interval_s: int, now: Instant) -> None:
        """Take another choice; it counts from the next `register`."""
        self._registration.choice = choice
        self._registration.space(interval_s)
        if choice is not KeepAliveChoice.TCP:
            self._link.stop(now)
            self._registration.rest(now, rests=False)

    def take(self, response: RegistrationResponse, now: Instant) -> None:
        """The DC said how it reaches this node. Source: paper, Fig. 4."""
        if response.notification is not None:
            self._link.use(response.notification, now)
        elif response.problem is Reason.NO_NOTIFICATION:
            self._link.refuse(now)
        elif response.keepalive is not KeepAliveChoice.TCP:
            self._link.stop(now)
        if response.keepalive is not KeepAliveChoice.TCP:
            self._become(ReachedBy(response.keepalive, problem=response.problem))

    def drain(self, now: Instant) -> None:
        """Take what became of the connection."""
        while (event := self._link.poll_event()) is not None:
            match event:
                case LinkStood():
                    self._registration.rest(now, rests=True)
                    self._become(ReachedBy(KeepAliveChoice.TCP, self._link.server))
                case LinkLost():
                    self._registration.rest(now, rests=False)
                    self._become(LOST)
                case LinkWanted():
                    self._become(LOST)
                    self._events.append(event)

    def poll_event(self) -> ReachedBy | LinkWanted | None:
        """Next change, or next wish to ask the DC for another NS."""
        return self._events.popleft() if self._events else None

    def _become(self, reached: ReachedBy) -> None:
        if reached != self._reached:
            self._reached = reached
            self._events.append(reached)


def fitting(alive_s: int) -> tuple[KeepAliveChoice, int]:
    """Return what suits a network whose idle UDP mappings live that long, and the UDP interval.

    UDP where keep-alives may be rare, else TCP. Interval 0 is what the DC asks for.
    """
    interval_s = min(alive_s * (MARGIN - 1) // MARGIN, LONGEST_S)
    choice = KeepAliveChoice.UDP if interval_s >= LONG_ENOUGH_S else KeepAliveChoice.TCP
    return choice, interval_s
