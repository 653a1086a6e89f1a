"""Which service, how often, and when no more."""

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tests.runtime.push.rig import APNS_TOKEN, FCM_TOKEN, Rig

from ntmobile.lab.push.vendor import Fault
from ntmobile.runtime.push.back_off import BUDGET_S, MAX_TRIES, BackOff
from ntmobile.runtime.push.outcome import (
    Delivered,
    Outcome,
    SettingsWrong,
    TokenGone,
    TryLater,
)
from ntmobile.runtime.push.wake_ups import Pushers, WakeUps
from ntmobile.time import SECOND, Instant
from ntmobile.wire.device_token import FcmToken

pytestmark = pytest.mark.paper("Push")

BUSY = Fault(503, "UNAVAILABLE")


async def test_a_token_goes_to_the_service_that_gave_it(rig: Rig) -> None:
    wake_ups = rig.wake_ups(fcm=rig.fcm(), apns=rig.apns(), web=rig.web())

    for token in (FCM_TOKEN, APNS_TOKEN, rig.browser().subscription):
        assert await wake_ups.wake(str(token)) == Delivered()

    services = (rig.services.fcm, rig.services.apns, rig.services.web)
    assert [len(service.vendor.pushed) for service in services] == [1, 1, 1]
    assert wake_ups.counters == {"fcm delivered": 1, "apns delivered": 1, "web delivered": 1}


async def test_a_busy_service_is_tried_again_until_it_takes_it(rig: Rig) -> None:
    rig.services.fcm.vendor.faults.extend([BUSY] * 2)
    wake_ups = rig.wake_ups(fcm=rig.fcm())

    assert await wake_ups.wake(str(FCM_TOKEN)) == Delivered()

    assert len(rig.pauses) == 2
    assert rig.pauses[0] < rig.pauses[1]
    assert wake_ups.counters["fcm try later"] == 2


async def test_the_pause_is_as_long_as_the_service_asks(rig: Rig) -> None:
    rig.services.apns.vendor.faults.append(Fault(429, "TooManyRequests", "4"))
    wake_ups = rig.wake_ups(apns=rig.apns())

    assert await wake_ups.wake(str(APNS_TOKEN)) == Delivered()

    assert rig.pauses == [4.0]


async def test_a_service_that_stays_busy_is_given_up_with_the_reason(rig: Rig) -> None:
    rig.services.fcm.vendor.faults.extend([BUSY] * 99)

    with capture_logs() as logs:
        outcome = await rig.wake_ups(fcm=rig.fcm()).wake(str(FCM_TOKEN))

    assert isinstance(outcome, TryLater)
    assert "503" in outcome.detail
    assert len(rig.pauses) < MAX_TRIES
    assert sum(rig.pauses) <= BUDGET_S
    assert [(entry["service"], entry["log_level"]) for entry in logs] == [("fcm", "error")]


class Silent:
    """A service that takes the message and never answers."""

    async def push(self, token: FcmToken) -> Outcome:
        outcome: Outcome = await asyncio.get_running_loop().create_future()
        return outcome

    async def close(self) -> None:
        pass


async def test_a_service_that_says_nothing_is_given_up_while_somebody_still_waits(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ntmobile.runtime.push.back_off.BUDGET_S", 0.05)
    wake_ups = WakeUps(Pushers(fcm=Silent()), rig.clock, Random(1), rig.pause)

    outcome = await wake_ups.wake(str(FCM_TOKEN))

    assert isinstance(outcome, TryLater)
    assert "FCM says nothing" in outcome.detail


async def test_a_service_that_asks_for_long_is_left_alone_by_everybody(rig: Rig) -> None:
    vendor = rig.services.fcm.vendor
    vendor.faults.append(Fault(429, "QUOTA_EXCEEDED", "60"))
    wake_ups = rig.wake_ups(fcm=rig.fcm())
    assert isinstance(await wake_ups.wake(str(FCM_TOKEN)), TryLater)

    assert isinstance(await wake_ups.wake(str(FCM_TOKEN)), TryLater)
    assert vendor.counters == {"200 token": 1, "429 QUOTA_EXCEEDED": 1}

    rig.forward(61)
    assert await wake_ups.wake(str(FCM_TOKEN)) == Delivered()


async def test_a_token_that_is_gone_is_never_used_again(rig: Rig) -> None:
    rig.services.apns.vendor.expire(APNS_TOKEN.value)
    wake_ups = rig.wake_ups(apns=rig.apns())

    for _ in range(3):
        assert isinstance(await wake_ups.wake(str(APNS_TOKEN)), TokenGone)

    assert rig.services.apns.vendor.counters == {"410 Unregistered": 1}


async def test_a_token_that_is_good_is_used_again(rig: Rig) -> None:
    wake_ups = rig.wake_ups(apns=rig.apns())

    for _ in range(3):
        assert await wake_ups.wake(str(APNS_TOKEN)) == Delivered()

    assert rig.services.apns.vendor.counters == {"200": 3}


async def test_wrong_credentials_are_not_tried_again_and_said_once(rig: Rig) -> None:
    rig.services.apns.keys.clear()
    wake_ups = rig.wake_ups(apns=rig.apns())

    with capture_logs() as logs:
        for _ in range(3):
            assert isinstance(await wake_ups.wake(str(APNS_TOKEN)), SettingsWrong)

    assert rig.pauses == []
    (entry,) = logs
    assert "InvalidProviderToken" in entry["why"]
    assert "[push.apns]" in entry["next"]


async def test_credentials_that_were_mended_work_after_the_reload(rig: Rig) -> None:
    keys = dict(rig.services.apns.keys)
    rig.services.apns.keys.clear()
    wake_ups = rig.wake_ups(apns=rig.apns())
    await wake_ups.wake(str(APNS_TOKEN))

    rig.services.apns.keys.update(keys)
    await wake_ups.exchange(Pushers(apns=rig.apns()))

    assert await wake_ups.wake(str(APNS_TOKEN)) == Delivered()


async def test_a_service_that_is_not_set_up_is_named(rig: Rig) -> None:
    outcome = await rig.wake_ups(fcm=rig.fcm()).wake(str(APNS_TOKEN))

    assert isinstance(outcome, SettingsWrong)
    assert "[push.apns]" in outcome.remedy


@pytest.mark.parametrize("text", ["", "fcm:", "carrier-pigeon:1", "web:http://x y z"])
async def test_what_is_no_token_is_gone(rig: Rig, text: str) -> None:
    assert isinstance(await rig.wake_ups().wake(text), TokenGone)


async def test_many_who_want_the_same_node_send_one_message(rig: Rig) -> None:
    wake_ups = rig.wake_ups(fcm=rig.fcm())

    outcomes = await asyncio.gather(*(wake_ups.wake(str(FCM_TOKEN)) for _ in range(5)))

    assert outcomes == [Delivered()] * 5
    assert len(rig.services.fcm.vendor.pushed) == 1


async def test_no_token_and_no_key_is_in_the_log(rig: Rig) -> None:
    browser = rig.browser()
    rig.services.web.vendor.expire("subscription-1")
    rig.services.apns.keys.clear()
    wake_ups = rig.wake_ups(apns=rig.apns(), web=rig.web())

    with capture_logs() as logs:
        await wake_ups.wake(str(APNS_TOKEN))
        await wake_ups.wake(str(browser.subscription))

    assert len(logs) == 2
    assert APNS_TOKEN.value not in str(logs)
    assert "subscription-1" not in str(logs)


@given(st.integers(), st.lists(st.none() | st.floats(0, 100), max_size=20), st.floats(0, 20))
def test_tries_are_few_and_end_in_time(
    seed: int, asked: list[float | None], spent_s: float
) -> None:
    entropy, now = Random(seed), Instant(7 * SECOND)
    back_off = BackOff(now)
    pauses = []
    for after_s in asked:
        pause_s = back_off.pause_s(TryLater("", after_s), now, entropy)
        if pause_s is None:
            break
        assert pause_s >= (after_s or 0)
        pauses.append(pause_s)
        now = Instant(now + round((pause_s + spent_s) * SECOND))

    assert len(pauses) < MAX_TRIES
    assert sum(pauses) <= BUDGET_S
