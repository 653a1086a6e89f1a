"""NS: who gets in, who stays, and what is brought. Source: paper, Fig. 4."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from tests.proto.notification.rig import ELSEWHERE, Rig
from tests.proto.parts import ALICE, CAROL, drain, key
from tests.wire.strategies import signals

from ntmobile.keys.channel import Channel
from ntmobile.keys.table import Kntmns
from ntmobile.proto.io import Caller
from ntmobile.proto.notification import notification as ns
from ntmobile.wire.datagram import MAX_CARRYING, MAX_DATAGRAM, Sender
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.federation import KeySharing, SharedKey
from ntmobile.wire.notification import Notification, NotificationRegistration, TcpKeepAlive
from ntmobile.wire.registration import (
    KeepAliveAnswer,
    NtmAck,
    Reason,
    Refusal,
    UdpKeepAlive,
)
from ntmobile.wire.stream import frame

pytestmark = pytest.mark.paper("Fig. 4")
PAYLOAD = b"a datagram that only the node can read"


@pytest.mark.paper("Notification Direction", "Notification Registration", "Kdcns", "Kntmns")
def test_a_node_that_its_dc_named_registers_and_is_acknowledged() -> None:
    rig = Rig()
    assert rig.direct(ALICE, 1) == NtmAck()
    connection = rig.connect(ALICE, 1)

    connection.register()

    assert connection.take() == NtmAck()
    assert rig.role.held == 1


@pytest.mark.paper("Notification")
def test_what_the_dc_has_for_a_node_is_brought_as_it_is() -> None:
    rig = Rig()
    connection = rig.held(ALICE, 1)

    answer = rig.ask(Notification(key(Kntmns, 1).identifier, PAYLOAD))

    assert answer == NtmAck()
    assert connection.take() == Notification(key(Kntmns, 1).identifier, PAYLOAD)


def test_the_longest_datagram_of_a_dc_fits_both_legs() -> None:
    rig = Rig()
    connection = rig.held(ALICE, 1)
    notification = Notification(key(Kntmns, 1).identifier, bytes(MAX_DATAGRAM))

    assert len(rig.dc.say(notification)) <= MAX_CARRYING
    assert rig.ask(notification) == NtmAck()
    assert connection.take() == notification


def test_the_dc_hears_that_a_node_holds_no_connection_or_is_unknown() -> None:
    rig = Rig()
    rig.direct(ALICE, 1)

    no_connection = rig.ask(Notification(key(Kntmns, 1).identifier, PAYLOAD))
    unknown = rig.ask(Notification(key(Kntmns, 2).identifier, PAYLOAD))

    assert (no_connection, unknown) == (
        Refusal(Reason.NOT_REGISTERED),
        Refusal(Reason.UNKNOWN_NAME),
    )


@pytest.mark.paper("TCP Keep Alive")
def test_each_keep_alive_is_acknowledged_and_holds_the_connection() -> None:
    rig = Rig()
    connection = rig.held(ALICE, 1, interval_s=60)
    for _ in range(20):
        rig.pass_time(100)
        connection.say(TcpKeepAlive(60))
        assert connection.take() == NtmAck()

    assert rig.role.held == 1


def test_a_silent_connection_is_closed_after_twice_its_interval() -> None:
    rig = Rig()
    connection = rig.held(ALICE, 1, interval_s=60)

    rig.pass_time(149)
    assert not connection.ended
    rig.pass_time(22)

    assert connection.ended
    assert rig.role.held == 0


def test_an_interval_beyond_all_measure_is_bounded() -> None:
    rig = Rig()
    connection = rig.held(ALICE, 1, interval_s=10**8)

    rig.pass_time(2 * ns.MAX_INTERVAL_S + 60)

    assert connection.ended


def test_a_registration_under_the_wrong_kntmns_is_cut_and_changes_nothing() -> None:
    rig = Rig()
    connection = rig.held(ALICE, 1)
    rig.direct(CAROL, 2)
    impostor = rig.connect(ALICE, 2)

    impostor.register(sequence=9)

    assert impostor.ended
    assert not connection.ended
    assert rig.role.rejected["out of place"] == 1


def test_a_key_that_the_dc_never_named_opens_nothing() -> None:
    rig = Rig()
    rig.direct(ALICE, 1)
    stranger = rig.connect(ALICE, 3)

    stranger.register()

    assert stranger.ended
    assert rig.role.rejected["unknown key"] == 1


def test_a_replayed_registration_is_cut_and_the_true_connection_stays() -> None:
    rig = Rig()
    rig.direct(ALICE, 1)
    connection = rig.connect(ALICE, 1)
    recorded = connection.frame(NotificationRegistration(ALICE, 1, 60))
    connection.write(recorded)
    connection.take()
    attacker = rig.connect(ALICE, 1, Endpoint("203.0.113.66", 6666))

    attacker.write(recorded)

    assert attacker.ended
    assert not connection.ended
    assert rig.ask(Notification(key(Kntmns, 1).identifier, PAYLOAD)) == NtmAck()
    assert len(connection.heard) == 1


def test_a_newer_connection_of_the_node_takes_over() -> None:
    """The twin of the replay: a sequence that grows."""
    rig = Rig()
    old = rig.held(ALICE, 1)
    new = rig.connect(ALICE, 1)

    new.register(sequence=2)

    assert (old.ended, new.ended) == (True, False)
    rig.ask(Notification(key(Kntmns, 1).identifier, PAYLOAD))
    assert [type(each.message) for each in new.heard] == [NtmAck, Notification]


def test_the_end_of_an_old_connection_does_not_end_the_new_one() -> None:
    rig = Rig()
    old = rig.held(ALICE, 1)
    rig.connect(ALICE, 1).register(sequence=2)

    old.close()

    assert rig.ask(Notification(key(Kntmns, 1).identifier, PAYLOAD)) == NtmAck()


def test_forged_frames_are_dropped_and_the_connection_stays() -> None:
    rig = Rig()
    connection = rig.held(ALICE, 1)
    true = connection.frame(TcpKeepAlive(60))
    forged = true[:-1] + bytes((true[-1] ^ 1,))

    connection.write(forged)
    connection.write(true)

    assert not connection.ended
    assert connection.take() == NtmAck()
    assert rig.role.rejected["forged"] == 1


def test_too_many_wrong_frames_cut_even_a_held_connection() -> None:
    rig = Rig()
    connection = rig.held(ALICE, 1)
    forged = frame(Channel(key(Kntmns, 9), Sender.NODE, Sender.NS, bytes(8)).seal(b"x" * 40))

    connection.write(forged * (ns.MOST_WRONG + 2))

    assert connection.ended


def test_a_replayed_frame_is_dropped() -> None:
    rig = Rig()
    connection = rig.held(ALICE, 1)
    data = connection.frame(TcpKeepAlive(60))

    connection.write(data + data)

    assert [each.message for each in connection.heard] == [NtmAck()]
    assert rig.role.rejected["replayed"] == 1


def test_a_stranger_that_says_nothing_is_cut_after_ten_seconds() -> None:
    rig = Rig()
    stream = rig.open()

    rig.pass_time(16)

    assert stream in rig.ended


def test_strangers_are_bounded_by_source_and_a_node_elsewhere_still_gets_in() -> None:
    rig = Rig()
    rig.direct(ALICE, 1)
    flood = [rig.open(Endpoint("203.0.113.66", port)) for port in range(1, 1001)]

    connection = rig.connect(ALICE, 1)
    connection.register()

    assert len(rig.ended & set(flood)) == 1000 - ns.MAX_STRANGERS_A_SOURCE
    assert connection.take() == NtmAck()


def test_all_that_strangers_open_is_forgotten_again() -> None:
    rig = Rig()
    for port in range(1, 300):
        rig.open(Endpoint("203.0.113.66", port))
    rig.pass_time(16)

    again = [rig.open(Endpoint("203.0.113.66", port)) for port in range(1, 513)]

    assert not rig.ended & set(again)


def test_a_key_that_is_over_takes_its_connection_along() -> None:
    rig = Rig()
    rig.direct(ALICE, 1, lifetime_s=100)
    connection = rig.connect(ALICE, 1)
    connection.register(interval_s=600)

    rig.pass_time(106)

    assert connection.ended
    assert [k.name for k in rig.role.keyring] == ["Kdcns"]


def test_the_dc_takes_its_leave_back_and_the_node_is_cut() -> None:
    rig = Rig()
    connection = rig.held(ALICE, 1)

    assert rig.direct(ALICE, 1, lifetime_s=0) == NtmAck()

    assert connection.ended
    again = rig.connect(ALICE, 1)
    again.register(sequence=5)
    assert again.ended


def test_a_direction_that_is_repeated_does_not_open_the_door_to_a_replay() -> None:
    rig = Rig()
    connection = rig.held(ALICE, 1)

    assert rig.direct(ALICE, 1) == NtmAck()

    replay = rig.connect(ALICE, 1)
    replay.register(sequence=1)
    assert replay.ended
    assert not connection.ended


def test_a_new_kntmns_of_a_node_ends_the_connection_under_the_old_one() -> None:
    rig = Rig()
    old = rig.held(ALICE, 1)

    new = rig.held(ALICE, 2)

    assert (old.ended, new.ended) == (True, False)


def test_only_the_dc_of_the_own_domain_shares_a_key() -> None:
    rig = Rig()
    rig.share_key(201, domain="example.net")

    assert rig.shared.message == Refusal(Reason.FOREIGN_DOMAIN)


def test_a_key_for_another_use_is_refused() -> None:
    rig = Rig()
    sharing = KeySharing(SharedKey.KDCRS, b"\x01" * 8, b"\x02" * 32, 60, "example.org")

    rig.role.handle_request(2, Caller("example.org", "192.0.2.1"), sharing, rig.now)

    assert drain(rig.role.poll_reply)[0].message == Refusal(Reason.NOT_ALLOWED)


def test_an_ns_says_that_it_is_there_and_which_boot_this_is() -> None:
    rig, again = Rig(), Rig()

    answer, same = rig.ask(UdpKeepAlive(True)), rig.ask(UdpKeepAlive(True))

    assert isinstance(answer, KeepAliveAnswer)
    assert answer == same
    assert again.ask(UdpKeepAlive(True)) == answer  # the same entropy: the same boot


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("say"), signals),
            st.tuples(st.just("write"), st.binary(max_size=80)),
            st.tuples(st.just("dc"), signals),
            st.tuples(st.just("wait"), st.sampled_from((1.0, 40.0, 400.0))),
            st.tuples(st.just("open"), st.none()),
        ),
        max_size=12,
    )
)
def test_an_ns_bears_anything(history: list[tuple[str, object]]) -> None:
    rig = Rig()
    connection = rig.held(ALICE, 1)
    for act, what in history:
        match act:
            case "say" if not connection.ended:
                data = connection.frame(what)  # type: ignore[arg-type]
                if len(data) <= MAX_CARRYING + 2:
                    connection.write(data)
            case "write" if not connection.ended:
                connection.write(what)  # type: ignore[arg-type]
            case "dc":
                data = rig.dc.say(what, 7)  # type: ignore[arg-type]
                rig.role.handle_datagram(ELSEWHERE, data, rig.now)
                drain(rig.role.poll_transmit)
                rig.gather()
            case "wait":
                rig.pass_time(what)  # type: ignore[arg-type]
            case "open":
                rig.open()
            case _:
                pass

    rig.pass_time(3 * 3600)
    assert rig.role.held == 0


def test_an_ns_whose_connections_are_all_taken_refuses_further_nodes_and_strangers() -> None:
    """The DC then gives the node another NS."""
    rig = Rig()
    rig.role.most = 2
    rig.held(ALICE, 1)
    assert rig.direct(CAROL, 2) == NtmAck()
    rig.open()

    answer = rig.direct("phone.dave.example.org", 3)
    late = rig.open()

    assert answer == Refusal(Reason.BUSY)
    assert late in rig.ended
    assert rig.role.rejected["full"] == 1


def test_a_full_ns_keeps_connections_free_for_the_nodes_that_it_has() -> None:
    """The negative twin: a node that it has moves, and a further one is refused all the while."""
    rig = Rig()
    rig.role.most = ns.KEPT_FREE
    rig.held(ALICE, 1)
    for _ in range(ns.KEPT_FREE - 2):
        rig.open()
    assert rig.direct(CAROL, 2) == Refusal(Reason.BUSY)

    again = rig.connect(ALICE, 1)
    again.register(sequence=2)

    assert again.take() == NtmAck()
    assert rig.direct(ALICE, 4) == NtmAck()
