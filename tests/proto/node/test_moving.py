"""Handovers with their causes. Ours: docs/protocol.md section 8."""

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.proto.node.link import Link, connected
from tests.proto.parts import HERE, T0, THERE

from ntmobile.proto.node.causes import OWN, Cause
from ntmobile.proto.node.ends import Path
from ntmobile.proto.node.events import HandoverDone, LocalAddress
from ntmobile.proto.node.moving import Moving
from ntmobile.proto.node.uplinks import cause_of
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint

ELSEWHERE = Endpoint("198.51.100.9", 6000)
RS = Endpoint("203.0.113.241", 4330)
PC = "pc.bob.ntm.example.net"
DIRECT, RELAYED, OTHER = Path(THERE, False), Path(RS, True), Path(ELSEWHERE, False)


def after(ns: int) -> Instant:
    return Instant(T0 + ns)


def address(host: str, interface: int, *, preferred: bool = True) -> LocalAddress:
    return LocalAddress(Endpoint(host, 4330), interface, 1500, preferred)


WIFI, CELL = address("192.0.2.1", 3), address("198.51.100.1", 4, preferred=False)
CELL_ALONE = address("198.51.100.1", 4)
RENUMBERED = address("192.0.2.2", 3)


@pytest.mark.parametrize(
    ("before", "local", "held", "bare", "cause"),
    [
        ((WIFI,), (RENUMBERED,), 0, False, Cause.ADDRESS_CHANGED),
        ((WIFI,), (RENUMBERED,), 0, True, Cause.NEW_NETWORK),
        ((WIFI,), (WIFI,), 0, True, Cause.UPLINK_BACK),
        ((WIFI,), (address("192.0.2.1", 9),), 0, False, Cause.NEW_NETWORK),
        ((WIFI,), (address("192.0.2.1", 9),), 0, True, Cause.NEW_NETWORK),
        ((WIFI, CELL), (CELL_ALONE,), 0, False, Cause.UPLINK_GONE),
        ((CELL_ALONE,), (WIFI, CELL), 0, False, Cause.BETTER_UPLINK),
        ((WIFI, CELL), (WIFI,), 4, False, Cause.UPLINK_GONE),
        ((), (WIFI,), 0, True, Cause.NEW_NETWORK),
        ((WIFI,), (), 0, True, Cause.NEW_NETWORK),
    ],
)
def test_the_addresses_before_and_after_tell_why_this_node_moved(
    before: tuple[LocalAddress, ...],
    local: tuple[LocalAddress, ...],
    held: int,
    bare: bool,
    cause: Cause,
) -> None:
    assert cause_of(before, local, held, bare=bare) is cause


locals_ = st.lists(
    st.builds(
        LocalAddress,
        st.builds(Endpoint, st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"]), st.just(9)),
        st.integers(1, 4),
        st.just(1500),
        st.booleans(),
    ),
    max_size=4,
).map(tuple)


@given(locals_, locals_, st.integers(0, 4), st.booleans())
def test_whatever_the_addresses_are_a_move_of_this_node_has_a_cause_of_its_own(
    before: tuple[LocalAddress, ...], local: tuple[LocalAddress, ...], held: int, bare: bool
) -> None:
    assert cause_of(before, local, held, bare=bare) in OWN


def test_a_move_through_a_hole_is_told_by_where_it_began_and_ended() -> None:
    moving = Moving(PC)

    moving.shift((WIFI,), (), 0)
    moving.begin(RELAYED, T0)
    moving.shift((), (RENUMBERED,), 0)
    moving.begin(None, after(SECOND))
    [done] = moving.finish(DIRECT, after(2 * SECOND))

    assert done.cause is Cause.NEW_NETWORK
    assert (done.old, done.was_relayed, done.new, done.relayed) == (RS, True, THERE, False)
    assert done.outage_ns == 2 * SECOND
    assert moving.last is done


def test_the_next_move_is_not_told_by_the_addresses_of_the_one_before() -> None:
    moving = Moving(PC)
    moving.shift((WIFI,), (), 0)
    moving.begin(DIRECT, T0)
    moving.shift((), (WIFI,), 0)
    [back] = moving.finish(DIRECT, after(1))

    moving.shift((WIFI,), (RENUMBERED,), 0)
    moving.begin(DIRECT, after(2))
    [renumbered] = moving.finish(DIRECT, after(3))

    assert (back.cause, renumbered.cause) == (Cause.UPLINK_BACK, Cause.ADDRESS_CHANGED)


def test_the_outage_of_what_is_noticed_begins_with_the_silence() -> None:
    moving = Moving(PC)
    heard, noticed, over = T0, after(3 * SECOND), after(5 * SECOND)

    assert moving.look(DIRECT, heard, proven=False) == []
    moving.notice(Cause.PATH_DIED, DIRECT, noticed)
    [done] = moving.carry(RELAYED, over)

    assert (done.cause, done.outage_ns, done.at) == (Cause.PATH_DIED, 5 * SECOND, over)
    assert (done.was_relayed, done.relayed) == (False, True)


def test_without_a_silence_it_begins_when_it_is_noticed() -> None:
    moving = Moving(PC)
    moving.look(DIRECT, T0, proven=True)

    moving.notice(Cause.PEER_MOVED, DIRECT, after(10 * SECOND))
    [done] = moving.carry(OTHER, after(10 * SECOND + 40))

    assert done.outage_ns == 40


def test_a_path_that_carries_on_by_itself_is_over_with_the_first_capsule_heard() -> None:
    moving = Moving(PC)
    moving.look(RELAYED, T0, proven=False)
    moving.notice(Cause.PATH_DIED, RELAYED, after(3 * SECOND))

    too_old = moving.look(RELAYED, T0, proven=True)
    [done] = moving.look(RELAYED, after(4 * SECOND), proven=True)

    assert too_old == []
    assert (done.outage_ns, done.old, done.new) == (4 * SECOND, RS, RS)
    assert moving.look(RELAYED, after(5 * SECOND), proven=True) == []


@pytest.mark.parametrize(
    ("first", "then", "told"),
    [
        (Cause.PATH_DIED, Cause.NAT_REBOOTED, Cause.NAT_REBOOTED),
        (Cause.PATH_DIED, Cause.RELAY_DIED, Cause.RELAY_DIED),
        (Cause.PATH_DIED, Cause.PEER_MOVED, Cause.PEER_MOVED),
        (Cause.NAT_REBOOTED, Cause.PEER_MOVED, Cause.PEER_MOVED),
        (Cause.NAT_REBOOTED, Cause.RELAY_DIED, Cause.RELAY_DIED),
        (Cause.NAT_REBOOTED, Cause.PATH_DIED, Cause.NAT_REBOOTED),
        (Cause.PEER_MOVED, Cause.PATH_DIED, Cause.PEER_MOVED),
        (Cause.RELAY_DIED, Cause.NAT_REBOOTED, Cause.RELAY_DIED),
    ],
)
def test_the_better_reason_is_told_whichever_comes_first(
    first: Cause, then: Cause, told: Cause
) -> None:
    moving = Moving(PC)
    moving.notice(first, DIRECT, T0)
    moving.notice(then, RELAYED, after(1))

    [done] = moving.carry(RELAYED, after(2))

    assert (done.cause, done.old, done.outage_ns) == (told, THERE, 2)


def test_a_move_of_this_node_explains_all_else() -> None:
    moving = Moving(PC)
    moving.notice(Cause.PATH_DIED, DIRECT, T0)
    moving.shift((WIFI,), (RENUMBERED,), 0)
    moving.begin(DIRECT, after(1))
    moving.notice(Cause.PEER_MOVED, DIRECT, after(2))

    assert moving.carry(DIRECT, after(3)) == []
    [done] = moving.finish(DIRECT, after(4))
    assert (done.cause, done.outage_ns) == (Cause.ADDRESS_CHANGED, 3)


def test_a_way_that_led_nowhere_was_no_handover() -> None:
    moving = Moving(PC)
    moving.notice(Cause.NAT_REBOOTED, DIRECT, T0)
    moving.drop()

    assert moving.carry(DIRECT, after(1)) == []
    assert moving.last is None


@pytest.mark.parametrize("source", [THERE, Endpoint("203.0.113.242", 4330)])
def test_to_leave_rs_for_a_direct_path_or_for_the_other_rs_of_both_is_no_handover(
    source: Endpoint,
) -> None:
    moving = Moving(PC)
    moving.hear_update(RELAYED, source, T0)

    assert moving.carry(DIRECT, after(1)) == []


STEPS = st.tuples(
    st.sampled_from(["begin", "notice", "silent", "drop", "finish", "carry", "heard"]),
    st.sampled_from([None, DIRECT, RELAYED, OTHER]),
    st.sampled_from(list(Cause)),
    st.integers(0, SECOND),
)


@given(st.lists(STEPS, max_size=12))
def test_whatever_happens_no_outage_is_negative_and_each_handover_is_told_once(
    steps: list[tuple[str, Path | None, Cause, int]],
) -> None:
    moving, now, told = Moving(PC), T0, 0
    for step, path, cause, wait_ns in steps:
        now = Instant(now + wait_ns)
        done: list[HandoverDone] = []
        match step:
            case "begin":
                moving.begin(path, now)
            case "notice":
                moving.notice(cause, path, now)
            case "silent":
                done = moving.look(path, now, proven=False)
            case "drop":
                moving.drop()
            case "finish":
                done = moving.finish(path, now)
            case "carry":
                done = moving.carry(path, now)
            case "heard":
                done = moving.look(path, now, proven=True)
        assert all(each.outage_ns >= 0 for each in done)
        told += len(done)
    begun = sum(step in ("begin", "notice") for step, *_ in steps)
    assert told <= begun
    assert (moving.last is None) is (told == 0)


def causes(link: Link) -> tuple[list[Cause], list[Cause]]:
    a, b = ([each.cause for each in side.handovers()] for side in link.sides)
    return a, b


def test_the_peer_of_a_mover_tells_that_it_moved() -> None:
    link = connected()

    link.move(link.a, ELSEWHERE)
    link.wait(0.5)

    assert causes(link)[1] == [Cause.PEER_MOVED]
    [move] = link.b.handovers()
    assert (move.old, move.new) == (HERE, ELSEWHERE)
    assert move.outage_ns < SECOND // 10


def test_a_nat_that_maps_an_end_elsewhere_is_told_by_the_other() -> None:
    link = connected()
    link.talk(link.a)
    link.wait(1)
    link.a.place = ELSEWHERE  # and its machine knows nothing of it

    for _ in range(8):
        link.talk(link.a)
        link.talk(link.b)
        link.wait(0.25)

    assert link.can_talk(link.b)
    assert causes(link)[1] == [Cause.NAT_REBOOTED]
    assert link.b.handovers()[0].new == ELSEWHERE


def test_an_address_that_does_not_answer_is_told_by_nobody() -> None:
    """The negative twin."""
    link = connected()

    link.b.tunnel.handle_moved(ELSEWHERE, 0, link.now)
    link.wait(8)

    assert link.b.path() == HERE
    assert causes(link) == ([], [])


def test_a_path_that_died_and_was_negotiated_anew_is_told_with_the_whole_silence() -> None:
    link = connected()
    link.heals = False
    link.talk(link.a)
    link.wait(0.1)
    link.loss = 1.0

    for _ in range(20):
        link.talk(link.a)
        link.wait(0.25)
    link.loss, link.heals = 0.0, True
    for _ in range(8):
        link.talk(link.a)
        link.wait(0.25)

    [died] = link.a.handovers()
    assert died.cause is Cause.PATH_DIED
    assert 4 * SECOND < died.outage_ns < 8 * SECOND


def test_nothing_is_told_of_a_tunnel_that_nobody_uses() -> None:
    link = connected()
    link.talk(link.a)
    link.wait(400)

    assert causes(link) == ([], [])
