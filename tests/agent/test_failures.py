import pytest

from ntmobile.agent.failures import (
    FOR_GOOD,
    login_failure,
    name_failure,
    reach_troubles,
    registration_failure,
    standstill,
)
from ntmobile.agent.records import SavedAccount
from ntmobile.proto.node.events import LoginFailed
from ntmobile.runtime.https import BY_THE_CLOCK
from ntmobile.time import Instant
from ntmobile.wire.login import LoginRefused
from ntmobile.wire.registration import Reason

ACCOUNT = SavedAccount(user="alice", name="laptop", domain="ntm.example.org")
ENDS_OF_A_LOGIN = [
    *LoginRefused,
    Reason.DOMAIN_UNREACHABLE,
    Reason.DOMAIN_KEY,
    Reason.TIMED_OUT,
    Reason.SUPERSEDED,
]


@pytest.mark.parametrize("code", ENDS_OF_A_LOGIN, ids=str)
def test_every_failed_login_has_its_own_words_and_a_next_step(code: str) -> None:
    remedy = login_failure(ACCOUNT, LoginFailed(code, "", None))

    assert "the login failed" not in remedy.problem
    assert remedy.remedy
    assert "{" not in remedy.problem + remedy.remedy


def test_a_failure_that_mends_itself_says_that_the_agent_goes_on() -> None:
    remedy = login_failure(ACCOUNT, LoginFailed(Reason.TIMED_OUT, "no route", Instant(5)))

    assert "no route" in remedy.problem
    assert "goes on trying" in remedy.problem
    assert remedy.remedy.startswith("ntm wait")


def test_a_server_that_only_the_clock_makes_wrong_has_the_clock_checked() -> None:
    """The twin: any other wrong certificate asks for the right CA."""
    said = f"certificate is not yet valid, if it is 1999-12-31 23:59 UTC {BY_THE_CLOCK}"

    by_the_clock = login_failure(ACCOUNT, LoginFailed(Reason.DOMAIN_KEY, said, None))
    otherwise = login_failure(ACCOUNT, LoginFailed(Reason.DOMAIN_KEY, "self-signed", None))

    assert by_the_clock.remedy.startswith("check the clock (date")
    assert "--ca FILE" in otherwise.remedy


def test_a_domain_that_perhaps_does_not_exist_has_its_name_checked_first() -> None:
    told = name_failure("pc.bob.nowhere.invalid", Reason.FOREIGN_DOMAIN)

    assert "or there is no such domain" in told.problem
    assert told.remedy.startswith("check the name")


@pytest.mark.parametrize(
    ("reason", "code", "next_step"),
    [
        (Reason.REVOKED, None, "ask the operator"),
        (Reason.SUPERSEDED, None, "end the other one"),
        ("", LoginRefused.REVOKED, "ask the operator"),
        (Reason.TIMED_OUT, LoginRefused.REVOKED, "ask the operator"),
        ("", None, None),
        (Reason.TIMED_OUT, None, None),
        ("", LoginRefused.CREDENTIALS, None),
        ("", Reason.TIMED_OUT, None),
    ],
)
def test_what_only_a_person_ends_is_told_apart_from_what_the_agent_tries_again(
    reason: str, code: str | None, next_step: str | None
) -> None:
    failure = None if code is None else LoginFailed(code, "", None)

    told = standstill(ACCOUNT, reason, failure)

    if next_step is None:
        assert told is None
    else:
        assert told is not None
        assert told.remedy.startswith(next_step)


def test_a_servers_own_words_are_shown_as_they_are() -> None:
    remedy = login_failure(ACCOUNT, LoginFailed("unexpected", "500 {oops}", None))

    assert "500 {oops}" in remedy.problem


@pytest.mark.parametrize("reason", [*Reason, "something new"], ids=str)
def test_a_node_that_is_not_registered_is_told_why(reason: str) -> None:
    remedy = registration_failure(ACCOUNT, reason)

    assert remedy.remedy
    assert ACCOUNT.fqdn in remedy.problem or reason == Reason.SUPERSEDED


@pytest.mark.parametrize("reason", FOR_GOOD, ids=str)
def test_a_node_that_a_person_must_help_does_not_claim_to_go_on_trying(reason: Reason) -> None:
    remedy = registration_failure(ACCOUNT, reason)

    assert "goes on trying" not in remedy.problem
    assert "ntm up" in remedy.remedy


@pytest.mark.parametrize("reason", list(Reason), ids=str)
def test_every_refusal_of_a_name_has_words_and_a_next_step(reason: Reason) -> None:
    remedy = name_failure("pc.bob.ntm.example.net", reason)

    assert remedy.problem.startswith("pc.bob.ntm.example.net: ")
    assert remedy.remedy


@pytest.mark.parametrize("reason", [Reason.TOKEN_GONE, Reason.PUSH_REFUSED])
def test_a_node_that_is_not_reached_as_chosen_is_told_why_and_what_to_do(reason: Reason) -> None:
    (text,) = reach_troubles(reason)

    assert "keeps alive by UDP; next: " in text


def test_a_node_that_is_reached_as_chosen_is_told_nothing() -> None:
    assert reach_troubles(None) == ()
