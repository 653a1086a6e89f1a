"""An APNs: HTTP/2, provider tokens by ES256, Apple's checks and reasons.

Source: Apple, "Sending notification requests to APNs" and "Establishing a token-based connection".
"""

from collections.abc import Callable, Mapping
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from ntmobile.lab.push.http2 import Request, Response
from ntmobile.lab.push.tokens import TokenWrong, claims_of, header_of
from ntmobile.lab.push.vendor import Pushed, TokenState, Vendor, json_response

OLDEST_S = 3600
NEWER_AFTER_S = 1200
"""A provider that shows new tokens more often is refused."""
SKEW_S = 60
MAX_PAYLOAD = 4096
MAX_COLLAPSE_ID = 64
_PATH = "/3/device/"
_TYPES = ("alert", "background", "voip", "complication", "location", "liveactivity")


class _Rejected(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Apns:
    """Takes notifications; `handle` is for an Http2Server."""

    def __init__(
        self,
        keys: Mapping[tuple[str, str], EllipticCurvePublicKey],
        topic: str,
        wall: Callable[[], float],
    ) -> None:
        """Keys by team and key id; wall is the service's own clock."""
        self.vendor = Vendor()
        self.keys = dict(keys)
        """May be changed: a key that is revoked is taken out."""
        self._topic = topic
        self._wall = wall
        self._newest: dict[tuple[str, str], tuple[str, int]] = {}
        self._answers = 0

    async def handle(self, request: Request) -> Response:
        """Answer one request; every answer names the notification."""
        self._answers += 1
        identifier = {"apns-id": request.headers.get("apns-id") or str(UUID(int=self._answers))}
        try:
            if (fault := self.vendor.fault()) is not None:
                self.vendor.count(fault.status, fault.reason)
                headers = identifier | fault.headers
                return json_response(fault.status, {"reason": fault.reason}, headers)
            self._take(request)
        except _Rejected as rejected:
            self.vendor.count(rejected.status, rejected.reason)
            return json_response(rejected.status, self._told(rejected), identifier)
        self.vendor.count(200)
        return Response(200, identifier)

    def _told(self, rejected: _Rejected) -> dict[str, object]:
        told: dict[str, object] = {"reason": rejected.reason}
        if rejected.status == 410:
            told["timestamp"] = int(self._wall() * 1000)
        return told

    def _take(self, request: Request) -> None:
        if request.method != "POST":
            raise _Rejected(405, "MethodNotAllowed")
        if not request.path.startswith(_PATH):
            raise _Rejected(404, "BadPath")
        self._authenticate(request.headers.get("authorization", ""))
        _check_headers(request.headers)
        _check_payload(request.body)
        if request.headers.get("apns-topic", self._topic) != self._topic:
            raise _Rejected(400, "DeviceTokenNotForTopic")
        token = request.path.removeprefix(_PATH)
        match self.vendor.state(token):
            case TokenState.UNKNOWN:
                raise _Rejected(400, "BadDeviceToken")
            case TokenState.GONE:
                raise _Rejected(410, "Unregistered")
            case TokenState.GOOD:
                self.vendor.deliver(Pushed(token, request.headers, request.body))

    def _authenticate(self, authorization: str) -> None:
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer" or not token:
            raise _Rejected(403, "MissingProviderToken")
        try:
            key_id = str(header_of(token).get("kid", ""))
            who, issued_s = self._signed_by(token, key_id)
        except TokenWrong:
            raise _Rejected(403, "InvalidProviderToken") from None
        age_s = self._wall() - issued_s
        if age_s > OLDEST_S:
            raise _Rejected(403, "ExpiredProviderToken")
        if age_s < -SKEW_S:
            raise _Rejected(403, "InvalidProviderToken")
        self._check_pace(who, token, issued_s)

    def _signed_by(self, token: str, key_id: str) -> tuple[tuple[str, str], int]:
        for who, key in self.keys.items():
            if who[1] == key_id:
                claims = claims_of(token, key)
                if claims.get("iss") == who[0] and isinstance(claims.get("iat"), int):
                    return who, claims["iat"]
        raise TokenWrong("no such key")

    def _check_pace(self, who: tuple[str, str], token: str, issued_s: int) -> None:
        newest, at = self._newest.get(who, (token, issued_s))
        if token != newest and 0 <= issued_s - at < NEWER_AFTER_S:
            raise _Rejected(429, "TooManyProviderTokenUpdates")
        self._newest[who] = (token, issued_s)


def _check_headers(headers: Mapping[str, str]) -> None:
    kind = headers.get("apns-push-type", "alert")
    priority = headers.get("apns-priority", "10")
    if kind not in _TYPES:
        raise _Rejected(400, "InvalidPushType")
    if priority not in ("1", "5", "10") or (kind == "background" and priority != "5"):
        raise _Rejected(400, "BadPriority")
    if len(headers.get("apns-collapse-id", "")) > MAX_COLLAPSE_ID:
        raise _Rejected(400, "BadCollapseId")
    if not headers.get("apns-expiration", "0").isdigit():
        raise _Rejected(400, "BadExpirationDate")
    if "apns-topic" not in headers:
        raise _Rejected(400, "MissingTopic")


def _check_payload(body: bytes) -> None:
    if not body:
        raise _Rejected(400, "PayloadEmpty")
    if len(body) > MAX_PAYLOAD:
        raise _Rejected(413, "PayloadTooLarge")
    try:
        payload = msgspec.json.decode(body, type=dict[str, object])
    except msgspec.MsgspecError:
        raise _Rejected(400, "BadMessageId") from None
    if not isinstance(payload.get("aps"), dict):
        raise _Rejected(400, "PayloadEmpty")
