"""Ours: docs/protocol.md section 3."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from ntmobile.keys.sealing import Sealer
from ntmobile.proto.conversation import (
    SALTS_KEPT,
    TOKEN_LIFETIME_NS,
    TRIES,
    Answered,
    Asked,
    Conversation,
    Rejection,
    Unanswered,
)
from ntmobile.proto.io import Transmit
from ntmobile.time import Instant
from ntmobile.wire.datagram import Header, Sender, Signal
from ntmobile.wire.registration import (
    Challenge,
    KeepAliveAnswer,
    NtmAck,
    Reason,
    Refusal,
    UdpKeepAlive,
)
from tests.proto.parts import (
    DC,
    DC6,
    HERE,
    STRANGER,
    T0,
    Mouth,
    after,
    conversation,
    drain,
    key,
    run,
)

QUESTION = UdpKeepAlive(answer=True)
ANSWER = KeepAliveAnswer(HERE, 7)


def test_a_boot_never_heard_of_is_believed_after_one_round_trip() -> None:
    node, dc = node_and_dc()
    node.ask(QUESTION, (DC,), T0, "it")

    first = deliver(node, dc)
    deliver(dc, node)
    second = deliver(node, dc)

    assert first == []
    assert [(heard.message, heard.proven) for heard in second] == [(QUESTION, True)]


def test_an_answer_comes_back_with_the_tag_of_its_question() -> None:
    node, dc = acquainted()
    node.ask(QUESTION, (DC,), T0, "this one")
    (asked,) = deliver(node, dc)

    dc.answer(asked, ANSWER, T0)
    (answered,) = deliver(dc, node, after(T0, 0.2))

    assert answered == Answered("this one", ANSWER, Sender.DC, DC, 200_000_000)
    assert node.poll_timeout() is None


def test_a_question_asked_again_is_handled_once_and_answered_twice() -> None:
    node, dc = acquainted()
    node.ask(QUESTION, (DC,), T0, "it")
    (asked,) = deliver(node, dc)
    dc.answer(asked, ANSWER, T0)
    drain(dc.poll_transmit)

    node.handle_timeout(after(T0, 1))
    again = deliver(node, dc)

    assert again == []
    assert [heard.message for heard in deliver(dc, node)] == [ANSWER]


def test_a_question_asked_again_before_its_answer_is_known_gets_silence() -> None:
    node, dc = acquainted()
    node.ask(QUESTION, (DC,), T0, "it")
    deliver(node, dc)

    node.handle_timeout(after(T0, 1))

    assert deliver(node, dc) == []
    assert drain(dc.poll_transmit) == []


def test_an_end_that_forwards_is_handed_every_repetition() -> None:
    node, rs = conversation(Sender.MN), conversation(Sender.RS, fresh=True, forwards=True)
    node.ask(QUESTION, (DC,), T0, "it")
    node.handle_timeout(after(T0, 1))

    heard = deliver(node, rs)

    assert [asked.message for asked in heard] == [QUESTION, QUESTION]


def test_the_same_bytes_twice_count_as_replayed() -> None:
    node, dc = acquainted()
    node.tell(QUESTION, DC, T0)
    (sent,) = drain(node.poll_transmit)

    heard = [hand(dc, sent.payload), hand(dc, sent.payload)]

    assert isinstance(heard[0], Asked)
    assert heard[1] is None
    assert dc.rejected == {Rejection.UNPROVEN: 1, Rejection.REPLAYED: 1}


@pytest.mark.parametrize("place", [4, 12, 27, 28, -1])
def test_a_changed_byte_makes_a_datagram_forged(place: int) -> None:
    node, dc = acquainted()
    node.tell(QUESTION, DC, T0)
    (sent,) = drain(node.poll_transmit)
    forged = bytearray(sent.payload)
    forged[place] ^= 1

    assert hand(dc, bytes(forged)) is None
    assert dc.rejected[Rejection.FORGED] == 1
    assert isinstance(hand(dc, sent.payload), Asked), "the true one is still welcome"


def test_another_key_opens_nothing() -> None:
    node, dc = conversation(Sender.NODE, key(number=2)), conversation(Sender.DC)
    node.ask(QUESTION, (DC,), T0, "it")

    assert deliver(node, dc) == []
    assert drain(dc.poll_transmit) == []
    assert dc.rejected == {Rejection.FORGED: 1}


def test_ones_own_datagram_thrown_back_is_dropped() -> None:
    node, _ = acquainted()
    node.ask(QUESTION, (DC,), T0, "it")
    (sent,) = drain(node.poll_transmit)

    assert hand(node, sent.payload) is None
    assert node.rejected == {Rejection.OWN_ROLE: 1}


def test_a_request_from_before_a_restart_is_challenged_and_not_handled() -> None:
    node, dc = acquainted()
    node.ask(QUESTION, (DC,), T0, "it")
    (recorded,) = drain(node.poll_transmit)
    assert isinstance(hand(dc, recorded.payload), Asked)

    restarted = conversation(Sender.DC, seed=2)

    assert hand(restarted, recorded.payload) is None
    assert restarted.rejected == {Rejection.UNPROVEN: 1}
    (challenge,) = drain(restarted.poll_transmit)
    assert len(challenge.payload) <= len(recorded.payload), "nobody can be flooded with these"


def test_what_is_shorter_than_a_challenge_is_not_challenged() -> None:
    node, _ = acquainted()
    restarted = conversation(Sender.DC, seed=2)
    node.tell(UdpKeepAlive(), DC, T0)

    assert deliver(node, restarted) == []
    assert drain(restarted.poll_transmit) == []


def test_after_a_restart_the_next_try_gets_through_by_itself() -> None:
    node, _ = acquainted()
    restarted = conversation(Sender.DC, seed=2)
    node.ask(QUESTION, (DC,), T0, "it")

    deliver(node, restarted)
    deliver(restarted, node)

    assert [heard.message for heard in deliver(node, restarted)] == [QUESTION]


def test_a_challenge_that_nothing_open_waits_for_changes_nothing() -> None:
    node, dc = acquainted()
    node.tell(QUESTION, DC, T0)
    (asked,) = deliver(node, dc)
    dc.challenge(asked, T0)

    assert deliver(dc, node) == []
    assert drain(node.poll_transmit) == []
    assert node.rejected[Rejection.UNASKED] == 1


def test_a_token_proves_only_the_address_it_was_sent_to() -> None:
    dc, mouth = conversation(Sender.DC), Mouth(Sender.NODE, key())
    hand(dc, mouth.say(QUESTION, 1), source=HERE)
    (challenge,) = drain(dc.poll_transmit)
    token = token_of(mouth, challenge)

    stolen = hand(dc, mouth.say(QUESTION, 2, token), source=STRANGER)
    own = hand(dc, mouth.say(QUESTION, 3, token), source=HERE)

    assert stolen is None
    assert isinstance(own, Asked)
    assert own.proven


def test_a_token_proves_only_the_boot_it_was_made_for() -> None:
    dc, mouth = conversation(Sender.DC), Mouth(Sender.NODE, key(), boot=1)
    hand(dc, mouth.say(QUESTION, 1))
    token = token_of(mouth, drain(dc.poll_transmit)[0])
    other = Mouth(Sender.NODE, key(), boot=2)

    assert hand(dc, other.say(QUESTION, 2, token)) is None


@pytest.mark.parametrize(("age", "good"), [(1, True), (2, False)])
def test_a_token_is_good_for_a_minute_at_most(age: int, good: bool) -> None:
    dc, mouth = conversation(Sender.DC), Mouth(Sender.NODE, key())
    hand(dc, mouth.say(QUESTION, 1))
    token = token_of(mouth, drain(dc.poll_transmit)[0])
    later = Instant(T0 + age * TOKEN_LIFETIME_NS)

    assert (hand(dc, mouth.say(QUESTION, 2, token), now=later) is not None) is good


def test_an_asker_can_be_made_to_prove_a_new_address_first() -> None:
    node, dc = acquainted()
    node.ask(QUESTION, (DC,), T0, "it")
    (sent,) = drain(node.poll_transmit)
    asked = hand(dc, sent.payload, source=STRANGER)
    assert isinstance(asked, Asked)
    assert not asked.proven

    dc.challenge(asked, T0)
    for challenge in drain(dc.poll_transmit):
        hand(node, challenge.payload, source=DC)
    (again,) = drain(node.poll_transmit)
    proven = hand(dc, again.payload, source=STRANGER)

    assert isinstance(proven, Asked)
    assert proven.proven


def test_a_fresh_key_has_no_past_so_its_first_boots_are_believed() -> None:
    cn = conversation(Sender.CN, fresh=True)

    heard = [hand(cn, Mouth(Sender.MN, key(), boot=n).say(QUESTION, n)) for n in range(1, 7)]

    assert [asked is not None for asked in heard] == [True] * SALTS_KEPT + [False] * 2


def test_of_many_boots_only_the_last_are_remembered() -> None:
    dc = conversation(Sender.DC)
    mouths = [Mouth(Sender.NODE, key(), boot=n) for n in range(1, SALTS_KEPT + 2)]
    for number, mouth in enumerate(mouths):
        introduce(dc, mouth, number)

    assert isinstance(hand(dc, mouths[-1].say(QUESTION, 50)), Asked)
    assert hand(dc, mouths[0].say(QUESTION, 51)) is None


def test_silence_is_reported_once_after_every_try() -> None:
    node = conversation(Sender.NODE)
    node.ask(QUESTION, (DC,), T0, "it")

    times = run(node, after(T0, 60))

    assert len(drain(node.poll_transmit)) == TRIES
    assert drain(node.poll_unanswered) == [Unanswered("it")]
    assert node.poll_timeout() is None
    assert times[-1] - T0 < 18_000_000_000


def test_the_first_try_goes_to_the_best_address_and_the_others_to_all() -> None:
    node = conversation(Sender.NODE)
    node.ask(QUESTION, (DC6, DC), T0, "it")
    first = destinations(node)

    node.handle_timeout(after(T0, 1))

    assert first == [DC6]
    assert destinations(node) == [DC6, DC]


def test_asked_at_once_every_address_gets_the_first_try() -> None:
    node = conversation(Sender.NODE)

    node.ask(QUESTION, (DC6, DC), T0, "it", at_once=True)

    assert destinations(node) == [DC6, DC]


def test_of_two_families_that_challenge_the_first_is_the_one_proven() -> None:
    node, dc = node_and_dc()
    node.ask(QUESTION, (DC6, DC), T0, "it", at_once=True)
    for sent in drain(node.poll_transmit):
        hand(dc, sent.payload, source=HERE)

    for source, challenge in zip((DC6, DC), drain(dc.poll_transmit), strict=True):
        hand(node, challenge.payload, source=source)

    assert destinations(node) == [DC6]


def test_a_cancelled_question_has_no_answer_and_is_not_asked_again() -> None:
    node, dc = acquainted()
    transaction = node.ask(QUESTION, (DC,), T0, "it")
    (asked,) = deliver(node, dc)

    node.cancel(transaction)
    dc.answer(asked, ANSWER, T0)

    assert not [heard for heard in deliver(dc, node) if isinstance(heard, Answered)]
    assert run(node, after(T0, 60)) == []
    assert node.poll_unanswered() is None


def test_what_is_open_follows_the_other_end_to_its_new_address_at_once() -> None:
    dc = conversation(Sender.DC)
    dc.ask(QUESTION, (HERE,), T0, "it")
    drain(dc.poll_transmit)

    dc.readdress((STRANGER,), T0)

    assert destinations(dc) == [STRANGER]
    run(dc, after(T0, 60))
    assert set(destinations(dc)) == {STRANGER}
    assert drain(dc.poll_unanswered) == [Unanswered("it")]


def test_all_that_is_open_can_be_abandoned_and_comes_back_in_order() -> None:
    node = conversation(Sender.NODE)
    for tag in ("one", "two"):
        node.ask(QUESTION, (DC,), T0, tag)

    assert node.abandon() == [(QUESTION, "one"), (QUESTION, "two")]
    assert node.abandon() == []
    assert node.poll_timeout() is None


def test_a_server_that_challenges_for_ever_is_given_up() -> None:
    """A NAT that gives every datagram another address makes each token worthless."""
    node, dc = node_and_dc()
    node.ask(QUESTION, (DC,), T0, "it")
    now = T0
    for port in range(1, 500):
        for sent in drain(node.poll_transmit):
            source = type(HERE)(HERE.host, port)
            heard = hand(dc, sent.payload, source=source, now=now)
            if isinstance(heard, Asked):
                dc.challenge(heard, now)
        for challenge in drain(dc.poll_transmit):
            hand(node, challenge.payload, source=DC, now=now)
        now = after(now, 0.05)
        node.handle_timeout(now)

    assert drain(node.poll_unanswered) == [Unanswered("it")]


def test_an_envelope_that_is_no_message_is_dropped() -> None:
    dc = conversation(Sender.DC, fresh=True)

    assert hand(dc, sealed_nonsense()) is None
    assert dc.rejected == {Rejection.MALFORMED: 1}


@given(st.data())
@settings(max_examples=120, deadline=None)
def test_whatever_the_network_does_each_request_is_handled_once_and_ends_once(
    data: st.DataObject,
) -> None:
    """Loss, duplication, reordering, late replay and forgery, in any order."""
    node, dc = node_and_dc()
    net = Net(node, dc, data)
    tags = [f"request {number}" for number in range(data.draw(st.integers(1, 5), "requests"))]
    for number, tag in enumerate(tags):
        node.ask(Refusal(Reason.BUSY, bytes((number,)) * 16), (DC,), net.now, tag)
        net.shake()
    net.heal()

    ended = [answered.tag for answered in net.answered]
    assert sorted(ended) == tags, "a healed network answers every one, once"
    handled = [asked.transaction for asked in net.asked]
    assert len(handled) == len(set(handled))
    for answered in net.answered:
        assert answered.message == Refusal(
            Reason.NO_RELAY, bytes((int(answered.tag.split()[1]),)) * 16
        )
    assert len(drain(node.poll_unanswered)) == 0


class Net:
    """A wire between two ends that does what hypothesis says with every datagram."""

    def __init__(self, node: Conversation[str], dc: Conversation[str], data: st.DataObject) -> None:
        self.node, self.dc, self.data = node, dc, data
        self.now = T0
        self.flying: list[tuple[bool, bytes]] = []
        self.asked: list[Asked] = []
        self.answered: list[Answered[str]] = []

    def shake(self) -> None:
        """Some steps of a bad network; at most two seconds, so nothing is given up yet."""
        for _ in range(self.data.draw(st.integers(0, 8), "steps")):
            self.gather()
            if self.flying:
                self.treat(self.data.draw(st.integers(0, len(self.flying) - 1), "which"))
            self.now = after(self.now, self.data.draw(st.sampled_from((0, 0.01, 0.2)), "wait"))
            self.node.handle_timeout(self.now)

    def treat(self, which: int) -> None:
        fate = self.data.draw(st.sampled_from(("deliver", "lose", "double", "forge")), "fate")
        to_dc, payload = self.flying[which]
        match fate:
            case "deliver":
                del self.flying[which]
                self.hand(to_dc, payload)
            case "lose":
                del self.flying[which]
            case "double":
                self.hand(to_dc, payload)
            case "forge":
                place = self.data.draw(st.integers(4, len(payload) - 1), "byte")
                forged = payload[:place] + bytes((payload[place] ^ 0x40,)) + payload[place + 1 :]
                self.hand(to_dc, forged)

    def heal(self) -> None:
        """From now on everything arrives."""
        for _ in range(80):
            self.gather()
            flying, self.flying = self.flying, []
            for to_dc, payload in flying:
                self.hand(to_dc, payload)
            if not self.flying and (due := self.node.poll_timeout()) is not None:
                self.now = max(self.now, due.at)
                self.node.handle_timeout(self.now)

    def gather(self) -> None:
        self.flying += [(True, sent.payload) for sent in drain(self.node.poll_transmit)]
        self.flying += [(False, sent.payload) for sent in drain(self.dc.poll_transmit)]

    def hand(self, to_dc: bool, payload: bytes) -> None:
        if to_dc:
            heard = hand(self.dc, payload, now=self.now)
            if isinstance(heard, Asked) and isinstance(heard.message, Refusal):
                self.asked.append(heard)
                answer = Refusal(Reason.NO_RELAY, heard.message.negotiation)
                self.dc.answer(heard, answer, self.now)
        else:
            heard = hand(self.node, payload, source=DC, now=self.now)
            if isinstance(heard, Answered):
                self.answered.append(heard)


def node_and_dc() -> tuple[Conversation[str], Conversation[str]]:
    return conversation(Sender.NODE), conversation(Sender.DC)


def acquainted() -> tuple[Conversation[str], Conversation[str]]:
    """A node and its DC that know each other's boot."""
    node, dc = node_and_dc()
    node.ask(QUESTION, (DC,), T0, "first")
    deliver(node, dc)
    deliver(dc, node)
    (asked,) = deliver(node, dc)
    dc.answer(asked, NtmAck(), T0)
    deliver(dc, node)
    return node, dc


def deliver(
    here: Conversation[str], there: Conversation[str], now: Instant = T0
) -> list[Asked | Answered[str]]:
    """Carry all that one end sent to the other; return what that made of it."""
    heard = [
        hand(there, sent.payload, source=HERE if sent.destination == DC else DC, now=now)
        for sent in drain(here.poll_transmit)
    ]
    return [each for each in heard if each is not None]


def hand(
    end: Conversation[str], payload: bytes, *, source: object = HERE, now: Instant = T0
) -> Asked | Answered[str] | None:
    return end.handle_datagram(Header.decode(payload), source, payload, now)  # type: ignore[arg-type]


def destinations(end: Conversation[str]) -> list[object]:
    return [sent.destination for sent in drain(end.poll_transmit)]


def token_of(mouth: Mouth, sent: Transmit) -> bytes:
    message: Signal = mouth.hear(sent).message
    assert isinstance(message, Challenge)
    return message.token


def introduce(dc: Conversation[str], mouth: Mouth, number: int) -> None:
    hand(dc, mouth.say(QUESTION, 10 + number))
    token = token_of(mouth, drain(dc.poll_transmit)[0])
    assert hand(dc, mouth.say(QUESTION, 20 + number, token)) is not None


def sealed_nonsense() -> bytes:
    return Sealer(key(), Sender.NODE, bytes(8)).seal(key().identifier, b"\x93\x01\xc4\x00\x91\x7f")
