"""A Web Push service: RFC 8030 with VAPID (RFC 8292); the device decrypts (RFC 8291)."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ntmobile.lab.push.tokens import TokenWrong, claims_of
from ntmobile.lab.push.vendor import Pushed, TokenState, Vendor
from ntmobile.runtime.push.encryption import decrypt
from ntmobile.runtime.push.jwt import public_point
from ntmobile.wire.device_token import WebSubscription, decode64, encode64

LONGEST_S = 86400
"""Source: RFC 8292, section 2."""
MAX_BODY = 4096
"""Source: RFC 8030, section 7.2."""
_TOPIC = re.compile(r"[A-Za-z0-9_-]{0,32}")
_URGENCIES = ("very-low", "low", "normal", "high")


@dataclass(frozen=True, slots=True)
class Browser:
    """What the user's side keeps of a subscription."""

    subscription: WebSubscription
    private: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def at(cls, endpoint: str, secret: bytes) -> Self:
        """Make the keys for an endpoint; secret is 16 random bytes."""
        private = ec.generate_private_key(ec.SECP256R1())
        return cls(WebSubscription(endpoint, public_point(private), secret), private)

    def json(self) -> bytes:
        """Return what PushSubscription.toJSON() gives: what `ntm up --push web:FILE` takes."""
        keys = {
            "p256dh": encode64(self.subscription.public),
            "auth": encode64(self.subscription.secret),
        }
        return msgspec.json.encode({"endpoint": self.subscription.endpoint, "keys": keys})

    def read(self, body: bytes) -> bytes:
        """Decrypt a message; raises DecodeError."""
        return decrypt(body, self.private, self.subscription.secret)


class WebPush:
    """Takes messages for subscriptions; `routes` are for a Starlette."""

    def __init__(self, origin: str, wall: Callable[[], float]) -> None:
        """Origin is where it is served: https://push.example.net:8443."""
        self.vendor = Vendor()
        self.origin = origin
        self._wall = wall
        self._bound: dict[str, bytes] = {}
        self.routes = (Route("/push/{token}", self._take, methods=["POST"]),)

    def subscribe(self, token: str, server_key: bytes | None = None) -> str:
        """Make a subscription and return its endpoint.

        With server_key (a point of P-256), only its holder may send to it.
        """
        self.vendor.add(token)
        if server_key is not None:
            self._bound[token] = server_key
        return f"{self.origin}/push/{token}"

    async def _take(self, request: Request) -> Response:
        token = request.path_params["token"]
        if (fault := self.vendor.fault()) is not None:
            return self._answer(fault.status, fault.reason, fault.headers)
        match self.vendor.state(token):
            case TokenState.UNKNOWN:
                return self._answer(404, "no such subscription")
            case TokenState.GONE:
                return self._answer(410, "the subscription has expired")
            case TokenState.GOOD:
                pass
        if (wrong := self._voucher_wrong(token, request.headers.get("authorization"))) is not None:
            return self._answer(403 if token in self._bound else 401, wrong)
        body = await request.body()
        if (problem := _problem(request, body)) is not None:
            return self._answer(413 if len(body) > MAX_BODY else 400, problem)
        self.vendor.deliver(Pushed(token, dict(request.headers), body))
        number = len(self.vendor.pushed)
        return self._answer(201, headers={"location": f"{self.origin}/message/{number}"})

    def _voucher_wrong(self, token: str, authorization: str | None) -> str | None:
        scheme, _, rest = (authorization or "").partition(" ")
        pairs = (each.strip().partition("=") for each in rest.split(","))
        parts = {name: value for name, _, value in pairs}
        if scheme.lower() != "vapid" or not {"t", "k"} <= set(parts):
            return "VAPID is missing"
        try:
            point = decode64(parts["k"])
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
            claims = claims_of(parts["t"], key)
        except (TokenWrong, ValueError) as error:
            return f"VAPID: {error}"
        if self._bound.get(token, point) != point:
            return "VAPID: the key is not the one of the subscription"
        return self._claims_wrong(claims)

    def _claims_wrong(self, claims: dict[str, Any]) -> str | None:
        if claims.get("aud") != self.origin:
            return f"VAPID: aud is {claims.get('aud')}, not {self.origin}"
        ends = claims.get("exp")
        if not isinstance(ends, int) or not 0 < ends - self._wall() <= LONGEST_S:
            return "VAPID: exp has passed or is more than 24 hours away"
        if not str(claims.get("sub", "")).startswith(("mailto:", "https:")):
            return "VAPID: sub is neither mailto: nor https:"
        return None

    def _answer(
        self, status: int, text: str = "", headers: dict[str, str] | None = None
    ) -> Response:
        self.vendor.count(status)
        return PlainTextResponse(text, status, headers)


def _problem(request: Request, body: bytes) -> str | None:
    headers = request.headers
    if not headers.get("ttl", "").isdigit():
        return "TTL is missing"
    if headers.get("urgency", "normal") not in _URGENCIES:
        return "Urgency is none"
    if not _TOPIC.fullmatch(headers.get("topic", "")):
        return "Topic is not 32 characters of base64url"
    if headers.get("content-encoding") != "aes128gcm":
        return "Content-Encoding is not aes128gcm"
    if len(body) > MAX_BODY:
        return f"more than {MAX_BODY} bytes"
    return None
