"""FCM, APNs and Web Push on one machine, with the keys that their customers use."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from starlette.applications import Starlette

from ntmobile.lab.push.apns import Apns
from ntmobile.lab.push.device import DeviceLink
from ntmobile.lab.push.fcm import Fcm
from ntmobile.lab.push.http2 import Http2Server
from ntmobile.lab.push.web import WebPush
from ntmobile.runtime.listener import Listener
from ntmobile.wire.endpoint import Endpoint, Host

PROJECT = "lab-project"
ACCOUNT = "push@lab-project.iam.gserviceaccount.com"
ACCOUNT_KEY = "lab-account-key"
TEAM = "LABTEAM001"
APNS_KEY = "LABKEY0001"
TOPIC = "net.example.ntm"
HTTPS_PORT = 443
APNS_PORT = 2197
DEVICE_PORT = 5228


@dataclass(frozen=True, slots=True)
class CustomerKeys:
    """What Google and Apple hand out to an operator."""

    account: rsa.RSAPrivateKey = field(repr=False)
    apns: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def make(cls) -> Self:
        """Make new ones."""
        account = rsa.generate_private_key(65537, 2048)
        return cls(account, ec.generate_private_key(ec.SECP256R1()))

    def apns_pem(self) -> bytes:
        """Return the .p8 file."""
        return pem(self.apns)

    def account_json(self, token_endpoint: str) -> bytes:
        """Return the service account's file."""
        return msgspec.json.encode(
            {
                "type": "service_account",
                "project_id": PROJECT,
                "private_key_id": ACCOUNT_KEY,
                "private_key": pem(self.account).decode(),
                "client_email": ACCOUNT,
                "client_id": "1",
                "token_uri": token_endpoint,
            }
        )


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PKCS 8 in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


class PushServices:
    """All three; `listen`, then `close`."""

    def __init__(
        self,
        name: str,
        certificate: Path,
        key: Path,
        customer: CustomerKeys,
        wall: Callable[[], float],
    ) -> None:
        """Name is in the certificate and in the URLs; wall is the services' own clock."""
        self._name = name
        self.fcm = Fcm({ACCOUNT_KEY: customer.account.public_key()}, PROJECT, "", wall)
        self.apns = Apns({(TEAM, APNS_KEY): customer.apns.public_key()}, TOPIC, wall)
        self.web = WebPush("", wall)
        routes = [*self.fcm.routes, *self.web.routes]
        self._listener = Listener(Starlette(routes=routes), certificate, key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.http2 = Http2Server(self.apns.handle, context)
        self.devices = DeviceLink(self.fcm.vendor, self.apns.vendor, self.web)
        self._device_server: asyncio.Server | None = None
        self.endpoint = ""
        """Of FCM, and the origin of Web Push."""
        self.apns_endpoint = ""
        self.device_port = 0

    async def listen(
        self,
        host: Host,
        *,
        https: int = HTTPS_PORT,
        apns: int = APNS_PORT,
        device: int = DEVICE_PORT,
    ) -> None:
        """Open the ports (0: any free one); raises OSError."""
        (secure,) = await self._listener.listen([Endpoint(host, https)])
        second = await self.http2.listen(Endpoint(host, apns))
        self._device_server = await asyncio.start_server(self.devices.accept, str(host), device)
        self.device_port = self._device_server.sockets[0].getsockname()[1]
        self.endpoint = f"https://{self._name}:{secure.port}"
        self.apns_endpoint = f"https://{self._name}:{second.port}"
        self.fcm.token_endpoint = f"{self.endpoint}/token"
        self.web.origin = self.endpoint

    async def close(self) -> None:
        """Close everything."""
        if self._device_server is not None:
            self._device_server.close()
            await self.devices.close()
            await self._device_server.wait_closed()
        await self.http2.close()
        await self._listener.close()
