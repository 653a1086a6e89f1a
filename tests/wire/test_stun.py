import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.errors import DecodeError
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.stun import BindingRequest, BindingResponse, is_stun

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


@given(st.binary(min_size=12, max_size=12), st.ip_addresses(), st.integers(0, 65535))
def test_what_is_encoded_is_decoded(transaction: bytes, host: object, port: int) -> None:
    response = BindingResponse(transaction, Endpoint(str(host), port))

    assert BindingResponse.decode(response.encode()) == response
    assert BindingRequest.decode(BindingRequest(transaction).encode()).transaction == transaction


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
