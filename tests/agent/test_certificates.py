"""What a state directory keeps of certificates, and what `ntm` shows of them."""

from pathlib import Path
from random import Random

import pytest
from tests.keys.authorities import DAY_S, DEVICE, FQDN, NOW_S, SECRET, authority, der_of, ec_key

from ntmobile.agent.certificates import authority_views, certificate_troubles, certificate_view
from ntmobile.agent.operations import changed_choice, shown_choices
from ntmobile.agent.records import Choices, SavedAccount
from ntmobile.agent.state import State, open_state
from ntmobile.errors import Remedy
from ntmobile.keys.identity import is_successor
from ntmobile.keys.node_certificates import authority_name, issue

WEEK_S = 7 * DAY_S
ACCOUNT = SavedAccount(user="alice", name="laptop", domain="ntm.example.org", enrolled=True)
ISSUED = issue(authority(), FQDN, DEVICE, serial=5, now_s=NOW_S)
GIVEN = ec_key().certificate(FQDN)
CA = authority().certificate.decode()


@pytest.fixture
def state(tmp_path: Path) -> State:
    return open_state(tmp_path / "state", Random(1))


def reopened(state: State) -> State:
    return open_state(state.directory, Random(2))


def test_certificates_and_pinned_cas_outlast_a_restart(state: State) -> None:
    state.keep_issued(ISSUED)
    state.keep_authorities("ntm.example.net", (der_of(authority()), ec_key().der))

    again = reopened(state)

    assert again.certificates == state.certificates
    assert again.certificates.authorities["ntm.example.net"][1] == ec_key().der


def test_the_key_of_a_certificate_becomes_the_device_key_at_once_and_for_good(
    state: State,
) -> None:
    tunnel = state.identity.public.tunnel

    state.use_credential(GIVEN, SECRET)

    for each in (state, reopened(state)):
        assert each.identity.public.keys == (DEVICE, tunnel)
        assert each.certificates.given == GIVEN
        assert each.identity.public.succession is None


def test_a_device_key_that_was_enrolled_signs_the_one_that_follows(state: State) -> None:
    before = state.identity.public.device
    state.keep_account(ACCOUNT)
    state.keep_issued(ISSUED)

    state.use_credential(GIVEN, SECRET)

    for each in (state, reopened(state)):
        signed = each.identity.public.succession
        assert signed is not None
        assert signed.old == before
        assert is_successor(before, DEVICE, signed.signature)
        assert each.certificates.issued == b"", "it is over the old key"


def test_the_same_certificate_again_changes_no_key(state: State) -> None:
    state.use_credential(GIVEN, SECRET)
    state.keep_account(ACCOUNT)

    state.use_credential(GIVEN, SECRET)

    assert state.identity.public.succession is None


def test_a_logout_forgets_the_certificates_and_keeps_what_is_pinned(state: State) -> None:
    state.use_credential(GIVEN, SECRET)
    state.keep_authorities("ntm.example.net", (ec_key().der,))

    state.forget_account()

    kept = reopened(state).certificates
    assert (kept.issued, kept.given) == (b"", b"")
    assert kept.authorities == {"ntm.example.net": (ec_key().der,)}


def test_what_is_pinned_of_a_domain_can_be_forgotten(state: State) -> None:
    state.keep_authorities("ntm.example.net", (ec_key().der,))

    assert state.forget("ntm.example.net")
    assert not state.forget("ntm.example.net")
    assert reopened(state).certificates.authorities == {}


def test_the_certificate_of_the_as_is_shown_before_one_that_its_ca_gave(state: State) -> None:
    by_the_same = issue(authority(), FQDN, DEVICE, serial=6, now_s=NOW_S)
    state.use_credential(by_the_same, SECRET)
    state.keep_issued(ISSUED)

    view = certificate_view(state, NOW_S)

    assert view is not None
    assert not view.given
    assert view.issuer == "CN=NTMobile CA of ntm.example.org"


def test_one_by_another_ca_is_shown_first_until_it_expires(state: State) -> None:
    state.use_credential(GIVEN, SECRET)
    state.keep_issued(ISSUED)

    views = [certificate_view(state, NOW_S + days * DAY_S) for days in (0, 29, 31)]

    assert [view.given for view in views if view is not None] == [True, True, False]


def test_without_a_certificate_nothing_is_said(state: State) -> None:
    assert certificate_view(state, NOW_S) is None
    assert certificate_troubles(state, NOW_S) == []


@pytest.mark.parametrize(
    ("after_s", "said"),
    [
        (-3 * DAY_S, "set the clock"),
        (-DAY_S, None),
        (DAY_S, None),
        (WEEK_S - 1, None),
        (WEEK_S, "renewed once the account server answers"),
    ],
)
def test_a_certificate_that_is_not_good_by_this_clock_is_said_with_what_to_do(
    state: State, after_s: int, said: str | None
) -> None:
    state.keep_issued(ISSUED)

    troubles = certificate_troubles(state, NOW_S + after_s)

    assert len(troubles) == (said is not None)
    assert all(said is not None and said in text and "next: " in text for text in troubles)


def test_a_trusted_ca_is_kept_as_text_and_shown_as_a_fingerprint(state: State) -> None:
    choices = changed_choice(Choices(), "trusted-ca", CA + CA)
    state.keep_choices(choices)
    state.keep_authorities("ntm.example.net", (ec_key().der,))

    name = authority_name(der_of(authority()))
    assert shown_choices(choices)["trusted-ca"] == f"{name} {name}"
    views = authority_views(reopened(state))
    assert [view.domain for view in views] == [None, None, "ntm.example.net"]
    assert shown_choices(changed_choice(choices, "trusted-ca", ""))["trusted-ca"] == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [("trusted-ca", "nothing"), ("authentication", "password"), ("authentication", "")],
)
def test_a_wrong_choice_is_refused_with_what_to_do(name: str, value: str) -> None:
    with pytest.raises(Remedy) as caught:
        changed_choice(Choices(), name, value)
    assert caught.value.remedy


def test_what_to_ask_of_peers_is_chosen() -> None:
    choices = changed_choice(Choices(), "authentication", "certificate")

    assert shown_choices(choices)["authentication"] == "certificate"
