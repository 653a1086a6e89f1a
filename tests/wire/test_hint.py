import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.errors import DecodeError
from ntmobile.wire.hint import Hint


def test_a_hint_has_these_bytes() -> None:
    assert Hint.index(0x01020304).encode().hex() == "070101000000000001020304"
    assert Hint.key(bytes(range(8))).encode().hex() == "070102000001020304050607"


@given(st.one_of(st.integers(0, 2**32 - 1), st.binary(min_size=8, max_size=8)))
def test_every_hint_survives(name: int | bytes) -> None:
    hint = Hint.index(name) if isinstance(name, int) else Hint.key(name)

    assert Hint.decode(hint.encode()) == hint


@given(st.binary(max_size=40))
def test_whatever_comes_is_a_hint_or_refused(data: bytes) -> None:
    try:
        hint = Hint.decode(data)
    except DecodeError:
        return
    assert hint.encode()[4:] == data[4:]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x07\x01\x01" + bytes(8),
        b"\x07\x02\x01" + bytes(9),
        b"\x06\x01\x01" + bytes(9),
        b"\x07\x01\x03" + bytes(9),
        b"\x07\x01\x01\x00\x01" + bytes(7),
    ],
)
def test_what_is_no_hint_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        Hint.decode(data)
