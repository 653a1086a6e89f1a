"""Ours: docs/protocol.md section 4, whose certificates an AS says to believe."""

from random import Random

import pytest
from tests.proto.account.test_account import DOMAIN, STRANGER, WHO, Rig
from tests.proto.parts import ALICE, DC, T0, drain

from ntmobile.proto.account.account import MAX_FINDING, Account, Vouching
from ntmobile.proto.io import AuthoritiesFound, Failed, FindAuthorities, LoginVerified
from ntmobile.wire.identity import Authentication
from ntmobile.wire.login import AuthorityRequest, AuthorityResponse, LoginResponse, Neighbour
from ntmobile.wire.message import Message
from ntmobile.wire.registration import NtmAck, Reason

OWN, THEIRS = (b"own CA", b"a trusted one"), (b"their CA",)
CERTIFIED = LoginVerified(ALICE, (), b"the certificate", 604_800)


def vouching() -> Rig:
    asked = Vouching(OWN, Authentication.CERTIFICATE, (Neighbour("example.net", THEIRS),))
    account = Account(DOMAIN, b"\x07" * 32, "dc.example.org", (DC,), Random(1), vouching=asked)
    return Rig(account)


def test_a_login_brings_the_certificate_the_cas_and_what_to_ask_of_peers() -> None:
    rig = vouching()
    login = rig.login()
    call = rig.verify(CERTIFIED)
    rig.account.handle_reply(call.id, NtmAck(), T0)

    response = rig.replies()[login]

    assert isinstance(response, LoginResponse)
    assert (response.certificate, response.certificate_s) == (b"the certificate", 604_800)
    assert response.authorities == OWN
    assert response.authentication is Authentication.CERTIFICATE
    assert response.neighbours == (Neighbour("example.net", THEIRS),)


def test_the_dc_is_handed_no_certificate_by_the_as() -> None:
    """The node shows it its own: so it knows what peers are told."""
    rig = vouching()
    rig.login()

    assert rig.verify(CERTIFIED).message.identity == WHO.public.bare  # type: ignore[attr-defined]


def test_the_own_domains_cas_are_known_without_asking_anybody() -> None:
    rig = vouching()

    question = rig.ask(AuthorityRequest(DOMAIN))

    assert rig.replies() == {question: AuthorityResponse(DOMAIN, OWN)}
    assert drain(rig.account.poll_request) == []


@pytest.mark.parametrize(
    ("found", "told"),
    [(AuthoritiesFound(THEIRS), THEIRS), (Failed(Reason.DOMAIN_KEY), ()), (NtmAck(), ())],
)
def test_another_domains_cas_are_looked_for_and_a_failure_is_told_as_none(
    found: Message | AuthoritiesFound | Failed, told: tuple[bytes, ...]
) -> None:
    rig = vouching()
    question = rig.ask(AuthorityRequest("example.net"))
    (request,) = drain(rig.account.poll_request)
    assert request == FindAuthorities(request.id, "example.net")
    assert rig.replies() == {}

    rig.account.handle_reply(request.id, found, T0)  # type: ignore[arg-type]

    assert rig.replies() == {question: AuthorityResponse("example.net", told)}


def test_strangers_questions_keep_nobody_from_a_login() -> None:
    rig = vouching()
    for number in range(MAX_FINDING + 10):
        rig.account.handle_request(1000 + number, STRANGER, AuthorityRequest(f"d{number}.net"), T0)
    assert len(drain(rig.account.poll_request)) == MAX_FINDING
    assert len(rig.replies()) == 10

    rig.login()

    assert rig.verify(CERTIFIED) is not None
