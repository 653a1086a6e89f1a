"""Source: paper, Fig. 7. Ours: docs/protocol.md section 7."""

import pytest
from tests.proto.parts import HERE, HERE6, STRANGER, THERE, Mouth, after, drain, key
from tests.proto.relay.rig import DOMAIN, End, Rig

from ntmobile.keys.table import Kdcrs, Ktun
from ntmobile.proto.io import Caller, Transmit
from ntmobile.proto.relay.memory import (
    ForgottenKey,
    ForgottenPath,
    StoredKey,
    StoredPath,
    standing,
)
from ntmobile.proto.relay.relay import (
    EARLY_NS,
    HELD_NS,
    HINTS,
    KNOCKS,
    MAX_KEYS_A_DOMAIN,
    SWEEP_NS,
    Bind,
    ForgetPath,
    Unbind,
)
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import HEADER_SIZE, TAG_SIZE, Kind, Sender
from ntmobile.wire.direction import ReachabilityProbe, RelayDirection, Role
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.federation import KeySharing, SharedKey
from ntmobile.wire.hint import Hint
from ntmobile.wire.probe import Knock
from ntmobile.wire.registration import NtmAck, Reason, Refusal, UdpKeepAlive

pytestmark = pytest.mark.paper("Fig. 7")

ELSEWHERE = Endpoint("198.51.100.99", 9)


@pytest.fixture
def rig() -> Rig:
    """An RS that shares a Kdcrs with its DC and has one path, number 1."""
    made = Rig()
    assert made.share_key() == NtmAck()
    assert made.direct(1) == NtmAck()
    return made


@pytest.fixture
def ends(rig: Rig) -> tuple[End, End]:
    """The two ends of path 1, MN first."""
    return rig.end(1, Role.MN, HERE, 11), rig.end(1, Role.CN, THERE, 22)


def connect(rig: Rig, mn: End, cn: End) -> None:
    """Fig. 7 as far as RS sees it."""
    rig.send(cn, cn.punching())
    rig.send(mn, mn.request())
    rig.send(cn, cn.response())


@pytest.mark.paper("Relay Direction", "Hole Punching", "Kdcrs", "Ktun")
def test_two_ends_meet_as_in_fig_7(rig: Rig, ends: tuple[End, End]) -> None:
    mn, cn = ends

    connect(rig, mn, cn)

    assert cn.heard == [NtmAck()]
    assert len(cn.seen) == len(mn.seen) == 1
    assert rig.forwards(HERE, cn.index) == THERE
    assert rig.forwards(THERE, mn.index) == HERE


@pytest.mark.paper("Tunnel Request")
def test_a_tunnel_request_goes_on_byte_for_byte(rig: Rig, ends: tuple[End, End]) -> None:
    mn, cn = ends
    rig.send(cn, cn.punching())

    rig.send(mn, mn.request())

    assert cn.seen[0] in rig.recorded


def test_nothing_is_bound_before_both_ends_showed_themselves(
    rig: Rig, ends: tuple[End, End]
) -> None:
    mn, _ = ends

    rig.send(mn, mn.request())

    assert rig.commands == []


def test_a_tunnel_request_waits_for_the_other_end(rig: Rig, ends: tuple[End, End]) -> None:
    mn, cn = ends
    rig.send(mn, mn.request())

    rig.send(cn, cn.punching())

    assert len(cn.seen) == 1


@pytest.mark.parametrize("waits_ns", [HELD_NS, HELD_NS + 1])
def test_a_tunnel_request_that_is_not_repeated_within_a_second_is_given_up(
    rig: Rig, ends: tuple[End, End], waits_ns: int
) -> None:
    """Its sender may be gone, and an end that answers has keys that nobody else has."""
    mn, cn = ends
    rig.send(mn, mn.request())

    rig.now = Instant(rig.now + waits_ns)
    rig.send(cn, cn.punching())

    assert len(cn.seen) == (waits_ns <= HELD_NS)


@pytest.mark.parametrize("proves", [True, False])
def test_a_tunnel_response_waits_for_the_proof_of_its_source(
    rig: Rig, ends: tuple[End, End], proves: bool
) -> None:
    mn, cn = ends
    rig.send(mn, mn.request())
    rig.send(cn, cn.response())
    assert mn.seen == []

    rig.send(cn, cn.punching(), source=cn.place if proves else ELSEWHERE)

    assert len(mn.seen) == proves


def test_a_source_that_is_not_proven_is_not_bound(rig: Rig, ends: tuple[End, End]) -> None:
    mn, cn = ends
    rig.send(cn, cn.punching())

    rig.send(mn, mn.request(), source=ELSEWHERE)

    assert rig.commands == []
    assert ELSEWHERE not in rig.proven


def test_an_end_that_moves_and_proves_it_is_bound_there(rig: Rig, ends: tuple[End, End]) -> None:
    mn, cn = ends
    connect(rig, mn, cn)

    mn.place = ELSEWHERE
    rig.send(mn, mn.punching())

    assert rig.forwards(ELSEWHERE, cn.index) == THERE
    assert rig.forwards(THERE, mn.index) == ELSEWHERE
    assert rig.forwards(HERE, cn.index) is None
    assert Unbind(HERE, cn.index) in rig.commands


def test_a_move_that_is_not_proven_sends_nothing_there(rig: Rig, ends: tuple[End, End]) -> None:
    mn, cn = ends
    connect(rig, mn, cn)
    before = dict(rig.bound)

    rig.send(mn, mn.punching(), source=STRANGER)

    assert rig.bound.items() >= before.items()
    assert all(bind.destination != STRANGER for bind in rig.bound.values())


def test_an_end_that_moved_is_heard_through_rs_before_it_proved_its_source(
    rig: Rig, ends: tuple[End, End]
) -> None:
    mn, cn = ends
    connect(rig, mn, cn)

    sent = rig.send(mn, mn.punching(), source=ELSEWHERE)

    assert rig.forwards(ELSEWHERE, cn.index) == THERE
    assert [each.destination for each in sent] == [ELSEWHERE]
    assert rig.forwards(THERE, mn.index) == HERE
    assert rig.forwards(HERE, cn.index) == THERE


def test_one_unproven_source_at_a_time_is_led_in_and_none_once_one_is_proven(
    rig: Rig, ends: tuple[End, End]
) -> None:
    mn, cn = ends
    connect(rig, mn, cn)
    rig.send(mn, mn.punching(), source=STRANGER)

    rig.send(mn, mn.punching(), source=ELSEWHERE)
    led_in_now = rig.forwards(STRANGER, cn.index), rig.forwards(ELSEWHERE, cn.index)
    mn.place = HERE6
    rig.send(mn, mn.punching())

    assert led_in_now == (None, THERE)
    assert rig.forwards(ELSEWHERE, cn.index) is None
    assert rig.forwards(HERE6, cn.index) == THERE


def test_who_is_led_in_takes_nobody_elses_place(rig: Rig, ends: tuple[End, End]) -> None:
    mn, cn = ends
    connect(rig, mn, cn)
    assert rig.direct(2, pair=2) == NtmAck()
    other = rig.end(2, Role.MN, ELSEWHERE, 33), rig.end(2, Role.CN, HERE6, cn.index)
    connect(rig, *other)

    rig.send(mn, mn.punching(), source=ELSEWHERE)

    assert rig.forwards(ELSEWHERE, cn.index) == HERE6


def test_an_old_sequence_moves_nobody_even_when_proven(rig: Rig, ends: tuple[End, End]) -> None:
    mn, cn = ends
    connect(rig, mn, cn)
    before = dict(rig.bound)

    mn.place = ELSEWHERE
    rig.send(mn, mn.punching(sequence=mn.sequence))

    assert rig.bound == before
    assert rig.relay.rejected["old sequence"] >= 1


def test_a_late_punch_from_the_same_place_does_not_turn_the_sequence_back(
    rig: Rig, ends: tuple[End, End]
) -> None:
    mn, cn = ends
    connect(rig, mn, cn)
    rig.send(mn, mn.punching(sequence=9))
    rig.send(mn, mn.punching(sequence=1))
    before = dict(rig.bound)

    mn.place = ELSEWHERE
    rig.send(mn, mn.punching(sequence=5))

    assert rig.bound == before


def test_a_replayed_punch_is_dropped(rig: Rig, ends: tuple[End, End]) -> None:
    mn, cn = ends
    connect(rig, mn, cn)
    before = dict(rig.bound)

    sent = [each for data in list(rig.recorded) for each in rig.inject(data, STRANGER)]

    assert sent == []
    assert rig.bound == before


def test_without_ktun_nobody_gets_in(rig: Rig, ends: tuple[End, End]) -> None:
    _, cn = ends
    rig.send(cn, cn.punching())
    thief = End(Role.MN, STRANGER, 11, Mouth(Sender.MN, key(Ktun, 1)), bytes(16))
    forged = bytearray(thief.mouth.say(thief.punching()))
    forged[-1] ^= 1

    assert rig.inject(bytes(forged), STRANGER) == []
    assert rig.commands == []


def test_before_it_proved_itself_an_end_gets_at_most_three_times_what_it_sent(
    rig: Rig, ends: tuple[End, End]
) -> None:
    mn, cn = ends
    rig.send(mn, mn.request())
    data = cn.mouth.say(cn.punching(), 77)

    rig.inject(data, STRANGER)
    for _ in range(20):
        rig.send(mn, mn.request())

    assert rig.received[STRANGER] == len(data)
    assert rig.sent[STRANGER] <= 3 * len(data)


def test_an_index_that_two_others_use_at_this_place_is_refused(
    rig: Rig, ends: tuple[End, End]
) -> None:
    mn, cn = ends
    connect(rig, mn, cn)
    before = dict(rig.bound)
    rig.direct(2, pair=2)
    shared, mallory = rig.end(2, Role.MN, HERE, 33), rig.end(2, Role.CN, ELSEWHERE, cn.index)

    rig.send(shared, shared.request())
    rig.send(mallory, mallory.punching())

    assert Refusal(Reason.INDEX_IN_USE) in mallory.heard
    assert rig.bound == before


def test_no_order_of_arrival_lets_a_stolen_index_take_a_tunnel_over(
    rig: Rig, ends: tuple[End, End]
) -> None:
    """Mallory may talk to MN, and names CN's index as its own before MN shows itself."""
    mn, cn = ends
    connect(rig, mn, cn)
    before = dict(rig.bound)
    rig.direct(2, pair=2)
    shared, mallory = rig.end(2, Role.MN, HERE, 33), rig.end(2, Role.CN, ELSEWHERE, cn.index)

    rig.send(mallory, mallory.punching())
    rig.send(shared, shared.request())
    rig.send(mallory, mallory.punching())
    rig.send(shared, shared.punching())

    assert rig.bound == before


def test_a_free_index_is_bound_beside_the_other_pairs(rig: Rig, ends: tuple[End, End]) -> None:
    """The negative twin: the same two, with an index of their own."""
    mn, cn = ends
    connect(rig, mn, cn)
    rig.direct(2, pair=2)
    shared, other = rig.end(2, Role.MN, HERE, 33), rig.end(2, Role.CN, ELSEWHERE, 44)

    connect(rig, shared, other)

    assert rig.forwards(HERE, 22) == THERE
    assert rig.forwards(HERE, 44) == ELSEWHERE


def test_a_new_path_of_the_same_two_takes_over(rig: Rig, ends: tuple[End, End]) -> None:
    connect(rig, *ends)
    rig.direct(3, pair=1)
    again = rig.end(3, Role.MN, HERE, 11), rig.end(3, Role.CN, THERE, 22)

    connect(rig, *again)

    assert ForgetPath(bytes((1,)) * 16) in rig.commands
    assert {bind.path for bind in rig.bound.values()} == {bytes((3,)) * 16}
    assert rig.relay.paths == 1


def test_a_response_from_the_ends_other_family_goes_on_and_binds_nothing(
    rig: Rig, ends: tuple[End, End]
) -> None:
    mn, cn = ends
    rig.send(cn, cn.punching())
    rig.send(mn, mn.request())
    before = dict(rig.bound)

    rig.send(cn, cn.response(), source=HERE6)

    assert len(mn.seen) == 1
    assert rig.bound == before


def test_an_end_that_comes_before_its_relay_direction_is_heard_when_that_comes(rig: Rig) -> None:
    cn = rig.end(5, Role.CN, THERE, 22)
    rig.send(cn, cn.punching())
    assert cn.heard == []

    rig.direct(5)

    mn = rig.end(5, Role.MN, HERE, 11)
    rig.send(mn, mn.request())
    rig.send(cn, cn.punching())
    assert rig.forwards(HERE, 22) == THERE


def test_an_early_datagram_is_held_two_seconds_only(rig: Rig) -> None:
    held, dropped = rig.end(5, Role.CN, THERE, 22), rig.end(6, Role.CN, THERE, 23)
    for end in (held, dropped):
        rig.send(end, end.punching())

    rig.now = Instant(rig.now + EARLY_NS)
    answered = answers_to_direction(rig, 5)
    rig.now = Instant(rig.now + 1)
    silent = answers_to_direction(rig, 6)

    assert (answered, silent) == (1, 0)


def test_a_path_nobody_uses_is_forgotten_with_its_key(rig: Rig, ends: tuple[End, End]) -> None:
    connect(rig, *ends)
    assert rig.relay.paths == 1

    rig.pass_time(after(rig.now, 299))
    assert rig.relay.paths == 1
    rig.pass_time(after(rig.now, 20))

    assert rig.relay.paths == 0
    assert rig.bound == {}
    assert [held.name for held in rig.relay.keyring] == ["Kdcrs"]


def test_a_path_that_carries_capsules_is_kept() -> None:
    rig = Rig(idle_ns=lambda _: SECOND)
    rig.share_key()
    rig.direct(1)
    connect(rig, rig.end(1, Role.MN, HERE, 11), rig.end(1, Role.CN, THERE, 22))

    rig.pass_time(after(rig.now, 4000))

    assert rig.relay.paths == 1


@pytest.mark.parametrize("lifetime_s", [0, 1])
def test_a_lifetime_too_short_to_meet_in_is_lengthened(lifetime_s: int) -> None:
    rig = Rig()
    rig.share_key()
    rig.direct(1, lifetime_s=lifetime_s)

    rig.pass_time(after(rig.now, 9))

    assert rig.relay.paths == 1


def test_sweeps_end_when_there_is_nothing_to_sweep(rig: Rig) -> None:
    while (due := rig.relay.poll_timeout()) is not None:
        rig.pass_time(due.at)
        following = rig.relay.poll_timeout()
        assert following is None or following.at == due.at + SWEEP_NS

    assert len(rig.relay.keyring) == 0


def test_the_same_relay_direction_twice_opens_one_path(rig: Rig) -> None:
    assert rig.direct(1) == NtmAck()
    assert rig.relay.paths == 1


@pytest.mark.paper("Key Sharing")
@pytest.mark.parametrize(
    ("caller", "kind", "creator", "reason"),
    [
        ("example.net", SharedKey.KDCRS, "example.net", Reason.FOREIGN_DOMAIN),
        (DOMAIN, SharedKey.KDCRS, "example.net", Reason.FOREIGN_DOMAIN),
        (None, SharedKey.KDCRS, DOMAIN, Reason.FOREIGN_DOMAIN),
        (DOMAIN, SharedKey.KDCDC, DOMAIN, Reason.NOT_ALLOWED),
    ],
)
def test_only_the_own_domains_dc_may_share_a_kdcrs(
    caller: str | None, kind: SharedKey, creator: str, reason: Reason
) -> None:
    rig = Rig()
    sharing = KeySharing(kind, bytes(8), bytes(32), 60, creator)

    rig.relay.handle_request(7, Caller(caller, "192.0.2.1"), sharing, rig.now)

    (reply,) = drain(rig.relay.poll_reply)
    assert (reply.id, reply.message) == (7, Refusal(reason))
    assert len(rig.relay.keyring) == 0


def test_of_too_many_keys_the_oldest_is_forgotten() -> None:
    rig = Rig()
    for number in range(MAX_KEYS_A_DOMAIN + 1):
        rig.kdcrs = key(Kdcrs, number + 1)
        rig.share_key()

    held = {each.identifier for each in rig.relay.keyring}
    assert len(held) == MAX_KEYS_A_DOMAIN
    assert key(Kdcrs, 1).identifier not in held


def test_a_directions_lifetime_ends_with_its_kdcrs(rig: Rig) -> None:
    rig.pass_time(after(rig.now, 2 * 86400))

    data = rig.dc.say(UdpKeepAlive())
    rig.relay.handle_datagram(HERE, data, rig.now)

    assert rig.relay.rejected["unknown key"] == 1


def test_rs_knocks_from_where_no_node_ever_talked_to_it(rig: Rig) -> None:
    assert rig.ask_as_dc(ReachabilityProbe((STRANGER, THERE), 99)) == NtmAck()

    knocks = drain(rig.relay.poll_knock)

    assert len(knocks) == KNOCKS
    assert {knock.destination for knock in knocks} == {STRANGER}
    assert {Knock.decode(knock.payload).token for knock in knocks} == {99}


@pytest.mark.parametrize("garbage", [b"", b"\x05", bytes(1200), b"\x05\x01\x63" + bytes(60)])
def test_garbage_is_counted_and_not_answered(rig: Rig, garbage: bytes) -> None:
    assert rig.inject(garbage, STRANGER) == []
    assert rig.relay.rejected["malformed"] == 1


def test_what_has_no_place_under_ktun_is_counted(rig: Rig, ends: tuple[End, End]) -> None:
    rig.send(ends[0], UdpKeepAlive())

    assert rig.relay.rejected["out of place"] == 1


def test_a_path_bears_the_rate_its_direction_gave() -> None:
    rig = Rig()
    rig.share_key()
    rig.direct(1, rate=125_000)
    connect(rig, rig.end(1, Role.MN, HERE, 11), rig.end(1, Role.CN, THERE, 22))

    assert {each.rate for each in rig.commands if isinstance(each, Bind)} == {125_000}


def answers_to_direction(rig: Rig, number: int) -> int:
    """How many datagrams to THERE follow the opening of that path."""
    ktun = key(Ktun, number)
    message = RelayDirection(bytes((number,)) * 16, ktun.identifier, ktun.secret, 300)
    rig.transaction += 1
    rig.relay.handle_datagram(HERE, rig.dc.say(message, rig.transaction), rig.now)
    return sum(sent.destination == THERE for sent in drain(rig.relay.poll_transmit))


def test_what_comes_under_an_unknown_key_is_answered_by_a_hint_that_is_shorter(rig: Rig) -> None:
    cn = rig.end(5, Role.CN, THERE, 22)

    (sent,) = rig.send(cn, cn.punching())

    assert sent == Transmit(THERE, Hint.key(cn.mouth.identifier).encode())
    assert len(sent.payload) < HEADER_SIZE + TAG_SIZE


def test_an_end_that_rs_knows_gets_no_hint(rig: Rig, ends: tuple[End, End]) -> None:
    mn, _ = ends

    assert not any(sent.payload[0] == Kind.HINT for sent in rig.send(mn, mn.punching()))


def test_a_flood_under_unknown_keys_is_answered_by_so_many_hints_and_no_more(rig: Rig) -> None:
    cn = rig.end(5, Role.CN, THERE, 22)

    hints = sum(len(rig.send(cn, cn.punching())) for _ in range(2 * HINTS))

    assert hints == HINTS


def test_two_ends_at_one_address_with_one_index_cannot_be_told_apart_and_are_refused(
    rig: Rig,
) -> None:
    mn, cn = rig.end(1, Role.MN, HERE, 11), rig.end(1, Role.CN, HERE, 11)
    rig.send(mn, mn.punching())

    rig.send(cn, cn.punching())

    assert cn.heard[-1] == Refusal(Reason.INDEX_IN_USE)
    assert rig.bound == {}


def test_after_a_restart_a_path_carries_at_once_and_its_ends_move_it_as_before(
    rig: Rig, ends: tuple[End, End]
) -> None:
    mn, cn = ends
    connect(rig, mn, cn)
    before = dict(rig.bound)

    rig.restart()
    assert rig.bound == before

    mn.place = ELSEWHERE
    rig.send(mn, mn.punching())
    assert mn.heard[-1] == NtmAck()
    assert rig.forwards(THERE, 11) == ELSEWHERE


def test_after_a_restart_what_is_older_than_what_bound_an_end_still_moves_nothing(
    rig: Rig, ends: tuple[End, End]
) -> None:
    mn, cn = ends
    connect(rig, mn, cn)
    rig.restart()
    before = dict(rig.bound)

    for recorded in list(rig.recorded):
        rig.inject(recorded, STRANGER)
    rig.send(mn, mn.punching(mn.sequence), STRANGER)

    assert rig.bound == before


def test_after_a_restart_the_dc_goes_on_under_the_key_it_shared(rig: Rig) -> None:
    rig.restart()

    assert rig.direct(4) == NtmAck()


def test_a_path_and_a_key_that_are_over_are_forgotten_for_good(
    rig: Rig, ends: tuple[End, End]
) -> None:
    connect(rig, *ends)

    rig.pass_time(after(rig.now, 400))
    rig.pass_time(after(rig.now, 86400))

    assert standing(rig.records) == ()
    assert {type(record) for record in rig.records} == {
        StoredKey,
        StoredPath,
        ForgottenPath,
        ForgottenKey,
    }


def test_a_path_that_only_one_end_has_shown_itself_on_is_not_kept(
    rig: Rig, ends: tuple[End, End]
) -> None:
    """The negative twin: its ends will ask again, and nothing says where the other is."""
    rig.send(ends[0], ends[0].request())

    assert [type(record) for record in standing(rig.records)] == [StoredKey]
