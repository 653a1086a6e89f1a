"""`[push]` from the settings to the push services, over real TLS."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.runtime.push.rig import APNS_TOKEN, FCM_TOKEN, NAME, Rig, tls_files

from ntmobile.config import ConfigError
from ntmobile.lab.push.services import APNS_KEY, PROJECT, TEAM, TOPIC, CustomerKeys, pem
from ntmobile.lab.push.vendor import Fault
from ntmobile.proto.io import Failed, WakeUp
from ntmobile.runtime.push.jwt import public_point
from ntmobile.servers.serve import Servers
from ntmobile.wire.device_token import encode64
from ntmobile.wire.registration import NtmAck, Reason

pytestmark = pytest.mark.paper("Push")

if TYPE_CHECKING:
    from tests.servers.conftest import Organisation

MakeOrganisation = Callable[..., Awaitable["Organisation"]]
FQDN = "phone.alice.ntm.example.org"


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    await made.open()
    yield made
    await made.close()


async def test_each_kind_of_token_wakes_by_its_service(
    organisation: MakeOrganisation, rig: Rig
) -> None:
    servers = await serving(organisation, rig)
    tokens = [str(FCM_TOKEN), str(APNS_TOKEN), str(rig.browser().subscription)]

    answers = [await wake(servers, token) for token in tokens]

    assert answers == [NtmAck()] * 3
    services = (rig.services.fcm, rig.services.apns, rig.services.web)
    assert [len(each.vendor.pushed) for each in services] == [1, 1, 1]


async def test_the_push_service_hears_nothing_of_the_node(
    organisation: MakeOrganisation, rig: Rig
) -> None:
    servers = await serving(organisation, rig)
    for token in (str(FCM_TOKEN), str(APNS_TOKEN), str(rig.browser().subscription)):
        await wake(servers, token)

    for service in (rig.services.fcm, rig.services.apns, rig.services.web):
        (pushed,) = service.vendor.pushed
        heard = str(pushed.headers).encode() + pushed.body
        assert b"phone" not in heard
        assert b"alice" not in heard


async def test_the_dc_is_told_why_a_node_cannot_be_woken(
    organisation: MakeOrganisation, rig: Rig
) -> None:
    servers = await serving(organisation, rig)
    rig.services.fcm.vendor.expire(FCM_TOKEN.value)
    rig.services.apns.keys.clear()
    rig.services.web.vendor.faults.append(Fault(429, "", "3600"))

    tokens = [str(FCM_TOKEN), str(APNS_TOKEN), str(rig.browser().subscription)]
    reasons = [await failure(servers, token) for token in tokens]

    assert reasons == [Reason.TOKEN_GONE, Reason.PUSH_REFUSED, Reason.PUSH_DOWN]


async def test_mended_credentials_are_read_again_while_it_runs(
    organisation: MakeOrganisation, rig: Rig
) -> None:
    org = await organisation()
    configure(org, rig, CustomerKeys.make())
    servers = org.running[0]
    await servers.reload()
    assert await failure(servers, str(APNS_TOKEN)) is Reason.PUSH_REFUSED

    (org.directory.path / "apns.p8").write_bytes(rig.customer.apns_pem())
    await servers.reload()

    assert await wake(servers, str(APNS_TOKEN)) == NtmAck()


async def test_a_wake_up_under_way_survives_that_the_settings_are_read_again(
    organisation: MakeOrganisation, rig: Rig
) -> None:
    servers = await serving(organisation, rig)
    waking = asyncio.gather(*(wake(servers, str(FCM_TOKEN)) for _ in range(3)))
    await asyncio.sleep(0)

    await servers.reload()

    assert await waking == [NtmAck()] * 3


@pytest.mark.parametrize(
    ("file", "content", "key"),
    [
        ("fcm.json", b"{}", "push.fcm.credentials"),
        ("fcm.json", None, "push.fcm.credentials"),
        ("apns.p8", b"-----BEGIN PRIVATE KEY-----\n", "push.apns.key"),
        ("vapid.key", b"", "push.web.vapid_key"),
        ("push-ca.pem", b"no certificate", "push.ca"),
    ],
)
async def test_a_file_that_cannot_be_used_is_refused_with_its_line_and_the_old_stays(
    organisation: MakeOrganisation, rig: Rig, file: str, content: bytes | None, key: str
) -> None:
    org = await organisation()
    configure(org, rig)
    servers = org.running[0]
    await servers.reload()
    replace_file(org.directory.path / file, content)

    with pytest.raises(ConfigError) as caught:
        await servers.reload()

    lines = org.directory.settings_file.read_text().splitlines()
    assert caught.value.key == key
    assert key.rpartition(".")[2] in lines[caught.value.line - 1]
    assert await wake(servers, str(APNS_TOKEN)) == NtmAck()


async def test_only_tokens_of_services_that_are_set_up_are_taken(
    organisation: MakeOrganisation, rig: Rig
) -> None:
    org = await organisation()
    (servers,) = org.running
    assert servers.coordinator is not None
    before = servers.coordinator.machine.settings.push

    configure(org, rig)
    await servers.reload()

    assert before == frozenset()
    assert servers.coordinator.machine.settings.push == {"fcm", "apns", "web"}


async def test_metrics_count_wake_ups(organisation: MakeOrganisation, rig: Rig) -> None:
    org = await organisation()
    await org.stop()
    org.set('metrics = ""', 'metrics = "127.0.0.1:0"')
    configure(org, rig)
    servers = await org.start()
    await wake(servers, str(FCM_TOKEN))

    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://{servers.metrics.endpoint}/metrics")

    assert 'ntm_push_total{outcome="fcm_delivered"} 1.0' in answer.text


async def test_an_app_subscribes_with_the_key_that_is_shown(
    organisation: MakeOrganisation, rig: Rig
) -> None:
    org = await organisation()
    configure(org, rig)

    shown = org.directory.vapid_public(org.directory.config())

    assert shown == encode64(public_point(rig.vapid))


async def serving(organisation: MakeOrganisation, rig: Rig) -> Servers:
    """A domain that uses the services of the rig."""
    org = await organisation()
    configure(org, rig)
    servers = org.running[0]
    await servers.reload()
    return servers


def configure(org: "Organisation", rig: Rig, keys: CustomerKeys | None = None) -> None:
    """Write the credentials and `[push]`."""
    services, customer = rig.services, keys or rig.customer
    endpoint = services.fcm.token_endpoint
    for name, content in {
        "fcm.json": customer.account_json(endpoint),
        "apns.p8": customer.apns_pem(),
        "vapid.key": pem(rig.vapid),
        "push-ca.pem": tls_files()[1].read_bytes(),
    }.items():
        (org.directory.path / name).write_bytes(content)
    text = org.directory.settings_file.read_text().replace("[push]\n", "").replace('ca = ""\n', "")
    text += f"""
[push]
ca = "push-ca.pem"

[push.fcm]
endpoint = "{services.endpoint}"
project = "{PROJECT}"
credentials = "fcm.json"

[push.apns]
endpoint = "{services.apns_endpoint}"
key = "apns.p8"
key_id = "{APNS_KEY}"
team_id = "{TEAM}"
topic = "{TOPIC}"

[push.web]
vapid_key = "vapid.key"
services = ["{NAME}"]
"""
    org.directory.settings_file.write_text(text)


def replace_file(file: Path, content: bytes | None) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)


async def wake(servers: Servers, token: str) -> NtmAck | Failed:
    assert servers.push is not None
    return await servers.push.perform(WakeUp(1, FQDN, token))


async def failure(servers: Servers, token: str) -> Reason:
    answer = await wake(servers, token)
    assert isinstance(answer, Failed)
    return answer.reason
