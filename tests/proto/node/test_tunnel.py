"""Ours: docs/protocol.md sections 4, 8 and 9."""

import pytest
from tests.proto.node.link import Link, Side, connected, old_enough
from tests.proto.parts import HERE, HERE6, STRANGER, THERE, drain

from ntmobile.proto.node.ends import Path
from ntmobile.proto.node.epochs import GLARE_NS, OVERLAP_NS
from ntmobile.proto.node.events import (
    ClearPath,
    CloseTunnel,
    InstallKeys,
    Resend,
    SendControl,
    Traffic,
    TunnelClosed,
)
from ntmobile.proto.node.events import Pong as PongEvent
from ntmobile.proto.node.handshake import Secrets
from ntmobile.proto.node.liveness import DEAD_NS
from ntmobile.proto.node.negotiation import Agreed
from ntmobile.proto.node.notes import PathDead
from ntmobile.proto.node.purpose import KEEPALIVE_NS, REKEY_NS
from ntmobile.time import SECOND
from ntmobile.wire.datagram import decode_control, encode_control
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.tunnel import (
    CloseReason,
    EchoRequest,
    PathChallenge,
    PathResponse,
    PathUpdate,
    ReceiveState,
    TunnelClose,
    TunnelKeepAlive,
    TunnelRequest,
    TunnelResponse,
)

ELSEWHERE = Endpoint("198.51.100.99", 9)
STATE = ReceiveState(0, 41, b"\x01")


def test_both_ends_send_in_the_epoch_the_negotiation_gave() -> None:
    link = connected()

    assert link.can_talk(link.a)
    assert link.can_talk(link.b)
    assert link.a.loops.sending == link.b.loops.sending == 0


def test_both_ends_own_kmncn_and_one_of_them_created_it() -> None:
    link = connected()

    acts = [[r.act for r in drain(side.keyring.poll_record)] for side in link.sides]

    assert acts == [["created", "owned"], ["owned"]]
    names = [{key.identifier for key in side.keyring} for side in link.sides]
    assert names[0] == names[1]


@pytest.mark.parametrize("initiator", ["a", "b"])
def test_a_rekey_needs_no_server_and_loses_nothing(initiator: str) -> None:
    link = connected()
    side: Side = getattr(link, initiator)
    before = link.a.loops.sending

    side.tunnel.rekey(link.now)
    for _ in range(20):
        link.wait(0.01)
        assert link.talk(link.a)
        assert link.talk(link.b)

    assert link.a.loops.sending == link.b.loops.sending != before


def test_the_epoch_before_opens_for_ten_seconds_and_is_then_erased() -> None:
    link = connected()
    link.a.tunnel.rekey(link.now)
    link.wait(OVERLAP_NS / SECOND - 1)
    assert [len(side.loops.keys) for side in link.sides] == [2, 2]

    link.wait(2)

    assert [len(side.loops.keys) for side in link.sides] == [1, 1]
    assert [len(side.keyring) for side in link.sides] == [1, 1]


def test_nothing_is_sent_in_a_new_epoch_before_the_peer_proved_it() -> None:
    link = connected()
    link.a.tunnel.rekey(link.now)
    link.wait(0.03)  # the request arrived; the response is on its way

    assert [len(side.loops.keys) for side in link.sides] == [1, 2]
    assert link.b.loops.sending == 0, "B installed the keys and waits"


def test_when_both_rekey_at_once_both_keep_the_same_epoch() -> None:
    for seed in range(12):
        link = connected(seed)
        link.a.tunnel.rekey(link.now)
        link.b.tunnel.rekey(link.now)

        link.wait(1)
        assert link.can_talk(link.a)
        assert link.can_talk(link.b)
        link.wait(GLARE_NS / SECOND + 11)

        assert link.can_talk(link.a)
        assert link.can_talk(link.b)


def test_a_rekey_that_gets_no_answer_is_given_up_and_can_be_tried_again() -> None:
    link = old_enough()
    link.loss = 1.0
    link.a.tunnel.rekey(link.now)
    link.wait(11)
    link.loss = 0.0

    link.a.tunnel.rekey(link.now)
    link.wait(1)

    assert link.a.loops.sending == link.b.loops.sending == 2


def test_a_busy_tunnel_rekeys_every_two_minutes_and_an_idle_one_does_not() -> None:
    busy, idle = connected(), connected()
    for _ in range(200):
        busy.wait(1)
        busy.talk(busy.a)
        idle.wait(1)

    handshakes = [controls(link.a, TunnelRequest) for link in (busy, idle)]
    assert len(handshakes[0]) == (200 * SECOND) // REKEY_NS
    assert handshakes[1] == []


def test_a_forged_rekey_answer_changes_nothing_and_the_true_one_still_counts() -> None:
    link = connected()
    link.loss = 1.0
    link.a.tunnel.rekey(link.now)
    link.settle()
    (request,) = controls(link.a, TunnelRequest)
    forged = TunnelResponse(request.negotiation, link.b.tunnel.ends.role, 0, 22, 2, bytes(48))

    link.a.tunnel.handle_control(0, THERE, 0, encode_control(forged), link.now)
    link.loss = 0.0
    link.wait(2)

    assert link.a.loops.sending == link.b.loops.sending == 2


def test_a_repeated_rekey_request_gets_the_same_answer() -> None:
    link = connected()
    link.a.tunnel.rekey(link.now)
    link.wait(0.03)
    (request,) = controls(link.a, TunnelRequest)

    link.b.tunnel.handle_control(0, HERE, 0, encode_control(request), link.now)
    link.settle()

    first, second = controls(link.b, TunnelResponse)
    assert first == second
    assert len(installed(link.b)) == 2, "the first keys and one rekey"


def test_a_rekey_request_for_the_epoch_in_use_is_ignored() -> None:
    link = connected()
    bogus = TunnelRequest(bytes(16), link.a.tunnel.ends.role, 0, 11, 0, bytes(48))

    link.b.tunnel.handle_control(0, HERE, 0, encode_control(bogus), link.now)
    link.settle()

    assert controls(link.b, TunnelResponse) == []


@pytest.mark.parametrize("late_s", [0.1, 3.0, 7.9])
def test_a_tunnel_request_that_a_relay_held_takes_no_keys_away_that_are_in_use(
    late_s: float,
) -> None:
    link = old_enough()
    link.heals = False
    link.ask_in_vain(link.a)
    link.negotiate(link.a)
    link.wait(late_s)
    assert link.talk(link.a), "both ends send in the number that the held request proposes"

    link.pass_on()

    for _ in range(300):
        assert link.talk(link.a)
        assert link.talk(link.b)
        link.wait(0.5)


def test_a_second_negotiation_that_is_answered_as_well_brings_its_keys() -> None:
    """The negative twin: both proposed one number, and the other end gives the second its own."""
    link = old_enough()
    first = link.a.tunnel.propose_epoch(link.now)
    link.negotiate(link.a)
    link.wait(GLARE_NS / SECOND + 1)

    link.negotiate(link.a, epoch=first)
    link.wait(0.2)

    assert link.a.loops.sending == link.b.loops.sending != first
    assert link.can_talk(link.a)
    assert link.can_talk(link.b)


def test_a_peer_that_started_anew_has_another_index_and_the_old_epochs_go() -> None:
    link = connected()
    link.b = link._side(link.b.name, link.a.name, THERE, 33, 600)

    link.negotiate(link.a)
    link.wait(0.5)

    assert link.can_talk(link.a)
    assert link.can_talk(link.b)
    assert {key.remote_index for key in link.a.loops.keys.values()} == {33}


def test_a_mover_tells_the_peer_at_once_and_both_go_on_there() -> None:
    link = connected()

    link.move(link.a, ELSEWHERE)
    link.wait(0.2)

    assert link.b.path() == ELSEWHERE
    (done,) = link.a.handovers()
    assert done.outage_ns < 0.1 * SECOND
    assert not link.a.tunnel.is_moving


def test_what_the_mover_missed_and_what_the_peer_missed_is_sent_again() -> None:
    link = connected()
    link.a.loops.states = (STATE,)
    link.b.loops.states = (ReceiveState(0, 7, b""),)
    for side in link.sides:
        side.loops.resent.clear()

    link.move(link.a, ELSEWHERE)
    link.wait(0.2)

    assert link.b.loops.resent == [Resend(22, (STATE,))]
    assert link.a.loops.resent == [Resend(11, (ReceiveState(0, 7, b""),))]


def test_what_was_lost_under_the_keys_before_is_sent_again_though_the_move_brought_new_ones() -> (
    None
):
    link = connected()
    link.b.loops.states = (STATE,)
    link.negotiate(link.a)
    newest = ReceiveState(1, 0, b"\x01")
    link.b.loops.states = (newest,)
    link.a.loops.resent.clear()

    link.move(link.a, ELSEWHERE)
    link.wait(0.2)

    assert link.a.loops.resent == [Resend(11, (newest, STATE))]


def test_what_arrived_under_keys_long_gone_is_told_no_more() -> None:
    """The negative twin."""
    link = connected()
    link.b.loops.states = (STATE,)
    link.negotiate(link.a)
    newest = ReceiveState(1, 0, b"\x01")
    link.b.loops.states = (newest,)
    link.wait(3)
    link.a.loops.resent.clear()

    link.move(link.a, ELSEWHERE)
    link.wait(0.2)

    assert link.a.loops.resent == [Resend(11, (newest,))]


def test_the_bitmaps_of_two_epochs_fit_one_capsule() -> None:
    link = connected()
    link.b.loops.states = (ReceiveState(0, 9000, b"\x01" * 1024),)
    link.negotiate(link.a)
    link.b.loops.states = (ReceiveState(1, 900, b"\x01" * 100),)

    link.move(link.a, ELSEWHERE)
    link.wait(0.2)

    (*_, answer) = controls(link.b, PathResponse)
    assert [len(state.bitmap) for state in answer.received] == [100, 924]


def test_both_ends_may_move_at_once_when_the_servers_bring_them_together() -> None:
    link = connected()
    link.a.place, link.b.place = ELSEWHERE, STRANGER
    for side in link.sides:
        side.tunnel.move({4}, link.now)

    link.wait(12)

    assert link.can_talk(link.a)
    assert link.can_talk(link.b)
    assert all(side.handovers() for side in link.sides)


def test_without_any_network_packets_wait_and_with_one_they_go() -> None:
    link = connected()

    link.heals = False
    link.a.tunnel.move(set(), link.now)
    link.settle()
    assert link.a.commands[-1] == ClearPath(11)
    link.wait(5)
    link.move(link.a, ELSEWHERE)
    link.wait(0.2)

    assert link.can_talk(link.a)
    assert link.can_talk(link.b)
    assert link.a.handovers()[0].outage_ns > 5 * SECOND


def test_an_unproven_address_is_left_again_when_it_does_not_answer() -> None:
    link = connected()

    link.b.tunnel.handle_moved(STRANGER, 0, link.now)
    link.settle()
    assert link.b.path() == STRANGER
    link.wait(6)

    assert link.b.path() == HERE
    assert link.can_talk(link.b)


def test_an_address_that_answers_is_kept() -> None:
    link = connected()

    link.a.place = ELSEWHERE  # a NAT that gave it another mapping, unseen by A
    link.talk(link.a)
    link.wait(6)

    assert link.b.path() == ELSEWHERE


def test_a_path_challenge_is_answered_to_where_it_came_from() -> None:
    link = connected()
    challenge = encode_control(PathChallenge(77))

    link.a.tunnel.handle_control(0, STRANGER, 3, challenge, link.now)

    sent = [c for c in drain(link.a.tunnel.poll_command) if isinstance(c, SendControl)]
    assert [(c.destination, c.interface) for c in sent] == [(STRANGER, 3)]
    assert decode_control(sent[0].payload) == PathResponse(77, STRANGER, ())


def test_a_path_update_that_is_older_than_one_heard_moves_nothing() -> None:
    link = connected()
    link.move(link.a, ELSEWHERE)
    link.wait(0.2)
    (*_, update) = controls(link.a, PathUpdate)
    stale = PathUpdate(update.sequence - 1, (), 5)

    link.b.tunnel.handle_control(0, HERE, 0, encode_control(stale), link.now)
    link.settle()

    assert link.b.path() == ELSEWHERE


def test_an_answer_to_no_question_of_ours_changes_nothing() -> None:
    link = connected()
    before = list(link.a.commands)

    link.a.tunnel.handle_control(
        0, STRANGER, 0, encode_control(PathResponse(123, HERE, (STATE,))), link.now
    )
    link.settle()

    assert link.a.commands == before


def test_a_ping_is_answered_with_its_sequence_and_the_round_trip() -> None:
    link = connected()

    link.a.tunnel.ping(5, link.now)
    link.wait(0.1)

    (pong,) = [note for note in link.a.notes if isinstance(note, PongEvent)]
    assert (pong.sequence, pong.rtt_ns, pong.remote, pong.relayed) == (
        5,
        40_000_000,
        THERE,
        False,
    )


def test_a_ping_into_silence_gives_nothing_and_asks_once() -> None:
    link = connected()
    link.loss = 1.0

    link.a.tunnel.ping(5, link.now)
    link.wait(1)

    assert [note for note in link.a.notes if isinstance(note, PongEvent)] == []
    pings = [echo for echo in controls(link.a, EchoRequest) if not echo.padding]
    assert len(pings) == 1


def test_closing_tells_the_peer_and_both_forget_everything() -> None:
    link = connected()

    link.a.tunnel.close(CloseReason.LEAVING, link.now)
    link.wait(0.1)

    for side in link.sides:
        assert side.tunnel.closed
        assert side.commands[-1] == CloseTunnel(side.tunnel.index)
        assert len(side.keyring) == 0
        assert side.notes[-1] == TunnelClosed(link.other(side).name, CloseReason.LEAVING)
        assert side.tunnel.poll_timeout() is None
    assert controls(link.a, TunnelClose) == [TunnelClose(CloseReason.LEAVING)]


def test_closing_twice_is_closing_once() -> None:
    link = connected()
    link.a.tunnel.close(CloseReason.LEAVING, link.now)
    link.settle()

    link.a.tunnel.close(CloseReason.IDLE, link.now)
    link.settle()

    assert len([n for n in link.a.notes if isinstance(n, TunnelClosed)]) == 1
    assert len(controls(link.a, TunnelClose)) == 1


@pytest.mark.parametrize("idle_s", [30, 600])
def test_a_tunnel_nobody_uses_closes_after_the_configured_time(idle_s: int) -> None:
    link = connected(idle_s=idle_s)

    link.wait(idle_s - 10)
    assert not link.a.tunnel.closed
    link.wait(20)

    assert link.a.tunnel.closed
    assert link.a.notes[-1] == TunnelClosed(link.b.name, CloseReason.IDLE)


def test_keep_alives_go_out_after_data_and_stop_when_nobody_uses_the_tunnel() -> None:
    link = connected()
    link.talk(link.a)
    link.wait(100)
    early = len(controls(link.a, TunnelKeepAlive))

    link.wait(300)

    assert 100 * SECOND // KEEPALIVE_NS - early in (0, 1)
    assert len(controls(link.a, TunnelKeepAlive)) <= early + 4


def test_data_that_nothing_comes_back_for_makes_the_path_dead() -> None:
    link = connected()
    link.loss, link.heals = 1.0, False

    for _ in range(10):
        link.talk(link.a)
        link.wait(1)

    dead = [note for note in link.a.notes if isinstance(note, PathDead)]
    assert dead
    assert len(dead) <= 10 * SECOND // DEAD_NS + 2, "asked for again, not without end"


def test_a_path_that_was_broken_and_carries_again_gets_what_it_swallowed() -> None:
    link = connected()
    link.a.loops.states = (STATE,)
    link.b.loops.states = (ReceiveState(0, 7, b""),)
    link.talk(link.b)
    link.wait(1)
    link.loss, link.heals = 1.0, False
    link.talk(link.a)
    link.wait(2.5)
    for side in link.sides:
        side.loops.resent.clear()
    link.loss = 0.0

    link.wait(1)

    assert link.b.loops.resent == [Resend(22, (STATE,))]
    assert link.a.loops.resent == [Resend(11, (ReceiveState(0, 7, b""),))]


def test_a_flow_that_nothing_comes_back_for_gets_nothing_late() -> None:
    """The negative twin."""
    link = connected()
    link.wait(3)
    updates = len(controls(link.a, PathUpdate))
    link.loss, link.heals = 1.0, False
    link.talk(link.a)
    link.wait(2.5)
    link.loss = 0.0

    link.wait(1)

    assert len(controls(link.a, PathUpdate)) == updates


def test_a_path_that_only_lost_a_probe_sends_nothing_again() -> None:
    """Another."""
    link = connected()
    link.talk(link.b)
    link.wait(1)
    updates = len(controls(link.a, PathUpdate))
    link.loss, link.heals = 1.0, False
    link.talk(link.a)
    link.wait(0.9)
    link.loss = 0.0

    link.wait(1)

    assert len(controls(link.a, EchoRequest)) > 1
    assert len(controls(link.a, PathUpdate)) == updates


def test_a_path_that_answers_probes_is_not_dead_though_data_flows_one_way_only() -> None:
    link = connected()

    for _ in range(30):
        link.talk(link.a)
        link.wait(1)

    assert [note for note in link.a.notes if isinstance(note, PathDead)] == []


def test_relayed_paths_follow_the_rs_into_the_family_it_answered_in() -> None:
    link = connected()
    rs4, rs6 = Endpoint("192.0.2.9", 4330), Endpoint("2001:db8::9", 4330)
    relay_through(link, rs4, rs6)

    link.a.tunnel.move({6}, link.now)
    link.settle()
    assert link.a.path() == rs6
    link.a.tunnel.update(rs4, link.now)
    link.settle()

    assert link.a.path() == rs4, "RS is where it answered"


def test_a_path_through_one_rs_is_known_as_such_while_another_is_negotiated() -> None:
    link = connected()
    first, second = Endpoint("192.0.2.9", 4330), Endpoint("192.0.2.10", 4330)
    relay_through(link, first)

    link.a.tunnel.relays.meet((second,))
    link.a.tunnel.update(second, link.now)
    link.a.tunnel.handle_moved(first, 0, link.now)
    link.settle()

    assert link.a.tunnel.path == Path(first, relayed=True)


@pytest.mark.parametrize(("at", "stays"), [(0, True), (1, False)])
def test_of_two_rs_that_carry_an_end_keeps_to_the_smaller(at: int, *, stays: bool) -> None:
    """Whatever its peer does, so that they end up at the same one."""
    link = connected()
    both = Endpoint("192.0.2.9", 4330), Endpoint("192.0.2.10", 4330)
    link.a.tunnel.relays.meet((both[1 - at],))
    relay_through(link, both[at])

    link.a.tunnel.handle_moved(both[1 - at], 0, link.now)
    link.settle()

    assert (link.a.path() == both[at]) is stays


def test_a_direct_path_is_not_given_up_for_a_straggler_from_the_relay() -> None:
    link = connected()
    rs = Endpoint("192.0.2.9", 4330)
    link.b.tunnel.relays.meet((rs,))

    link.b.tunnel.handle_moved(rs, 0, link.now)
    link.settle()

    assert link.b.path() == HERE


def test_a_move_into_another_family_goes_where_the_peer_is_reachable_in_it() -> None:
    link = connected()
    told = link.a.tunnel.ends.peer
    assert told.reachable == ()

    link.a.tunnel.move({6}, link.now)
    link.settle()

    assert link.a.path() is None, "nowhere to go: packets wait until the servers tell"
    assert HERE6.version == 6


@pytest.mark.parametrize("garbage", [b"", b"\xc1", bytes(100)])
def test_garbage_in_a_control_capsule_is_dropped(garbage: bytes) -> None:
    link = connected()
    before = list(link.a.commands)

    link.a.tunnel.handle_control(0, THERE, 0, garbage, link.now)
    link.settle()

    assert link.a.commands == before


def test_traffic_and_paths_show_in_what_is_asked_of_the_tunnel() -> None:
    link = Link()

    assert not link.a.tunnel.is_up
    assert link.a.tunnel.mtu() == 0
    link.negotiate(link.a)
    assert link.a.tunnel.is_up
    assert link.a.tunnel.mtu() == 1400
    assert link.a.loops.traffic(11) == Traffic(0, 0, None, None)


def relay_through(link: Link, *relay: Endpoint) -> None:
    """Make A's path one through RS."""
    link.a.tunnel.relays.meet(relay)
    secrets = Secrets(b"\x01" * 32, b"\x02" * 32, bytes(32))
    agreed = Agreed(bytes(16), 0, secrets, link.b.tunnel.index, relay[0], True, True)
    link.a.tunnel.adopt(agreed, link.now)
    link.settle()


def controls(side: Side, kind: type) -> list:  # type: ignore[type-arg]
    """What a side sent of one kind of control message."""
    sent = [decode_control(c.payload) for c in side.commands if isinstance(c, SendControl)]
    return [message for message in sent if isinstance(message, kind)]


def installed(side: Side) -> list[InstallKeys]:
    return [command for command in side.commands if isinstance(command, InstallKeys)]
