import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.errors import DecodeError
from ntmobile.keys.sealing import WINDOW, Opener, ReplayWindow, Sealer
from ntmobile.keys.table import Kntmdc
from ntmobile.time import Instant
from ntmobile.wire.datagram import Header, Sender

SALT = b"saltsalt"


def key() -> Kntmdc:
    return Kntmdc(bytes(range(32)), b"identity", Instant(0))


def test_what_one_role_seals_another_opens() -> None:
    data = Sealer(key(), Sender.NODE, SALT).seal(b"identity", b"hello")

    header = Header.decode(data)

    assert header == Header(Sender.NODE, b"identity", SALT, 0)
    assert Opener(key(), Sender.NODE, SALT).open(header, data) == b"hello"


def test_sealed_bytes_do_not_change_by_accident() -> None:
    data = Sealer(key(), Sender.DC, SALT).seal(b"identity", b"hello")

    assert data.hex() == (
        "050102006964656e7469747973616c7473616c740000000000000000" + data[28:].hex()
    )
    assert len(data) == 28 + 5 + 16


@pytest.mark.parametrize("place", [0, 3, 4, 12, 20, 28, -1])
def test_a_changed_bit_is_found(place: int) -> None:
    data = bytearray(Sealer(key(), Sender.NODE, SALT).seal(b"identity", b"hello"))
    header = Header.decode(bytes(data))
    data[place] ^= 1

    with pytest.raises(DecodeError, match="forged"):
        Opener(key(), Sender.NODE, SALT).open(header, bytes(data))


def test_another_role_has_another_subkey() -> None:
    data = Sealer(key(), Sender.NODE, SALT).seal(b"identity", b"hello")

    with pytest.raises(DecodeError, match="forged"):
        Opener(key(), Sender.DC, SALT).open(Header.decode(data), data)


def test_a_replay_is_found() -> None:
    data = Sealer(key(), Sender.NODE, SALT).seal(b"identity", b"hello")
    opener = Opener(key(), Sender.NODE, SALT)
    opener.open(Header.decode(data), data)

    with pytest.raises(DecodeError, match="replayed"):
        opener.open(Header.decode(data), data)


@given(st.lists(st.integers(0, 3 * WINDOW), max_size=300))
def test_the_replay_window_accepts_each_counter_once_and_none_too_old(counters: list[int]) -> None:
    window, seen = ReplayWindow(), set[int]()
    for counter in counters:
        fresh = counter not in seen and counter > max(seen, default=-1) - WINDOW

        assert window.accept(counter) is fresh

        seen |= {counter} if fresh else set()
