"""Our client against a service that speaks APNs over HTTP/2, over real TLS."""

import msgspec
import pytest
from tests.runtime.push.rig import APNS_TOKEN, Rig

from ntmobile.lab.push.services import APNS_KEY, TEAM, CustomerKeys
from ntmobile.lab.push.vendor import Fault
from ntmobile.runtime.push.apns import RENEW_S, YOUNGEST_S
from ntmobile.runtime.push.jwt import es256
from ntmobile.runtime.push.names import PushType
from ntmobile.runtime.push.outcome import Delivered, SettingsWrong, TokenGone, TryLater
from ntmobile.runtime.push.service import Reply, trusting
from ntmobile.wire.device_token import ApnsToken

pytestmark = pytest.mark.paper("Push")


async def test_a_wake_up_is_taken_over_http_2(rig: Rig) -> None:
    assert await rig.apns().push(APNS_TOKEN) == Delivered()

    assert rig.services.http2.accepted == 1
    assert rig.services.apns.vendor.pushed[0].token == APNS_TOKEN.value


async def test_the_message_is_urgent_short_lived_replaceable_and_says_nothing(rig: Rig) -> None:
    await rig.apns().push(APNS_TOKEN)

    pushed = rig.services.apns.vendor.pushed[0]
    told = {name: value for name, value in pushed.headers.items() if name.startswith("apns-")}
    assert told == {
        "apns-topic": "net.example.ntm",
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-expiration": str(int(rig.clock.wall()) + 60),
        "apns-collapse-id": "ntm",
    }
    alert = {"body": "Someone wants to reach this device."}
    payload = {"aps": {"alert": alert, "mutable-content": 1}, "ntm": "wake"}
    assert msgspec.json.decode(pushed.body) == payload


async def test_a_background_push_has_the_priority_that_apple_allows(rig: Rig) -> None:
    assert await rig.apns(kind=PushType.BACKGROUND).push(APNS_TOKEN) == Delivered()

    pushed = rig.services.apns.vendor.pushed[0]
    assert msgspec.json.decode(pushed.body)["aps"] == {"content-available": 1}


async def test_one_connection_and_one_provider_token_serve_many_messages(rig: Rig) -> None:
    apns = rig.apns()

    for _ in range(5):
        await apns.push(APNS_TOKEN)

    shown = {pushed.headers["authorization"] for pushed in rig.services.apns.vendor.pushed}
    assert len(shown) == rig.services.http2.accepted == 1


async def test_the_provider_token_is_renewed_between_20_and_60_minutes(rig: Rig) -> None:
    apns = rig.apns()
    at_the_start_of_a_period(rig)
    for _ in range(12):
        assert await apns.push(APNS_TOKEN) == Delivered()
        rig.forward(600)

    shown = {pushed.headers["authorization"] for pushed in rig.services.apns.vendor.pushed}
    assert len(shown) == 12 * 600 // RENEW_S


async def test_a_server_that_starts_anew_shows_apple_the_token_that_it_showed_before(
    rig: Rig,
) -> None:
    """Another within 20 minutes, and Apple takes none: its answer is 429, for 20 minutes."""
    at_the_start_of_a_period(rig)
    for _ in range(3):
        assert await rig.apns().push(APNS_TOKEN) == Delivered()
        rig.forward(YOUNGEST_S / 2)

    assert set(rig.services.apns.vendor.counters) == {"200"}


async def test_apple_takes_no_second_token_within_20_minutes(rig: Rig) -> None:
    """The negative twin."""
    at_the_start_of_a_period(rig)
    await rig.apns().push(APNS_TOKEN)
    rig.forward(YOUNGEST_S / 2)
    shown = rig.services.apns.vendor.pushed[0]
    claims: dict[str, str | int] = {"iss": TEAM, "iat": int(rig.clock.wall())}
    token = es256(claims, rig.customer.apns, APNS_KEY)
    headers = {name: value for name, value in shown.headers.items() if name.startswith("apns-")}
    url = f"{rig.services.apns_endpoint}/3/device/{APNS_TOKEN.value}"

    reply = await rig.service().post(
        url, {**headers, "authorization": f"bearer {token}"}, shown.body
    )

    assert isinstance(reply, Reply)
    assert reply.status == 429
    assert "TooManyProviderTokenUpdates" in reply.text


def at_the_start_of_a_period(rig: Rig) -> None:
    """Let the time come at which another provider token is due."""
    rig.forward(RENEW_S - rig.clock.wall() % RENEW_S)


async def test_a_provider_token_that_apple_finds_old_is_renewed_once(rig: Rig) -> None:
    apns = rig.apns()
    at_the_start_of_a_period(rig)
    await apns.push(APNS_TOKEN)
    rig.forward(YOUNGEST_S)
    rig.services.apns.vendor.faults.append(Fault(403, "ExpiredProviderToken"))

    assert await apns.push(APNS_TOKEN) == Delivered()


async def test_a_clock_that_is_wrong_is_named_and_no_token_after_the_other_shown(rig: Rig) -> None:
    rig.services_clock.forward(86400)

    outcome = await rig.apns().push(APNS_TOKEN)

    assert isinstance(outcome, SettingsWrong)
    assert outcome.remedy.startswith("set this machine's clock")
    assert rig.services.apns.vendor.counters["403 ExpiredProviderToken"] == 1


async def test_a_clock_that_was_put_right_helps_at_once(rig: Rig) -> None:
    apns = rig.apns()
    rig.clock.seconds -= 86400
    await apns.push(APNS_TOKEN)

    rig.clock.seconds += 86400

    assert await apns.push(APNS_TOKEN) == Delivered()


@pytest.mark.parametrize("token", [ApnsToken("cd" * 32), APNS_TOKEN])
async def test_an_unknown_and_an_unregistered_token_are_gone(rig: Rig, token: ApnsToken) -> None:
    rig.services.apns.vendor.expire(APNS_TOKEN.value)

    assert isinstance(await rig.apns().push(token), TokenGone)


async def test_a_revoked_key_is_named_with_the_remedy(rig: Rig) -> None:
    del rig.services.apns.keys[TEAM, APNS_KEY]

    outcome = await rig.apns().push(APNS_TOKEN)

    assert isinstance(outcome, SettingsWrong)
    assert "InvalidProviderToken" in outcome.detail
    assert "[push.apns] key, key_id and team_id" in outcome.remedy


async def test_another_key_under_the_same_name_is_refused(rig: Rig) -> None:
    outcome = await rig.apns(keys=CustomerKeys.make()).push(APNS_TOKEN)

    assert isinstance(outcome, SettingsWrong)


async def test_another_topic_is_named(rig: Rig) -> None:
    outcome = await rig.apns(topic="net.example.other").push(APNS_TOKEN)

    assert isinstance(outcome, SettingsWrong)
    assert "[push.apns] topic" in outcome.remedy


@pytest.mark.parametrize(
    ("fault", "after_s"),
    [
        (Fault(429, "TooManyRequests"), None),
        (Fault(429, "TooManyProviderTokenUpdates"), YOUNGEST_S),
        (Fault(503, "Shutdown", "3"), 3.0),
        (Fault(500, "InternalServerError"), None),
    ],
)
async def test_a_busy_service_is_to_be_tried_later(
    rig: Rig, fault: Fault, after_s: float | None
) -> None:
    rig.services.apns.vendor.faults.append(fault)

    outcome = await rig.apns().push(APNS_TOKEN)

    assert isinstance(outcome, TryLater)
    assert outcome.after_s == after_s


async def test_a_service_that_closes_its_connections_is_reached_by_a_new_one(rig: Rig) -> None:
    apns = rig.apns()
    await apns.push(APNS_TOKEN)

    rig.services.http2.go_away()

    assert await apns.push(APNS_TOKEN) == Delivered()
    assert rig.services.http2.accepted == 2


async def test_a_service_with_a_certificate_of_another_ca_gets_nothing(rig: Rig) -> None:
    rig.trust = trusting(None)

    outcome = await rig.apns().push(APNS_TOKEN)

    assert isinstance(outcome, SettingsWrong)
    assert "[push] ca" in outcome.remedy
    assert not rig.services.apns.vendor.counters
