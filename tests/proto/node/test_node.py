"""Source: paper, Figs. 2 to 7. Ours: docs/protocol.md sections 2 to 9."""

from dataclasses import replace as changed
from ipaddress import IPv4Address, IPv6Address

import pytest
from tests.proto.node.rig import (
    ADDRESSES,
    ELSEWHERE,
    RELAY_PLACE,
    SETTINGS,
    V4,
    V6,
    Peer,
    Rig,
    connected,
)
from tests.proto.parts import ALICE, BOB, CAROL, HERE, STRANGER, THERE, identity

from ntmobile.proto.io import Failed
from ntmobile.proto.node.asked import ASKED_NS
from ntmobile.proto.node.events import (
    CloseTunnel,
    HandoverDone,
    LoggedIn,
    LoginFailed,
    NameRefused,
    NameResolved,
    OpenTunnel,
    PeerPinned,
    RefuseAddress,
    Registered,
    RegistrationLost,
    ServersTold,
    SetPath,
    Traffic,
    TunnelClosed,
    TunnelEstablished,
)
from ntmobile.proto.node.knocks import MAX_KNOCKS
from ntmobile.proto.node.node import FINAL
from ntmobile.time import SECOND
from ntmobile.wire.datagram import encode_control
from ntmobile.wire.direction import DirectionRequest, Purpose, Withdrawal
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.login import LoginRefusal, LoginRefused, LoginRequest, NonceRequest
from ntmobile.wire.probe import Knock
from ntmobile.wire.registration import (
    KeepAliveAnswer,
    NtmAck,
    ReachabilityReport,
    Reason,
    Refusal,
    RegistrationRequest,
    Superseded,
    UdpKeepAlive,
)
from ntmobile.wire.tunnel import CloseReason, EchoRequest, TunnelClose


def test_login_and_registration_follow_each_other() -> None:
    rig = Rig().start()

    (logged_in,) = rig.of(LoggedIn)
    (registered,) = rig.of(Registered)
    assert (logged_in.fqdn, logged_in.coordinator) == (ALICE, "dc.example.org")
    assert (registered.virtual_ipv4, registered.virtual_ipv6) == ADDRESSES
    view = rig.node.view()
    assert (view.state, view.reason) == ("up", "")
    assert [held.name for held in rig.node.keyring] == ["Kntmdc"]


def test_a_login_that_is_refused_is_told_and_what_waits_is_refused() -> None:
    rig = Rig()
    rig.account = lambda message: LoginRefusal(LoginRefused.CREDENTIALS)  # type: ignore[method-assign]
    rig.node.resolve(BOB, rig.now)

    rig.start()

    assert [event.code for event in rig.of(LoginFailed)] == ["credentials"]
    assert rig.node.view().state == "down"
    assert [event.reason for event in rig.of(NameRefused)] == [Reason.NOT_REGISTERED]


def test_a_name_asked_for_before_the_node_is_registered_waits_for_that() -> None:
    rig = Rig()
    rig.as_answers = False
    rig.start()
    rig.node.resolve(BOB, rig.now)
    rig.settle()
    assert rig.of(NameRefused) == []

    rig.as_answers = True
    rig.node.handle_reply(rig.calls[0].id, rig.account(NonceRequest()), rig.now)
    rig.settle()

    assert rig.direction().fqdn == BOB


def test_ones_own_name_is_answered_without_asking_anybody() -> None:
    rig = Rig().start()

    query = rig.node.resolve(ALICE, rig.now)
    rig.settle()

    assert rig.of(NameResolved) == [NameResolved(query, ALICE, *ADDRESSES)]
    assert rig.sent(DirectionRequest) == []


def test_two_queries_for_a_name_share_one_negotiation_and_both_are_answered() -> None:
    rig = Rig().start()
    first = rig.node.resolve(BOB, rig.now)

    rig, _ = connected(rig)

    assert len(rig.sent(DirectionRequest)) == 1
    assert len({event.query for event in rig.of(NameResolved)}) == 2
    assert first in {event.query for event in rig.of(NameResolved)}


@pytest.mark.paper("Direction Request", "Route Direction", "Tunnel Request", "Fig. 5")
def test_a_tunnel_stands_as_in_the_figures_and_the_name_is_answered() -> None:
    rig, peer = connected()

    (established,) = rig.of(TunnelEstablished)
    (opened,) = rig.told(OpenTunnel)
    assert (established.fqdn, established.remote, established.relayed) == (BOB, THERE, False)
    assert peer.agreed is not None
    assert peer.agreed.remote_index == opened.index
    assert [event.fqdn for event in rig.of(NameResolved)] == [BOB]
    assert rig.of(PeerPinned)[0].device == identity(BOB).public.device
    (view,) = rig.node.peers()
    assert (view.fqdn, view.remote, view.relayed) == (BOB, THERE, False)


def test_a_known_peer_is_answered_at_once_and_without_a_server() -> None:
    rig, _ = connected()
    asked = len(rig.sent(DirectionRequest))

    query = rig.node.resolve(BOB, rig.now)
    rig.settle()

    assert rig.of(NameResolved)[-1].query == query
    assert len(rig.sent(DirectionRequest)) == asked


@pytest.mark.parametrize("reason", Reason)
def test_what_the_dc_refuses_at_once_the_application_hears_with_its_reason(reason: Reason) -> None:
    rig = Rig().start()
    rig.refuse_direction = Refusal(reason)

    query = rig.node.resolve(BOB, rig.now)
    rig.settle()

    assert rig.of(NameRefused) == [NameRefused(query, BOB, reason)]


@pytest.mark.parametrize("reason", [Reason.UNKNOWN_NAME, Reason.NO_RELAY, Reason.TIMED_OUT])
def test_what_the_dc_refuses_later_the_application_hears_too(reason: Reason) -> None:
    rig = Rig().start()
    rig.node.resolve(BOB, rig.now)
    rig.settle()

    answer = rig.tell(Refusal(reason, rig.direction().negotiation))

    assert answer == NtmAck()
    assert [event.reason for event in rig.of(NameRefused)] == [reason]


def test_a_refusal_of_a_negotiation_nobody_asked_for_changes_nothing() -> None:
    rig = Rig().start()
    rig.node.resolve(BOB, rig.now)
    rig.settle()

    rig.tell(Refusal(Reason.UNKNOWN_NAME, bytes(16)))

    assert rig.of(NameRefused) == []


@pytest.mark.parametrize("reason", Reason)
def test_only_a_final_refusal_ends_a_tunnel_that_stands(reason: Reason) -> None:
    rig, peer = connected(valid_s=100)
    keep_busy(rig, 99)
    assert rig.direction().negotiation != peer.negotiation, "leave is being renewed"

    rig.tell(Refusal(reason, rig.direction().negotiation))

    assert bool(rig.of(TunnelClosed)) is (reason in FINAL)


def test_a_dc_that_never_directs_is_given_up() -> None:
    rig = Rig().start()
    rig.node.resolve(BOB, rig.now)

    rig.pass_time(ASKED_NS / SECOND + 1)

    assert [event.reason for event in rig.of(NameRefused)] == [Reason.TIMED_OUT]
    rig.node.resolve(BOB, rig.now)
    rig.settle()
    assert len(negotiations(rig)) == 2, "the next query asks for another"


def test_a_dc_that_forgot_what_it_acknowledged_is_asked_the_same_again_each_second() -> None:
    """It has restarted."""
    rig = Rig().start()
    rig.node.resolve(BOB, rig.now)
    rig.pass_time(0.9)
    (first,) = rig.sent(DirectionRequest)

    rig.pass_time(2.2)

    assert rig.sent(DirectionRequest) == [first] * 4


@pytest.mark.parametrize("is_answered", [True, False])
def test_who_was_directed_asks_no_more_even_if_the_last_question_was_lost(
    *, is_answered: bool
) -> None:
    """The negative twin: it would begin a second tunnel."""
    rig = Rig().start()
    rig.node.resolve(BOB, rig.now)
    rig.settle()
    rig.silent = not is_answered
    rig.pass_time(1)
    first, again = rig.sent(DirectionRequest)

    rig.silent = False
    assert isinstance(rig.tell(Peer(rig, first.negotiation).route()), NtmAck)
    rig.pass_time(5)

    assert rig.sent(DirectionRequest).count(first) == 2
    assert again == first


def test_leave_is_renewed_at_nine_tenths_by_the_end_that_leads() -> None:
    rig, _ = connected(valid_s=3600)

    keep_busy(rig, 53 * 60, step=60)
    assert len(negotiations(rig)) == 1
    keep_busy(rig, 65)

    assert len(negotiations(rig)) == 2
    assert rig.direction().purpose is Purpose.CONNECT


def test_leave_that_was_given_again_lasts_again() -> None:
    rig, _ = connected(valid_s=3600)
    keep_busy(rig, 54 * 60 + 5, step=60)
    renewal = Peer(rig, rig.direction().negotiation)

    rig.tell(renewal.route())
    renewal.exchange()
    keep_busy(rig, 50 * 60, step=60)

    assert len(rig.sent(DirectionRequest)) == 2
    assert rig.of(TunnelClosed) == []


def test_while_no_dc_can_say_yes_or_no_a_tunnel_goes_on_for_its_grace_only() -> None:
    rig, _ = connected(valid_s=3600)
    rig.refuse_direction = Refusal(Reason.DOMAIN_UNREACHABLE)

    keep_busy(rig, 24 * 3600, step=400)
    assert rig.of(TunnelClosed) == []
    keep_busy(rig, 2 * 3600, step=400)

    assert [event.reason for event in rig.of(TunnelClosed)] == [CloseReason.WITHDRAWN]


@pytest.mark.parametrize("valid_s", [0, 1])
def test_a_leave_of_no_length_does_not_make_the_node_ask_without_end(valid_s: int) -> None:
    rig, _ = connected(valid_s=valid_s)

    keep_busy(rig, 300)

    assert len(negotiations(rig)) <= 1 + 300 // 54 + 1


def test_a_withdrawal_closes_the_tunnel_at_once() -> None:
    rig, _ = connected()

    assert rig.tell(Withdrawal(BOB)) == NtmAck()

    assert [event.reason for event in rig.of(TunnelClosed)] == [CloseReason.WITHDRAWN]
    assert rig.told(CloseTunnel)
    assert rig.node.peers() == ()


def test_a_withdrawal_of_another_changes_nothing() -> None:
    rig, _ = connected()

    rig.tell(Withdrawal(CAROL))

    assert rig.of(TunnelClosed) == []


@pytest.mark.parametrize(
    ("message", "reason"),
    [(Refusal(Reason.REVOKED), "revoked"), (Superseded(SETTINGS.instance), "superseded")],
)
def test_a_node_that_is_revoked_or_superseded_stops_and_says_so(
    message: Refusal | Superseded, reason: str
) -> None:
    rig, _ = connected()

    rig.tell(message)
    rig.heard.clear()
    rig.pass_time(600)

    assert (rig.node.view().state, rig.node.view().reason) == ("degraded", reason)
    assert rig.of(TunnelClosed)
    assert rig.of(RegistrationLost)
    assert rig.sent(RegistrationRequest) == [], "it does not fight"


def test_a_notice_for_another_instance_is_not_ours() -> None:
    rig, _ = connected()

    rig.tell(Superseded(b"\x09" * 16))

    assert rig.node.view().state == "up"


def test_a_person_can_start_a_stopped_node_again() -> None:
    rig = Rig().start()
    rig.tell(Refusal(Reason.REVOKED))

    rig.start()

    assert rig.node.view().state == "up"
    sequences = [message.sequence for message in rig.sent(RegistrationRequest)]
    assert sequences == sorted(set(sequences)), "the DC sees a growing sequence"


def test_leaving_closes_tunnels_tells_the_dc_and_then_is_silent() -> None:
    rig, _ = connected()

    rig.node.leave(rig.now)
    rig.settle()
    farewell = rig.sent(RegistrationRequest)[-1]
    rig.heard.clear()
    rig.pass_time(600)

    assert rig.controls(TunnelClose) == [TunnelClose(CloseReason.LEAVING)]
    assert farewell.endpoints == ()
    assert rig.heard == []
    assert rig.node.view().state == "down"


def test_after_leaving_nothing_is_asked_for_any_more() -> None:
    rig = Rig().start()
    rig.node.leave(rig.now)

    rig.node.resolve(BOB, rig.now)
    rig.pass_time(20)

    assert rig.sent(DirectionRequest) == []
    assert rig.of(NameRefused)


def test_the_key_is_renewed_before_it_is_over_and_the_old_one_erased() -> None:
    rig = Rig().start()

    rig.pass_time(86400 * 0.8 + 1)

    assert len(rig.of(LoggedIn)) == 2
    assert [held.name for held in rig.node.keyring] == ["Kntmdc"]
    assert rig.node.view().state == "up"
    assert len([c for c in rig.calls if isinstance(c.message, LoginRequest)]) == 2
    assert rig.calls[-1].message.password is None  # type: ignore[union-attr]


def test_what_was_asked_under_the_old_key_is_asked_again_under_the_new() -> None:
    rig = Rig().start()
    rig.pass_time(86400 * 0.8 - 0.5)
    rig.refuse_direction = None
    rig.node.resolve(BOB, rig.now)

    rig.pass_time(1)

    assert len(rig.of(LoggedIn)) == 2
    transmit, _ = next(h for h in reversed(rig.heard) if isinstance(h[1], DirectionRequest))
    assert transmit.payload[4:12] == rig.dc.identifier


def test_a_tunnel_outlives_the_renewal_of_the_key() -> None:
    rig, _ = connected(valid_s=86400)

    keep_busy(rig, 86400 * 0.8 + 400, step=400)

    assert rig.of(TunnelClosed) == []
    assert len(rig.of(LoggedIn)) == 2


def test_a_renewal_that_fails_leaves_the_node_registered_and_is_tried_again() -> None:
    rig = Rig().start()
    good, rig.account = rig.account, lambda message: Failed(Reason.TIMED_OUT)  # type: ignore[method-assign]

    rig.pass_time(86400 * 0.8 + 100)
    assert rig.of(LoginFailed)
    assert rig.node.view().state == "up"
    rig.account = good  # type: ignore[method-assign]
    rig.pass_time(61)

    assert len(rig.of(LoggedIn)) == 2


def test_a_dc_that_lost_the_nodes_key_is_overcome_by_a_new_login() -> None:
    rig = Rig().start()
    rig.silent = True
    rig.pass_time(120)

    rig.silent = False
    rig.pass_time(30)

    assert logins(rig) >= 2
    assert rig.node.view().state == "up"


def test_a_dc_that_restarts_brings_no_login() -> None:
    """It must not become a storm at the AS."""
    rig = Rig().start()
    rig.pass_time(59)
    rig.silent = True

    rig.pass_time(10)
    rig.silent = False
    rig.pass_time(600)

    assert logins(rig) == 1


def test_a_dc_that_stays_away_brings_few_logins() -> None:
    rig = Rig().start()
    rig.silent = True

    rig.pass_time(3600)

    assert logins(rig) <= 20


def test_where_one_family_fell_silent_the_other_carries_the_request() -> None:
    rig = Rig((V4, V6)).start()
    rig.deaf_families = {6}

    rig.node.resolve(BOB, rig.now)
    rig.pass_time(1)

    assert rig.sent(DirectionRequest)


def test_where_both_families_work_one_datagram_is_enough() -> None:
    rig = Rig((V4, V6)).start()

    rig.node.resolve(BOB, rig.now)
    rig.pass_time(0.9)

    assert len(rig.sent(DirectionRequest)) == 1
    assert rig.heard[-1][0].destination.version == 6


def test_a_packet_to_a_known_address_asks_for_its_peer() -> None:
    rig, _ = connected()
    known = rig.of(PeerPinned)[0].ipv4
    rig.tell(Withdrawal(BOB))

    rig.node.handle_wanted(known, rig.now)
    rig.settle()

    assert len(rig.sent(DirectionRequest)) == 2


@pytest.mark.parametrize("address", [IPv4Address("100.64.9.9"), IPv6Address("fd00::999")])
def test_a_packet_to_an_unknown_address_is_refused(address: IPv4Address | IPv6Address) -> None:
    rig = Rig().start()

    rig.node.handle_wanted(address, rig.now)
    rig.settle()

    assert rig.told(RefuseAddress) == [RefuseAddress(address)]
    assert rig.sent(DirectionRequest) == []


def test_a_refused_peer_has_its_waiting_packets_refused() -> None:
    rig, _ = connected()
    pinned = rig.of(PeerPinned)[0]
    rig.tell(Withdrawal(BOB))
    rig.refuse_direction = Refusal(Reason.NOT_ALLOWED)

    rig.node.handle_wanted(pinned.ipv4, rig.now)
    rig.settle()

    refused = {command.address for command in rig.told(RefuseAddress)}
    assert refused == {pinned.ipv4, pinned.ipv6}


def test_a_move_registers_the_new_place_and_moves_every_tunnel() -> None:
    rig, _ = connected()
    rig.heard.clear()

    rig.node.handle_links((ELSEWHERE,), rig.now)
    rig.settle()

    (request,) = rig.sent(RegistrationRequest)
    assert request.endpoints == (ELSEWHERE.endpoint,)
    assert rig.told(SetPath)[-1].remote == THERE
    assert rig.direction().purpose is Purpose.MOVE, "the servers carry the news too"


def test_the_same_addresses_reported_again_change_nothing() -> None:
    rig, _ = connected()
    heard = len(rig.heard)

    rig.node.handle_links((V4,), rig.now)
    rig.settle()

    assert len(rig.heard) == heard
    assert rig.of(HandoverDone) == []


def test_the_relays_are_told_to_a_node_that_asks() -> None:
    rig = Rig().start()

    assert rig.node.ask_servers(rig.now)
    rig.settle()

    assert rig.of(ServersTold) == [ServersTold((RELAY_PLACE,))]


def test_a_dc_that_keeps_silent_about_relays_ends_the_question() -> None:
    rig = Rig().start()
    rig.silent = True

    assert rig.node.ask_servers(rig.now)
    rig.pass_time(30)

    assert rig.of(ServersTold) == [ServersTold(())]


def test_who_is_not_registered_cannot_ask_for_relays() -> None:
    assert not Rig().node.ask_servers(Rig().now)


def test_a_knock_is_reported_to_the_dc() -> None:
    rig = Rig().start()

    rig.node.handle_datagram(STRANGER, Knock(77).encode(), rig.now)
    rig.settle()

    assert rig.sent(ReachabilityReport) == [ReachabilityReport(77)]


def test_a_flood_of_knocks_brings_the_dc_few_reports_and_the_stranger_none() -> None:
    rig = Rig().start()

    for token in range(1000):
        rig.node.handle_datagram(STRANGER, Knock(token % 7).encode(), rig.now)
    rig.settle()

    assert len(rig.sent(ReachabilityReport)) == MAX_KNOCKS
    assert rig.elsewhere == []


@pytest.mark.parametrize("data", [b"\x06", b"\x06\x01\x00\x00" + b"\xff" * 8, b"", b"\x05\x01"])
def test_garbage_is_counted_and_not_answered(data: bytes) -> None:
    rig = Rig().start()
    heard = len(rig.heard)

    rig.node.handle_datagram(STRANGER, data, rig.now)
    rig.settle()

    assert sum(rig.node.rejected.values()) == 1
    assert (len(rig.heard), rig.elsewhere) == (heard, [])


def test_what_the_dc_has_no_business_asking_is_not_answered() -> None:
    rig = Rig().start()

    assert rig.tell(UdpKeepAlive(answer=True)) is None


def test_a_control_capsule_of_no_tunnel_is_dropped() -> None:
    rig, _ = connected()
    before = len(rig.commands)

    close = encode_control(TunnelClose(CloseReason.LEAVING))
    rig.node.handle_control(12345, 0, THERE, 0, close, rig.now)
    rig.node.handle_moved(12345, STRANGER, 0, rig.now)
    rig.node.handle_rekey_due(12345, rig.now)
    rig.settle()

    assert len(rig.commands) == before


def test_pings_go_only_where_a_tunnel_stands() -> None:
    rig, _ = connected()

    assert rig.node.ping(BOB, 1, rig.now)
    assert not rig.node.ping(CAROL, 1, rig.now)


def test_closing_one_tunnel_tells_its_peer_and_leaves_the_node_up() -> None:
    rig, _ = connected()

    rig.node.close_tunnel(BOB, rig.now)
    rig.node.close_tunnel(CAROL, rig.now)
    rig.settle()

    assert rig.controls(TunnelClose) == [TunnelClose(CloseReason.LEAVING)]
    assert rig.node.view().state == "up"


def test_a_node_without_a_network_waits_and_comes_up_with_one() -> None:
    rig = Rig(()).start()
    rig.pass_time(60)
    assert rig.of(Registered) == []

    rig.node.handle_links((V4,), rig.now)
    rig.settle()

    assert rig.of(Registered)


def test_relay_only_and_keep_alive_choices_reach_the_dc() -> None:
    rig = Rig(settings=changed(SETTINGS, relay_only=True, aes=False)).start()

    (request,) = rig.sent(RegistrationRequest)
    assert (request.relay_only, request.aes) == (True, False)


def keep_busy(rig: Rig, seconds: float, step: float = 9) -> None:
    """Let time pass while application data flows both ways."""
    for _ in range(round(seconds / step)):
        seen = rig.loops.seen
        rig.pass_time(step)
        rig.loops.seen = Traffic(seen.tx_bytes + 1, seen.rx_bytes + 1, rig.now, rig.now)


def negotiations(rig: Rig) -> set[bytes]:
    """What the node asked its DC to direct so far, however often."""
    return {request.negotiation for request in rig.sent(DirectionRequest)}


def logins(rig: Rig) -> int:
    """How often the node logged in so far."""
    return len([call for call in rig.calls if isinstance(call.message, LoginRequest)])


@pytest.mark.parametrize(("seen", "registers"), [(HERE, 0), (THERE, 1)], ids=["here", "elsewhere"])
def test_a_dc_that_says_unasked_where_it_sees_the_node_is_shown_the_node_anew(
    seen: Endpoint, registers: int
) -> None:
    rig = Rig().start()
    before = len(rig.sent(RegistrationRequest))

    assert rig.tell(KeepAliveAnswer(seen, 7)) is None

    assert len(rig.sent(RegistrationRequest)) - before == registers


@pytest.mark.parametrize(("silent_s", "challenges"), [(1, 0), (60, 1)], ids=["busy", "idle"])
def test_what_is_sent_after_a_long_silence_is_probed_with_the_first_packet(
    silent_s: int, challenges: int
) -> None:
    rig, _ = connected()
    [tunnel] = rig.told(OpenTunnel)
    rig.pass_time(silent_s)
    before = len(rig.controls(EchoRequest))

    rig.node.handle_woken(tunnel.index, rig.now)
    rig.node.handle_woken(12345, rig.now)
    rig.settle()

    assert len(rig.controls(EchoRequest)) - before == challenges
