"""`[push]` of `server.toml`: the push services that wake nodes, and who we are to them.

Ours: docs/protocol.md section 9; docs/operating.md says how to get the credentials.
"""
# ruff: noqa: RUF009 -- the calls in class bodies make fields

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ntmobile.config import Kind, list_of, one_of, optional_table, required, setting, text
from ntmobile.runtime.push.names import SERVICES, PushType

_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


def _url(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    parts = urlsplit(value)
    if value and (parts.scheme != "https" or not parts.hostname or parts.port == 0):
        raise ValueError
    if parts.query or parts.fragment or parts.username or not value.isprintable():
        raise ValueError
    return value


def _matching(pattern: str, allowed: str) -> Kind[str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError
        return value

    return Kind(allowed, parse)


def _contact(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        raise ValueError
    if value and not re.fullmatch(r"mailto:[^@]+@[^@]+|https://.+", value):
        raise ValueError
    return value


def _host(value: object) -> str:
    if not isinstance(value, str) or not _HOST.fullmatch(value):
        raise ValueError
    return value


URL = Kind('a URL like "https://push.example.org", or "" for the vendor\'s', _url)
CONTACT = Kind('"mailto:you@example.org", a https URL, or "" for hostmaster', _contact)
HOST = Kind('host names like "push.example.org" or "*.example.org"', _host)
_FILE = text("a file, from the directory of server.toml", empty=False)
_TEN = _matching(r"[A-Z0-9]{10}", "its 10 letters and digits")


@dataclass(frozen=True, slots=True, kw_only=True)
class FcmSettings:
    """`[push.fcm]`: Firebase Cloud Messaging, HTTP v1."""

    endpoint: str = setting(URL, "")
    token_endpoint: str = setting(URL, "")
    """Empty: the one that the credentials name."""
    project: str = required(_matching(r"[a-z][a-z0-9-]{4,29}", "the Firebase project's id"))
    credentials: str = required(_FILE)
    """The service account's JSON file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApnsSettings:
    """`[push.apns]`: Apple Push Notification service, by token."""

    endpoint: str = setting(URL, "")
    """Apps under development: https://api.sandbox.push.apple.com."""
    key: str = required(_FILE)
    """The .p8 file."""
    key_id: str = required(_TEN)
    team_id: str = required(_TEN)
    topic: str = required(_matching(r"[A-Za-z0-9.-]+", "the app's bundle id"))
    push_type: PushType = setting(one_of(PushType), PushType.ALERT)
    """Background wakes without showing anything, but Apple delays and rations it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebPushSettings:
    """`[push.web]`: Web Push (RFC 8030, RFC 8292)."""

    vapid_key: str = required(_FILE)
    """An EC private key on P-256, in PEM; subscriptions are bound to it."""
    contact: str = setting(CONTACT, "")
    """Where the operators of push services reach us; empty: hostmaster of the domain."""
    services: tuple[str, ...] = setting(list_of(HOST), SERVICES)
    """The hosts that nodes may have us send to. The URL comes from them: list nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushSettings:
    """`[push]`."""

    ca: str = setting(text('a PEM file with CAs, or "" for the system\'s alone'), "")
    """Believed for push services besides those of the system: for services of one's own."""
    fcm: FcmSettings | None = optional_table(FcmSettings)
    apns: ApnsSettings | None = optional_table(ApnsSettings)
    web: WebPushSettings | None = optional_table(WebPushSettings)

    @property
    def kinds(self) -> frozenset[str]:
        """Of the device tokens that can be used: "fcm", "apns", "web"."""
        services = {"fcm": self.fcm, "apns": self.apns, "web": self.web}
        return frozenset(kind for kind, settings in services.items() if settings is not None)
