"""A move through RS: what is told and sent before RS has the proof of the new address.

Ours: docs/protocol.md section 8.
"""

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given
from tests.proto.node.rig import ELSEWHERE, Peer, Rig, connected
from tests.proto.parts import BOB, RS, STRANGER, T0, Mouth, after

from ntmobile.keys.table import Ktun
from ntmobile.proto.node.events import Resend, SetPath, Traffic
from ntmobile.proto.node.holding import COPIES, EARLY_COPY_NS, LEAD_NS, MARGIN_NS, Holding
from ntmobile.proto.node.tunnel import Tunnel
from ntmobile.proto.node.updates import Updates
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Sender, encode_control
from ntmobile.wire.direction import Role
from ntmobile.wire.registration import Challenge, NtmAck
from ntmobile.wire.tunnel import (
    EchoReply,
    EchoRequest,
    PathChallenge,
    PathResponse,
    PathUpdate,
    ReceiveState,
)

OTHER_RS = STRANGER
MS = 1_000_000


def moved(rtt_s: float | None = None) -> tuple[Rig, Mouth]:
    """A node whose tunnel through RS has just moved, and RS; the round trip to the peer."""
    rig, peer = connected(relay=(RS,))
    route = peer.route()
    if rtt_s is not None:
        tunnel_of(rig).rtt_ns = round(rtt_s * SECOND)
    rig.elsewhere.clear()
    rig.commands.clear()
    rig.node.handle_links((ELSEWHERE,), rig.now)
    rig.settle()
    key = Ktun(route.ktun, route.ktun_identifier, after(rig.now, 60))
    return rig, Mouth(Sender.RS, key)


def challenge(rig: Rig, rs: Mouth) -> None:
    """RS asks for a proof of the new address."""
    (punch,) = rig.elsewhere
    rig.node.handle_datagram(RS, rs.reply(punch, Challenge(bytes(16))), rig.now)
    rig.settle()


def told_at(holding: Holding) -> Instant:
    """When the peer is told, after it may have been asked what it misses."""
    due = holding.poll_timeout()
    assert due is not None
    if holding.asks(due.at):
        due = holding.poll_timeout()
        assert due is not None
    return due.at


def echoes(rig: Rig) -> list[EchoRequest]:
    """Those that look for no larger packets."""
    return [echo for echo in rig.controls(EchoRequest) if not echo.padding]


def tunnel_of(rig: Rig) -> Tunnel:
    tunnel = rig.node._peers.named(BOB)
    assert tunnel is not None
    return tunnel


def test_the_peer_is_told_shortly_after_the_hole_punching_and_not_with_it() -> None:
    """RS drops what comes before it led the mover in."""
    rig, _ = moved()
    with_it = rig.controls(PathUpdate)

    rig.pass_time(MARGIN_NS / SECOND)

    assert with_it == []
    assert len(rig.controls(PathUpdate)) == 1
    assert rig.told(SetPath)[-1].hold, "data come too early"


@pytest.mark.parametrize("in_time", [True, False])
def test_what_was_told_stands_if_its_answer_finds_the_proof_at_rs(in_time: bool) -> None:
    """RS and the peer are as far: the answer comes as much later as the peer was told later."""
    rig, rs = moved(0.05)

    rig.pass_time(0.025 + MARGIN_NS / SECOND + (-0.001 if in_time else 0.001))
    challenge(rig, rs)

    first, early, again = rig.controls(PathUpdate)
    assert early.sequence == first.sequence
    assert (again.sequence == first.sequence) is in_time
    assert again.challenge != first.challenge


@pytest.mark.parametrize("proves", [True, False])
def test_one_copy_follows_what_came_to_rs_with_the_hole_punching_unless_the_proof_does(
    proves: bool,
) -> None:
    """Where a router holds both back at first, RS drops what comes with the Hole Punching."""
    rig, rs = moved(0.05)
    rig.pass_time(MARGIN_NS / SECOND)
    (first,) = rig.controls(PathUpdate)
    rig.pass_time((EARLY_COPY_NS - LEAD_NS / 2) / SECOND)
    if proves:
        challenge(rig, rs)
    told = len(rig.controls(PathUpdate))
    rig.pass_time(LEAD_NS * 0.75 / SECOND if proves else 2 * EARLY_COPY_NS / SECOND)

    copies = rig.controls(PathUpdate)[told:]

    assert [copy.sequence for copy in copies] == ([] if proves else [first.sequence])


def test_a_copy_of_what_was_told_makes_the_peer_send_nothing_again() -> None:
    here, there = Updates(T0), Updates(T0)
    first, copy = here.make((), 1, again=False), here.make((), 2, again=True)
    anew = here.make((), 3, again=False)

    assert there.take(first, after(T0, 1)) == (True, True)
    assert there.take(copy, after(T0, 1.1)) == (False, False)
    assert there.take(anew, after(T0, 1.1)) == (True, True)
    assert there.take(copy, after(T0, 2)) == (False, True)


@pytest.mark.parametrize("answered", [True, False])
def test_copies_follow_the_proof_until_the_peer_answers_one(answered: bool) -> None:
    """A peer that moves too hears only what comes to RS behind its own proof."""
    rig, rs = moved(0.05)
    rig.pass_time(0.025)
    challenge(rig, rs)
    told = rig.controls(PathUpdate)
    rig.pass_time(0.007)
    if answered:
        response = encode_control(PathResponse(told[-1].challenge, ELSEWHERE.endpoint))
        tunnel_of(rig).handle_control(0, RS, 0, response, rig.now)
    rig.pass_time(0.025)

    copies = rig.controls(PathUpdate)[len(told) :]

    assert len(copies) == (1 if answered else COPIES)
    assert {copy.sequence for copy in copies} == {told[-1].sequence}
    assert len({copy.challenge for copy in copies}) == len(copies)


def test_what_the_peer_misses_is_asked_before_it_is_told_and_sent_again_once() -> None:
    """Its answer to what it is told was on its way before the data came that it still misses."""
    rig, _ = moved(0.05)
    rig.pass_time(LEAD_NS / SECOND)
    (asked,), told = rig.controls(PathChallenge), rig.controls(PathUpdate)
    rig.pass_time((MARGIN_NS - LEAD_NS) / SECOND)
    (update,) = rig.controls(PathUpdate)
    missed = (ReceiveState(0, 7, b"\x0f"),)
    for challenge in (asked.challenge, update.challenge):
        rig.pass_time(0.02)
        response = encode_control(PathResponse(challenge, ELSEWHERE.endpoint, missed))
        tunnel_of(rig).handle_control(0, RS, 0, response, rig.now)
    rig.pass_time(0.1)

    assert told == []
    assert [each.told for each in rig.told(Resend)] == [missed]


def test_a_peer_that_does_not_say_what_it_misses_is_sent_it_when_it_is_told() -> None:
    """One that was asked by a way which it does not take for RS: nothing is kept from it."""
    rig, _ = moved(0.05)
    rig.pass_time(MARGIN_NS / SECOND)
    (asked,), (update,) = rig.controls(PathChallenge), rig.controls(PathUpdate)
    missed = (ReceiveState(0, 7, b"\x0f"),)
    for number, received in ((asked.challenge, ()), (update.challenge, missed)):
        rig.pass_time(0.02)
        response = encode_control(PathResponse(number, ELSEWHERE.endpoint, received))
        tunnel_of(rig).handle_control(0, RS, 0, response, rig.now)
    rig.pass_time(0.1)

    assert [each.told for each in rig.told(Resend)] == [missed]


def test_who_is_asked_through_rs_says_what_it_misses() -> None:
    rig, _ = moved()
    before = len(rig.controls(PathResponse))
    rig.loops.states = (ReceiveState(0, 7, b"\x0f"),)

    for source in (RS, ELSEWHERE.endpoint):
        asked = encode_control(PathChallenge(5))
        tunnel_of(rig).handle_control(0, source, 0, asked, rig.now)
    rig.pass_time(0.1)

    through_rs, straight = rig.controls(PathResponse)[before:]
    assert through_rs.received == rig.loops.states
    assert not straight.received


@pytest.mark.parametrize("answered", [True, False])
def test_the_peer_is_told_anew_where_its_answer_does_not_come_after_all(answered: bool) -> None:
    rig, rs = moved(0.05)
    rig.pass_time(0.025)
    challenge(rig, rs)
    rig.pass_time(0.025)
    rig.node.handle_datagram(RS, rs.reply(rig.elsewhere[-1], NtmAck()), rig.now)
    rig.settle()
    told = rig.controls(PathUpdate)
    if answered:
        response = encode_control(PathResponse(told[-1].challenge, ELSEWHERE.endpoint))
        tunnel_of(rig).handle_control(0, RS, 0, response, rig.now)

    rig.pass_time(0.06)

    later = rig.controls(PathUpdate)[len(told) :]
    assert any(update.sequence > told[-1].sequence for update in later) is not answered


def test_a_tunnel_through_rs_that_is_used_learns_once_how_far_its_peer_is() -> None:
    """Else nobody could tell when the first move's answer comes."""
    rig, _ = connected(relay=(RS,))
    tunnel = tunnel_of(rig)
    tunnel.rtt_ns = None
    before = len(echoes(rig))

    for second in range(1, 8):
        rig.loops.seen = Traffic(second, second, rig.now, rig.now)
        rig.pass_time(0.97)
        for asked in echoes(rig)[before : before + 1]:
            rig.now = after(rig.now, 0.03)
            reply = encode_control(EchoReply(asked.sequence, b""))
            tunnel.handle_control(0, RS, 0, reply, rig.now)

    assert len(echoes(rig)) == before + 1
    assert tunnel.rtt_ns is not None


@pytest.mark.parametrize(("first_ms", "told_ms"), [(20, 4), (30, 8), (40, 28), (70, 8)])
def test_the_set_up_told_how_far_rs_is_and_if_rs_was_not_ready_it_is_thought_to_be_half_way(
    first_ms: int, told_ms: int
) -> None:
    """Of 60 ms to the peer and back."""
    holding = Holding()
    holding.learn(first_ms * MS)
    holding.begin(hold=True)

    holding.plan(60 * MS, Instant(0))

    assert told_at(holding) == told_ms * MS


@given(
    st.integers(0, 200),
    st.integers(0, 200),
    st.lists(st.integers(0, 30), min_size=1, max_size=6),
)
def test_what_stands_is_never_answered_before_the_proof_and_nobody_is_told_late(
    to_rs: int, beyond: int, delays: list[int]
) -> None:
    """Milliseconds one way to RS and from there to the peer; delays of RS, move for move."""
    holding, rtt_ns = Holding(), 2 * (to_rs + beyond) * MS
    for number, delay in enumerate(delays):
        holding.begin(hold=True)
        holding.plan(rtt_ns, Instant(0))
        challenged = Instant((2 * to_rs + delay) * MS)
        at = told_at(holding)
        told = at if at < challenged and holding.tells(at) else None
        stands = holding.prove(rtt_ns, challenged)
        if stands and number:
            assert told is not None
            answer = told + (to_rs + 2 * beyond) * MS
            # What RS took the time before counts as its way, so the way beyond as shorter.
            assert answer >= challenged + to_rs * MS
        elif number and beyond >= to_rs + max(delays):
            assert told is None or delay * MS > MARGIN_NS
        assert holding.holds
        assert holding.is_over(challenged), "data leave with the proof"


def test_data_wait_until_rs_has_heard_of_the_new_address() -> None:
    rig, rs = moved()
    waiting = rig.told(SetPath)[-1]

    challenge(rig, rs)
    rig.pass_time(0)

    assert waiting.hold
    assert not rig.told(SetPath)[-1].hold


def test_the_peer_is_told_as_soon_as_rs_asks_for_a_proof_and_data_follow_behind_that() -> None:
    rig, rs = moved()
    before = len(rig.controls(PathUpdate))

    challenge(rig, rs)

    assert len(rig.controls(PathUpdate)) == before + 1
    assert [sent.destination for sent in rig.elsewhere] == [RS, RS]
    assert rs.hear(rig.elsewhere[-1]).token == bytes(16)
    assert rig.told(SetPath)[-1].hold, "data before the proof delay it"


def test_an_answer_that_rs_had_the_proof_in_time_for_is_not_asked_for_again() -> None:
    rig, rs = moved(0.05)
    challenge(rig, rs)
    before = len(rig.controls(PathUpdate))

    rig.now = after(rig.now, 0.02)
    rig.node.handle_datagram(RS, rs.reply(rig.elsewhere[-1], NtmAck()), rig.now)
    rig.settle()

    assert len(rig.controls(PathUpdate)) == before


def test_an_answer_that_may_have_come_before_the_proof_is_asked_for_again() -> None:
    rig, rs = moved(0.01)
    challenge(rig, rs)
    before = len(rig.controls(PathUpdate))

    rig.now = after(rig.now, 0.02)
    rig.node.handle_datagram(RS, rs.reply(rig.elsewhere[-1], NtmAck()), rig.now)
    rig.settle()

    assert len(rig.controls(PathUpdate)) == before + 1
    assert not rig.told(SetPath)[-1].hold


@pytest.mark.parametrize("waits_s", [0, MARGIN_NS / SECOND])
def test_where_rs_asks_for_no_proof_the_peer_is_told_once_and_data_leave(waits_s: float) -> None:
    rig, rs = moved(0.05)
    rig.pass_time(waits_s)
    (punch,) = rig.elsewhere

    rig.node.handle_datagram(RS, rs.reply(punch, NtmAck()), rig.now)
    rig.settle()

    assert len(rig.controls(PathUpdate)) == 1
    assert not rig.told(SetPath)[-1].hold


def test_a_challenge_of_what_is_no_move_tells_the_peer_nothing() -> None:
    rig, peer = connected()
    before = len(rig.controls(PathUpdate))
    route = msgspec.structs.replace(peer.route(), relay=(RS,), ktun_identifier=b"\x66" * 8)
    rs = Mouth(Sender.RS, Ktun(route.ktun, route.ktun_identifier, after(rig.now, 60)))
    rig.elsewhere.clear()
    rig.tell(route)
    for punch in rig.elsewhere:
        rig.node.handle_datagram(RS, rs.reply(punch, Challenge(bytes(16))), rig.now)
    rig.settle()

    assert len(rig.controls(PathUpdate)) == before


def test_both_rs_that_a_tunnel_knows_are_shown_where_a_mover_is() -> None:
    """The peer may keep to the one, though the newest negotiation led through the other."""
    rig, _ = connected(relay=(RS,))
    second = Peer(rig, bytes(range(16)), role=Role.MN, sends=True, relay=(OTHER_RS,))
    rig.tell(second.route())
    second.exchange()
    rig.elsewhere.clear()

    rig.node.handle_links((ELSEWHERE,), rig.now)
    rig.settle()

    assert {sent.destination for sent in rig.elsewhere} == {RS, OTHER_RS}
