"""Source: paper, Fig. 2. Ours: docs/protocol.md section 2."""

from itertools import count

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from tests.proto.parts import ALICE, DC, T0, after, drain, fire, identity

from ntmobile.keys.identity import verify
from ntmobile.proto.io import Call, Failed, OwnAccount
from ntmobile.proto.journal import Journal
from ntmobile.proto.node.events import LoginFailed
from ntmobile.proto.node.login import (
    EAGER_TRIES,
    LONGEST_RETRY_NS,
    MIN_LIFETIME_S,
    PASSING,
    Granted,
    Login,
    Proof,
)
from ntmobile.time import SECOND, Instant
from ntmobile.wire.login import (
    LoginRefusal,
    LoginRefused,
    LoginRequest,
    LoginResponse,
    Nonce,
    NonceRequest,
    login_bytes,
)
from ntmobile.wire.registration import NtmAck, Reason

pytestmark = pytest.mark.paper("Fig. 2")

NONCE = Nonce(b"\x05" * 16)
AWAY = Failed(Reason.TIMED_OUT, "no route")


def response(lifetime_s: int = 86400) -> LoginResponse:
    return LoginResponse(
        ALICE, bytes(8), bytes(32), lifetime_s, "dc.example.org", (DC,), b"\x07" * 32
    )


def a_login() -> Login:
    ids = count(1)
    return Login(
        "alice", "laptop", "example.org", identity(ALICE), Journal("MN"), lambda: next(ids)
    )


def started(proof: Proof = Proof()) -> Login:  # noqa: B008 - frozen
    login = a_login()
    login.start(proof, T0)
    return login


def answer(login: Login, *replies: object, now: Instant = T0) -> list[Call]:
    """Answer one call after the other; return them."""
    calls = []
    for reply in replies:
        (call,) = drain(login.poll_call)
        calls.append(call)
        assert login.handle_reply(call.id, reply, now)  # type: ignore[arg-type]
    return calls


@pytest.mark.paper("Login Request")
def test_a_nonce_is_fetched_and_signed_by_the_device_key() -> None:
    login = started(Proof(password="secret"))

    asked, sent = answer(login, NONCE, response())

    assert (asked.target, asked.message) == (OwnAccount(), NonceRequest())
    request = sent.message
    assert isinstance(request, LoginRequest)
    assert (request.user, request.name, request.password) == ("alice", "laptop", "secret")
    assert request.nonce == NONCE.nonce
    signed = login_bytes("example.org", request)
    assert verify(identity(ALICE).public.device, request.signature, signed)


@pytest.mark.paper("Login Response", "Kntmdc")
def test_a_good_login_gives_kntmdc_with_its_expiry() -> None:
    login = started()

    answer(login, NONCE, response(1000))

    (granted,) = drain(login.poll_event)
    assert isinstance(granted, Granted)
    assert granted.key.expires == after(T0, 1000)
    assert granted.key.secret == granted.response.kntmdc
    assert granted.response.coordinator == "dc.example.org"


def test_the_key_is_renewed_at_four_fifths_of_its_life_without_a_password() -> None:
    login = started(Proof(password="secret"))
    answer(login, NONCE, response(1000))

    assert fire(login) == after(T0, 800)

    _, sent = answer(login, NONCE, response(1000), now=after(T0, 800))
    assert isinstance(sent.message, LoginRequest)
    assert (sent.message.password, sent.message.authority) == (None, None)
    assert len(drain(login.poll_event)) == 2


@pytest.mark.parametrize("lifetime_s", [0, 1, MIN_LIFETIME_S - 1])
def test_a_tiny_lifetime_cannot_make_the_node_renew_without_end(lifetime_s: int) -> None:
    login = started()

    answer(login, NONCE, response(lifetime_s))

    assert fire(login) == after(T0, MIN_LIFETIME_S * 4 / 5)


@pytest.mark.parametrize("proof", [Proof(password="x"), Proof(authority="key")])
@pytest.mark.parametrize(
    "reply", [LoginRefusal(LoginRefused.BUSY), LoginRefusal(LoginRefused.CREDENTIALS), AWAY]
)
def test_a_password_is_tried_once_only(proof: Proof, reply: object) -> None:
    login = started(proof)

    answer(login, NONCE, reply)

    (failed,) = drain(login.poll_event)
    assert isinstance(failed, LoginFailed)
    assert failed.retry_at is None
    assert login.is_over
    assert login.poll_timeout() is None


@pytest.mark.parametrize("reason", LoginRefused)
def test_with_the_device_key_what_time_mends_is_tried_again_and_the_rest_is_not(
    reason: LoginRefused,
) -> None:
    login = started()

    answer(login, NONCE, LoginRefusal(reason))

    (failed,) = drain(login.poll_event)
    assert isinstance(failed, LoginFailed)
    assert failed.code == str(reason)
    assert (failed.retry_at is not None) is (reason in PASSING)
    assert login.is_over is (reason not in PASSING)


@pytest.mark.parametrize("reply", [AWAY, NtmAck()])
def test_an_as_that_is_away_or_talks_nonsense_is_asked_again(reply: object) -> None:
    login = started()

    answer(login, reply)

    (failed,) = drain(login.poll_event)
    assert isinstance(failed, LoginFailed)
    assert failed.retry_at == fire(login)
    answer(login, NONCE, response())
    assert isinstance(drain(login.poll_event)[0], Granted)


def test_the_waits_grow_to_a_minute_and_no_further() -> None:
    login, now, waits = started(), T0, []
    for _ in range(EAGER_TRIES + 12):
        answer(login, AWAY, now=now)
        at = fire(login)
        assert at is not None
        waits.append(at - now)
        now = at

    assert waits == sorted(waits)
    assert waits[0] == SECOND
    assert waits[-1] == LONGEST_RETRY_NS


@pytest.mark.parametrize(("asked_s", "wait_s"), [(0, 1), (30, 30), (10**6, 60)])
def test_the_servers_wish_to_wait_is_kept_within_a_minute(asked_s: int, wait_s: int) -> None:
    login = started()

    answer(login, NONCE, LoginRefusal(LoginRefused.SLOW_DOWN, asked_s))

    assert fire(login) == after(T0, wait_s)


def test_a_failed_renewal_is_repeated_and_a_refused_one_is_told() -> None:
    login = started()
    answer(login, NONCE, response(1000))
    drain(login.poll_event)
    now = fire(login)
    assert now is not None

    answer(login, AWAY, now=now)
    again = fire(login)
    assert again is not None
    answer(login, NONCE, LoginRefusal(LoginRefused.REVOKED), now=again)

    passing, final = drain(login.poll_event)
    assert isinstance(passing, LoginFailed)
    assert isinstance(final, LoginFailed)
    assert passing.retry_at is not None
    assert (final.code, final.retry_at) == ("revoked", None)


def test_an_answer_to_a_login_that_was_dropped_is_not_taken() -> None:
    login = started()
    (old,) = drain(login.poll_call)

    login.start(Proof(password="secret"), T0)

    assert not login.handle_reply(old.id, NONCE, T0)
    answer(login, NONCE, response())
    assert len(drain(login.poll_event)) == 1


def test_once_stopped_nothing_more_happens() -> None:
    login = started()
    (call,) = drain(login.poll_call)

    login.stop()

    assert not login.handle_reply(call.id, NONCE, T0)
    assert login.is_over
    assert login.poll_timeout() is None


replies = st.sampled_from(
    [NONCE, response(10), AWAY, NtmAck(), *(LoginRefusal(reason, 3) for reason in LoginRefused)]
)


@given(st.lists(replies, max_size=25))
@settings(max_examples=100, deadline=None)
def test_whatever_the_as_says_one_call_is_open_at_most_and_time_goes_on(
    said: list[object],
) -> None:
    login, now = started(), T0
    for reply in said:
        calls = drain(login.poll_call)
        if not calls:
            now = fire(login) or now
            calls = drain(login.poll_call)
        assert len(calls) <= 1
        for call in calls:
            login.handle_reply(call.id, reply, now)  # type: ignore[arg-type]
        waits = [*calls, *drain(login.poll_call)]
        due = login.poll_timeout()
        assert due is None or due.at > now
        assert due is not None or login.is_over or waits, "stuck"
        for call in waits[len(calls) :]:
            login.handle_reply(call.id, AWAY, now)
