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
