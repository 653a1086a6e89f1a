"""Whatever a peer that holds the right key says, in whatever order: no machine raises or spins.

Messages are well formed, sealed under the true key and proven where proof is asked for: the worst
that a foreign DC, a node that was taken over, or an RS can send.
"""

import hypothesis.strategies as st
import msgspec
from hypothesis import HealthCheck, given, settings

from ntmobile.errors import DecodeError
from ntmobile.keys.table import Ktun
from ntmobile.wire.datagram import MAX_DATAGRAM, Sender, Signal, encode_control
from ntmobile.wire.direction import NodeInformationRequest, Role, RouteDirection
from ntmobile.wire.tunnel import Control
from tests.proto.coordinator.rig import Player
from tests.proto.coordinator.rig import Rig as CoordinatorRig
from tests.proto.node.link import connected as connected_link
from tests.proto.node.rig import Peer, connected
from tests.proto.node.rig import Rig as NodeRig
from tests.proto.parts import ALICE, BOB, CAROL, DC, HERE, RS, THERE, Mouth, after, identity
from tests.proto.relay.rig import Rig as RelayRig
from tests.wire.strategies import controls, epochs, senders, signals

IDS = (b"\xa1" * 16, b"\xa2" * 16, bytes((1,)) * 16)


def fit(message: Signal, name: str | None, negotiation: bytes | None) -> Signal:
    """Make a message name what exists, so that it gets past the first check."""
    changes: dict[str, object] = {}
    if name is not None and hasattr(message, "fqdn"):
        changes["fqdn"] = name
    if negotiation is not None and hasattr(message, "negotiation"):
        changes["negotiation"] = negotiation
    if name is not None and isinstance(message, RouteDirection):
        changes["peer"] = msgspec.structs.replace(
            message.peer, fqdn=BOB, identity=identity(BOB).public
        )
    if name is not None and isinstance(message, NodeInformationRequest):
        changes["mn"] = msgspec.structs.replace(message.mn, fqdn=BOB)
    return msgspec.structs.replace(message, **changes)


fitted = st.builds(
    fit, signals, st.sampled_from((None, ALICE, BOB, CAROL)), st.sampled_from((None, *IDS))
)
said = st.lists(st.tuples(fitted, st.integers(0, 3), st.sampled_from((0.0, 0.4, 21.0))), max_size=8)
quick = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def sealed(mouth: Mouth, message: Signal, transaction: int) -> bytes | None:
    """A datagram, or None when nobody could send it: it is too long."""
    data = mouth.say(message, transaction)
    return data if len(data) <= MAX_DATAGRAM else None


@given(said)
@quick
def test_a_node_bears_anything_from_its_dc(history: list[tuple[Signal, int, float]]) -> None:
    rig, _ = connected()
    for message, repeat, wait in history:
        if sealed(rig.dc, message, 1) is not None:
            for _ in range(1 + repeat):
                rig.tell(message)
        rig.pass_time(wait)

    rig.pass_time(60)


@given(said)
@quick
def test_a_node_bears_anything_as_an_answer(history: list[tuple[Signal, int, float]]) -> None:
    rig = NodeRig().start()
    answers = [message for message, _, _ in history]
    rig._dc_answer = lambda *_: answers.pop() if answers else None  # type: ignore[method-assign]

    for _ in range(len(history) + 1):
        rig.node.resolve(CAROL, rig.now)
        rig.pass_time(25)

    rig.pass_time(60)


@given(said, senders)
@quick
def test_a_node_bears_anything_under_ktun(
    history: list[tuple[Signal, int, float]], sender: Sender
) -> None:
    rig = NodeRig().start()
    peer = Peer(rig, b"\xa1" * 16, role=Role.MN, sends=True, relay=(RS,))
    rig.tell(peer.route())
    route = peer.route()
    mouth = Mouth(sender, Ktun(route.ktun, route.ktun_identifier, after(rig.now, 3600)))
    for number, (message, repeat, wait) in enumerate(history):
        data = sealed(mouth, message, number)
        for _ in range(1 + repeat if data else 0):
            rig.node.handle_datagram(RS, data or b"", rig.now)
            rig.settle()
        rig.pass_time(wait)

    rig.pass_time(60)


@given(st.lists(st.tuples(controls, epochs, st.sampled_from((0.0, 0.4, 11.0))), max_size=12))
@quick
def test_a_tunnel_bears_anything_inside(history: list[tuple[Control, int, float]]) -> None:
    link = connected_link()
    link.heals = False
    for message, epoch, wait in history:
        link.a.tunnel.handle_control(epoch, THERE, 0, encode_control(message), link.now)
        link.wait(wait)

    link.wait(30)
    assert len(link.a.keyring) == len(link.a.loops.keys)


@given(said, st.booleans())
@quick
def test_a_dc_bears_anything_from_a_node(
    history: list[tuple[Signal, int, float]], answers: bool
) -> None:
    rig = CoordinatorRig()
    alice, carol = rig.node(ALICE, 1), rig.node(CAROL, 2)
    rig.direction(alice, CAROL)
    play(rig, carol, history, answers=answers)

    rig.pass_time(60)
    assert rig.carried() == []


@given(said, st.booleans())
@quick
def test_a_dc_bears_anything_from_another_domains(
    history: list[tuple[Signal, int, float]], answers: bool
) -> None:
    rig = CoordinatorRig()
    rig.node(ALICE, 1)
    play(rig, rig.share(), history, answers=answers)

    rig.pass_time(60)
    assert rig.carried() == []


@given(said, st.sampled_from(("dc", "mn", "cn")))
@quick
def test_an_rs_bears_anything_from_its_dc_and_from_the_ends(
    history: list[tuple[Signal, int, float]], who: str
) -> None:
    rig = RelayRig()
    rig.share_key()
    rig.direct(1)
    ends = {"mn": rig.end(1, Role.MN, HERE, 1), "cn": rig.end(1, Role.CN, THERE, 2)}
    mouth, place = (rig.dc, DC) if who == "dc" else (ends[who].mouth, ends[who].place)
    for number, (message, repeat, wait) in enumerate(history):
        if (data := sealed(mouth, message, 10_000 + number)) is not None:
            for _ in range(1 + repeat):
                rig.inject(data, place)
        rig.pass_time(after(rig.now, wait))

    assert all(rig.sent[where] <= 3 * rig.received[where] for where in (HERE, THERE))


def play(
    rig: CoordinatorRig,
    who: Player,
    history: list[tuple[Signal, int, float]],
    *,
    answers: bool,
) -> None:
    """Let a participant of the DC say all that; answers: in reply to what it was asked."""
    for number, (message, repeat, wait) in enumerate(history):
        data = sealed(who.mouth, message, 10_000 + number)
        if answers and who.heard and data is not None:
            transmit, _ = who.heard.popleft()
            data = who.mouth.reply(transmit, message)
        for _ in range(1 + repeat if data else 0):
            try:
                rig.inject(data or b"", who.place)
            except DecodeError as error:  # what the DC sent is no message: its fault
                raise AssertionError(error) from error
        rig.pass_time(wait)
