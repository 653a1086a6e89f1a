"""Source: paper, Figs. 6 and 7. Ours: docs/protocol.md sections 4 and 7."""

from collections import deque
from random import Random

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings
from tests.proto.parts import (
    ALICE,
    BOB,
    HERE,
    RS,
    STRANGER,
    T0,
    THERE,
    Mouth,
    Numbers,
    after,
    drain,
    identity,
    information,
    key,
)

from ntmobile.keys.identity import Identity
from ntmobile.keys.table import KeyAct, Keyring, Ktun, Party
from ntmobile.proto.conversation import Challenger
from ntmobile.proto.io import Transmit
from ntmobile.proto.journal import Journal
from ntmobile.proto.node.handshake import Terms
from ntmobile.proto.node.negotiation import (
    AWAIT_DIRECT_NS,
    AWAIT_RELAY_NS,
    Agreed,
    Negotiation,
    NegotiationFailed,
    Parts,
    Punched,
    Undirected,
)
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Header, Sender
from ntmobile.wire.direction import Action, Cipher, Mode, Role, RouteDirection
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import NtmAck, Reason, Refusal
from ntmobile.wire.tunnel import HolePunching, TunnelRequest, TunnelResponse

pytestmark = pytest.mark.paper("Fig. 6", "Fig. 7")

ID = b"\x01" * 16
PLACES = {Role.MN: HERE, Role.CN: THERE}
NAMES = {Role.MN: ALICE, Role.CN: BOB}
INDEXES = {Role.MN: 11, Role.CN: 22}


class Rig:
    """Both ends of one negotiation, and an RS that forwards."""

    def __init__(
        self,
        sender: Role,
        *,
        relayed: bool = False,
        targets: tuple[Endpoint, ...] | None = None,
        families: frozenset[int] = frozenset({4}),
        impostor: Identity | None = None,
    ) -> None:
        self.now = T0
        self.families = families
        self.sender = sender
        self.flying: deque[tuple[Endpoint, Transmit]] = deque()
        self.keyrings = {role: Keyring(Party.NODE) for role in Role}
        self.rs = Mouth(Sender.RS, key(Ktun, 9))
        self.rs_seen: dict[Role, bool] = {}
        self.silent: set[Endpoint] = set()
        """Addresses at which nothing arrives."""
        self.outcomes: dict[Role, list[object]] = {role: [] for role in Role}
        other = Role.CN if sender is Role.MN else Role.MN
        default = () if relayed else (PLACES[other],)
        self.targets = default if targets is None else targets
        self.relay = (RS,) if relayed else ()
        own = {role: identity(NAMES[role]) for role in Role}
        if impostor is not None:
            own[Role.CN] = impostor
        self.ends = {role: self._end(role, own[role]) for role in Role}

    def _end(self, role: Role, own: Identity) -> Negotiation:
        other = Role.CN if role is Role.MN else Role.MN
        entropy = Random(role)
        parts = Parts(
            NAMES[role],
            own,
            self.keyrings[role],
            Challenger(entropy),
            entropy,
            Journal(role),
            lambda all_of: tuple(end for end in all_of if end.version in self.families),
        )
        sends = role is self.sender
        route = RouteDirection(
            ID,
            NAMES[role],
            role,
            Action.SEND if sends else Action.AWAIT,
            information(NAMES[other], number=2 if role is Role.MN else 1),
            b"\x07" * 32,
            key(Ktun, 9).secret,
            key(Ktun, 9).identifier,
            self.targets if sends else (),
            self.relay,
            3600,
        )
        mn, cn = information(ALICE, number=1), information(BOB, number=2)
        terms = Terms(
            ID,
            Mode.KKPSK0,
            Cipher.AES_256_GCM,
            ALICE,
            BOB,
            self.sender,
            mn.identity,
            cn.identity,
            mn.virtual_ipv6,
            cn.virtual_ipv6,
        )
        return Negotiation(parts, route, INDEXES[role], Numbers(), terms, self.now)

    def gather(self) -> None:
        for role, end in self.ends.items():
            self.flying += [(PLACES[role], sent) for sent in drain(end.poll_transmit)]
            self.outcomes[role] += drain(end.poll_outcome)

    def deliver(self, source: Endpoint, sent: Transmit) -> None:
        if {source, sent.destination} & self.silent:
            return
        if sent.destination == RS:
            self._relay(source, sent)
            return
        for role, place in PLACES.items():
            if place == sent.destination:
                self.hand(role, source, sent.payload)

    def hand(self, role: Role, source: Endpoint, data: bytes) -> None:
        header = Header.decode(data)
        if header.sender is not Sender[role.upper()]:
            self.ends[role].handle_datagram(header, source, data, self.now, 0)
        self.gather()

    def _relay(self, source: Endpoint, sent: Transmit) -> None:
        message = self.rs.hear(sent).message
        role = next(role for role, place in PLACES.items() if place == source)
        other = Role.CN if role is Role.MN else Role.MN
        if isinstance(message, HolePunching):
            self.hand(role, RS, self.rs.reply(sent, NtmAck()))
        elif RS not in self.silent:
            self.hand(other, RS, sent.payload)

    def run(self, seconds: float) -> None:
        """Let everything arrive at once and time pass."""
        until = after(self.now, seconds)
        self.exchange()
        while (at := self.due()) is not None and at <= until:
            self.now = at
            for end in self.ends.values():
                end.handle_timeout(at)
            assert (following := self.due()) is None or following > at, "spins"
            self.exchange()
        self.now = until

    def exchange(self) -> None:
        self.gather()
        while self.flying:
            self.deliver(*self.flying.popleft())

    def due(self) -> Instant | None:
        times = [end.poll_timeout() for end in self.ends.values()]
        return min((due.at for due in times if due is not None), default=None)

    def agreed(self, role: Role) -> Agreed:
        (found,) = [each for each in self.outcomes[role] if isinstance(each, Agreed)]
        return found

    def failed(self, role: Role) -> list[NegotiationFailed]:
        return [each for each in self.outcomes[role] if isinstance(each, NegotiationFailed)]


@pytest.mark.paper("Tunnel Request", "Tunnel Response", "Ktun", "Ktmp", "Kmncn")
@pytest.mark.parametrize("sender", Role)
@pytest.mark.parametrize("relayed", [False, True])
def test_both_ends_agree_on_the_same_keys(sender: Role, relayed: bool) -> None:
    rig = Rig(sender, relayed=relayed)

    rig.run(1)

    mn, cn = rig.agreed(Role.MN), rig.agreed(Role.CN)
    assert mn.secrets.send_key == cn.secrets.receive_key
    assert mn.secrets.receive_key == cn.secrets.send_key
    assert (mn.remote_index, cn.remote_index) == (22, 11)
    assert mn.relayed is cn.relayed is relayed
    assert (mn.remote, cn.remote) == ((RS, RS) if relayed else (THERE, HERE))
    assert mn.sent_request is (sender is Role.MN)


def test_fig_6_takes_two_messages_and_no_hole_punching() -> None:
    rig = Rig(Role.CN)
    rig.gather()

    (_, request) = rig.flying[0]
    assert [sent.destination for _, sent in rig.flying] == [HERE]
    assert isinstance(rig.rs.hear(request).message, TunnelRequest)
    rig.deliver(*rig.flying.popleft())
    (_, response) = rig.flying[0]
    assert isinstance(rig.rs.hear(response).message, TunnelResponse)


@pytest.mark.paper("Hole Punching")
def test_fig_7_opens_the_nat_towards_rs_before_anything_is_awaited() -> None:
    rig = Rig(Role.MN, relayed=True)
    rig.gather()

    to_rs = [type(rig.rs.hear(sent).message) for _, sent in rig.flying]

    assert sorted(kind.__name__ for kind in to_rs) == ["HolePunching", "TunnelRequest"]


@pytest.mark.parametrize("relayed", [False, True])
def test_ktmp_is_erased_as_soon_as_the_keys_are_agreed_and_ktun_at_the_end(relayed: bool) -> None:
    rig = Rig(Role.MN, relayed=relayed)
    rig.run(1)

    names = [{held.name for held in ring} for ring in rig.keyrings.values()]
    assert names == [{"Ktun"}, {"Ktun"}]
    for end in rig.ends.values():
        end.close(rig.now)
    assert [len(ring) for ring in rig.keyrings.values()] == [0, 0]
    acts = [record.act for record in drain(rig.keyrings[Role.MN].poll_record)]
    assert acts.count(KeyAct.ERASED) == 2


def test_a_lost_response_is_asked_for_again_and_the_same_comes() -> None:
    rig = Rig(Role.MN)
    rig.gather()
    rig.deliver(*rig.flying.popleft())
    rig.flying.clear()

    rig.run(2)

    assert rig.agreed(Role.MN).secrets.hash == rig.agreed(Role.CN).secrets.hash


def test_a_direct_path_that_stays_silent_is_given_up_within_half_a_second() -> None:
    rig = Rig(Role.MN)
    rig.silent = {THERE}

    rig.run(0.7)

    (failed,) = rig.failed(Role.MN)
    assert (failed.reason, failed.relay_next) == (Reason.TIMED_OUT, True)


def test_the_end_that_awaits_directly_gives_up_a_little_later() -> None:
    rig = Rig(Role.CN)
    rig.silent = {THERE}

    rig.run(AWAIT_DIRECT_NS / SECOND)

    (failed,) = rig.failed(Role.MN)
    assert (failed.reason, failed.relay_next) == (Reason.TIMED_OUT, True)


@pytest.mark.parametrize("role", Role)
def test_through_rs_silence_is_the_end_of_it(role: Role) -> None:
    rig = Rig(Role.MN, relayed=True)
    rig.silent = {RS}

    rig.run(20)

    doubt, failed = rig.outcomes[role]
    assert doubt == Undirected(ID), "another may be tried beside it"
    assert failed == NegotiationFailed(ID, Reason.TIMED_OUT, relay_next=False)
    assert rig.due() is None, "nothing is tried for ever"
    assert AWAIT_RELAY_NS == 8 * SECOND


def test_an_rs_that_says_the_index_is_taken_ends_it_with_that_reason() -> None:
    rig = Rig(Role.MN, relayed=True)
    rig.gather()
    punch = next(s for _, s in rig.flying if isinstance(rig.rs.hear(s).message, HolePunching))

    rig.hand(Role.CN, RS, rig.rs.reply(punch, Refusal(Reason.INDEX_IN_USE)))

    (failed,) = rig.failed(Role.CN)
    assert (failed.reason, failed.relay_next) == (Reason.INDEX_IN_USE, False)


def test_without_an_address_of_a_family_it_has_the_sender_asks_for_rs() -> None:
    rig = Rig(Role.MN, families=frozenset({6}))
    rig.gather()

    assert rig.failed(Role.MN) == [NegotiationFailed(ID, Reason.NO_COMMON_PATH, True)]


def test_private_addresses_and_rs_are_tried_at_once_and_the_first_answer_wins() -> None:
    inside = Endpoint("192.168.1.3", 500)
    rig = Rig(Role.MN, relayed=True, targets=(inside,))
    rig.gather()

    requests = [s for source, s in rig.flying if source == HERE]

    assert [sent.destination for sent in requests] == [inside, RS]


def test_a_peer_with_another_device_than_the_dc_told_fails_as_such() -> None:
    rig = Rig(Role.MN, impostor=identity("impostor"))

    rig.run(12)

    assert not [each for each in rig.outcomes[Role.MN] if isinstance(each, Agreed)]
    assert rig.failed(Role.MN)


def test_a_forged_response_under_ktun_does_not_bring_wrong_keys() -> None:
    """RS holds Ktun; without Ktmp and the device keys that is worth nothing."""
    rig = Rig(Role.MN, relayed=True)
    rig.gather()
    sent = next(s for _, s in rig.flying if isinstance(rig.rs.hear(s).message, TunnelRequest))
    thief = Mouth(Sender.CN, key(Ktun, 9), boot=7)
    forged = TunnelResponse(ID, Role.CN, 1, 66, 0, bytes(48))

    rig.hand(Role.MN, RS, thief.reply(sent, forged))

    assert not [each for each in rig.outcomes[Role.MN] if isinstance(each, Agreed)]


@pytest.mark.parametrize(
    "change",
    [{"negotiation": b"\x02" * 16}, {"role": Role.CN}, {"noise": bytes(48)}],
    ids=["of another negotiation", "from our own role", "with a broken handshake"],
)
def test_a_tunnel_request_that_does_not_fit_is_ignored_and_the_true_one_is_taken(
    change: dict[str, object],
) -> None:
    rig = Rig(Role.MN)
    rig.gather()
    source, sent = rig.flying[0]
    true = rig.rs.hear(sent).message
    wrong = msgspec.structs.replace(true, **change)
    thief = Mouth(Sender.MN, key(Ktun, 9), boot=7)

    rig.hand(Role.CN, source, thief.say(wrong, 12345))
    assert rig.outcomes[Role.CN] == []
    rig.run(1)

    assert rig.agreed(Role.CN)


def test_a_negotiation_opens_one_session_once() -> None:
    rig = Rig(Role.MN)
    rig.gather()
    recorded = [sent.payload for _, sent in rig.flying]
    rig.run(1)

    for data in recorded:
        rig.hand(Role.CN, STRANGER, data)
    again = Mouth(Sender.MN, key(Ktun, 9), boot=7)
    request = rig.rs.hear(Transmit(THERE, recorded[0])).message
    rig.hand(Role.CN, STRANGER, again.say(request, 777))

    assert len([o for o in rig.outcomes[Role.CN] if isinstance(o, Agreed)]) == 1


def test_the_end_that_sends_takes_no_tunnel_request() -> None:
    rig = Rig(Role.MN)
    thief = Mouth(Sender.CN, key(Ktun, 9), boot=7)
    rig.gather()
    noise = rig.rs.hear(rig.flying[0][1]).message.noise  # type: ignore[union-attr]

    rig.hand(Role.MN, THERE, thief.say(TunnelRequest(ID, Role.CN, 1, 22, 1, noise), 5))

    assert rig.outcomes[Role.MN] == []


def test_on_a_move_rs_is_shown_the_new_address_with_a_growing_sequence() -> None:
    rig = Rig(Role.MN, relayed=True)
    rig.run(1)
    for role in Role:
        rig.outcomes[role].clear()

    rig.ends[Role.CN].punch(rig.now)
    rig.ends[Role.CN].punch(rig.now)
    rig.gather()
    sequences = [rig.rs.hear(sent).message.sequence for _, sent in rig.flying]  # type: ignore[union-attr]
    rig.run(1)

    assert sequences == sorted(set(sequences))
    assert rig.outcomes[Role.CN] == [Punched(ID, RS)] * 2


def test_a_punch_after_the_keys_stand_that_nobody_answers_fails_nothing() -> None:
    rig = Rig(Role.MN, relayed=True)
    rig.run(1)
    rig.silent = {RS}

    rig.ends[Role.MN].punch(rig.now)
    rig.run(30)

    assert rig.failed(Role.MN) == []
    assert rig.due() is None


fates = st.lists(st.sampled_from(["deliver", "lose", "double", "later"]), max_size=30)


@given(st.sampled_from(Role), st.booleans(), fates)
@settings(max_examples=120, deadline=None)
def test_whatever_is_lost_both_agree_on_the_same_or_somebody_says_that_it_failed(
    sender: Role, relayed: bool, history: list[str]
) -> None:
    rig = Rig(sender, relayed=relayed)
    rig.gather()
    for fate in history:
        if not rig.flying:
            due = rig.due()
            if due is None:
                break
            rig.now = due
            for end in rig.ends.values():
                end.handle_timeout(due)
            rig.gather()
            continue
        source, sent = rig.flying.popleft()
        if fate in ("deliver", "double"):
            rig.deliver(source, sent)
        if fate in ("later", "double"):
            rig.flying.append((source, sent))
    rig.run(30)

    agreed = [o for o in (*rig.outcomes[Role.MN], *rig.outcomes[Role.CN]) if isinstance(o, Agreed)]
    for role in Role:
        ended = [o for o in rig.outcomes[role] if isinstance(o, Agreed | NegotiationFailed)]
        assert len(ended) == 1, "each end ends exactly once"
    if len(agreed) == 2:
        assert agreed[0].secrets.hash == agreed[1].secrets.hash
    if len(agreed) == 1:
        assert not agreed[0].sent_request, "who sent the request knows that the other has the keys"
    assert rig.due() is None
