from ntmobile.proto.journal import KEPT, Journal, Step, paper_name
from ntmobile.wire.direction import DirectionRequest, Purpose, RouteDirection
from ntmobile.wire.registration import NtmAck, Reason, Refusal, UdpKeepAlive
from tests.proto.parts import ALICE, BOB, T0, after, drain, identity


def test_messages_bear_the_papers_names() -> None:
    names = [paper_name(kind) for kind in (RouteDirection, NtmAck, UdpKeepAlive)]

    assert names == ["Route Direction", "NTM ACK", "UDP Keep Alive"]


def test_steps_come_out_in_the_order_they_happened() -> None:
    journal = Journal("MN")

    journal.note(T0, NtmAck(), "DC", sent=True)
    journal.note(after(T0, 1), UdpKeepAlive(), "DC", sent=False)

    assert drain(journal.poll) == [
        Step(T0, "NTM ACK", "MN", "DC", True),
        Step(after(T0, 1), "UDP Keep Alive", "MN", "DC", False),
    ]


def test_a_step_says_which_negotiation_or_which_name_it_belongs_to() -> None:
    journal = Journal(ALICE)
    negotiation = bytes(range(16))

    journal.note(T0, Refusal(Reason.BUSY, negotiation), "DC", sent=True)
    request = DirectionRequest(BOB, negotiation, identity(ALICE).public, Purpose.CONNECT)
    journal.note(T0, request, "DC", sent=True)
    journal.note(T0, Refusal(Reason.BUSY), "DC", sent=True)

    assert [step.detail for step in drain(journal.poll)] == [
        negotiation.hex(),
        negotiation.hex(),
        "",
    ]


def test_a_journal_nobody_reads_keeps_the_newest() -> None:
    journal = Journal("DC")

    for number in range(KEPT + 1):
        journal.note(after(T0, number), NtmAck(), "node", sent=True)

    steps = drain(journal.poll)
    assert len(steps) == KEPT
    assert steps[0].at == after(T0, 1)
