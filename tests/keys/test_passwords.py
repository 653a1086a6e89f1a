import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.errors import Remedy
from ntmobile.keys.passwords import (
    Cost,
    authority_digest,
    authority_text,
    check_new_password,
    hash_password,
    verify_password,
)

CHEAP = Cost(passes=1, memory_kib=8, lanes=1)
SALT = bytes(range(16))


@given(st.text(max_size=100), st.text(max_size=100))
def test_only_the_password_that_made_the_hash_verifies(password: str, other: str) -> None:
    hashed = hash_password(password, SALT, CHEAP)

    assert verify_password(hashed, password)
    assert verify_password(hashed, other) == (other == password)


def test_the_hash_is_argon2id_with_the_cost_that_owasp_recommends() -> None:
    assert hash_password("correct horse", SALT).startswith("$argon2id$v=19$m=47104,t=1,p=1$")


def test_what_is_no_hash_verifies_nothing() -> None:
    assert not verify_password("", "password")
    assert not verify_password("$argon2id$v=19$m=8,t=1,p=1$AAAA", "password")


@pytest.mark.parametrize("password", ["", "short", "x" * 1025, "with\nnewline"])
def test_a_bad_new_password_is_refused_and_says_that_nothing_changed(password: str) -> None:
    with pytest.raises(Remedy, match="nothing was changed"):
        check_new_password(password)


def test_a_pre_authorised_key_is_one_word_and_its_digest_hides_it() -> None:
    text = authority_text(bytes(range(20)))

    assert text == "ntmkey-aaaqeayeaudaocajbifqydiob4ibceqt"
    assert authority_digest(text) != authority_digest(text[:-1])
    assert len(authority_digest(text)) == 32
