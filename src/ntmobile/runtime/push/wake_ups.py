"""Wakes nodes by whatever push service their device token is of.

Tries again where that may help, never uses a token again that is gone, and tells the operator
what is wrong. Source: paper, Figs. 3, 4 and 6. Ours: docs/protocol.md section 9.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256

import structlog

from ntmobile.errors import DecodeError
from ntmobile.proto.io import Entropy
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.push.back_off import BUDGET_S, BackOff
from ntmobile.runtime.push.outcome import (
    Delivered,
    Outcome,
    Pusher,
    SettingsWrong,
    TokenGone,
    TryLater,
)
from ntmobile.time import SECOND, Instant
from ntmobile.wire.device_token import (
    ApnsToken,
    DeviceToken,
    FcmToken,
    WebSubscription,
    parse_device_token,
)

log = structlog.get_logger()

MOST_GONE = 100_000
MOST_PLACES = 1000
TELL_AGAIN_S = 60.0
"""The same trouble of a service is worth a line of log that often."""
Pause = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Pushers:
    """The services that the operator set up."""

    fcm: Pusher[FcmToken] | None = None
    apns: Pusher[ApnsToken] | None = None
    web: Pusher[WebSubscription] | None = None

    async def push(self, token: DeviceToken) -> Outcome:
        """Wake a device, once."""
        match token:
            case FcmToken():
                return _unset("fcm") if self.fcm is None else await self.fcm.push(token)
            case ApnsToken():
                return _unset("apns") if self.apns is None else await self.apns.push(token)
            case WebSubscription():
                return _unset("web") if self.web is None else await self.web.push(token)

    async def close(self) -> None:
        """Close all connections."""
        for pusher in (self.fcm, self.apns, self.web):
            if pusher is not None:
                await pusher.close()


class WakeUps:
    """Wakes nodes; the pushers may be exchanged while it runs."""

    def __init__(
        self, pushers: Pushers, clock: Clock, entropy: Entropy, pause: Pause = asyncio.sleep
    ) -> None:
        """Pause waits that many seconds."""
        self._pushers = pushers
        self._clock = clock
        self._entropy = entropy
        self._pause = pause
        self._gone: OrderedDict[bytes, str] = OrderedDict()
        self._under_way: dict[str, asyncio.Future[Outcome]] = {}
        self._not_before: dict[str, tuple[Instant, TryLater]] = {}
        self._told: dict[str, tuple[str, Instant]] = {}
        self.counters: Counter[str] = Counter()
        """By service and outcome: "fcm delivered", "apns token gone", "web try later"."""

    async def wake(self, text: str) -> Outcome:
        """Wake the node with that device token; TryLater means that it was given up."""
        running = self._under_way.get(text)
        if running is not None:
            return await asyncio.shield(running)
        made = self._under_way[text] = asyncio.get_running_loop().create_future()
        try:
            outcome: Outcome = TryLater("this server is being stopped")
            outcome = await self._wake(text)
        finally:
            del self._under_way[text]
            made.set_result(outcome)
        return outcome

    async def exchange(self, pushers: Pushers) -> None:
        """Use these from now on, and forget what services asked of the old ones."""
        old, self._pushers = self._pushers, pushers
        self._not_before.clear()
        self._told.clear()
        await old.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._pushers.close()

    async def _wake(self, text: str) -> Outcome:
        try:
            token = parse_device_token(text)
        except DecodeError as error:
            return TokenGone(str(error))
        digest = sha256(text.encode()).digest()
        if (why := self._gone.get(digest)) is not None:
            return TokenGone(why)
        service = text.partition(":")[0]
        outcome = self._held_back(_place(token)) or await self._try(token, service)
        self._judge(digest, service, outcome)
        return outcome

    async def _try(self, token: DeviceToken, service: str) -> Outcome:
        back_off = BackOff(self._clock.now())
        while True:
            outcome = await self._push(token, back_off)
            self.counters[f"{service} {_WORDS[type(outcome)]}"] += 1
            if not isinstance(outcome, TryLater):
                return outcome
            pause_s = back_off.pause_s(outcome, self._clock.now(), self._entropy)
            if pause_s is None:
                self._hold_back(_place(token), outcome)
                return outcome
            await self._pause(pause_s)

    async def _push(self, token: DeviceToken, back_off: BackOff) -> Outcome:
        """Try once; a service that is slower than anybody waits is given up in time to say so."""
        try:
            async with asyncio.timeout(back_off.left_s(self._clock.now())):
                return await self._pushers.push(token)
        except TimeoutError:
            return TryLater(f"{_called(token)} says nothing: {BUDGET_S:g} s are over")

    def _hold_back(self, place: str, later: TryLater) -> None:
        """A service that asked to be left alone is, for everybody."""
        if later.after_s is not None:
            until = Instant(self._clock.now() + round(later.after_s * SECOND))
            self._not_before[place] = (until, later)
            if len(self._not_before) > MOST_PLACES:
                del self._not_before[next(iter(self._not_before))]

    def _held_back(self, place: str) -> TryLater | None:
        until, later = self._not_before.get(place, (None, None))
        if until is None or self._clock.now() >= until:
            self._not_before.pop(place, None)
            return None
        return later

    def _judge(self, digest: bytes, service: str, outcome: Outcome) -> None:
        match outcome:
            case Delivered():
                self._told.pop(service, None)
            case TokenGone(detail):
                self._gone[digest] = detail
                if len(self._gone) > MOST_GONE:
                    self._gone.popitem(last=False)
                log.info("a device token is gone", service=service, why=detail)
            case TryLater(detail):
                self._tell(service, detail, _LATER)
            case SettingsWrong(detail, remedy):
                self._tell(service, detail, remedy)

    def _tell(self, service: str, why: str, remedy: str) -> None:
        now = self._clock.now()
        said, at = self._told.get(service, ("", now))
        if said != why or now - at >= TELL_AGAIN_S * SECOND:
            self._told[service] = (why, now)
            log.error("a node could not be woken by push", service=service, why=why, next=remedy)


_LATER = (
    "see that this machine reaches the service (DNS, firewall), if it is up; "
    "it is tried again when the node is next asked for"
)
_WORDS = {
    Delivered: "delivered",
    TokenGone: "token gone",
    TryLater: "try later",
    SettingsWrong: "settings wrong",
}


def _unset(service: str) -> SettingsWrong:
    return SettingsWrong(
        f"a node wants to be woken by {service}, and server.toml has no [push.{service}]",
        f"docs/operating.md says how to set up [push.{service}]; then kill -HUP",
    )


def _called(token: DeviceToken) -> str:
    """The service's name for people."""
    match token:
        case FcmToken():
            return "FCM"
        case ApnsToken():
            return "APNs"
        case WebSubscription():
            return token.host


def _place(token: DeviceToken) -> str:
    """What a Retry-After holds for: the service."""
    return token.host if isinstance(token, WebSubscription) else type(token).__name__
