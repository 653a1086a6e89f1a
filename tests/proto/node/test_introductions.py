"""Ours: docs/protocol.md section 4, what is directed waits to hear whom to believe."""

from itertools import count

import pytest
from tests.keys.authorities import authority, der_of
from tests.proto.parts import DC, T0, after, drain, information

from ntmobile.proto.conversation import Asked
from ntmobile.proto.io import Call, Failed, OwnAccount
from ntmobile.proto.node.events import AuthoritiesPinned
from ntmobile.proto.node.introductions import MAX_ASKED, PATIENCE_NS, Introductions
from ntmobile.proto.node.trust import Trust, TrustSettings
from ntmobile.time import Instant
from ntmobile.wire.datagram import Header, Sender
from ntmobile.wire.direction import Action, Role, RouteDirection
from ntmobile.wire.login import AuthorityRequest, AuthorityResponse
from ntmobile.wire.message import Message
from ntmobile.wire.registration import NtmAck, Reason

NET = "example.net"
CAS = (der_of(authority(NET)),)


def introductions() -> tuple[Introductions, Trust]:
    trust = Trust("example.org", TrustSettings(), (), lambda _: 0.0)
    return Introductions(trust, count(1).__next__), trust


def route(number: int = 1) -> RouteDirection:
    return RouteDirection(
        number.to_bytes(16),
        "laptop.alice.example.org",
        Role.CN,
        Action.AWAIT,
        information(f"pc.bob.{NET}"),
        bytes(32),
        bytes(32),
        bytes(8),
        (),
        (),
        3600,
    )


def asked(number: int = 1) -> Asked:
    header = Header(Sender.DC, bytes(8), bytes(8), number)
    return Asked(number, route(number), Sender.DC, DC, 0, True, header)


def test_a_domain_is_asked_for_once_at_a_time() -> None:
    one, _ = introductions()

    for _ in range(3):
        one.ask(NET)
    one.ask(None)

    assert drain(one.poll_call) == [Call(1, OwnAccount(), AuthorityRequest(NET))]


def test_what_waited_goes_on_with_the_answer_and_the_cas_are_pinned() -> None:
    one, trust = introductions()
    one.hold(asked(), route(), NET, T0)
    one.hold(asked(2), route(2), "example.com", T0)
    call, _ = drain(one.poll_call)

    released = one.handle_reply(call.id, AuthorityResponse(NET, CAS), T0)

    assert released is not None
    assert [held.route for held in released] == [route()]
    assert drain(one.poll_event) == [AuthoritiesPinned(NET, CAS)]
    assert trust.authorities == {NET: CAS}


@pytest.mark.parametrize(
    "reply",
    [Failed(Reason.TIMED_OUT), NtmAck(), AuthorityResponse("example.com", CAS)],
    ids=["failed", "another message", "of another domain"],
)
def test_an_answer_that_says_nothing_of_the_domain_pins_nothing_and_ends_the_wait(
    reply: Message | Failed,
) -> None:
    one, trust = introductions()
    one.hold(asked(), route(), NET, T0)
    (call,) = drain(one.poll_call)

    released = one.handle_reply(call.id, reply, T0)

    assert released is not None
    assert len(released) == 1
    assert trust.authorities == {}


def test_an_answer_to_another_request_is_not_ours() -> None:
    one, _ = introductions()
    one.ask(NET)

    assert one.handle_reply(99, AuthorityResponse(NET, CAS), T0) is None


def test_nothing_waits_longer_than_two_seconds() -> None:
    one, _ = introductions()
    one.hold(asked(), route(), NET, T0)
    (timeout,) = one.poll_timeouts()

    assert timeout.at == T0 + PATIENCE_NS
    assert one.overdue(Instant(timeout.at - 1)) == []
    assert [held.route for held in one.overdue(timeout.at)] == [route()]
    assert list(one.poll_timeouts()) == []


def test_a_dc_that_names_ever_more_domains_fills_nothing() -> None:
    one, _ = introductions()
    for number in range(20 * MAX_ASKED):
        if not one.is_full:
            one.hold(asked(number), route(number), f"d{number}.net", T0)

    assert len(drain(one.poll_call)) == MAX_ASKED
    assert len(one.overdue(after(T0, 3))) == 10 * MAX_ASKED
    assert not one.is_full
