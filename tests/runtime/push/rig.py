"""Push services in this process, on real sockets, with a clock that the test sets."""

import asyncio
import ssl
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from random import Random
from tempfile import mkdtemp

from cryptography.hazmat.primitives.asymmetric import ec

from ntmobile.keys.certificates import make_ca, make_server
from ntmobile.lab.push.services import (
    APNS_KEY,
    PROJECT,
    TEAM,
    TOPIC,
    CustomerKeys,
    PushServices,
)
from ntmobile.lab.push.web import Browser
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.push.apns import ApnsPusher, ProviderKey
from ntmobile.runtime.push.fcm import FcmPusher, read_service_account
from ntmobile.runtime.push.names import PushType
from ntmobile.runtime.push.service import Service, trusting
from ntmobile.runtime.push.wake_ups import Pushers, WakeUps
from ntmobile.runtime.push.web import WebPusher
from ntmobile.time import SECOND, Instant
from ntmobile.wire.device_token import ApnsToken, FcmToken

NAME = "localhost"
LOOPBACK = ip_address("127.0.0.1")
FCM_TOKEN = FcmToken("lab-device-token-000000")
APNS_TOKEN = ApnsToken("ab" * 32)
SECRET = bytes(range(16))
CONTACT = "mailto:hostmaster@ntm.example.org"


class SetClock(Clock):
    """Stands still until it is set forward."""

    def __init__(self, wall: float | None = None) -> None:
        self.at = Instant(0)
        self.seconds = Clock().wall() if wall is None else wall

    def now(self) -> Instant:
        return self.at

    def wall(self) -> float:
        return self.seconds

    def forward(self, seconds: float) -> None:
        self.at = Instant(self.at + round(seconds * SECOND))
        self.seconds += seconds


@cache
def customer() -> CustomerKeys:
    return CustomerKeys.make()


@cache
def tls_files() -> tuple[Path, Path]:
    """The services' certificate with its key, and the CA that signed it."""
    directory = Path(mkdtemp(prefix="ntm-push-"))
    now_s = int(Clock().wall())
    ca = make_ca(NAME, (LOOPBACK,), serial=1, now_s=now_s)
    server = make_server(ca, (NAME,), (LOOPBACK,), serial=2, now_s=now_s)
    (directory / "tls.pem").write_bytes(server.certificate + ca.certificate + server.key)
    (directory / "ca.pem").write_bytes(ca.certificate)
    return directory / "tls.pem", directory / "ca.pem"


class Rig:
    """The services and our clients of them; `services_clock` and `clock` start equal."""

    def __init__(self) -> None:
        tls, ca = tls_files()
        self.clock = SetClock()
        self.services_clock = SetClock(self.clock.seconds)
        self.customer = customer()
        self.services = PushServices(NAME, tls, tls, self.customer, self.services_clock.wall)
        self.trust: ssl.SSLContext = trusting(ca)
        self.vapid = ec.generate_private_key(ec.SECP256R1())
        self.pauses: list[float] = []
        self.opened: list[Service] = []

    async def open(self) -> None:
        await self.services.listen(LOOPBACK, https=0, apns=0, device=0)
        self.services.fcm.vendor.add(FCM_TOKEN.value)
        self.services.apns.vendor.add(APNS_TOKEN.value)

    async def close(self) -> None:
        for service in self.opened:
            await service.close()
        await self.services.close()

    def forward(self, seconds: float) -> None:
        """Time passes for everybody."""
        self.clock.forward(seconds)
        self.services_clock.forward(seconds)

    def service(self) -> Service:
        made = Service(self.trust, self.clock)
        self.opened.append(made)
        return made

    def fcm(self, project: str = PROJECT, keys: CustomerKeys | None = None) -> FcmPusher:
        json = (keys or self.customer).account_json(self.services.fcm.token_endpoint)
        account = read_service_account(json)
        return FcmPusher(
            account, project, self.service(), self.clock, endpoint=self.services.endpoint
        )

    def apns(
        self,
        topic: str = TOPIC,
        keys: CustomerKeys | None = None,
        kind: PushType = PushType.ALERT,
    ) -> ApnsPusher:
        key = ProviderKey((keys or self.customer).apns, APNS_KEY, TEAM)
        endpoint = self.services.apns_endpoint
        return ApnsPusher(key, topic, self.service(), self.clock, endpoint=endpoint, kind=kind)

    def web(self, services: tuple[str, ...] = (NAME,)) -> WebPusher:
        return WebPusher(
            self.vapid, CONTACT, self.service(), self.clock, Random(1), services=services
        )

    def browser(self, token: str = "subscription-1", server_key: bytes | None = None) -> Browser:
        return Browser.at(self.services.web.subscribe(token, server_key), SECRET)

    def wake_ups(self, **pushers: FcmPusher | ApnsPusher | WebPusher) -> WakeUps:
        """Whose pauses take no time, and are kept."""
        return WakeUps(Pushers(**pushers), self.clock, Random(1), self.pause)  # type: ignore[arg-type]

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.forward(seconds)
        await asyncio.sleep(0)
