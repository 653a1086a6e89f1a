"""Ours: docs/protocol.md section 6."""

from ipaddress import IPv4Address, IPv6Address

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.proto.parts import BOB, CAROL, T0, after, drain, fire, run

from ntmobile.proto.node.events import NameRefused, NameResolved
from ntmobile.proto.node.queries import AUTHORISED_NS, UNDECIDED_NS, Queries
from ntmobile.time import SECOND, Instant
from ntmobile.wire.registration import Reason

BOBS = (IPv4Address("100.64.0.17"), IPv6Address("fd00::17"))


def waiting(*fqdns: str) -> Queries:
    queries = Queries()
    for number, fqdn in enumerate(fqdns, start=1):
        queries.add(number, fqdn, T0)
    return queries


def test_all_who_wait_for_a_name_are_answered_when_its_tunnel_stands() -> None:
    queries = waiting(BOB, CAROL, BOB)

    queries.resolve(BOB, BOBS)

    answers = drain(queries.poll_event)
    assert answers == [NameResolved(n, BOB, *BOBS) for n in (1, 3)]
    assert queries.names() == (CAROL,)


def test_once_allowed_the_answer_comes_within_two_seconds_tunnel_or_not() -> None:
    queries = waiting(BOB)
    queries.authorise(BOB, BOBS, after(T0, 1))

    at = fire(queries)

    assert at == after(T0, 1) + AUTHORISED_NS
    assert AUTHORISED_NS == 2 * SECOND
    assert drain(queries.poll_event) == [NameResolved(1, BOB, *BOBS)]


def test_being_allowed_again_does_not_put_the_answer_off() -> None:
    queries = waiting(BOB)
    queries.authorise(BOB, BOBS, T0)

    queries.authorise(BOB, BOBS, after(T0, 1))

    assert fire(queries) == T0 + AUTHORISED_NS


def test_undecided_for_long_the_name_is_refused() -> None:
    queries = waiting(BOB)

    at = fire(queries)

    assert at == T0 + UNDECIDED_NS
    assert drain(queries.poll_event) == [NameRefused(1, BOB, Reason.TIMED_OUT)]


@pytest.mark.parametrize("reason", Reason)
def test_a_refusal_keeps_its_reason_for_the_user(reason: Reason) -> None:
    queries = waiting(BOB, BOB)

    queries.refuse(BOB, reason)

    assert drain(queries.poll_event) == [NameRefused(n, BOB, reason) for n in (1, 2)]


def test_a_name_nobody_waits_for_is_not_answered() -> None:
    queries = waiting(BOB)

    queries.resolve(CAROL, BOBS)
    queries.refuse(CAROL, Reason.BUSY)
    queries.authorise(CAROL, BOBS, T0)

    assert drain(queries.poll_event) == []


verbs = st.sampled_from(["add", "authorise", "resolve", "refuse", "wait"])


@given(st.lists(st.tuples(verbs, st.sampled_from([BOB, CAROL]), st.sampled_from([0, 1, 9]))))
def test_whatever_happens_every_query_is_answered_exactly_once_and_in_time(
    history: list[tuple[str, str, int]],
) -> None:
    queries, now = Queries(), T0
    asked: dict[int, Instant] = {}
    answered: list[int] = []
    for verb, fqdn, wait in history:
        match verb:
            case "add":
                asked[len(asked)] = now
                queries.add(len(asked) - 1, fqdn, now)
            case "authorise":
                queries.authorise(fqdn, BOBS, now)
            case "resolve":
                queries.resolve(fqdn, BOBS)
            case "refuse":
                queries.refuse(fqdn, Reason.BUSY)
            case "wait":
                now = after(now, wait)
                run(queries, now)
        for event in drain(queries.poll_event):
            answered.append(event.query)
            assert now - asked[event.query] <= UNDECIDED_NS + 9 * SECOND
    run(queries, after(now, 60))
    answered += [event.query for event in drain(queries.poll_event)]

    assert sorted(answered) == sorted(asked)
