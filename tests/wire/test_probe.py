import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.errors import DecodeError
from ntmobile.wire.probe import Knock


def test_a_knock_has_these_bytes() -> None:
    assert Knock(0x0102).encode().hex() == "060100000000000000000102"


@given(st.integers(0, 2**64 - 1))
def test_every_knock_survives(token: int) -> None:
    assert Knock.decode(Knock(token).encode()) == Knock(token)


@pytest.mark.parametrize(
    "data", [b"", b"\x06\x01", b"\x06\x02" + bytes(10), b"\x05\x01" + bytes(10)]
)
def test_what_is_no_knock_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        Knock.decode(data)
