"""Our client against a service that speaks FCM HTTP v1, over real TLS."""

import asyncio

import msgspec
import pytest
from tests.runtime.push.rig import FCM_TOKEN, Rig

from ntmobile.lab.push.services import ACCOUNT_KEY, CustomerKeys
from ntmobile.lab.push.vendor import Fault
from ntmobile.runtime.push.fcm import EARLY_S, read_service_account
from ntmobile.runtime.push.outcome import Delivered, SettingsWrong, TokenGone, TryLater
from ntmobile.wire.device_token import FcmToken

pytestmark = pytest.mark.paper("Push")


async def test_a_wake_up_is_taken(rig: Rig) -> None:
    outcome = await rig.fcm().push(FCM_TOKEN)

    assert outcome == Delivered()
    (pushed,) = rig.services.fcm.vendor.pushed
    assert pushed.token == FCM_TOKEN.value


async def test_the_message_is_urgent_short_lived_replaceable_and_says_nothing(rig: Rig) -> None:
    await rig.fcm().push(FCM_TOKEN)

    message = msgspec.json.decode(rig.services.fcm.vendor.pushed[0].body)["message"]
    assert message == {
        "token": FCM_TOKEN.value,
        "data": {"ntm": "wake"},
        "android": {"priority": "HIGH", "ttl": "60s", "collapse_key": "ntm"},
    }


async def test_an_access_token_serves_many_messages(rig: Rig) -> None:
    fcm = rig.fcm()

    for _ in range(3):
        await fcm.push(FCM_TOKEN)

    assert len(rig.services.fcm.granted) == 1


async def test_an_access_token_is_renewed_before_it_ends(rig: Rig) -> None:
    fcm = rig.fcm()
    await fcm.push(FCM_TOKEN)
    rig.forward(3600 - EARLY_S)

    assert await fcm.push(FCM_TOKEN) == Delivered()

    assert len(rig.services.fcm.granted) == 2
    assert "401 UNAUTHENTICATED" not in rig.services.fcm.vendor.counters


async def test_many_at_once_ask_for_one_access_token(rig: Rig) -> None:
    fcm = rig.fcm()

    await asyncio.gather(*(fcm.push(FCM_TOKEN) for _ in range(8)))

    assert len(rig.services.fcm.granted) == 1


async def test_many_at_once_share_the_failure_of_a_token_endpoint(rig: Rig) -> None:
    fcm = rig.fcm(keys=CustomerKeys.make())

    outcomes = await asyncio.gather(*(fcm.push(FCM_TOKEN) for _ in range(8)))

    assert {type(outcome) for outcome in outcomes} == {SettingsWrong}
    assert len(rig.services.fcm.assertions) == 1


async def test_an_access_token_that_ended_before_its_time_is_replaced(rig: Rig) -> None:
    fcm = rig.fcm()
    await fcm.push(FCM_TOKEN)
    rig.services.fcm.granted.clear()

    assert await fcm.push(FCM_TOKEN) == Delivered()

    assert rig.services.fcm.vendor.counters["401 UNAUTHENTICATED"] == 1


async def test_a_token_of_an_app_that_was_removed_is_gone(rig: Rig) -> None:
    rig.services.fcm.vendor.expire(FCM_TOKEN.value)

    outcome = await rig.fcm().push(FCM_TOKEN)

    assert isinstance(outcome, TokenGone)
    assert "404" in outcome.detail


async def test_a_token_that_fcm_never_gave_is_gone(rig: Rig) -> None:
    assert isinstance(await rig.fcm().push(FcmToken("x" * 20)), TokenGone)


async def test_a_deleted_key_is_named_with_the_remedy(rig: Rig) -> None:
    del rig.services.fcm.keys[ACCOUNT_KEY]

    outcome = await rig.fcm().push(FCM_TOKEN)

    assert isinstance(outcome, SettingsWrong)
    assert "Invalid JWT Signature" in outcome.detail
    assert "[push.fcm] credentials" in outcome.remedy


async def test_another_key_under_the_same_name_is_refused(rig: Rig) -> None:
    outcome = await rig.fcm(keys=CustomerKeys.make()).push(FCM_TOKEN)

    assert isinstance(outcome, SettingsWrong)


async def test_a_key_that_is_back_works_again(rig: Rig) -> None:
    fcm = rig.fcm()
    key = rig.services.fcm.keys.pop(ACCOUNT_KEY)
    await fcm.push(FCM_TOKEN)

    rig.services.fcm.keys[ACCOUNT_KEY] = key

    assert await fcm.push(FCM_TOKEN) == Delivered()


async def test_a_wrong_clock_is_named(rig: Rig) -> None:
    rig.clock.forward(86400)

    outcome = await rig.fcm().push(FCM_TOKEN)

    assert isinstance(outcome, SettingsWrong)
    assert outcome.remedy.startswith("set this machine's clock")


async def test_another_project_is_refused(rig: Rig) -> None:
    outcome = await rig.fcm(project="another").push(FCM_TOKEN)

    assert isinstance(outcome, SettingsWrong)
    assert "403" in outcome.detail


async def test_a_token_of_another_project_s_app_is_named(rig: Rig) -> None:
    rig.services.fcm.vendor.faults.append(Fault(403, "SENDER_ID_MISMATCH"))

    outcome = await rig.fcm().push(FCM_TOKEN)

    assert isinstance(outcome, SettingsWrong)
    assert "[push.fcm] project" in outcome.remedy


@pytest.mark.parametrize(
    ("fault", "after_s"),
    [
        (Fault(429, "QUOTA_EXCEEDED", "7"), 7.0),
        (Fault(503, "UNAVAILABLE"), None),
        (Fault(500, "INTERNAL"), None),
    ],
)
async def test_a_busy_service_is_to_be_tried_later(
    rig: Rig, fault: Fault, after_s: float | None
) -> None:
    rig.services.fcm.vendor.faults.append(fault)

    outcome = await rig.fcm().push(FCM_TOKEN)

    assert isinstance(outcome, TryLater)
    assert outcome.after_s == after_s


async def test_a_service_that_is_down_is_to_be_tried_later(rig: Rig) -> None:
    fcm = rig.fcm()
    await rig.services.close()

    assert isinstance(await fcm.push(FCM_TOKEN), TryLater)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"service_account"', b'"authorized_user"'),
        (b'"private_key_id"', b'"private_key_name"'),
        (b"BEGIN PRIVATE", b"BEGIN PUBLIC"),
        (b"{", b"["),
    ],
)
def test_a_credentials_file_of_another_kind_is_refused(old: bytes, new: bytes) -> None:
    json = CustomerKeys.make().account_json("https://localhost/token").replace(old, new, 1)

    with pytest.raises(ValueError, match=r"."):
        read_service_account(json)
