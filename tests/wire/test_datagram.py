import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.errors import DecodeError
from ntmobile.wire.datagram import (
    HEADER_SIZE,
    MAX_DATAGRAM,
    TAG_SIZE,
    Envelope,
    Header,
    Kind,
    Sender,
    Signal,
    decode_control,
    encode_control,
    fits,
)
from ntmobile.wire.tunnel import Control
from tests.wire.strategies import controls, identifiers, senders, sequences, signals

BODY = bytes(TAG_SIZE + 1)


@given(sequences, st.binary(max_size=32), signals)
def test_every_signal_survives_its_envelope(transaction: int, token: bytes, signal: Signal) -> None:
    envelope = Envelope(transaction, token, signal)

    assert Envelope.decode(envelope.encode()) == envelope


@given(sequences, st.binary(max_size=32), signals)
def test_what_fits_goes_in_one_datagram_with_any_token(
    transaction: int, token: bytes, signal: Signal
) -> None:
    size = HEADER_SIZE + len(Envelope(transaction, token, signal).encode()) + TAG_SIZE

    assert size <= MAX_DATAGRAM or not fits(signal)
    assert fits(signal) or size > MAX_DATAGRAM - 50


@given(controls)
def test_every_control_message_survives_its_capsule(message: Control) -> None:
    assert decode_control(encode_control(message)) == message


@given(senders, identifiers, identifiers, st.integers(0, 2**64 - 1))
def test_every_header_survives(
    sender: Sender, identifier: bytes, salt: bytes, counter: int
) -> None:
    header = Header(sender, identifier, salt, counter)

    data = header.encode()

    assert len(data) == HEADER_SIZE
    assert Header.decode(data + BODY) == header


@given(st.binary(max_size=1300))
def test_garbage_is_only_ever_a_decode_error(data: bytes) -> None:
    for parse in (Header.decode, Envelope.decode, decode_control):
        with contextlib.suppress(DecodeError):
            parse(data)


@given(signals, st.data())
def test_a_mangled_envelope_is_only_ever_a_decode_error(
    signal: Signal, data: st.DataObject
) -> None:
    plain = bytearray(Envelope(7, b"", signal).encode())
    place = data.draw(st.integers(0, len(plain) - 1))
    plain[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(DecodeError):
        Envelope.decode(bytes(plain))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        Header(Sender.NODE, bytes(8), bytes(8), 0).encode() + bytes(TAG_SIZE),
        Header(Sender.NODE, bytes(8), bytes(8), 0).encode() + bytes(MAX_DATAGRAM),
        b"\x04" + Header(Sender.NODE, bytes(8), bytes(8), 0).encode()[1:] + BODY,
        b"\x05\x02" + Header(Sender.NODE, bytes(8), bytes(8), 0).encode()[2:] + BODY,
        b"\x05\x01\xee" + Header(Sender.NODE, bytes(8), bytes(8), 0).encode()[3:] + BODY,
    ],
    ids=["empty", "no plaintext", "too long", "a capsule", "another version", "unknown role"],
)
def test_what_is_not_signalling_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        Header.decode(data)


def test_first_bytes_leave_the_ranges_of_rfc_7983_free() -> None:
    assert all(4 <= kind <= 15 for kind in Kind)
