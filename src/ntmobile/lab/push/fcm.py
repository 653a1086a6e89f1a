"""A Firebase Cloud Messaging: HTTP v1 and the OAuth 2.0 token endpoint of its service accounts.

Source: Firebase, "Send messages with the FCM HTTP v1 API"; Google Identity, "Using OAuth 2.0 for
server to server applications"; RFC 7523.
"""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ntmobile.lab.push.tokens import TokenWrong, claims_of, header_of
from ntmobile.lab.push.vendor import Pushed, TokenState, Vendor

LONGEST_S = 3600
SKEW_S = 300
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPES = (
    "https://www.googleapis.com/auth/firebase.messaging",
    "https://www.googleapis.com/auth/cloud-platform",
)
AUDIENCE = "https://oauth2.googleapis.com/token"
"""What Google's own libraries write, wherever they are sent to."""
FRAME = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
    "Check your iat and exp values in the JWT claim."
)
_STATUS = {
    "UNREGISTERED": "NOT_FOUND",
    "SENDER_ID_MISMATCH": "PERMISSION_DENIED",
    "QUOTA_EXCEEDED": "RESOURCE_EXHAUSTED",
}


class _Android(msgspec.Struct, forbid_unknown_fields=True):
    priority: str = "NORMAL"
    ttl: str = ""
    collapse_key: str = ""


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    token: str
    data: dict[str, str] = {}
    android: _Android = msgspec.field(default_factory=_Android)


class _Send(msgspec.Struct, forbid_unknown_fields=True):
    message: _Content
    validate_only: bool = False


class Fcm:
    """Grants access tokens and takes messages; `routes` are for a Starlette."""

    def __init__(
        self,
        keys: Mapping[str, RSAPublicKey],
        project: str,
        token_endpoint: str,
        wall: Callable[[], float],
    ) -> None:
        """Keys of service accounts by key id; token_endpoint is the audience of their claims."""
        self.vendor = Vendor()
        self.keys = dict(keys)
        """May be changed: a key that is deleted is taken out."""
        self.token_endpoint = token_endpoint
        self.life_s = LONGEST_S
        """Of the access tokens granted from now on."""
        self.granted: dict[str, float] = {}
        """Access tokens, and when each ends."""
        self.assertions: list[str] = []
        """Every signed claim that was shown at the token endpoint."""
        self._project = project
        self._wall = wall
        self.routes = (
            Route("/token", self._grant, methods=["POST"]),
            Route("/v1/projects/{project}/messages:send", self._send, methods=["POST"]),
        )

    async def _grant(self, request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        kind, assertion = form.get("grant_type", [""])[0], form.get("assertion", [""])[0]
        self.assertions.append(assertion)
        problem = self._examine(kind, assertion)
        if problem is not None:
            error, description = problem
            self.vendor.count(400, error)
            return JSONResponse({"error": error, "error_description": description}, 400)
        token = f"ya29.lab-{len(self.granted) + 1}"
        self.granted[token] = self._wall() + self.life_s
        self.vendor.count(200, "token")
        return JSONResponse(
            {"access_token": token, "expires_in": self.life_s, "token_type": "Bearer"}
        )

    def _examine(self, kind: str, assertion: str) -> tuple[str, str] | None:
        if kind != GRANT:
            return "unsupported_grant_type", f"Invalid grant_type: {kind}"
        try:
            key = self.keys.get(str(header_of(assertion).get("kid")))
            if key is None:
                return "invalid_grant", "Invalid JWT Signature."
            claims = claims_of(assertion, key)
        except TokenWrong:
            return "invalid_grant", "Invalid JWT Signature."
        return self._examine_claims(claims)

    def _examine_claims(self, claims: Mapping[str, Any]) -> tuple[str, str] | None:
        now, issued, ends = self._wall(), claims.get("iat"), claims.get("exp")
        if not isinstance(issued, int) or not isinstance(ends, int):
            return "invalid_grant", FRAME
        if not (issued - SKEW_S <= now < ends + SKEW_S and ends - issued <= LONGEST_S):
            return "invalid_grant", FRAME
        if claims.get("aud") not in (self.token_endpoint, AUDIENCE):
            return "invalid_grant", "Invalid JWT: Failed audience check."
        if not set(str(claims.get("scope")).split()) & set(SCOPES):
            return "invalid_scope", "Invalid OAuth scope or ID token audience provided."
        return None

    async def _send(self, request: Request) -> Response:
        if (fault := self.vendor.fault()) is not None:
            return self._error(fault.status, fault.reason, headers=fault.headers)
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or self.granted.get(token, 0.0) <= self._wall():
            return self._error(401, "UNAUTHENTICATED")
        if request.path_params["project"] != self._project:
            return self._error(403, "PERMISSION_DENIED")
        body = await request.body()
        try:
            message = msgspec.json.decode(body, type=_Send).message
        except msgspec.MsgspecError as error:
            return self._error(400, "INVALID_ARGUMENT", f"Invalid JSON payload received. {error}")
        return self._deliver(message, dict(request.headers), body)

    def _deliver(self, message: _Content, headers: Mapping[str, str], body: bytes) -> Response:
        match self.vendor.state(message.token):
            case TokenState.UNKNOWN:
                text = "The registration token is not a valid FCM registration token"
                return self._error(400, "INVALID_ARGUMENT", text)
            case TokenState.GONE:
                return self._error(404, "UNREGISTERED", "Requested entity was not found.")
            case TokenState.GOOD:
                self.vendor.deliver(Pushed(message.token, headers, body))
        self.vendor.count(200)
        number = len(self.vendor.pushed)
        return JSONResponse({"name": f"projects/{self._project}/messages/{number}"})

    def _error(
        self, status: int, code: str, text: str = "", headers: Mapping[str, str] | None = None
    ) -> Response:
        self.vendor.count(status, code)
        kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
        error = {
            "code": status,
            "message": text or code,
            "status": _STATUS.get(code, code),
            "details": [{"@type": kind, "errorCode": code}],
        }
        return JSONResponse({"error": error}, status, headers=headers)
