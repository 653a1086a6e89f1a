"""Frames of one connection: in order, both ways, and nothing else."""

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.proto.parts import key

from ntmobile.errors import DecodeError
from ntmobile.keys.channel import Channel
from ntmobile.keys.table import Kntmns
from ntmobile.wire.datagram import Header, Sender

KEY = key(Kntmns, 7)


def pair(node_salt: bytes = b"n" * 8, ns_salt: bytes = b"s" * 8) -> tuple[Channel, Channel]:
    return (
        Channel(KEY, Sender.NODE, Sender.NS, node_salt),
        Channel(KEY, Sender.NS, Sender.NODE, ns_salt),
    )


def opened(channel: Channel, data: bytes) -> bytes:
    return channel.open(Header.decode(data), data)


@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=200)), max_size=20))
def test_what_one_end_seals_the_other_opens_in_order(said: list[tuple[bool, bytes]]) -> None:
    node, ns = pair()
    for from_node, text in said:
        speaker, hearer = (node, ns) if from_node else (ns, node)

        assert opened(hearer, speaker.seal(text)) == text


def test_a_frame_is_opened_once() -> None:
    node, ns = pair()
    data = node.seal(b"text")
    opened(ns, data)

    with pytest.raises(DecodeError, match="replayed"):
        opened(ns, data)


def test_a_frame_out_of_order_is_refused_and_the_next_one_is_not() -> None:
    node, ns = pair()
    first, second = node.seal(b"first"), node.seal(b"second")

    with pytest.raises(DecodeError, match="replayed"):
        opened(ns, second)
    assert opened(ns, first) == b"first"
    assert opened(ns, second) == b"second"


def test_a_frame_of_an_earlier_connection_is_refused_in_the_middle_of_this_one() -> None:
    node, ns = pair()
    earlier, _ = pair(node_salt=b"e" * 8)
    recorded = [earlier.seal(b"old") for _ in range(2)]
    opened(ns, node.seal(b"new"))

    with pytest.raises(DecodeError, match="replayed"):
        opened(ns, recorded[1])


@given(st.integers(0, 100), st.integers(1, 255))
def test_a_changed_frame_is_refused_and_the_true_one_still_opens(place: int, change: int) -> None:
    node, ns = pair()
    data = node.seal(b"a text that is long enough")
    at = place % len(data)
    forged = data[:at] + bytes((data[at] ^ change,)) + data[at + 1 :]

    with pytest.raises(DecodeError):
        opened(ns, forged)
    assert opened(ns, data) == b"a text that is long enough"


def test_an_end_does_not_open_its_own_frames() -> None:
    """A frame that is turned back says nothing."""
    node, _ = pair()
    data = node.seal(b"text")

    with pytest.raises(DecodeError, match="out of place"):
        opened(node, data)


def test_another_key_opens_nothing() -> None:
    node, _ = pair()
    other = Channel(key(Kntmns, 8), Sender.NS, Sender.NODE, b"s" * 8)

    with pytest.raises(DecodeError):
        opened(other, node.seal(b"text"))
