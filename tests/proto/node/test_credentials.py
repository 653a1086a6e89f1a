"""Ours: docs/protocol.md section 4, what a node shows of itself and remembers to have shown."""

import pytest
from tests.keys.authorities import authority, ec_key, rsa_key
from tests.proto.parts import ALICE, identity

from ntmobile.errors import Remedy
from ntmobile.keys.node_certificates import issue
from ntmobile.proto.node.credentials import KEPT, Certificates, Credentials, folded
from ntmobile.wire.certificate import MAX_DER, unfold
from ntmobile.wire.identity import certificate_digest

NOW_S = 1_800_000_000
DAY_S = 86_400
ME = identity(ALICE)
DEVICE = ME.public.device


def issued(number: int = 1) -> bytes:
    return issue(authority("example.org"), ALICE, DEVICE, serial=number, now_s=NOW_S)


def credentials(issued: bytes = b"", given: bytes = b"") -> Credentials:
    return Credentials(ALICE, ME, Certificates(issued, given))


def shown(one: Credentials) -> bytes:
    return unfold(one.certificate, ALICE, DEVICE) if one.certificate else b""


def test_without_a_certificate_a_node_shows_none() -> None:
    one = credentials()

    assert one.public == ME.public
    assert one.shown(b"") == ME.public
    assert one.shown(bytes(8)) is None


def test_the_newest_is_shown_and_those_shown_before_are_known() -> None:
    one = credentials(issued(1))
    before = one.public

    one.take(issued(2), NOW_S)

    assert shown(one) == issued(2)
    assert one.shown(before.shown) == before
    assert one.shown(one.public.shown) == one.public


def test_who_has_a_certificate_never_showed_none() -> None:
    assert credentials(issued()).shown(b"") is None


def test_only_the_last_few_are_remembered() -> None:
    one = credentials(issued(1))
    first = one.public.shown
    for number in range(2, KEPT + 2):
        one.take(issued(number), NOW_S)

    assert one.shown(first) is None
    assert one.shown(one.public.shown) is not None


def test_one_by_another_ca_is_shown_before_the_ass_until_it_expires() -> None:
    given = ec_key().certificate(ALICE, DEVICE)
    one = credentials(issued(), given)
    assert one.shows_given

    one.take(b"", NOW_S + 29 * DAY_S)
    assert shown(one) == given
    one.take(b"", NOW_S + 31 * DAY_S)
    assert shown(one) == issued()
    assert not one.shows_given


def test_one_by_the_same_ca_yields_to_the_ass() -> None:
    one = credentials(given=issued(1))
    assert one.shows_given

    one.take(issued(2), NOW_S)

    assert shown(one) == issued(2)
    assert not one.shows_given


@pytest.mark.parametrize("der", [bytes(MAX_DER + 1), rsa_key(4096).certificate(ALICE, DEVICE)])
def test_a_certificate_that_cannot_travel_is_refused_with_what_to_do(der: bytes) -> None:
    with pytest.raises(Remedy, match="too long to travel") as caught:
        folded(der, ALICE, DEVICE)

    assert "ECDSA" in caught.value.remedy


def test_an_issued_one_that_cannot_travel_is_not_shown() -> None:
    one = credentials(rsa_key(4096).certificate(ALICE, DEVICE))

    assert one.certificate == b""
    assert certificate_digest(b"") == b""
