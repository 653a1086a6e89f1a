"""Push services as the settings say, and the DC's wake-ups carried out with them.

Source: paper, Figs. 3, 4 and 6. Ours: docs/protocol.md section 9.
"""

import ssl
from collections.abc import Callable
from typing import TypeVar

import msgspec

from ntmobile.config import ConfigError
from ntmobile.proto.io import Entropy, Failed, WakeUp
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.push.apns import ApnsPusher, ProviderKey
from ntmobile.runtime.push.fcm import FcmPusher, read_service_account
from ntmobile.runtime.push.jwt import p256_key
from ntmobile.runtime.push.outcome import Delivered, Outcome, SettingsWrong, TokenGone, TryLater
from ntmobile.runtime.push.service import Service, trusting
from ntmobile.runtime.push.wake_ups import Pushers, WakeUps
from ntmobile.runtime.push.web import WebPusher
from ntmobile.servers.config import ServerConfig
from ntmobile.servers.files import ServerDirectory
from ntmobile.servers.push_settings import ApnsSettings, FcmSettings, WebPushSettings
from ntmobile.wire.registration import NtmAck, Reason

T = TypeVar("T")


class Push:
    """Wakes the nodes of one DC."""

    def __init__(
        self, directory: ServerDirectory, settings: ServerConfig, clock: Clock, entropy: Entropy
    ) -> None:
        """Connects only when a node is to be woken; raises ConfigError."""
        self._clock = clock
        self._entropy = entropy
        self.wake_ups = WakeUps(self.prepare(directory, settings), clock, entropy)

    def prepare(self, directory: ServerDirectory, settings: ServerConfig) -> Pushers:
        """Read the settings' files, for `exchange`; raises ConfigError with the line."""
        return _Reader(directory, settings, self._clock, self._entropy).pushers()

    async def exchange(self, pushers: Pushers) -> None:
        """Use these from now on."""
        await self.wake_ups.exchange(pushers)

    async def perform(self, request: WakeUp) -> NtmAck | Failed:
        """Wake a node; returns what the DC's machine wants to know."""
        return answer_of(await self.wake_ups.wake(request.token))

    async def close(self) -> None:
        """Close all connections."""
        await self.wake_ups.close()


def answer_of(outcome: Outcome) -> NtmAck | Failed:
    """Return an outcome in the words of the DC."""
    match outcome:
        case Delivered():
            return NtmAck()
        case TokenGone(detail):
            return Failed(Reason.TOKEN_GONE, detail)
        case TryLater(detail):
            return Failed(Reason.PUSH_DOWN, detail)
        case SettingsWrong(detail):
            return Failed(Reason.PUSH_REFUSED, detail)


class _Reader:
    """Makes the clients that `[push]` asks for."""

    def __init__(
        self, directory: ServerDirectory, settings: ServerConfig, clock: Clock, entropy: Entropy
    ) -> None:
        self._directory = directory
        self._domain = settings.domain
        self._settings = settings.push
        self._clock = clock
        self._entropy = entropy

    def pushers(self) -> Pushers:
        push = self._settings
        context = self._context()
        return Pushers(
            fcm=None if push.fcm is None else self._fcm(push.fcm, context),
            apns=None if push.apns is None else self._apns(push.apns, context),
            web=None if push.web is None else self._web(push.web, context),
        )

    def _context(self) -> ssl.SSLContext:
        name = self._settings.ca
        try:
            return trusting(self._directory.path / name if name else None)
        except (OSError, ssl.SSLError) as error:
            raise self._wrong(("ca",), name, str(error), "a PEM file with certificates") from None

    def _fcm(self, settings: FcmSettings, context: ssl.SSLContext) -> FcmPusher:
        account = self._read(
            ("fcm", "credentials"),
            settings.credentials,
            read_service_account,
            "the JSON file of a service account",
        )
        return FcmPusher(
            account,
            settings.project,
            Service(context, self._clock),
            self._clock,
            endpoint=settings.endpoint,
            token_endpoint=settings.token_endpoint,
        )

    def _apns(self, settings: ApnsSettings, context: ssl.SSLContext) -> ApnsPusher:
        key = self._read(("apns", "key"), settings.key, p256_key, "the .p8 file from Apple")
        return ApnsPusher(
            ProviderKey(key, settings.key_id, settings.team_id),
            settings.topic,
            Service(context, self._clock),
            self._clock,
            endpoint=settings.endpoint,
            kind=settings.push_type,
        )

    def _web(self, settings: WebPushSettings, context: ssl.SSLContext) -> WebPusher:
        allowed = "an EC private key on P-256, in PEM"
        key = self._read(("web", "vapid_key"), settings.vapid_key, p256_key, allowed)
        return WebPusher(
            key,
            settings.contact or f"mailto:hostmaster@{self._domain}",
            Service(context, self._clock),
            self._clock,
            self._entropy,
            services=settings.services,
        )

    def _read(
        self, key: tuple[str, str], name: str, parse: Callable[[bytes], T], allowed: str
    ) -> T:
        file = self._directory.path / name
        try:
            return parse(file.read_bytes())
        except OSError as error:
            raise self._wrong(key, name, error.strerror or str(error), allowed) from None
        except (ValueError, msgspec.MsgspecError) as error:
            raise self._wrong(key, name, str(error), allowed) from None

    def _wrong(self, key: tuple[str, ...], name: str, problem: str, allowed: str) -> ConfigError:
        return self._directory.setting_wrong(("push", *key), f"{name}: {problem}", allowed)
