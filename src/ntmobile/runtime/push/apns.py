"""Apple Push Notification service over HTTP/2, with token authentication (a .p8 key).

The provider token is a JWT by ES256. Apple takes one up to 60 minutes old, and refuses for 20
minutes those who make new ones more often than that. A server that has just started, or read its
settings again, cannot know what it showed before; so the tokens of a key are the same for all who
make them: issued at whole multiples of 40 minutes, and signed without chance (RFC 6979).
Source: paper, Figs. 3, 4 and 6.
"""

from dataclasses import dataclass, field

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from ntmobile.runtime.clock import Clock
from ntmobile.runtime.push.jwt import es256
from ntmobile.runtime.push.names import PushType
from ntmobile.runtime.push.outcome import (
    COLLAPSE,
    TTL_S,
    Delivered,
    Outcome,
    SettingsWrong,
    TokenGone,
    TryLater,
)
from ntmobile.runtime.push.service import Reply, Service
from ntmobile.time import SECOND, Instant
from ntmobile.wire.device_token import ApnsToken

ENDPOINT = "https://api.push.apple.com"
RENEW_S = 40 * 60
YOUNGEST_S = 20 * 60
"""Apple answers TooManyProviderTokenUpdates to those who renew earlier."""
JUMP_S = 60
"""A wall clock that differs by more from what it should be has been set."""
TEXT = "Someone wants to reach this device."
CREDENTIALS = (
    "compare [push.apns] key, key_id and team_id with the key in the Apple developer account "
    "(Certificates, Identifiers & Profiles, Keys); kill -HUP"
)
CLOCK = "set this machine's clock; if it is right: " + CREDENTIALS
TOPIC = "[push.apns] topic must be the bundle id of the app that the node's token is of"
_GONE = ("BadDeviceToken", "Unregistered", "ExpiredToken", "MissingDeviceToken")
_TOPIC = ("DeviceTokenNotForTopic", "BadTopic", "TopicDisallowed", "MissingTopic")
_TOKEN_OLD = "ExpiredProviderToken"


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A token-signing key of an Apple developer account."""

    key: EllipticCurvePrivateKey = field(repr=False)
    key_id: str
    team_id: str


@dataclass(frozen=True, slots=True)
class _Provider:
    token: str = field(repr=False)
    made: Instant
    issued_s: int
    """By the wall clock, as Apple sees it."""
    made_s: int
    """When it was made here, by the wall clock."""


class ApnsPusher:
    """Wakes apps on Apple's devices."""

    def __init__(
        self,
        key: ProviderKey,
        topic: str,
        service: Service,
        clock: Clock,
        *,
        endpoint: str = "",
        kind: PushType = PushType.ALERT,
    ) -> None:
        """Topic is the app's bundle id; an empty endpoint is Apple's for apps in production."""
        self._key = key
        self._topic = topic
        self._service = service
        self._clock = clock
        self._endpoint = (endpoint or ENDPOINT).rstrip("/")
        self._kind = kind
        self._provider: _Provider | None = None

    async def push(self, token: ApnsToken) -> Outcome:
        """Wake the app; a provider token that Apple finds old is renewed once."""
        url = f"{self._endpoint}/3/device/{token.value}"
        for last in (False, True):
            provider = self._current()
            reply = await self._service.post(url, self._headers(provider), message(self._kind))
            if not isinstance(reply, Reply):
                return reply
            if _reason(reply) != _TOKEN_OLD or last or not self._may_renew(provider):
                return _outcome(reply)
            if self._provider is provider:
                self._provider = self._made(int(self._clock.wall()))
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Close the connections."""
        await self._service.close()

    def _current(self) -> _Provider:
        now_s, before = int(self._clock.wall()), self._provider
        if before is not None and 0 <= now_s - before.issued_s < RENEW_S:
            return before
        issued_s = now_s - now_s % RENEW_S
        if before is not None and 0 <= issued_s - before.issued_s < YOUNGEST_S:
            issued_s = now_s
        self._provider = self._made(issued_s)
        return self._provider

    def _made(self, issued_s: int) -> _Provider:
        claims: dict[str, str | int] = {"iss": self._key.team_id, "iat": issued_s}
        token = es256(claims, self._key.key, self._key.key_id)
        return _Provider(token, self._clock.now(), issued_s, int(self._clock.wall()))

    def _age_s(self, provider: _Provider) -> float:
        return (self._clock.now() - provider.made) / SECOND

    def _may_renew(self, provider: _Provider) -> bool:
        """Whether a new token is allowed by now, or the clock was put right since."""
        age_s = self._age_s(provider)
        jumped = abs(self._clock.wall() - provider.made_s - age_s) > JUMP_S
        return age_s >= YOUNGEST_S or jumped or self._provider is not provider

    def _headers(self, provider: _Provider) -> dict[str, str]:
        urgent = self._kind is PushType.ALERT
        return {
            "authorization": f"bearer {provider.token}",
            "apns-topic": self._topic,
            "apns-push-type": self._kind,
            # Apple takes no background push of a higher priority.
            "apns-priority": "10" if urgent else "5",
            "apns-expiration": str(int(self._clock.wall()) + TTL_S),
            "apns-collapse-id": COLLAPSE,
        }


def message(kind: PushType) -> bytes:
    """Return the JSON of the wake-up."""
    match kind:
        case PushType.ALERT:
            aps: dict[str, object] = {"alert": {"body": TEXT}, "mutable-content": 1}
        case PushType.BACKGROUND:
            aps = {"content-available": 1}
    return msgspec.json.encode({"aps": aps, "ntm": "wake"})


def _outcome(reply: Reply) -> Outcome:
    reason = _reason(reply)
    if reply.status == 200:
        return Delivered()
    if reply.status == 410 or reason in _GONE:
        return TokenGone(reply.text)
    if reason == "TooManyProviderTokenUpdates":
        return TryLater(reply.text, YOUNGEST_S)
    if (later := reply.later()) is not None:
        return later
    if reason in _TOPIC:
        return SettingsWrong(reply.text, TOPIC)
    return SettingsWrong(reply.text, CLOCK if reason == _TOKEN_OLD else CREDENTIALS)


def _reason(reply: Reply) -> str:
    return str(reply.parsed().get("reason", ""))
