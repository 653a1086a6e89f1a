"""HTTPS to push services: HTTP/2 where they speak it, answers bounded, failures as outcomes."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import msgspec

from ntmobile.runtime.clock import Clock
from ntmobile.runtime.push.outcome import SettingsWrong, TryLater

CONNECT_S = 3.0
ANSWER_S = 5.0
"""Longer, and nobody waits for the node any more."""
KEPT_S = 300.0
"""A connection idle for longer is not used again: something between may have forgotten it."""
MAX_ANSWER = 16 * 1024
MAX_SHOWN = 200
MAX_RETRY_AFTER_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer of a push service."""

    host: str
    status: int
    retry_after_s: float | None
    body: bytes

    @property
    def text(self) -> str:
        """For people: status, and the start of what the service said, in one line."""
        said = " ".join(self.body[:MAX_SHOWN].decode(errors="replace").split())
        return f"{self.host} answered {self.status}: {said or 'nothing'}"

    def later(self) -> TryLater | None:
        """Whether the service has no time now (429, 5xx)."""
        if self.status == 429 or self.status >= 500:
            return TryLater(self.text, self.retry_after_s)
        return None

    def parsed(self) -> Mapping[str, object]:
        """Return the JSON object in the body; empty when there is none."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, object])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return {}


class Service:
    """Connections to push services; `close` when done."""

    def __init__(
        self, context: ssl.SSLContext, clock: Clock, *, answer_s: float = ANSWER_S
    ) -> None:
        """The context says whose certificates are believed."""
        self._longest_s = CONNECT_S + answer_s
        # Neither proxies nor .netrc from the environment: a password for another service that
        # happens to be there would replace our Authorization.
        self._client = httpx.AsyncClient(
            http2=True,
            verify=context,
            trust_env=False,
            follow_redirects=False,
            # Nothing small may become large here.
            headers={"accept-encoding": "identity", "user-agent": "ntmobile"},
            timeout=httpx.Timeout(answer_s, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=64, keepalive_expiry=KEPT_S),
        )
        self._clock = clock

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes
    ) -> Reply | TryLater | SettingsWrong:
        """Send one message; a connection that broke is replaced once."""
        host = httpx.URL(url).host
        for last in (False, True):
            if self._client.is_closed:
                return TryLater("the settings were read again meanwhile")
            try:
                async with asyncio.timeout(self._longest_s):
                    return await self._post(url, headers, body)
            except TimeoutError:
                return TryLater(f"{host} did not finish its answer in time")
            except (httpx.ConnectError, httpx.TimeoutException) as error:
                return _failure(host, error)
            except httpx.TransportError as error:
                # A service closes idle connections, and restarts; each message may come twice.
                if last:
                    return _failure(host, error)
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        async with self._client.stream(
            "POST", url, headers=dict(headers), content=body
        ) as response:
            kept = bytearray()
            async for part in response.aiter_bytes():
                kept += part
                if len(kept) > MAX_ANSWER:
                    break
            after = _seconds(response.headers.get("retry-after"), self._clock.wall())
            host = response.url.host
            return Reply(host, response.status_code, after, bytes(kept[:MAX_ANSWER]))


def trusting(further: Path | None) -> ssl.SSLContext:
    """Return the trust of this system's store and of further CAs in a PEM file.

    Raises OSError or ssl.SSLError when the file cannot be used.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if further is not None:
        context.load_verify_locations(further)
    return context


def _failure(host: str, error: httpx.TransportError) -> TryLater | SettingsWrong:
    if isinstance(error, httpx.TimeoutException):
        return TryLater(f"{host} says nothing: {type(error).__name__}")
    detail = f"{host} cannot be reached: {str(error) or type(error).__name__}"
    if "CERTIFICATE_VERIFY_FAILED" in detail:
        return SettingsWrong(
            detail, "check the clock; a service of your own: [push] ca in server.toml names its CA"
        )
    return TryLater(detail)


def _seconds(value: str | None, wall: float) -> float | None:
    """Parse Retry-After: seconds, or a date (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value), MAX_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    known = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    left = (known - datetime.fromtimestamp(wall, UTC)).total_seconds()
    return min(max(left, 0.0), MAX_RETRY_AFTER_S)
