from random import Random

from hypothesis import given
from hypothesis import strategies as st

from ntmobile.proto.node.questions import PATIENT, PERSISTENT, Answered, Questions
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.stun import BindingRequest, BindingResponse

SERVER = Endpoint("192.0.2.1", 4330)
HERE = Endpoint("203.0.113.7", 50000)
T0 = Instant(0)


def test_an_answer_brings_the_tag_and_the_round_trip_of_its_own_try() -> None:
    questions = asked()
    first = sent(questions)[0]
    questions.handle_timeout(Instant(SECOND // 5))
    second = sent(questions)[0]
    later = Instant(SECOND // 4)

    assert first.transaction != second.transaction
    answer = BindingResponse(second.transaction, HERE)
    assert questions.handle_datagram(3, answer.encode(), later) == Answered(
        "who am I", answer, SECOND // 20, 3
    )
    assert questions.poll_timeout() is None


def test_an_answer_to_an_earlier_try_counts_and_a_second_one_does_not() -> None:
    questions = asked()
    first = sent(questions)[0]
    questions.handle_timeout(Instant(SECOND // 5))
    answer = BindingResponse(first.transaction, HERE).encode()

    assert questions.handle_datagram(0, answer, Instant(SECOND // 4)) is not None
    assert questions.handle_datagram(0, answer, Instant(SECOND // 4)) is None


def test_a_question_that_comes_back_in_is_an_answer_without_address() -> None:
    questions = asked()
    request = sent(questions)[0].encode()

    answered = questions.handle_datagram(1, request, T0)

    assert answered is not None
    assert answered.response is None


def test_silence_ends_after_the_last_wait() -> None:
    for waits in (PATIENT, PERSISTENT):
        questions = asked(waits)
        tries, now = len(sent(questions)), T0
        while (timeout := questions.poll_timeout()) is not None:
            assert timeout.at > now
            now = timeout.at
            questions.handle_timeout(now)
            tries += len(sent(questions))

        assert (tries, now) == (len(waits), sum(waits))
        assert questions.poll_silent() == "who am I"


@given(st.binary(max_size=60), st.booleans())
def test_what_answers_nothing_changes_nothing(data: bytes, looks_right: bool) -> None:
    questions = asked()
    forged = BindingResponse(bytes(12), HERE).encode() if looks_right else data

    assert questions.handle_datagram(0, forged, T0) is None
    assert len(questions) == 1


def asked(waits: tuple[int, ...] = PATIENT) -> Questions[str]:
    questions: Questions[str] = Questions(Random(1))
    questions.ask("who am I", 0, SERVER, T0, waits=waits)
    return questions


def sent(questions: Questions[str]) -> list[BindingRequest]:
    requests = []
    while (sending := questions.poll_sending()) is not None:
        requests.append(BindingRequest.decode(sending.transmit.payload))
    return requests
