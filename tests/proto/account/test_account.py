"""Source: paper, Fig. 2. Ours: docs/protocol.md section 2."""

from dataclasses import dataclass, field
from random import Random

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings
from tests.proto.parts import ALICE, DC, T0, drain, identity

from ntmobile.keys.identity import Identity
from ntmobile.keys.table import KeyAct
from ntmobile.proto.account.account import MAX_OPEN, NONCE_PERIOD_NS, Account
from ntmobile.proto.io import Call, Caller, Failed, LoginVerified, OwnCoordinator, VerifyLogin
from ntmobile.time import Instant
from ntmobile.wire.identity import PublicIdentity
from ntmobile.wire.login import (
    KeyDistribution,
    LoginRefusal,
    LoginRefused,
    LoginRequest,
    LoginResponse,
    Nonce,
    NonceRequest,
    login_bytes,
)
from ntmobile.wire.message import Message
from ntmobile.wire.registration import NtmAck, Reason, UdpKeepAlive

pytestmark = pytest.mark.paper("Fig. 2")

DOMAIN = "example.org"
STRANGER = Caller(None, "198.51.100.7")
WHO = identity(ALICE)
GOOD = LoginVerified(ALICE, ("staff",))


@dataclass
class Rig:
    """An AS whose driver is played by hand."""

    account: Account = field(
        default_factory=lambda: Account(DOMAIN, b"\x07" * 32, "dc.example.org", (DC,), Random(1))
    )
    ids: int = 0

    def ask(self, message: Message, now: Instant = T0) -> int:
        self.ids += 1
        self.account.handle_request(self.ids, STRANGER, message, now)
        return self.ids

    def nonce(self, now: Instant = T0) -> bytes:
        self.ask(NonceRequest(), now)
        (reply,) = drain(self.account.poll_reply)
        assert isinstance(reply.message, Nonce)
        return reply.message.nonce

    def login(self, now: Instant = T0, **changes: object) -> int:
        return self.ask(login_request(self.nonce(now), **changes), now)

    def replies(self) -> dict[int, Message]:
        return {reply.id: reply.message for reply in drain(self.account.poll_reply)}

    def verify(self, outcome: object = GOOD) -> Call:
        """Answer the VerifyLogin under way; return the Key Distribution that follows."""
        (request,) = drain(self.account.poll_request)
        assert isinstance(request, VerifyLogin)
        self.account.handle_reply(request.id, outcome, T0)  # type: ignore[arg-type]
        (call,) = drain(self.account.poll_request)
        assert isinstance(call, Call)
        return call


@pytest.mark.paper("Login Request", "Key Distribution", "NTM ACK", "Login Response", "Kntmdc")
def test_a_good_login_gives_the_dc_and_the_node_the_same_key() -> None:
    rig = Rig()
    login = rig.login()

    call = rig.verify()
    rig.account.handle_reply(call.id, NtmAck(), T0)

    assert call.target == OwnCoordinator()
    given_dc, given_node = call.message, rig.replies()[login]
    assert isinstance(given_dc, KeyDistribution)
    assert isinstance(given_node, LoginResponse)
    assert given_dc.kntmdc == given_node.kntmdc
    assert given_dc.kntmdc_identifier == given_node.kntmdc_identifier
    assert (given_dc.fqdn, given_dc.groups) == (ALICE, ("staff",))
    assert given_dc.identity == WHO.public
    assert (given_node.coordinator, given_node.coordinator_endpoints) == ("dc.example.org", (DC,))


@pytest.mark.paper("Key Distribution")
def test_the_node_hears_nothing_before_the_dc_acknowledged() -> None:
    rig = Rig()
    rig.login()

    rig.verify()

    assert rig.replies() == {}


@pytest.mark.parametrize(
    "answer", [NtmAck(), LoginRefusal(LoginRefused.BUSY), Failed(Reason.TIMED_OUT)]
)
def test_the_as_erases_kntmdc_however_the_hand_over_ends(answer: Message | Failed) -> None:
    rig = Rig()
    rig.login()
    call = rig.verify()
    assert len(rig.account.keyring) == 1

    rig.account.handle_reply(call.id, answer, T0)

    assert len(rig.account.keyring) == 0
    acts = [record.act for record in drain(rig.account.keyring.poll_record)]
    assert acts == [KeyAct.CREATED, KeyAct.CARRIED, KeyAct.ERASED]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Failed(Reason.TIMED_OUT), LoginRefused.COORDINATOR),
        (UdpKeepAlive(), LoginRefused.COORDINATOR),
        (LoginRefusal(LoginRefused.BUSY), LoginRefused.BUSY),
    ],
)
def test_a_dc_that_does_not_take_the_key_ends_the_login(
    answer: Message | Failed, reason: LoginRefused
) -> None:
    rig = Rig()
    login = rig.login()

    rig.account.handle_reply(rig.verify().id, answer, T0)

    assert rig.replies()[login] == LoginRefusal(reason)


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [(LoginRefusal(reason), reason) for reason in LoginRefused]
    + [(Failed(Reason.BUSY), LoginRefused.CREDENTIALS)],
)
def test_what_the_store_refuses_reaches_the_node_and_no_key_is_made(
    verdict: LoginRefusal | Failed, reason: LoginRefused
) -> None:
    rig = Rig()
    login = rig.login()
    (request,) = drain(rig.account.poll_request)

    rig.account.handle_reply(request.id, verdict, T0)

    assert rig.replies()[login] == LoginRefusal(reason)
    assert drain(rig.account.keyring.poll_record) == []
    assert drain(rig.account.poll_request) == []


def test_how_long_to_wait_is_passed_on() -> None:
    rig = Rig()
    login = rig.login()
    (request,) = drain(rig.account.poll_request)

    rig.account.handle_reply(request.id, LoginRefusal(LoginRefused.SLOW_DOWN, 17), T0)

    assert rig.replies()[login] == LoginRefusal(LoginRefused.SLOW_DOWN, 17)


@pytest.mark.parametrize(("periods", "good"), [(0, True), (1, True), (2, False)])
def test_a_nonce_is_good_for_this_minute_and_the_next(periods: int, good: bool) -> None:
    rig = Rig()
    nonce = rig.nonce(T0)

    login = rig.ask(login_request(nonce), Instant(T0 + periods * NONCE_PERIOD_NS))

    refused = {} if good else {login: LoginRefusal(LoginRefused.NONCE)}
    assert rig.replies() == refused


def test_an_invented_nonce_is_refused_before_anything_costly() -> None:
    rig = Rig()

    login = rig.ask(login_request(bytes(16)))

    assert rig.replies() == {login: LoginRefusal(LoginRefused.NONCE)}
    assert drain(rig.account.poll_request) == []


def test_a_nonce_of_another_as_is_refused() -> None:
    other = Account(DOMAIN, b"\x07" * 32, "dc.example.org", (DC,), Random(2))
    rig = Rig()

    login = rig.ask(login_request(Rig(other).nonce()))

    assert rig.replies() == {login: LoginRefusal(LoginRefused.NONCE)}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"user": "mallory"}, id="another user"),
        pytest.param({"name": "server"}, id="another node"),
        pytest.param({"signature": bytes(64)}, id="no signature"),
        pytest.param({"identity": identity("mallory").public}, id="another's identity"),
    ],
)
def test_what_the_device_key_did_not_sign_is_refused(change: dict[str, object]) -> None:
    rig = Rig()
    request = msgspec.structs.replace(login_request(rig.nonce()), **change)

    login = rig.ask(request)

    assert rig.replies() == {login: LoginRefusal(LoginRefused.IDENTITY)}


def test_a_login_signed_for_another_domain_is_refused() -> None:
    rig = Rig()

    login = rig.login(domain="example.net")

    assert rig.replies() == {login: LoginRefusal(LoginRefused.IDENTITY)}


def test_a_tunnel_key_that_the_device_key_does_not_vouch_for_is_refused() -> None:
    rig, other = Rig(), identity("other").public
    mixed = PublicIdentity(WHO.public.device, other.tunnel, WHO.public.signature)
    thief = Identity(WHO.device, bytes(32), mixed)

    login = rig.login(who=thief)

    assert rig.replies() == {login: LoginRefusal(LoginRefused.IDENTITY)}


def test_one_login_more_than_can_be_open_is_told_to_come_back() -> None:
    rig = Rig()
    request = login_request(rig.nonce())
    for _ in range(MAX_OPEN):
        rig.ask(request)
    assert rig.replies() == {}

    one_more = rig.ask(request)

    assert rig.replies() == {one_more: LoginRefusal(LoginRefused.BUSY)}
    (first, *_) = drain(rig.account.poll_request)
    rig.account.handle_reply(first.id, LoginRefusal(LoginRefused.CREDENTIALS), T0)
    rig.replies()
    rig.ask(request)
    assert rig.replies() == {}, "one ended, so there is room"


def test_anything_but_a_login_is_refused() -> None:
    rig = Rig()

    asked = rig.ask(UdpKeepAlive())

    assert rig.replies() == {asked: LoginRefusal(LoginRefused.CREDENTIALS)}


def test_an_answer_that_comes_twice_is_taken_once() -> None:
    rig = Rig()
    rig.login()
    call = rig.verify()
    rig.account.handle_reply(call.id, NtmAck(), T0)
    rig.replies()

    rig.account.handle_reply(call.id, NtmAck(), T0)

    assert rig.replies() == {}


def test_every_login_gets_another_key() -> None:
    rig = Rig()
    keys = set()
    for _ in range(3):
        rig.login()
        message = rig.verify().message
        assert isinstance(message, KeyDistribution)
        keys |= {message.kntmdc, message.kntmdc_identifier}

    assert len(keys) == 6


@given(st.lists(st.sampled_from(["login", "good", "bad", "ack", "fail"]), max_size=40))
@settings(max_examples=60, deadline=None)
def test_whatever_the_order_each_login_is_answered_once_and_no_key_stays(acts: list[str]) -> None:
    rig = Rig()
    request = login_request(rig.nonce())
    asked: list[int] = []
    answered: list[int] = []
    pending: list[object] = []
    for act in [*acts, *["bad", "fail"] * 40]:
        if act == "login":
            asked.append(rig.ask(request))
        pending += drain(rig.account.poll_request)
        wanted = VerifyLogin if act in ("good", "bad") else Call
        found = next((each for each in pending if isinstance(each, wanted)), None)
        if act != "login" and found is not None:
            pending.remove(found)
            rig.account.handle_reply(found.id, OUTCOMES[act], T0)  # type: ignore[arg-type]
        answered += rig.replies()

    assert sorted(answered) == sorted(asked)
    assert len(rig.account.keyring) == 0


OUTCOMES = {
    "good": GOOD,
    "bad": LoginRefusal(LoginRefused.CREDENTIALS),
    "ack": NtmAck(),
    "fail": Failed(Reason.TIMED_OUT),
}


def login_request(nonce: bytes, *, domain: str = DOMAIN, who: Identity = WHO) -> LoginRequest:
    unsigned = LoginRequest("alice", "laptop", who.public, nonce, bytes(64))
    signature = who.sign(login_bytes(domain, unsigned))
    return msgspec.structs.replace(unsigned, signature=signature)
