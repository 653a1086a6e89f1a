"""Signed claims, against the checks of our services; PyJWT's are in test_others."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.push.rig import customer

from ntmobile.lab.push.services import pem
from ntmobile.lab.push.tokens import TokenWrong, claims_of, header_of
from ntmobile.runtime.push.jwt import es256, p256_key, rs256, rsa_key

KEY = ec.generate_private_key(ec.SECP256R1())
CLAIMS = st.dictionaries(st.text(max_size=8), st.text(max_size=20) | st.integers(0, 2**40))


@given(CLAIMS, st.text(max_size=10))
def test_claims_that_were_signed_are_read_back(claims: dict[str, str | int], key_id: str) -> None:
    token = es256(claims, KEY, key_id)

    assert claims_of(token, KEY.public_key()) == claims
    assert header_of(token) == {"alg": "ES256", "typ": "JWT", "kid": key_id}


@given(st.integers(0, 10_000), st.characters(categories=("L", "N", "P"), max_codepoint=126))
def test_a_changed_token_is_not_believed(place: int, character: str) -> None:
    token = es256({"iss": "TEAM"}, KEY, "KEY")
    place %= len(token)
    changed = token[:place] + character + token[place + 1 :]
    # The last character of a part carries bits that nobody reads.
    if changed == token or (token[place + 1 : place + 2] or ".") == ".":
        return

    with pytest.raises(TokenWrong):
        claims_of(changed, KEY.public_key())


def test_another_key_and_another_algorithm_are_not_believed() -> None:
    account = customer().account
    token = rs256({"iss": "x"}, account, "k")

    assert claims_of(token, account.public_key()) == {"iss": "x"}
    for key in (KEY.public_key(), rsa.generate_private_key(65537, 2048).public_key()):
        with pytest.raises(TokenWrong):
            claims_of(token, key)


def test_a_key_file_of_another_kind_is_refused() -> None:
    elliptic, other = pem(KEY), pem(customer().account)
    curve = pem(ec.generate_private_key(ec.SECP384R1()))
    locked = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))

    assert p256_key(elliptic)
    assert rsa_key(other)
    for wrong in (other, curve, locked, b"", b"-----BEGIN PRIVATE KEY-----"):
        with pytest.raises(ValueError, match="not a"):
            p256_key(wrong)
    with pytest.raises(ValueError, match="not an RSA"):
        rsa_key(elliptic)
