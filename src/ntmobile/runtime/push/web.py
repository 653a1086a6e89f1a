"""Web Push (RFC 8030), encrypted (RFC 8291), with VAPID (RFC 8292).

The node names the URL that we post to, so only services that the operator allows are asked:
nobody makes this server talk to a machine of its own network.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from cryptography.hazmat.primitives.asymmetric import ec

from ntmobile.proto.io import Entropy, random_bytes
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.push.encryption import encrypt
from ntmobile.runtime.push.jwt import es256, public_point
from ntmobile.runtime.push.names import SERVICES
from ntmobile.runtime.push.outcome import (
    COLLAPSE,
    TTL_S,
    Delivered,
    Outcome,
    SettingsWrong,
    TokenGone,
)
from ntmobile.runtime.push.service import Reply, Service
from ntmobile.time import SECOND, Instant
from ntmobile.wire.device_token import WebSubscription, encode64

VOUCHER_S = 12 * 3600
"""RFC 8292 allows 24 h."""
RENEW_S = 6 * 3600
MOST_ORIGINS = 64
PLAINTEXT = b'{"ntm":"wake"}'
CREDENTIALS = (
    "subscriptions are bound to [push.web] vapid_key: put the old key back, or have the app "
    "subscribe anew with the key that ntm server show prints; a wrong clock is refused too"
)


@dataclass(frozen=True, slots=True)
class _Voucher:
    header: str = field(repr=False)
    made: Instant


class WebPusher:
    """Wakes apps in browsers, and all that speak Web Push."""

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        contact: str,
        service: Service,
        clock: Clock,
        entropy: Entropy,
        *,
        services: Iterable[str] = SERVICES,
        ephemeral: Callable[[], ec.EllipticCurvePrivateKey] | None = None,
    ) -> None:
        """Key is the VAPID key, contact a mailto: or https: URL for the service's operators."""
        self._key = key
        self._contact = contact
        self._service = service
        self._clock = clock
        self._entropy = entropy
        self._services = tuple(services)
        self._ephemeral = ephemeral or (lambda: ec.generate_private_key(ec.SECP256R1()))
        self._vouchers: dict[str, _Voucher] = {}

    async def push(self, token: WebSubscription) -> Outcome:
        """Wake the app."""
        if not any(fnmatchcase(token.host, each) for each in self._services):
            return SettingsWrong(
                f"{token.host} is not a push service that this domain uses",
                f'if you trust it: add "{token.host}" to [push.web] services; kill -HUP',
            )
        try:
            body = self._encrypted(token)
        except ValueError:
            return TokenGone("the subscription's key is no point of P-256")
        reply = await self._service.post(token.endpoint, self._headers(token.origin), body)
        return _outcome(reply) if isinstance(reply, Reply) else reply

    async def close(self) -> None:
        """Close the connections."""
        await self._service.close()

    def _encrypted(self, token: WebSubscription) -> bytes:
        salt = random_bytes(self._entropy, 16)
        return encrypt(
            PLAINTEXT, token.public, token.secret, ephemeral=self._ephemeral(), salt=salt
        )

    def _headers(self, origin: str) -> dict[str, str]:
        return {
            "authorization": self._voucher(origin),
            "content-encoding": "aes128gcm",
            "content-type": "application/octet-stream",
            "ttl": str(TTL_S),
            "urgency": "high",
            "topic": COLLAPSE,
        }

    def _voucher(self, origin: str) -> str:
        now = self._clock.now()
        known = self._vouchers.get(origin)
        if known is not None and now - known.made < RENEW_S * SECOND:
            return known.header
        expires = int(self._clock.wall()) + VOUCHER_S
        token = es256({"aud": origin, "exp": expires, "sub": self._contact}, self._key)
        made = _Voucher(f"vapid t={token}, k={encode64(public_point(self._key))}", now)
        self._vouchers.pop(origin, None)
        self._vouchers[origin] = made
        if len(self._vouchers) > MOST_ORIGINS:
            del self._vouchers[next(iter(self._vouchers))]
        return made.header


def _outcome(reply: Reply) -> Outcome:
    if 200 <= reply.status < 300:
        return Delivered()
    if reply.status in (404, 410):
        return TokenGone(reply.text)
    return reply.later() or SettingsWrong(reply.text, CREDENTIALS)
