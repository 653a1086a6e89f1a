"""Ours: docs/protocol.md section 4, how a certificate travels."""

import zlib
from contextlib import suppress

import hypothesis.strategies as st
import pytest
from hypothesis import given

from ntmobile.errors import DecodeError
from ntmobile.keys.node_certificates import issue
from ntmobile.wire.certificate import MAX_DER, fold, unfold
from ntmobile.wire.identity import MAX_FOLDED
from tests.keys.authorities import DEVICE, FQDN, NOW_S, authority, ec_key, rsa_key

LONG = ".".join(letter * 60 for letter in "abcd")


@pytest.mark.parametrize("fqdn", [FQDN, LONG])
def test_a_certificate_by_the_domains_own_ca_is_folded_to_less_than_half(fqdn: str) -> None:
    der = issue(authority(fqdn.split(".", 2)[2]), fqdn, DEVICE, serial=2**158 - 1, now_s=NOW_S)

    folded = fold(der, fqdn, DEVICE)

    assert unfold(folded, fqdn, DEVICE) == der
    assert len(folded) <= 190 < len(der) // 2


@pytest.mark.parametrize(("bits", "travels"), [(2048, True), (4096, False)])
def test_of_rsa_only_short_keys_of_a_ca_leave_a_certificate_that_travels(
    bits: int, travels: bool
) -> None:
    der = rsa_key(bits).certificate(FQDN)

    assert (len(fold(der, FQDN, DEVICE)) <= MAX_FOLDED) is travels


@given(st.binary(max_size=MAX_FOLDED))
def test_anything_unfolds_or_is_refused(folded: bytes) -> None:
    with suppress(DecodeError):
        assert len(unfold(folded, FQDN, DEVICE)) <= MAX_DER


@given(st.data())
def test_a_folded_certificate_that_was_mangled_unfolds_to_another_or_is_refused(
    data: st.DataObject,
) -> None:
    der = ec_key().certificate(FQDN)
    folded = bytearray(fold(der, FQDN, DEVICE))
    place = data.draw(st.integers(0, len(folded) - 1))
    folded[place] ^= data.draw(st.integers(1, 255))
    with suppress(DecodeError):
        assert len(unfold(bytes(folded), FQDN, DEVICE)) <= MAX_DER


def test_what_unfolds_without_end_is_refused() -> None:
    folding = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = folding.compress(bytes(100 * MAX_DER)) + folding.flush()
    assert len(bomb) <= MAX_FOLDED + 100

    with pytest.raises(DecodeError):
        unfold(bomb, FQDN, DEVICE)


@pytest.mark.parametrize("change", [lambda folded: folded[:-3], lambda folded: folded + b"\0"])
def test_a_folded_certificate_is_whole_and_nothing_follows(change: object) -> None:
    folded = fold(ec_key().certificate(FQDN), FQDN, DEVICE)

    with pytest.raises(DecodeError):
        unfold(change(folded), FQDN, DEVICE)  # type: ignore[operator]
