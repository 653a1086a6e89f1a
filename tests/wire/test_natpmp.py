from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.errors import DecodeError
from ntmobile.wire.natpmp import (
    ADDRESS_REQUEST,
    ExternalAddress,
    MapRequest,
    MapResponse,
    Refusal,
    decode_response,
)

SECONDS = st.integers(0, 2**32 - 1)
PORTS = st.integers(0, 65535)
RESPONSES = st.one_of(
    st.builds(ExternalAddress, st.just(0), SECONDS, st.ip_addresses(v=4)),
    st.builds(MapResponse, st.just(0), SECONDS, PORTS, PORTS, SECONDS),
    st.builds(Refusal, st.integers(1, 65535), SECONDS),
)


def test_the_messages_have_the_bytes_of_the_rfcs_figures() -> None:
    # RFC 6886, sections 3.2 and 3.3.
    assert ADDRESS_REQUEST.hex() == "0000"
    assert MapRequest(40404, 40405, 7200).encode().hex() == "000100009dd49dd500001c20"
    assert decode_response(bytes.fromhex("008000000000007bcb007107")) == ExternalAddress(
        0, 123, IPv4Address("203.0.113.7")
    )
    assert decode_response(bytes.fromhex("008100000000007b9dd49dd500001c20")) == MapResponse(
        0, 123, 40404, 40405, 7200
    )


@given(st.builds(MapRequest, PORTS, PORTS, SECONDS))
def test_requests_come_back_as_they_were(request: MapRequest) -> None:
    assert MapRequest.decode(request.encode()) == request


@given(RESPONSES)
def test_responses_come_back_as_they_were(
    response: ExternalAddress | MapResponse | Refusal,
) -> None:
    assert decode_response(response.encode()) == response


@given(st.binary(max_size=40), st.sampled_from([b"", b"\x00\x80\x00\x00", b"\x00\x81\x00\x00"]))
def test_garbage_is_refused_and_nothing_else_raised(data: bytes, head: bytes) -> None:
    try:
        decode_response(head + data)
    except DecodeError:
        assert len(head + data) < 16 or (head + data)[:2] != b"\x00\x81"


@pytest.mark.parametrize("size", [0, 2, 7, 11])
def test_a_response_cut_short_is_refused(size: int) -> None:
    whole = ExternalAddress(0, 1, IPv4Address("203.0.113.7")).encode()

    with pytest.raises(DecodeError):
        decode_response(whole[:size])
