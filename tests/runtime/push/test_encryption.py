"""RFC 8291's example, and messages that are not for us."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.errors import DecodeError
from ntmobile.runtime.push.encryption import decrypt, encrypt
from ntmobile.runtime.push.jwt import public_point
from ntmobile.wire.device_token import decode64, encode64

PLAINTEXT = b"When I grow up, I want to be a watermelon"
SENDER = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
RECEIVER = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"
SALT = "DGv6ra1nlYgDCS1FRnbzlw"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
MESSAGE = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml"
    "mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT"
    "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)
"""Source: RFC 8291, section 5 and appendix A."""


def private(scalar: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(decode64(scalar)), ec.SECP256R1())


def test_the_example_of_the_rfc_is_encrypted_to_its_octets() -> None:
    body = encrypt(
        PLAINTEXT,
        public_point(private(RECEIVER)),
        decode64(AUTH),
        ephemeral=private(SENDER),
        salt=decode64(SALT),
    )

    assert encode64(body) == MESSAGE


def test_the_example_of_the_rfc_is_decrypted() -> None:
    assert decrypt(decode64(MESSAGE), private(RECEIVER), decode64(AUTH)) == PLAINTEXT


@given(st.integers(0, len(decode64(MESSAGE)) - 1), st.integers(1, 255))
def test_a_changed_octet_is_noticed(place: int, change: int) -> None:
    body = bytearray(decode64(MESSAGE))
    body[place] ^= change

    # The record size only bounds the record: larger ones change nothing.
    if 16 <= place < 20:
        return
    with pytest.raises(DecodeError):
        decrypt(bytes(body), private(RECEIVER), decode64(AUTH))


@given(st.binary(max_size=400))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(DecodeError):
        decrypt(noise, private(RECEIVER), decode64(AUTH))


def test_another_device_cannot_read_it() -> None:
    with pytest.raises(DecodeError):
        decrypt(decode64(MESSAGE), private(SENDER), decode64(AUTH))


def test_without_the_authentication_secret_it_cannot_be_read() -> None:
    with pytest.raises(DecodeError):
        decrypt(decode64(MESSAGE), private(RECEIVER), bytes(16))


@given(st.binary(max_size=3000), st.binary(min_size=16, max_size=16))
def test_any_message_comes_back(plaintext: bytes, salt: bytes) -> None:
    receiver, secret = private(RECEIVER), decode64(AUTH)

    body = encrypt(plaintext, public_point(receiver), secret, ephemeral=private(SENDER), salt=salt)

    assert decrypt(body, receiver, secret) == plaintext
