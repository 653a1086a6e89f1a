import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.errors import DecodeError
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.stun import (
    CHANGE_REQUEST,
    BindingRequest,
    BindingResponse,
    UnknownAttributes,
    is_stun,
)

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "stun.json").read_text())
TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")


def vector(name: str) -> bytes:
    return bytes.fromhex("".join(VECTORS["messages"][name]))


def test_the_request_of_rfc_5769_is_read() -> None:
    assert BindingRequest.decode(vector("2.1 request")) == BindingRequest(TRANSACTION)


@pytest.mark.parametrize(
    ("name", "mapped"),
    [
        ("2.2 IPv4 response", Endpoint("192.0.2.1", 32853)),
        (
            "2.3 IPv6 response",
            Endpoint("2001:db8:1234:5678:11:2233:4455:6677", 32853),
        ),
    ],
)
def test_the_responses_of_rfc_5769_are_read_and_their_address_made(
    name: str, mapped: Endpoint
) -> None:
    data = vector(name)

    assert BindingResponse.decode(data) == BindingResponse(TRANSACTION, mapped)
    attribute = BindingResponse(TRANSACTION, mapped).encode()[20:]
    assert attribute in data


TRANSACTIONS = st.binary(min_size=12, max_size=12)
PORTS = st.integers(1, 65535)


@given(TRANSACTIONS, st.ip_addresses(), st.integers(0, 65535), st.none() | PORTS)
def test_what_is_encoded_is_decoded(
    transaction: bytes, host: object, port: int, other: int | None
) -> None:
    response = BindingResponse(transaction, Endpoint(str(host), port), other)

    assert BindingResponse.decode(response.encode()) == response


@given(TRANSACTIONS, st.booleans(), st.none() | st.integers(0, 65535))
def test_what_is_asked_is_read(transaction: bytes, change: bool, port: int | None) -> None:
    request = BindingRequest(transaction, change, change, port)

    assert BindingRequest.decode(request.encode()) == request


def test_a_plain_request_and_its_answer_have_nothing_but_the_address() -> None:
    assert BindingRequest(TRANSACTION).encode() == b"\0\1\0\0\x21\x12\xa4\x42" + TRANSACTION
    assert len(BindingResponse(TRANSACTION, Endpoint("192.0.2.1", 1)).encode()) == 32


@pytest.mark.parametrize(
    ("attribute", "unknown"),
    [
        (b"\x00\x03\x00\x04\x00\x00\x00\x04", (CHANGE_REQUEST,)),
        (b"\x00\x26\x00\x04\x00\x00\x00\x00", (0x26,)),
        (b"\x80\x22\x00\x04test", ()),
        (b"\x00\x06\x00\x03bob\x00", ()),
    ],
    ids=["change of address", "padding", "software", "user"],
)
def test_only_what_must_be_known_and_is_not_forbids_an_answer(
    attribute: bytes, unknown: tuple[int, ...]
) -> None:
    data = bytearray(BindingRequest(TRANSACTION).encode() + attribute)
    data[2:4] = len(attribute).to_bytes(2)

    assert BindingRequest.decode(bytes(data)).unknown == unknown


@given(TRANSACTIONS, st.lists(st.integers(0, 0x7FFF), min_size=1, max_size=290))
def test_a_refusal_is_hardly_longer_than_what_it_refuses(
    transaction: bytes, unknown: list[int]
) -> None:
    refusal = UnknownAttributes(transaction, tuple(unknown)).encode()

    assert is_stun(refusal)
    assert int.from_bytes(refusal[2:4]) == len(refusal) - 20
    assert len(refusal) <= 20 + 4 * len(unknown) + 12


@given(st.binary(max_size=80), st.booleans())
def test_garbage_is_refused_and_nothing_else_raised(data: bytes, looks_right: bool) -> None:
    if looks_right:
        size = max(len(data) - 20, 0).to_bytes(2)
        data = b"\x01\x01" + size + b"\x21\x12\xa4\x42" + data[8:]
    for kind in (BindingRequest, BindingResponse):
        try:
            kind.decode(data)
        except DecodeError:
            continue
        assert is_stun(data)


@pytest.mark.parametrize("cut", [1, 4, 8, 40])
def test_a_message_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(DecodeError):
        BindingResponse.decode(vector("2.2 IPv4 response")[:-cut])


def test_signalling_is_not_stun() -> None:
    assert not is_stun(b"\x05\x01" + bytes(60))
