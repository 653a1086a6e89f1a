"""A node that sleeps is woken through its push service and gets what was kept for it."""

import pytest
from tests.proto.coordinator.rig import INSIDE, Player, Rig
from tests.proto.parts import ALICE, CAROL, after

from ntmobile.proto.coordinator.settings import WakeUpFailed
from ntmobile.proto.io import Failed, WakeUp
from ntmobile.wire.direction import RouteDirection
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import (
    KeepAliveChoice,
    NtmAck,
    Reason,
    Refusal,
    RegistrationResponse,
    UdpKeepAlive,
)

pytestmark = pytest.mark.paper("Push")

TOKEN = "token of carol's phone"
PUSH = {"keepalive": KeepAliveChoice.PUSH, "device_token": TOKEN}
HOUR = 3600.0


def test_a_node_with_a_device_token_is_told_that_it_may_sleep() -> None:
    rig = Rig()

    answer = rig.register(rig.distribute(CAROL, 2), **PUSH)

    assert isinstance(answer, RegistrationResponse)
    assert (answer.keepalive, answer.problem) == (KeepAliveChoice.PUSH, None)


def test_without_a_token_the_node_must_keep_its_mapping_alive_and_hears_why() -> None:
    rig = Rig()

    answer = rig.register(rig.distribute(CAROL, 2), keepalive=KeepAliveChoice.PUSH)

    assert isinstance(answer, RegistrationResponse)
    assert (answer.keepalive, answer.problem) == (KeepAliveChoice.UDP, Reason.TOKEN_GONE)


def test_a_token_of_a_service_that_the_domain_does_not_use_is_refused_at_once() -> None:
    rig = Rig()
    rig.dc.set_push(frozenset({"web"}))
    cn = rig.distribute(CAROL, 2)

    refused = rig.register(cn, keepalive=KeepAliveChoice.PUSH, device_token="fcm:x")
    taken = rig.register(cn, keepalive=KeepAliveChoice.PUSH, device_token="web:x")

    assert isinstance(refused, RegistrationResponse)
    assert (refused.keepalive, refused.problem) == (KeepAliveChoice.UDP, Reason.PUSH_REFUSED)
    assert isinstance(taken, RegistrationResponse)
    assert (taken.keepalive, taken.problem) == (KeepAliveChoice.PUSH, None)


def test_a_node_whose_token_was_refused_is_reached_by_udp_and_not_woken() -> None:
    rig = Rig()
    rig.dc.set_push(frozenset())
    mn, cn = rig.node(ALICE, 1), rig.distribute(CAROL, 2)
    for player, rest in ((mn, {}), (cn, PUSH)):
        rig.register(player, **rest)
    rig.pass_time(30)

    rig.direction(mn, CAROL)

    assert not rig.woken()
    assert rig.acknowledge(cn, RouteDirection)


def test_a_sleeping_node_is_woken_once_and_told_nothing_before_it_contacts_its_dc() -> None:
    rig, mn, cn = asleep()

    rig.direction(mn, CAROL)
    rig.direction(mn, CAROL, number=2)

    (wake_up,) = rig.woken()
    assert wake_up == WakeUp(wake_up.id, CAROL, TOKEN)
    assert "RouteDirection" not in cn.kinds()


def test_the_node_that_wakes_gets_every_route_direction_where_it_is_now() -> None:
    rig, mn, cn = asleep()
    rig.direction(mn, CAROL)
    rig.direction(mn, CAROL, number=2)
    rig.answer(rig.woken()[0], NtmAck())
    rig.pass_time(2)

    cn.place = Endpoint(cn.place.host, cn.place.port + 1)
    rig.register(cn, **PUSH)

    assert rig.acknowledge(cn, RouteDirection).negotiation == b"\x01" * 16
    assert rig.acknowledge(cn, RouteDirection).negotiation == b"\x02" * 16
    assert not rig.woken()


def test_mn_is_directed_when_the_sleeper_is_awake_and_not_before() -> None:
    """The paper's order: a direct path may not be tried, and given up, while CN wakes."""
    rig, mn, cn = asleep()
    rig.direction(mn, CAROL)
    rig.pass_time(5)
    assert mn.kinds() == []

    rig.register(cn, **PUSH)
    rig.acknowledge(cn, RouteDirection)

    rig.acknowledge(mn, RouteDirection)


def test_a_node_that_was_heard_just_now_needs_no_waking() -> None:
    rig, mn, cn = asleep(for_s=4)

    rig.direction(mn, CAROL)

    assert not rig.woken()
    rig.acknowledge(cn, RouteDirection)


def test_a_node_that_keeps_its_mapping_alive_is_never_woken() -> None:
    """The negative twin: the same silence, less than what counts as gone."""
    rig = Rig()
    mn, cn = rig.node(ALICE, 1), rig.node(CAROL, 2)
    rig.pass_time(60)

    rig.direction(mn, CAROL)

    assert not rig.woken()
    rig.acknowledge(cn, RouteDirection)


def test_any_datagram_of_the_node_counts_as_contact() -> None:
    rig, mn, cn = asleep()
    rig.direction(mn, CAROL)

    rig.inject(cn.mouth.say(UdpKeepAlive()), cn.place)

    rig.acknowledge(cn, RouteDirection)


@pytest.mark.parametrize("reason", [Reason.PUSH_DOWN, Reason.TOKEN_GONE])
def test_what_the_push_service_says_is_mn_s_refusal_and_the_operator_s_event(
    reason: Reason,
) -> None:
    rig, mn, _ = asleep()
    rig.direction(mn, CAROL)

    rig.answer(rig.woken()[0], Failed(reason, "its words"))

    _, refusal = mn.take(Refusal)
    assert refusal.reason is reason
    assert rig.not_woken == [WakeUpFailed(rig.now, CAROL, reason, "its words")]


def test_any_other_failure_of_the_driver_is_the_push_service_s() -> None:
    rig, mn, _ = asleep()
    rig.direction(mn, CAROL)

    rig.answer(rig.woken()[0], Failed(Reason.BUSY, "too many requests under way"))

    assert mn.take(Refusal)[1].reason is Reason.PUSH_DOWN


def test_a_node_that_does_not_wake_in_time_is_told_of_as_such() -> None:
    rig, mn, _ = asleep()
    rig.direction(mn, CAROL)
    rig.answer(rig.woken()[0], NtmAck())

    rig.pass_time(9)
    assert mn.kinds() == []
    rig.pass_time(2)

    assert mn.take(Refusal)[1].reason is Reason.NOT_WOKEN
    assert [event.reason for event in rig.not_woken] == [Reason.NOT_WOKEN]


def test_a_token_that_is_gone_is_never_used_again_and_the_node_hears_of_it() -> None:
    rig, mn, cn = asleep()
    rig.direction(mn, CAROL)
    rig.answer(rig.woken()[0], Failed(Reason.TOKEN_GONE))
    mn.take(Refusal)

    rig.direction(mn, CAROL, number=2)
    assert not rig.woken()
    assert mn.take(Refusal)[1].reason is Reason.TOKEN_GONE

    answer = rig.register(cn, **PUSH)
    assert isinstance(answer, RegistrationResponse)
    assert (answer.keepalive, answer.problem) == (KeepAliveChoice.UDP, Reason.TOKEN_GONE)


def test_a_node_that_fell_asleep_just_now_is_not_waited_for_once_its_token_is_gone() -> None:
    """It does not know, and sleeps on: nothing but its own contact reaches it."""
    rig, mn, cn = asleep(for_s=30)
    rig.direction(mn, CAROL)
    rig.answer(rig.woken()[0], Failed(Reason.TOKEN_GONE))
    mn.take(Refusal)

    rig.direction(mn, CAROL, number=2)

    assert mn.take(Refusal)[1].reason is Reason.TOKEN_GONE
    assert cn.kinds() == []


def test_a_node_that_knows_that_its_token_is_gone_is_reached_by_udp() -> None:
    rig, mn, cn = asleep(for_s=30)
    rig.direction(mn, CAROL)
    rig.answer(rig.woken()[0], Failed(Reason.TOKEN_GONE))
    mn.take(Refusal)
    rig.register(cn, **PUSH)
    rig.pass_time(30)

    rig.direction(mn, CAROL, number=2)

    assert rig.acknowledge(cn, RouteDirection).negotiation == b"\x02" * 16


def test_a_new_token_makes_good_for_one_that_is_gone() -> None:
    rig, mn, cn = asleep()
    rig.direction(mn, CAROL)
    rig.answer(rig.woken()[0], Failed(Reason.TOKEN_GONE))

    answer = rig.register(cn, keepalive=KeepAliveChoice.PUSH, device_token="another")
    rig.pass_time(HOUR)
    rig.direction(mn, CAROL, number=2)

    assert isinstance(answer, RegistrationResponse)
    assert answer.problem is None
    assert [wake_up.token for wake_up in rig.woken()] == ["another"]


def test_a_gone_token_is_remembered_over_a_restart_of_the_dc() -> None:
    rig, mn, cn = asleep()
    rig.direction(mn, CAROL)
    rig.answer(rig.woken()[0], Failed(Reason.TOKEN_GONE))

    again = Rig(stored=tuple(rig.stored.values()), now=after(rig.now, 1), seed=2)
    again.players = rig.players

    answer = again.register(cn, **PUSH)
    assert isinstance(answer, RegistrationResponse)
    assert answer.problem is Reason.TOKEN_GONE


def test_a_sleeping_node_is_woken_by_a_dc_that_restarted_meanwhile() -> None:
    rig, mn, cn = asleep()
    again = Rig(stored=tuple(rig.stored.values()), now=after(rig.now, HOUR), seed=2)
    again.players = rig.players
    again.register(mn)

    again.direction(mn, CAROL)
    assert [wake_up.token for wake_up in again.woken()] == [TOKEN]
    again.register(cn, **PUSH)

    again.acknowledge(cn, RouteDirection)


def test_a_late_word_of_the_push_service_about_an_earlier_wake_up_refuses_nothing_new() -> None:
    rig, mn, cn = asleep()
    rig.direction(mn, CAROL)
    (first,) = rig.woken()
    rig.register(cn, **PUSH)
    rig.acknowledge(cn, RouteDirection)
    rig.pass_time(HOUR)
    rig.register(mn)
    rig.direction(mn, CAROL, number=2)

    rig.answer(first, Failed(Reason.PUSH_DOWN))
    rig.register(cn, **PUSH)

    assert rig.acknowledge(cn, RouteDirection).negotiation == b"\x02" * 16


def asleep(*, for_s: float = HOUR) -> tuple[Rig, Player, Player]:
    """Return a rig with MN registered just now and CN asleep for that long."""
    rig = Rig()
    mn, cn = rig.node(ALICE, 1), rig.distribute(CAROL, 2)
    rig.register(cn, (INSIDE,), **PUSH)
    rig.pass_time(for_s)
    rig.register(mn)
    for player in (mn, cn):
        player.heard.clear()
    return rig, mn, cn
