"""Our client against a service that speaks Web Push, over real TLS."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.runtime.push.rig import SECRET, Rig

from ntmobile.lab.push.vendor import Fault
from ntmobile.runtime.push.jwt import public_point
from ntmobile.runtime.push.names import SERVICES
from ntmobile.runtime.push.outcome import Delivered, SettingsWrong, TokenGone, TryLater
from ntmobile.runtime.push.web import RENEW_S, VOUCHER_S
from ntmobile.wire.device_token import WebSubscription

pytestmark = pytest.mark.paper("Push")


async def test_a_wake_up_is_taken_and_only_the_device_can_read_it(rig: Rig) -> None:
    browser = rig.browser()

    assert await rig.web().push(browser.subscription) == Delivered()

    (pushed,) = rig.services.web.vendor.pushed
    assert b"wake" not in pushed.body
    assert browser.read(pushed.body) == b'{"ntm":"wake"}'


async def test_the_message_is_urgent_short_lived_and_replaceable(rig: Rig) -> None:
    await rig.web().push(rig.browser().subscription)

    headers = rig.services.web.vendor.pushed[0].headers
    assert (headers["ttl"], headers["urgency"], headers["topic"]) == ("60", "high", "ntm")


async def test_two_messages_share_no_key_and_no_salt(rig: Rig) -> None:
    web, subscription = rig.web(), rig.browser().subscription
    for _ in range(2):
        await web.push(subscription)

    first, second = (pushed.body for pushed in rig.services.web.vendor.pushed)

    assert first[:16] != second[:16]
    assert first[21:86] != second[21:86]


async def test_a_subscription_bound_to_our_key_takes_it(rig: Rig) -> None:
    browser = rig.browser(server_key=public_point(rig.vapid))

    assert await rig.web().push(browser.subscription) == Delivered()


async def test_a_subscription_bound_to_another_key_is_named_with_the_remedy(rig: Rig) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    browser = rig.browser(server_key=public_point(other))

    outcome = await rig.web().push(browser.subscription)

    assert isinstance(outcome, SettingsWrong)
    assert "[push.web] vapid_key" in outcome.remedy


async def test_a_voucher_is_used_again_and_renewed_before_it_ends(rig: Rig) -> None:
    web, subscription = rig.web(), rig.browser().subscription
    for _ in range(2 * VOUCHER_S // RENEW_S):
        for _ in range(2):
            assert await web.push(subscription) == Delivered()
        rig.forward(RENEW_S)

    shown = {pushed.headers["authorization"] for pushed in rig.services.web.vendor.pushed}
    assert len(shown) == 2 * VOUCHER_S // RENEW_S


async def test_a_clock_a_day_ahead_is_refused(rig: Rig) -> None:
    rig.clock.forward(86400)

    assert isinstance(await rig.web().push(rig.browser().subscription), SettingsWrong)


async def test_an_expired_and_an_unknown_subscription_are_gone(rig: Rig) -> None:
    subscription = rig.browser("expired").subscription
    rig.services.web.vendor.expire("expired")
    unknown = WebSubscription(
        f"{rig.services.web.origin}/push/unknown", subscription.public, SECRET
    )

    for each in (subscription, unknown):
        assert isinstance(await rig.web().push(each), TokenGone)


async def test_a_key_that_is_no_point_of_the_curve_is_gone(rig: Rig) -> None:
    wrong = WebSubscription(f"{rig.services.web.origin}/push/x", b"\x04" + bytes(64), SECRET)

    assert isinstance(await rig.web().push(wrong), TokenGone)


async def test_a_host_that_is_no_push_service_is_not_asked(rig: Rig) -> None:
    """A node must not make the DC talk to a machine of the operator's network."""
    outcome = await rig.web(services=SERVICES).push(rig.browser().subscription)

    assert isinstance(outcome, SettingsWrong)
    assert 'add "localhost" to [push.web] services' in outcome.remedy
    assert not rig.services.web.vendor.counters


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("updates.push.services.mozilla.com", True),
        ("wns2-par02p.notify.windows.com", True),
        ("notify.windows.com.example.net", False),
        ("fcm.googleapis.com.example.net", False),
        ("127.0.0.1", False),
    ],
)
async def test_the_browsers_services_are_allowed(rig: Rig, host: str, allowed: bool) -> None:
    web = rig.web(services=SERVICES)
    token = WebSubscription(f"https://{host}:1/x", b"\x04" + bytes(64), SECRET)

    # Not a point: what is allowed is found out before anything is sent.
    assert isinstance(await web.push(token), TokenGone if allowed else SettingsWrong)


@pytest.mark.parametrize(
    ("fault", "after_s"), [(Fault(429, "", "9"), 9.0), (Fault(503), None), (Fault(500), None)]
)
async def test_a_busy_service_is_to_be_tried_later(
    rig: Rig, fault: Fault, after_s: float | None
) -> None:
    rig.services.web.vendor.faults.append(fault)

    outcome = await rig.web().push(rig.browser().subscription)

    assert isinstance(outcome, TryLater)
    assert outcome.after_s == after_s
