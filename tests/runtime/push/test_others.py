"""Against what other people wrote: their clients at our services, our messages in their hands.

The services judge our clients in the other tests; here google-auth, aioapns and pywebpush say
whether the services are what they claim to be, and PyJWT and http_ece check what we make.
"""

import asyncio
import uuid
from typing import Any

import google.auth.exceptions
import http_ece
import jwt
import msgspec
import pytest
import requests
from aioapns import APNs, NotificationRequest
from aioapns.connection import APNsProductionClientProtocol
from cryptography.hazmat.primitives.asymmetric import ec
from google.auth.transport.requests import Request
from google.oauth2.service_account import Credentials
from pywebpush import WebPusher, WebPushException, webpush
from tests.runtime.push.rig import APNS_TOKEN, CONTACT, FCM_TOKEN, SECRET, Rig, tls_files

from ntmobile.lab.push.services import ACCOUNT, APNS_KEY, PROJECT, TEAM, TOPIC, CustomerKeys, pem
from ntmobile.lab.push.web import Browser
from ntmobile.runtime.push.apns import RENEW_S
from ntmobile.runtime.push.encryption import encrypt
from ntmobile.runtime.push.fcm import SCOPE, message_for
from ntmobile.runtime.push.jwt import public_point
from ntmobile.wire.device_token import decode64, encode64

PATIENCE_S = 60.0


class TestGoogleAuth:
    async def test_gets_an_access_token_from_our_token_endpoint_and_sends(self, rig: Rig) -> None:
        def send() -> int:
            with session() as http:
                credentials = google_credentials(rig, rig.customer)
                credentials.refresh(Request(http))
                headers: dict[str, str] = {"content-type": "application/json"}
                credentials.apply(headers)
                url = f"{rig.services.endpoint}/v1/projects/{PROJECT}/messages:send"
                return http.post(url, message_for(FCM_TOKEN), headers=headers).status_code

        assert await asyncio.to_thread(send) == 200
        assert rig.services.fcm.vendor.pushed

    async def test_is_refused_with_another_key(self, rig: Rig) -> None:
        def refresh() -> None:
            with session() as http:
                google_credentials(rig, CustomerKeys.make()).refresh(Request(http))

        with pytest.raises(google.auth.exceptions.RefreshError, match="Invalid JWT Signature"):
            await asyncio.to_thread(refresh)

    async def test_reads_the_credentials_file_as_we_do(self, rig: Rig) -> None:
        assert google_credentials(rig, rig.customer).service_account_email == ACCOUNT


class TestAioapns:
    async def test_sends_through_our_service(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        result = await self.send(rig, monkeypatch, rig.customer)

        assert result.is_successful
        assert rig.services.apns.vendor.pushed[0].token == APNS_TOKEN.value

    async def test_is_refused_with_another_key(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        result = await self.send(rig, monkeypatch, CustomerKeys.make())

        assert (result.status, result.description) == ("403", "InvalidProviderToken")

    async def test_hears_that_an_app_was_removed(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rig.services.apns.vendor.expire(APNS_TOKEN.value)

        result = await self.send(rig, monkeypatch, rig.customer)

        assert (result.status, result.description) == ("410", "Unregistered")

    async def send(self, rig: Rig, monkeypatch: pytest.MonkeyPatch, keys: CustomerKeys) -> Any:  # noqa: ANN401
        host, port = rig.services.apns_endpoint.removeprefix("https://").split(":")
        monkeypatch.setattr(APNsProductionClientProtocol, "APNS_SERVER", host)
        monkeypatch.setattr(APNsProductionClientProtocol, "APNS_PORT", int(port))
        client = APNs(
            key=keys.apns_pem().decode(),
            key_id=APNS_KEY,
            team_id=TEAM,
            topic=TOPIC,
            ssl_context=rig.trust,
        )
        request = NotificationRequest(
            APNS_TOKEN.value, {"aps": {"alert": "x"}}, notification_id=str(uuid.uuid4())
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await client.send_notification(request)
        finally:
            client.pool.close()


class TestPywebpush:
    async def test_sends_through_our_service_and_our_device_reads_it(self, rig: Rig) -> None:
        browser = rig.browser(server_key=public_point(rig.vapid))

        status = await asyncio.to_thread(push_by_pywebpush, rig, browser, rig.vapid)

        assert status == 201
        assert browser.read(rig.services.web.vendor.pushed[0].body) == b"hello"

    async def test_is_refused_with_another_key(self, rig: Rig) -> None:
        browser = rig.browser(server_key=public_point(rig.vapid))
        other = ec.generate_private_key(ec.SECP256R1())

        with pytest.raises(WebPushException, match="403"):
            await asyncio.to_thread(push_by_pywebpush, rig, browser, other)

    async def test_encrypts_to_us(self, rig: Rig) -> None:
        browser = rig.browser()

        body = WebPusher(msgspec.json.decode(browser.json())).encode(b"from afar")["body"]

        assert browser.read(body) == b"from afar"


def test_what_we_encrypt_http_ece_decrypts() -> None:
    browser = Browser.at("https://push.example.net/1", SECRET)
    subscription = browser.subscription
    ephemeral = ec.generate_private_key(ec.SECP256R1())

    body = encrypt(
        b"contact your DC",
        subscription.public,
        subscription.secret,
        ephemeral=ephemeral,
        salt=bytes(range(16)),
    )

    read = http_ece.decrypt(body, private_key=browser.private, auth_secret=subscription.secret)
    assert read == b"contact your DC"


async def test_pyjwt_verifies_our_provider_token(rig: Rig) -> None:
    await rig.apns().push(APNS_TOKEN)

    token = rig.services.apns.vendor.pushed[0].headers["authorization"].removeprefix("bearer ")
    claims = jwt.decode(token, rig.customer.apns.public_key(), algorithms=["ES256"])
    now_s = int(rig.clock.wall())
    assert claims == {"iss": TEAM, "iat": now_s - now_s % RENEW_S}
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "JWT", "kid": APNS_KEY}


async def test_pyjwt_verifies_our_vapid_voucher(rig: Rig) -> None:
    await rig.web().push(rig.browser().subscription)

    header = rig.services.web.vendor.pushed[0].headers["authorization"]
    token, key = header.removeprefix("vapid t=").split(", k=")
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), decode64(key))
    claims = jwt.decode(token, point, algorithms=["ES256"], audience=rig.services.web.origin)
    assert claims["sub"] == CONTACT
    assert key == encode64(public_point(rig.vapid))


async def test_pyjwt_verifies_our_assertion_for_google(rig: Rig) -> None:
    await rig.fcm().push(FCM_TOKEN)

    (shown,) = rig.services.fcm.assertions
    key, audience = rig.customer.account.public_key(), rig.services.fcm.token_endpoint
    claims = jwt.decode(shown, key, algorithms=["RS256"], audience=audience)
    assert (claims["iss"], claims["scope"]) == (ACCOUNT, SCOPE)


def google_credentials(rig: Rig, keys: CustomerKeys) -> Credentials:
    info = msgspec.json.decode(keys.account_json(rig.services.fcm.token_endpoint))
    return Credentials.from_service_account_info(info, scopes=[SCOPE])


def push_by_pywebpush(rig: Rig, browser: Browser, key: ec.EllipticCurvePrivateKey) -> int:
    from py_vapid import Vapid02

    with session() as http:
        done = webpush(
            msgspec.json.decode(browser.json()),
            "hello",
            vapid_private_key=Vapid02.from_pem(pem(key)),
            vapid_claims={"sub": CONTACT},
            ttl=60,
            requests_session=http,
        )
    assert isinstance(done, requests.Response)
    return done.status_code


def session() -> requests.Session:
    made = requests.Session()
    made.trust_env = False
    made.verify = str(tls_files()[1])
    return made
