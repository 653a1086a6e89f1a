"""Frames on a connection come whole, however the bytes are cut."""

from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from ntmobile.errors import DecodeError
from ntmobile.wire.datagram import HEADER_SIZE, MAX_CARRYING, TAG_SIZE
from ntmobile.wire.stream import frame, split

SHORTEST = HEADER_SIZE + TAG_SIZE + 1
datagrams = st.lists(st.binary(min_size=SHORTEST, max_size=300), max_size=6)


@given(datagrams, st.lists(st.integers(0, 2000), max_size=8))
def test_however_the_bytes_are_cut_the_frames_are_the_same(
    sent: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(map(frame, sent))
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    got: list[bytes] = []
    rest = b""
    for begin, end in pairwise(edges):
        found, rest = split(rest + data[begin:end])
        got += found

    assert (got, rest) == (sent, b"")


@given(st.binary(max_size=400))
def test_any_bytes_are_frames_a_beginning_or_malformed(data: bytes) -> None:
    try:
        found, rest = split(data)
    except DecodeError:
        return
    assert b"".join(map(frame, found)) + rest == data
    assert len(rest) < MAX_CARRYING + 2


@pytest.mark.parametrize("length", [0, SHORTEST - 1, MAX_CARRYING + 1, 0xFFFF])
def test_an_impossible_length_is_malformed_at_once(length: int) -> None:
    with pytest.raises(DecodeError, match=str(length)):
        split(length.to_bytes(2))


def test_a_notification_of_the_longest_datagram_fits() -> None:
    assert split(frame(bytes(MAX_CARRYING))) == ([bytes(MAX_CARRYING)], b"")
