"""A push service as its users see it: tokens, and a message that reaches the app with one.

Stands for FCM, APNs and Web Push, which reach a phone over a connection of their own that is no
part of NTMobile; only its delay and its failures matter here. Source: paper, Figs. 3 and 6.
"""

from collections.abc import Callable

from ntmobile.proto.io import Failed
from ntmobile.sim.calendar import Calendar
from ntmobile.sim.quality import MILLISECOND
from ntmobile.wire.registration import NtmAck, Reason

ACCEPT_NS = 50 * MILLISECOND
DELIVER_NS = 500 * MILLISECOND

Outcome = Callable[[NtmAck | Failed], None]


class PushService:
    """One service for all phones; `up` False refuses everything, `sent` counts what it took."""

    def __init__(self, calendar: Calendar) -> None:
        """Nobody is subscribed."""
        self.up = True
        self.sent = 0
        self._calendar = calendar
        self._apps: dict[str, Callable[[], None]] = {}

    def subscribe(self, token: str, app: Callable[[], None]) -> None:
        """Give an app its device token: it is called when its message arrives."""
        self._apps[token] = app

    def unsubscribe(self, token: str) -> None:
        """The app was removed: its token is gone."""
        self._apps.pop(token, None)

    def send(self, token: str, outcome: Outcome) -> None:
        """Take a wake-up; the outcome comes after a moment, the message later."""
        self._calendar.after(ACCEPT_NS, lambda: outcome(self._accept(token)))

    def _accept(self, token: str) -> NtmAck | Failed:
        if not self.up:
            return Failed(Reason.PUSH_DOWN, "the push service is down")
        if token not in self._apps:
            return Failed(Reason.TOKEN_GONE, "the push service knows no such token")
        self.sent += 1
        self._calendar.after(DELIVER_NS, lambda: self._deliver(token))
        return NtmAck()

    def _deliver(self, token: str) -> None:
        if (app := self._apps.get(token)) is not None:
            app()
