"""Source: paper, Figs. 5 and 7 (Key Sharing "if necessary")."""

from random import Random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from tests.proto.parts import RS, STRANGER, T0, Mouth, after, conversation, drain, fire, run

from ntmobile.keys.table import Kdcdc, Kdcrs, KeyAct, Keyring, Party
from ntmobile.proto.conversation import Answered, Conversation
from ntmobile.proto.coordinator.peering import PATIENCE_NS, PATIENT_TRIES, RETRY_NS, Peering
from ntmobile.proto.io import Call, Failed, ForeignCoordinator, RelayServer
from ntmobile.proto.journal import Journal
from ntmobile.time import Instant
from ntmobile.wire.datagram import Header, Sender
from ntmobile.wire.federation import KeySharing, SharedKey
from ntmobile.wire.registration import NtmAck, Reason, Refusal

pytestmark = pytest.mark.paper("Fig. 5", "Fig. 7")

QUESTION = Refusal(Reason.BUSY)
UNREACHABLE = Failed(Reason.DOMAIN_UNREACHABLE)
LIFETIME_S = 600
A_RELAY = RelayServer("rs")


class Rig:
    """A peering with a server that is played by hand."""

    def __init__(self, target: ForeignCoordinator | RelayServer = A_RELAY) -> None:
        self.keyring = Keyring(Party.DC)
        self.entropy = Random(1)
        self.ids = 0
        self.peering: Peering[str] = Peering(
            target,
            (RS,),
            "example.org",
            LIFETIME_S,
            self.keyring,
            self.entropy,
            Journal("DC"),
            self.converse,
            self.next_call,
        )

    def converse(self, key: Kdcdc | Kdcrs) -> Conversation[str]:
        return conversation(Sender.DC, key)

    def next_call(self) -> int:
        self.ids += 1
        return self.ids

    def shared(self, now: Instant = T0) -> Mouth:
        """Acknowledge the Key Sharing under way; return the server's mouth."""
        (call,) = drain(self.peering.poll_call)
        mouth = Mouth(Sender.RS, key_of(call))
        self.peering.handle_reply(NtmAck(), now)
        return mouth

    def answer_all(self, mouth: Mouth, now: Instant = T0) -> None:
        for sent in drain(self.peering.poll_transmit):
            answer = mouth.reply(sent, NtmAck())
            self.peering.handle_datagram(Header.decode(answer), RS, answer, now)

    def outcomes(self) -> list[object]:
        return [
            (outcome.tag, outcome.message if isinstance(outcome, Answered) else outcome.reason)
            for outcome in drain(self.peering.poll_outcome)
        ]


@pytest.mark.paper("Key Sharing", "Kdcrs")
def test_the_first_question_shares_a_key_first() -> None:
    rig = Rig()

    rig.peering.ask(QUESTION, "it", T0)

    (call,) = drain(rig.peering.poll_call)
    assert isinstance(call.message, KeySharing)
    assert call.message.key is SharedKey.KDCRS
    assert call.message.creator == "example.org"
    assert drain(rig.peering.poll_transmit) == []
    acts = [record.act for record in drain(rig.keyring.poll_record)]
    assert acts == [KeyAct.CREATED, KeyAct.OWNED]
    assert [key.secret for key in rig.keyring] == [call.message.secret]


@pytest.mark.paper("Key Sharing", "Kdcdc")
def test_another_domains_dc_gets_a_kdcdc() -> None:
    rig = Rig(ForeignCoordinator("example.net"))

    rig.peering.ask(QUESTION, "it", T0)

    (call,) = drain(rig.peering.poll_call)
    assert isinstance(call.message, KeySharing)
    assert call.message.key is SharedKey.KDCDC
    assert [key.secret for key in rig.keyring] == [call.message.secret]


def test_questions_wait_for_the_key_and_then_all_are_asked_and_answered() -> None:
    rig = Rig()
    for tag in ("one", "two"):
        rig.peering.ask(QUESTION, tag, T0)

    rig.answer_all(rig.shared())

    assert rig.outcomes() == [("one", NtmAck()), ("two", NtmAck())]


def test_a_key_that_is_shared_is_used_again() -> None:
    rig = Rig()
    rig.peering.ask(QUESTION, "one", T0)
    mouth = rig.shared()
    rig.answer_all(mouth)

    rig.peering.ask(QUESTION, "two", after(T0, LIFETIME_S - 1))

    assert drain(rig.peering.poll_call) == []
    rig.answer_all(mouth)
    assert [tag for tag, _ in rig.outcomes()] == ["one", "two"]


def test_an_expired_key_is_replaced_before_the_next_question() -> None:
    rig = Rig()
    rig.peering.ask(QUESTION, "one", T0)
    rig.answer_all(rig.shared())

    rig.peering.ask(QUESTION, "two", after(T0, LIFETIME_S))

    rig.answer_all(rig.shared(after(T0, LIFETIME_S)), after(T0, LIFETIME_S))
    assert [tag for tag, _ in rig.outcomes()] == ["one", "two"]
    assert len(rig.keyring) == 1, "the old one is erased"


def test_a_server_that_lost_the_key_gets_another_and_the_same_question() -> None:
    rig = Rig()
    rig.peering.ask(QUESTION, "one", T0)
    rig.answer_all(rig.shared())
    rig.peering.ask(QUESTION, "two", T0)

    while not (calls := drain(rig.peering.poll_call)):
        drain(rig.peering.poll_transmit)
        assert fire(rig.peering) is not None

    assert rig.peering.is_silent(T0)
    mouth = Mouth(Sender.RS, key_of(calls[0]))
    rig.peering.handle_reply(NtmAck(), after(T0, 3))
    assert not rig.peering.is_silent(T0)
    rig.answer_all(mouth, after(T0, 3))
    assert [tag for tag, _ in rig.outcomes()] == ["one", "two"]
    assert len(rig.keyring) == 1


def test_a_hint_that_the_server_lost_the_key_shares_another_at_once() -> None:
    rig, _ = asking()

    rig.peering.handle_hint(RS, after(T0, 2))

    rig.answer_all(rig.shared(after(T0, 2)), after(T0, 2))
    assert [tag for tag, _ in rig.outcomes()] == ["one", "two"]
    assert len(rig.keyring) == 1
    assert not rig.peering.is_silent(after(T0, 2)), "it is there"


def test_a_hint_from_elsewhere_or_right_after_a_key_sharing_changes_nothing() -> None:
    rig, _ = asking()

    rig.peering.handle_hint(STRANGER, after(T0, 2))
    rig.peering.handle_hint(RS, after(T0, 0.9))

    assert drain(rig.peering.poll_call) == []


def asking() -> tuple[Rig, Mouth]:
    """One question was answered under the key that is shared, and a second is open."""
    rig = Rig()
    rig.peering.ask(QUESTION, "one", T0)
    mouth = rig.shared()
    rig.answer_all(mouth)
    rig.peering.ask(QUESTION, "two", T0)
    drain(rig.peering.poll_transmit)
    return rig, mouth


def test_a_server_that_takes_keys_and_answers_no_datagram_counts_as_silent_for_a_minute() -> None:
    rig = Rig()
    rig.peering.ask(QUESTION, "it", T0)
    rig.shared()
    drain(rig.peering.poll_transmit)
    while rig.peering.identifier is not None:
        fire(rig.peering)
        drain(rig.peering.poll_transmit)

    rig.shared()

    assert rig.peering.is_silent(after(T0, 30))
    assert not rig.peering.is_silent(after(T0, 90)), "then it is tried again"


def test_silence_that_a_node_behind_the_server_may_cause_is_no_silence_of_the_server() -> None:
    rig = Rig()
    rig.peering.ask(QUESTION, "patient", T0, tries=PATIENT_TRIES)
    rig.shared()

    run(rig.peering, after(T0, 60))

    assert rig.outcomes() == [("patient", Reason.TIMED_OUT)]
    assert drain(rig.peering.poll_call) == [], "the key stands"
    assert not rig.peering.is_silent(after(T0, 60))


def test_a_server_that_refuses_the_key_fails_all_that_waits_at_once() -> None:
    rig = Rig()
    rig.peering.ask(QUESTION, "one", T0)
    rig.peering.ask(QUESTION, "two", T0)

    rig.peering.handle_reply(Refusal(Reason.FOREIGN_DOMAIN), T0)

    assert rig.outcomes() == [("one", Reason.FOREIGN_DOMAIN), ("two", Reason.FOREIGN_DOMAIN)]
    assert len(rig.keyring) == 0
    assert rig.peering.poll_timeout() is None


def test_a_server_that_cannot_be_reached_is_tried_again_until_patience_ends() -> None:
    rig = Rig()
    rig.peering.ask(QUESTION, "it", T0)
    now, calls = T0, 0
    while not (failed := rig.outcomes()):
        calls += len(drain(rig.peering.poll_call))
        rig.peering.handle_reply(UNREACHABLE, now)
        now = fire(rig.peering) or now

    assert failed == [("it", Reason.DOMAIN_UNREACHABLE)]
    assert now - T0 == PATIENCE_NS
    assert calls == PATIENCE_NS // RETRY_NS
    assert len(rig.keyring) == 0
    assert rig.peering.poll_timeout() is None, "nothing waits, nothing is tried"


def test_a_server_that_is_back_in_time_gets_the_question() -> None:
    rig = Rig()
    rig.peering.ask(QUESTION, "it", T0)
    drain(rig.peering.poll_call)
    rig.peering.handle_reply(UNREACHABLE, T0)

    now = fire(rig.peering)

    assert now is not None
    rig.answer_all(rig.shared(now), now)
    assert rig.outcomes() == [("it", NtmAck())]


def test_a_question_asked_while_the_server_is_away_waits_for_the_same_key_sharing() -> None:
    rig = Rig()
    rig.peering.ask(QUESTION, "one", T0)
    drain(rig.peering.poll_call)
    rig.peering.handle_reply(UNREACHABLE, T0)

    rig.peering.ask(QUESTION, "two", after(T0, 0.1))

    rig.answer_all(rig.shared(after(T0, 0.2)), after(T0, 0.2))
    assert [tag for tag, _ in rig.outcomes()] == ["one", "two"]


def test_warming_shares_one_key_and_asks_nothing() -> None:
    rig = Rig()

    rig.peering.warm(T0)
    rig.peering.warm(T0)
    rig.shared()
    rig.peering.warm(T0)

    assert drain(rig.peering.poll_call) == []
    assert drain(rig.peering.poll_transmit) == []


def test_warming_replaces_a_key_that_is_over() -> None:
    rig = Rig()
    rig.peering.warm(T0)
    rig.shared()

    rig.peering.warm(after(T0, LIFETIME_S + 1))

    assert len(drain(rig.peering.poll_call)) == 1
    assert len(rig.keyring) == 1


def test_a_reply_nobody_waits_for_changes_nothing() -> None:
    rig = Rig()

    rig.peering.handle_reply(NtmAck(), T0)

    assert rig.peering.identifier is None


@given(st.lists(st.sampled_from(["ask", "ack", "refuse", "away", "answer", "lose", "time"])))
@settings(max_examples=150, deadline=None)
def test_whatever_the_server_does_every_question_ends_once_and_no_key_is_left_over(
    acts: list[str],
) -> None:
    rig = Rig()
    now, asked, ended = T0, 0, []
    mouth: Mouth | None = None
    calls: list[Call] = []
    for act in [*acts, *["time", "away"] * 60]:
        calls += drain(rig.peering.poll_call)
        match act:
            case "ask":
                rig.peering.ask(QUESTION, str(asked), now)
                asked += 1
            case "ack" if rig.peering.call is not None:
                mouth = Mouth(Sender.RS, key_of(calls[-1]))
                rig.peering.handle_reply(NtmAck(), now)
            case "refuse":
                rig.peering.handle_reply(Refusal(Reason.NOT_ALLOWED), now)
            case "away":
                rig.peering.handle_reply(UNREACHABLE, now)
            case "answer" if mouth is not None and rig.peering.identifier is not None:
                rig.answer_all(mouth, now)
            case "lose":
                drain(rig.peering.poll_transmit)
            case "time":
                now = fire(rig.peering) or now
        assert len(rig.keyring) <= 1
        ended += [tag for tag, _ in rig.outcomes()]

    assert sorted(ended) == sorted(str(number) for number in range(asked))
    assert run(rig.peering, after(now, 3600)) == [], "at rest"


def key_of(call: Call) -> Kdcdc | Kdcrs:
    message = call.message
    assert isinstance(message, KeySharing)
    kind = {"Kdcdc": Kdcdc, "Kdcrs": Kdcrs}[message.key]
    return kind(message.secret, message.identifier, after(T0, message.lifetime_s))
