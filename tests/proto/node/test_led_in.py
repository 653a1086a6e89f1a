"""A move through RS: what is told and sent before RS has the proof of the new address.

Ours: docs/protocol.md section 8.
"""

import msgspec
from tests.proto.node.rig import ELSEWHERE, Peer, Rig, connected
from tests.proto.parts import BOB, RS, STRANGER, Mouth, after

from ntmobile.keys.table import Ktun
from ntmobile.proto.node.events import SetPath
from ntmobile.wire.datagram import Sender
from ntmobile.wire.direction import Role
from ntmobile.wire.registration import Challenge, NtmAck
from ntmobile.wire.tunnel import PathUpdate

OTHER_RS = STRANGER


def moved() -> tuple[Rig, Mouth]:
    """A node whose tunnel through RS has just moved, and RS."""
    rig, peer = connected(relay=(RS,))
    route = peer.route()
    rig.elsewhere.clear()
    rig.node.handle_links((ELSEWHERE,), rig.now)
    rig.settle()
    key = Ktun(route.ktun, route.ktun_identifier, after(rig.now, 60))
    return rig, Mouth(Sender.RS, key)


def challenge(rig: Rig, rs: Mouth) -> None:
    """RS asks for a proof of the new address."""
    (punch,) = rig.elsewhere
    rig.node.handle_datagram(RS, rs.reply(punch, Challenge(bytes(16))), rig.now)
    rig.settle()


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
    rig, rs = moved()
    tunnel = rig.node._peers.named(BOB)
    assert tunnel is not None
    tunnel.rtt_ns = 50_000_000
    challenge(rig, rs)
    before = len(rig.controls(PathUpdate))

    rig.now = after(rig.now, 0.02)
    rig.node.handle_datagram(RS, rs.reply(rig.elsewhere[-1], NtmAck()), rig.now)
    rig.settle()

    assert len(rig.controls(PathUpdate)) == before


def test_an_answer_that_may_have_come_before_the_proof_is_asked_for_again() -> None:
    rig, rs = moved()
    tunnel = rig.node._peers.named(BOB)
    assert tunnel is not None
    tunnel.rtt_ns = 10_000_000
    challenge(rig, rs)
    before = len(rig.controls(PathUpdate))

    rig.now = after(rig.now, 0.02)
    rig.node.handle_datagram(RS, rs.reply(rig.elsewhere[-1], NtmAck()), rig.now)
    rig.settle()

    assert len(rig.controls(PathUpdate)) == before + 1
    assert not rig.told(SetPath)[-1].hold


def test_where_rs_asks_for_no_proof_the_peer_heard_and_data_leave() -> None:
    rig, rs = moved()
    before = len(rig.controls(PathUpdate))
    (punch,) = rig.elsewhere

    rig.node.handle_datagram(RS, rs.reply(punch, NtmAck()), rig.now)
    rig.settle()

    assert len(rig.controls(PathUpdate)) == before
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
