"""Firebase Cloud Messaging by its HTTP v1 interface, the successor of GCM.

A service account's key signs a JWT; the token endpoint gives an access token for it (RFC 7523),
which lasts about an hour and is renewed before. Source: paper, Figs. 3, 4 and 6.
"""

import asyncio
from dataclasses import dataclass, field
from urllib.parse import urlencode

import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from ntmobile.runtime.clock import Clock
from ntmobile.runtime.push.jwt import rs256, rsa_key
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
from ntmobile.wire.device_token import FcmToken

ENDPOINT = "https://fcm.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_S = 3600
"""Google takes no longer ones."""
EARLY_S = 300
"""An access token is not used in the last minutes of its life."""
CREDENTIALS = (
    "make a new key of the service account (Firebase console, Project settings, Service accounts) "
    "and name its file in [push.fcm] credentials; kill -HUP"
)
CLOCK = "set this machine's clock; if it is right: " + CREDENTIALS
PROJECT = "the app must be of the Firebase project in [push.fcm] project"


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """What is in the JSON file that Google hands out."""

    email: str
    key_id: str
    key: RSAPrivateKey = field(repr=False)
    token_endpoint: str
    """The audience of our claims, and where they are shown unless the settings say otherwise."""


class _File(msgspec.Struct):
    type: str
    client_email: str
    private_key_id: str
    private_key: str
    token_uri: str


def read_service_account(json: bytes) -> ServiceAccount:
    """Parse the file; raises ValueError."""
    read = msgspec.json.decode(json, type=_File)
    if read.type != "service_account":
        raise ValueError(f'it is for "{read.type}", not for a service account')
    key = rsa_key(read.private_key.encode())
    return ServiceAccount(read.client_email, read.private_key_id, key, read.token_uri)


@dataclass(frozen=True, slots=True)
class _Access:
    token: str = field(repr=False)
    until: Instant


class _Granted(msgspec.Struct):
    access_token: str
    expires_in: int = ASSERTION_S


_Answer = _Granted | TryLater | SettingsWrong


class AccessTokens:
    """Access tokens of one service account, cached and renewed."""

    def __init__(
        self, account: ServiceAccount, service: Service, clock: Clock, endpoint: str = ""
    ) -> None:
        """Endpoint, if any, is asked instead of the one that the account names."""
        self._account = account
        self._endpoint = endpoint or account.token_endpoint
        self._service = service
        self._clock = clock
        self._access: _Access | None = None
        self._asking: asyncio.Future[_Answer] | None = None

    async def get(self) -> str | TryLater | SettingsWrong:
        """Return a token that is good now; those who ask at once share the answer."""
        if self._access is not None and self._clock.now() < self._access.until:
            return self._access.token
        granted = await self._shared()
        if not isinstance(granted, _Granted):
            return granted
        life_s = max(granted.expires_in - EARLY_S, granted.expires_in // 2)
        until = Instant(self._clock.now() + life_s * SECOND)
        self._access = _Access(granted.access_token, until)
        return granted.access_token

    def forget(self, token: str) -> None:
        """The service does not take this one any more."""
        if self._access is not None and self._access.token == token:
            self._access = None

    async def _shared(self) -> _Answer:
        if self._asking is not None:
            return await asyncio.shield(self._asking)
        asking = self._asking = asyncio.get_running_loop().create_future()
        answer: _Answer = TryLater("who asked for the access token gave up")
        try:
            answer = await self._ask()
        finally:
            self._asking = None
            asking.set_result(answer)
        return answer

    async def _ask(self) -> _Answer:
        now_s = int(self._clock.wall())
        account = self._account
        claims: dict[str, str | int] = {
            "iss": account.email,
            "scope": SCOPE,
            "aud": account.token_endpoint,
            "iat": now_s,
            "exp": now_s + ASSERTION_S,
        }
        assertion = rs256(claims, account.key, account.key_id)
        form = urlencode({"grant_type": GRANT, "assertion": assertion}).encode()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        reply = await self._service.post(self._endpoint, headers, form)
        return _granted(reply) if isinstance(reply, Reply) else reply


def _granted(reply: Reply) -> _Answer:
    if (later := reply.later()) is not None:
        return later
    if reply.status != 200:
        # Google names a wrong clock by the claims it shows in.
        clock = "iat" in str(reply.parsed().get("error_description", ""))
        return SettingsWrong(f"the key is refused: {reply.text}", CLOCK if clock else CREDENTIALS)
    try:
        return msgspec.json.decode(reply.body, type=_Granted)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return TryLater(f"no access token: {reply.text}")


class FcmPusher:
    """Wakes apps on devices that Firebase reaches."""

    def __init__(
        self,
        account: ServiceAccount,
        project: str,
        service: Service,
        clock: Clock,
        *,
        endpoint: str = "",
        token_endpoint: str = "",
    ) -> None:
        """Project is the Firebase project's id; empty endpoints are Google's."""
        endpoint = endpoint or ENDPOINT
        self._url = f"{endpoint.rstrip('/')}/v1/projects/{project}/messages:send"
        self._access = AccessTokens(account, service, clock, token_endpoint)
        self._service = service

    async def push(self, token: FcmToken) -> Outcome:
        """Wake the app; a token that ended before its time is renewed once."""
        for last in (False, True):
            access = await self._access.get()
            if not isinstance(access, str):
                return access
            reply = await self._send(token, access)
            if not isinstance(reply, Reply):
                return reply
            if reply.status != 401 or last or _code(reply) == "THIRD_PARTY_AUTH_ERROR":
                return _outcome(reply)
            self._access.forget(access)
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Close the connections."""
        await self._service.close()

    async def _send(self, token: FcmToken, access: str) -> Reply | TryLater | SettingsWrong:
        headers = {"authorization": f"Bearer {access}", "content-type": "application/json"}
        return await self._service.post(self._url, headers, message_for(token))


def message_for(token: FcmToken) -> bytes:
    """Return the JSON of the wake-up: a data message, so that the app and not the user sees it."""
    message = {
        "token": token.value,
        "data": {"ntm": "wake"},
        "android": {"priority": "HIGH", "ttl": f"{TTL_S}s", "collapse_key": COLLAPSE},
    }
    return msgspec.json.encode({"message": message})


def _outcome(reply: Reply) -> Outcome:
    code = _code(reply)
    if reply.status == 200:
        return Delivered()
    if (later := reply.later()) is not None:
        return later
    if code == "UNREGISTERED" or (code == "INVALID_ARGUMENT" and b"token" in reply.body):
        return TokenGone(reply.text)
    if code == "SENDER_ID_MISMATCH":
        return SettingsWrong(reply.text, PROJECT)
    return SettingsWrong(reply.text, CREDENTIALS)


class _Detail(msgspec.Struct):
    error_code: str = msgspec.field(name="errorCode", default="")


class _Error(msgspec.Struct):
    status: str = ""
    details: tuple[_Detail, ...] = ()


class _Refusal(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error)


def _code(reply: Reply) -> str:
    """FCM's own error code where it gives one, else Google's."""
    try:
        error = msgspec.json.decode(reply.body, type=_Refusal).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return next((each.error_code for each in error.details if each.error_code), error.status)
