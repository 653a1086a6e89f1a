"""Device tokens: where a push service wakes a node, as text in the Registration Request.

::

    fcm:TOKEN                      what Firebase Cloud Messaging gave the app
    apns:HEX                       what Apple's Push Notification service gave the app
    web:ENDPOINT P256DH AUTH       a Web Push subscription (RFC 8030); keys in base64url (RFC 8291)

Source: paper, Device Token Request (Fig. 3). Ours: the form, and Web Push.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec

from ntmobile.errors import DecodeError

MAX_TOKEN = 512
"""Characters; what fits a Registration Request with everything else in it."""
ALLOWED = "fcm:TOKEN, apns:HEX, or a Web Push subscription with endpoint, p256dh and auth"
_FCM = re.compile(r"[A-Za-z0-9_:%.~-]{16,500}")
_APNS = re.compile(r"(?:[0-9a-fA-F]{2}){16,200}")
_PUBLIC_SIZE = 65
_SECRET_SIZE = 16


@dataclass(frozen=True, slots=True)
class FcmToken:
    """An app on a device, by Firebase's registration token."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return f"fcm:{self.value}"


@dataclass(frozen=True, slots=True)
class ApnsToken:
    """An app on a device, by Apple's device token in hexadecimal."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return f"apns:{self.value}"


@dataclass(frozen=True, slots=True)
class WebSubscription:
    """A subscription at a Web Push service, and the keys that messages are encrypted to."""

    endpoint: str = field(repr=False)
    """The https URL that takes messages; it is a secret of the node and its DC."""
    public: bytes
    """P-256, uncompressed point."""
    secret: bytes = field(repr=False)
    """The authentication secret of RFC 8291, section 3.2."""

    @property
    def host(self) -> str:
        """The push service."""
        return urlsplit(self.endpoint).hostname or ""

    @property
    def origin(self) -> str:
        """Scheme, host and port: the audience of RFC 8292."""
        parts = urlsplit(self.endpoint)
        return f"{parts.scheme}://{parts.netloc}"

    def __str__(self) -> str:
        return f"web:{self.endpoint} {encode64(self.public)} {encode64(self.secret)}"


DeviceToken = FcmToken | ApnsToken | WebSubscription


def parse_device_token(text: str) -> DeviceToken:
    """Parse a token; raises DecodeError."""
    kind, _, value = text.partition(":")
    if len(text) <= MAX_TOKEN:
        if kind == "fcm" and _FCM.fullmatch(value):
            return FcmToken(value)
        if kind == "apns" and _APNS.fullmatch(value):
            return ApnsToken(value.lower())
        if kind == "web" and value.count(" ") == 2:
            return _subscription(*value.split(" "))
    raise DecodeError(f"not a device token: allowed is {ALLOWED}, at most {MAX_TOKEN} characters")


class _Keys(msgspec.Struct):
    p256dh: str
    auth: str


class _Subscription(msgspec.Struct):
    """What a browser's PushSubscription.toJSON() gives."""

    endpoint: str
    keys: _Keys


def parse_subscription(json: bytes) -> WebSubscription:
    """Parse the JSON of a PushSubscription; raises DecodeError."""
    try:
        parsed = msgspec.json.decode(json, type=_Subscription)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"not a Web Push subscription: {error}") from None
    made = _subscription(parsed.endpoint, parsed.keys.p256dh, parsed.keys.auth)
    if len(str(made)) > MAX_TOKEN:
        raise DecodeError(f"the subscription is longer than {MAX_TOKEN} characters")
    return made


def encode64(data: bytes) -> str:
    """Return base64url without padding (RFC 7515, appendix C)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode64(text: str) -> bytes:
    """Parse base64url, padded or not; raises ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*={0,2}", text):
        raise ValueError("not base64url")
    bare = text.rstrip("=")
    try:
        return urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except Base64Error:
        raise ValueError("not base64url") from None


def _subscription(endpoint: str, public: str, secret: str) -> WebSubscription:
    try:
        made = WebSubscription(endpoint, decode64(public), decode64(secret))
        parts = urlsplit(endpoint)
        whole = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
        plain = parts.username is None and not parts.fragment and endpoint.isascii()
    except ValueError as error:
        raise DecodeError(f"not a Web Push subscription: {error}") from None
    if not (whole and plain and endpoint.isprintable() and " " not in endpoint):
        raise DecodeError("not a Web Push subscription: its endpoint is no https URL")
    if len(made.public) != _PUBLIC_SIZE or made.public[0] != 4 or len(made.secret) != _SECRET_SIZE:
        raise DecodeError("not a Web Push subscription: its keys have the wrong form")
    return made
