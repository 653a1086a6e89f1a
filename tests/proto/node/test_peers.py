"""Source: paper, Figs. 6 and 7. Ours: docs/protocol.md sections 2, 4, 5 and 7."""

from ipaddress import IPv4Address, IPv6Address

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings
from tests.proto.node.rig import ADDRESSES, ELSEWHERE, V4, Peer, Rig, connected
from tests.proto.parts import (
    ALICE,
    BOB,
    CAROL,
    RS,
    STRANGER,
    T0,
    THERE,
    Mouth,
    after,
    drain,
    identity,
    information,
    key,
)

from ntmobile.keys.table import Ktun
from ntmobile.proto.node import peers as peers_module
from ntmobile.proto.node.events import (
    InstallKeys,
    NameRefused,
    NameResolved,
    OpenTunnel,
    PeerPinned,
    Traffic,
    TunnelClosed,
    TunnelEstablished,
)
from ntmobile.proto.node.path_mtu import OVERHEAD
from ntmobile.proto.node.peers import EARLY_NS, MAX_EARLY
from ntmobile.proto.node.settings import Pin
from ntmobile.time import SECOND
from ntmobile.wire.datagram import Sender
from ntmobile.wire.direction import Cipher, DirectionRequest, Purpose, Role, Withdrawal
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.hint import Hint
from ntmobile.wire.identity import PublicIdentity
from ntmobile.wire.registration import NtmAck, Reason, Refusal
from ntmobile.wire.tunnel import CloseReason, HolePunching

OURS = b"\x51" * 16


def called(number: int = 1, **options: object) -> tuple[Rig, Peer]:
    """A node that is about to be called by BOB, who is MN."""
    rig = Rig().start()
    peer = Peer(rig, bytes((160 + number,)) * 16, role=Role.MN, sends=True, **options)  # type: ignore[arg-type]
    return rig, peer


def test_a_node_that_is_called_answers_the_dc_with_its_identity_and_takes_the_tunnel() -> None:
    rig, peer = called()

    answer = rig.tell(peer.route())
    peer.exchange()

    assert answer == NtmAck(identity(ALICE).public)
    assert peer.agreed is not None
    assert [event.fqdn for event in rig.of(TunnelEstablished)] == [BOB]


@pytest.mark.parametrize(("wait_s", "held"), [(1.9, True), (2.1, False)])
def test_a_tunnel_request_that_comes_before_its_direction_is_held_two_seconds(
    wait_s: float, held: bool
) -> None:
    rig, peer = called()
    for sent in drain(peer.end.poll_transmit):
        rig.node.handle_datagram(THERE, sent.payload, rig.now)
    rig.pass_time(wait_s)

    rig.tell(peer.route())
    rig.settle()

    assert bool(rig.of(TunnelEstablished)) is held
    assert EARLY_NS == 2 * SECOND


def test_a_flood_of_unknown_datagrams_is_held_in_bounds() -> None:
    rig, peer = called()
    early = drain(peer.end.poll_transmit)
    for sent in early:
        rig.node.handle_datagram(THERE, sent.payload, rig.now)
    for number in range(MAX_EARLY):
        mouth = Mouth(Sender.MN, key(number=150))
        rig.node.handle_datagram(THERE, mouth.say(HolePunching(Role.MN, 1, 1), number), rig.now)

    rig.tell(peer.route())
    rig.settle()

    assert rig.of(TunnelEstablished) == [], "the flood pushed it out"
    assert rig.node.rejected["unknown key"] == MAX_EARLY + len(early)


def test_a_direction_that_comes_twice_begins_one_negotiation() -> None:
    rig, peer = called()

    assert rig.tell(peer.route()) == rig.tell(peer.route()) == NtmAck(identity(ALICE).public)
    peer.exchange()

    assert len(rig.of(TunnelEstablished)) == 1
    assert len(rig.told(InstallKeys)) == 1


def test_a_direction_for_another_node_is_refused() -> None:
    rig, peer = called()

    answer = rig.tell(peer.route(fqdn=CAROL))

    assert answer == Refusal(Reason.NOT_REGISTERED, peer.negotiation)


def test_a_dc_cannot_make_a_node_call_whom_it_did_not_ask_for() -> None:
    rig = Rig().start()
    peer = Peer(rig, OURS)

    assert rig.tell(peer.route()) == Refusal(Reason.NOT_ALLOWED, OURS)
    assert rig.told(OpenTunnel) == []


def test_a_dc_cannot_put_another_peer_in_the_place_of_the_one_asked_for() -> None:
    rig = Rig().start()
    rig.node.resolve(CAROL, rig.now)
    rig.settle()
    peer = Peer(rig, rig.direction().negotiation)

    assert rig.tell(peer.route()) == Refusal(Reason.NOT_ALLOWED, peer.negotiation)


def test_a_peer_whose_device_key_is_not_the_pinned_one_is_refused_and_this_is_said() -> None:
    pin = Pin(BOB, b"\x01" * 32, IPv4Address("100.64.0.99"), IPv6Address("fd00::99"))
    rig = Rig(pins=(pin,)).start()
    rig.node.resolve(BOB, rig.now)
    rig.settle()
    peer = Peer(rig, rig.direction().negotiation)

    answer = rig.tell(peer.route())

    assert answer == Refusal(Reason.IDENTITY_CHANGED, peer.negotiation)
    assert [event.reason for event in rig.of(NameRefused)] == [Reason.IDENTITY_CHANGED]
    assert rig.told(OpenTunnel) == []


def test_a_peer_with_the_pinned_device_key_keeps_the_addresses_it_had() -> None:
    ipv4, ipv6 = IPv4Address("100.64.0.99"), IPv6Address("fd00::99")
    pin = Pin(BOB, identity(BOB).public.device, ipv4, ipv6)

    rig, _ = connected(Rig(pins=(pin,)).start())

    assert [(e.ipv4, e.ipv6) for e in rig.of(NameResolved)] == [(ipv4, ipv6)]
    assert rig.of(PeerPinned) == [], "it is remembered already"


def test_a_tunnel_key_the_device_key_does_not_vouch_for_is_refused() -> None:
    rig, peer = called()
    mixed = PublicIdentity(
        identity(BOB).public.device, identity(CAROL).public.tunnel, identity(BOB).public.signature
    )
    forged = msgspec.structs.replace(information(BOB), identity=mixed)

    answer = rig.tell(peer.route(peer=forged))

    assert answer == Refusal(Reason.IDENTITY_CHANGED, peer.negotiation)


def test_two_peers_that_propose_one_address_get_two_here() -> None:
    rig, _ = connected()
    taken = rig.of(NameResolved)[0]
    rig.node.resolve(CAROL, rig.now)
    rig.settle()
    twin = msgspec.structs.replace(
        information(CAROL), virtual_ipv4=taken.ipv4, virtual_ipv6=taken.ipv6
    )
    peer = Peer(rig, rig.direction().negotiation)

    rig.tell(peer.route(peer=twin))

    first, second = rig.told(OpenTunnel)
    assert first.peer_ipv4 != second.peer_ipv4
    assert first.peer_ipv6 != second.peer_ipv6
    assert (second.own_ipv4, second.own_ipv6) == ADDRESSES


def test_a_direct_path_that_stays_silent_is_followed_by_rs() -> None:
    rig = Rig().start()
    rig.node.resolve(BOB, rig.now)
    rig.settle()
    rig.tell(Peer(rig, rig.direction().negotiation).route())

    rig.pass_time(1)
    assert rig.direction().purpose is Purpose.RELAY
    peer = Peer(rig, rig.direction().negotiation, relay=(RS,))
    rig.tell(peer.route(purpose=Purpose.RELAY))
    peer.exchange()

    (established,) = rig.of(TunnelEstablished)
    assert (established.remote, established.relayed) == (RS, True)
    assert [event.fqdn for event in rig.of(NameResolved)] == [BOB]


def test_a_direct_try_that_fails_at_cn_does_not_take_the_relayed_tunnel_with_it() -> None:
    """MN asked for RS while CN still awaits the direct Tunnel Request."""
    rig = Rig().start()
    direct = Peer(rig, b"\xa1" * 16, role=Role.MN, sends=True)
    rig.tell(direct.route())
    rig.pass_time(0.5)
    relayed = Peer(rig, b"\xa2" * 16, role=Role.MN, sends=True, relay=(RS,))
    rig.tell(relayed.route(purpose=Purpose.RELAY))
    relayed.exchange()

    rig.pass_time(3)

    assert rig.of(TunnelClosed) == []
    (view,) = rig.node.peers()
    assert (view.fqdn, view.relayed, view.remote) == (BOB, True, RS)


def test_a_relayed_try_that_fails_ends_what_never_stood() -> None:
    rig, peer = called(relay=(RS,))
    rig.tell(peer.route())

    rig.pass_time(12)

    assert [event.reason for event in rig.of(TunnelClosed)] == [CloseReason.WITHDRAWN]
    assert [held.name for held in rig.node.keyring] == ["Kntmdc"]


def test_when_both_ask_at_once_there_is_one_tunnel() -> None:
    rig = Rig().start()
    rig.node.resolve(BOB, rig.now)
    rig.settle()
    ours = Peer(rig, rig.direction().negotiation)
    theirs = Peer(rig, b"\xa2" * 16, role=Role.MN, sends=True)

    rig.tell(ours.route())
    rig.tell(theirs.route())
    queued = list(rig.elsewhere)
    ours.exchange()
    rig.elsewhere += queued
    theirs.exchange()

    assert len(rig.told(OpenTunnel)) == 1
    assert ours.agreed is not None
    assert theirs.agreed is not None
    assert ours.agreed.remote_index == theirs.agreed.remote_index
    assert len({command.epoch for command in rig.told(InstallKeys)}) == 2


def test_a_peer_that_started_anew_is_met_again_in_the_same_tunnel() -> None:
    rig, _ = connected()
    again = Peer(rig, b"\xa2" * 16, role=Role.MN, sends=True, index=88)

    rig.tell(again.route())
    again.exchange()

    assert len(rig.told(OpenTunnel)) == 1
    assert rig.told(InstallKeys)[-1].remote_index == 88
    assert len([held for held in rig.node.keyring if held.name == "Kmncn"]) == 1


def test_another_cipher_replaces_the_tunnel() -> None:
    rig, _ = connected()
    other = Peer(rig, b"\xa2" * 16, role=Role.MN, sends=True)

    rig.tell(other.route(cipher=Cipher.CHACHA20_POLY1305))

    assert [event.reason for event in rig.of(TunnelClosed)] == [CloseReason.REPLACED]
    first, second = rig.told(OpenTunnel)
    assert first.index != second.index


def test_after_an_index_that_is_in_use_the_next_try_has_another() -> None:
    rig = Rig().start()
    rig.node.resolve(BOB, rig.now)
    rig.settle()
    peer = Peer(rig, rig.direction().negotiation, relay=(RS,))
    rig.tell(peer.route())
    request = rig.elsewhere[-1]
    rs = Mouth(Sender.RS, key_of(peer))

    refused = rs.reply(request, Refusal(Reason.INDEX_IN_USE))
    rig.node.handle_datagram(RS, refused, rig.now)
    rig.settle()
    assert [event.reason for event in rig.of(NameRefused)] == [Reason.INDEX_IN_USE]
    rig.node.resolve(BOB, rig.now)
    rig.settle()
    rig.tell(Peer(rig, rig.direction().negotiation, relay=(RS,)).route())

    first, second = rig.told(OpenTunnel)
    assert first.index != second.index


def test_a_node_has_only_so_many_tunnels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "MAX_TUNNELS", 1)
    rig, _ = connected()
    other = Peer(rig, b"\xa2" * 16, role=Role.MN, sends=True)

    refused = rig.tell(other.route(peer=information(CAROL)))
    known = rig.tell(Peer(rig, b"\xa3" * 16, role=Role.MN, sends=True).route())

    assert refused == Refusal(Reason.BUSY, other.negotiation)
    assert known == NtmAck(identity(ALICE).public)


def test_at_the_end_of_a_tunnel_every_key_of_it_is_gone() -> None:
    rig, _ = connected()
    assert {held.name for held in rig.node.keyring} == {"Kntmdc", "Ktun", "Kmncn"}

    rig.tell(Withdrawal(BOB))

    assert {held.name for held in rig.node.keyring} == {"Kntmdc"}


def test_a_tunnel_nobody_uses_closes_and_the_next_query_builds_another() -> None:
    rig, _ = connected()

    rig.pass_time(700)
    assert [event.reason for event in rig.of(TunnelClosed)] == [CloseReason.IDLE]
    connected(rig)

    assert len(rig.of(TunnelEstablished)) == 2


def test_a_relayed_tunnel_that_moves_shows_rs_its_new_address_at_once() -> None:
    rig, _ = connected(relay=(RS,))
    rig.elsewhere.clear()

    rig.node.handle_links((ELSEWHERE,), rig.now)
    rig.settle()

    assert [sent.destination for sent in rig.elsewhere] == [RS]


def test_a_hint_that_nothing_is_bound_makes_the_node_show_rs_where_it_is() -> None:
    rig, peer = connected(relay=(RS,))
    rig.elsewhere.clear()

    hint(rig, Hint.index(peer.index))

    assert [sent.destination for sent in rig.elsewhere] == [RS]
    assert rig.elsewhere[0].payload[4:12] == peer.end.identifier
    assert len(rig.sent(DirectionRequest)) == 1, "no server is troubled"


def test_hints_cost_no_more_than_one_question_however_many_come() -> None:
    rig, peer = connected(relay=(RS,))
    rig.elsewhere.clear()

    for _ in range(1000):
        hint(rig, Hint.index(peer.index))

    assert len(rig.elsewhere) == 1


@pytest.mark.parametrize(
    ("source", "of_index"), [(RS, 78), (STRANGER, 77), (THERE, 77)], ids=["index", "who", "peer"]
)
def test_a_hint_from_elsewhere_or_of_another_index_is_ignored(
    source: Endpoint, of_index: int
) -> None:
    rig, _ = connected(relay=(RS,))
    rig.elsewhere.clear()

    hint(rig, Hint.index(of_index), source)

    assert rig.elsewhere == []


def test_a_direct_path_takes_no_hints() -> None:
    rig, peer = connected()
    rig.elsewhere.clear()

    hint(rig, Hint.index(peer.index), THERE)
    hint(rig, Hint.key(peer.end.identifier), THERE)

    assert rig.elsewhere == []
    assert len(rig.sent(DirectionRequest)) == 1


def test_an_rs_that_has_forgotten_the_path_makes_the_node_ask_for_another_at_once() -> None:
    rig, peer = connected(relay=(RS,))
    hint(rig, Hint.index(peer.index))

    hint(rig, Hint.key(peer.end.identifier))

    assert rig.direction().purpose is Purpose.MOVE
    assert len(rig.sent(DirectionRequest)) == 2


def test_an_rs_that_was_not_shown_anything_cannot_have_forgotten_it() -> None:
    rig, peer = connected(relay=(RS,))

    hint(rig, Hint.key(peer.end.identifier))

    assert len(rig.sent(DirectionRequest)) == 1


def test_an_rs_that_still_does_not_know_a_negotiation_brings_another_beside_it() -> None:
    rig, _ = connected()
    rig.node.resolve(CAROL, rig.now)
    rig.settle()
    peer = Peer(rig, rig.direction().negotiation, relay=(RS,))
    route = msgspec.structs.replace(
        peer.route(), peer=information(CAROL, number=8), ktun_identifier=b"\x66" * 8
    )
    rig.tell(route)
    asked = len(rig.sent(DirectionRequest))

    hint(rig, Hint.key(route.ktun_identifier))
    rig.pass_time(0.9)
    hint(rig, Hint.key(route.ktun_identifier))
    assert len(rig.sent(DirectionRequest)) == asked, "the Relay Direction may be on its way"
    rig.pass_time(0.2)
    hint(rig, Hint.key(route.ktun_identifier))

    assert len(rig.sent(DirectionRequest)) == asked + 1
    assert rig.direction().purpose is Purpose.RELAY
    hint(rig, Hint.key(route.ktun_identifier))
    assert len(rig.sent(DirectionRequest)) == asked + 1


@given(st.binary(max_size=30))
def test_whatever_looks_like_a_hint_raises_nothing_and_asks_nobody(data: bytes) -> None:
    rig, _ = connected(relay=(RS,))
    rig.elsewhere.clear()

    rig.node.handle_datagram(RS, b"\x07" + data, rig.now)
    rig.settle()

    assert rig.elsewhere == []


def hint(rig: Rig, said: Hint, source: Endpoint = RS) -> None:
    rig.node.handle_datagram(source, said.encode(), rig.now)
    rig.settle()


def test_the_size_of_a_path_is_at_first_what_the_uplink_allows() -> None:
    rig, _ = connected()
    (view,) = rig.node.peers()

    assert view.mtu == 1500 - OVERHEAD


peers_acts = st.lists(
    st.tuples(
        st.sampled_from(["call", "resolve", "withdraw", "wait", "refuse", "lose", "move"]),
        st.booleans(),
        st.sampled_from([0.0, 0.3, 2.0, 20.0]),
    ),
    max_size=14,
)


@given(peers_acts)
@settings(max_examples=80, deadline=None)
def test_whatever_happens_no_key_is_left_over_and_every_query_is_answered(
    history: list[tuple[str, bool, float]],
) -> None:
    rig = Rig().start()
    queries: list[int] = []
    for number, (act, relayed, wait) in enumerate(history, start=1):
        relay = (RS,) if relayed else ()
        match act:
            case "call" | "lose":
                peer = Peer(rig, bytes((160 + number,)) * 16, role=Role.MN, sends=True, relay=relay)
                rig.tell(peer.route())
                if act == "call":
                    peer.exchange()
            case "resolve":
                queries.append(rig.node.resolve(BOB, rig.now))
                rig.settle()
                if rig.sent(DirectionRequest):
                    peer = Peer(rig, rig.direction().negotiation, relay=relay)
                    rig.tell(peer.route())
                    peer.exchange()
            case "withdraw":
                rig.tell(Withdrawal(BOB))
            case "refuse" if rig.sent(DirectionRequest):
                rig.tell(Refusal(Reason.NO_RELAY, rig.direction().negotiation))
            case "move":
                rig.node.handle_links((ELSEWHERE if relayed else V4,), rig.now)
        rig.loops.seen = Traffic(number, number, None, None)
        rig.pass_time(wait)
    rig.pass_time(40)

    answered = [e.query for e in rig.events if isinstance(e, NameResolved | NameRefused)]
    assert sorted(answered) == queries
    rig.node.leave(rig.now)
    rig.settle()
    assert [held.name for held in rig.node.keyring] == ["Kntmdc"]
    assert rig.node.peers() == ()


def key_of(peer: Peer) -> Ktun:
    """Ktun of a negotiation, as RS holds it."""
    route = peer.route()
    return Ktun(route.ktun, route.ktun_identifier, after(T0, 3600))
