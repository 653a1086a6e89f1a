import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.errors import DecodeError
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.pcp import Mapped, MapRequest, Response, Result

NONCE = bytes(range(12))
HOST = Endpoint("192.168.1.10", 0).host
HOSTS = st.ip_addresses().filter(lambda h: h.version == 4 or h.ipv4_mapped is None)
ENDPOINTS = st.builds(Endpoint, HOSTS, st.integers(0, 65535))
SECONDS = st.integers(0, 2**32 - 1)
PORTS = st.integers(0, 65535)
NONCES = st.binary(min_size=12, max_size=12)


def test_a_request_has_the_bytes_of_the_rfcs_figures() -> None:
    request = MapRequest(3600, HOST, NONCE, 40404, Endpoint("0.0.0.0", 40404))

    # RFC 6887, figures 2 and 9.
    assert request.encode().hex() == (
        "02010000"
        "00000e10"
        "00000000000000000000ffff"
        "c0a8010a"
        "000102030405060708090a0b"
        "11000000"
        "9dd49dd4"
        "00000000000000000000ffff"
        "00000000"
    )


def test_a_response_of_the_rfcs_figures_is_read() -> None:
    data = bytes.fromhex(
        "02810000"
        "00000e10"
        "0000007b"
        "000000000000000000000000"
        "000102030405060708090a0b"
        "11000000"
        "9dd49dd5"
        "00000000000000000000ffff"
        "cb007107"
    )

    body = Mapped(NONCE, 40404, Endpoint("203.0.113.7", 40405))
    assert Response.decode(data) == Response(Result.SUCCESS, 3600, 123, body)


@given(st.builds(MapRequest, SECONDS, HOSTS, NONCES, PORTS, ENDPOINTS))
def test_requests_come_back_as_they_were(request: MapRequest) -> None:
    assert MapRequest.decode(request.encode()) == request


BODIES = st.none() | st.builds(Mapped, NONCES, PORTS, ENDPOINTS)


@given(st.builds(Response, st.integers(0, 255), SECONDS, SECONDS, BODIES))
def test_responses_come_back_as_they_were(response: Response) -> None:
    assert Response.decode(response.encode()) == response


@given(st.binary(max_size=80), st.sampled_from([b"", b"\x02\x80", b"\x02\x81", b"\x02\x01"]))
def test_garbage_is_refused_and_nothing_else_raised(data: bytes, head: bytes) -> None:
    for kind in (MapRequest, Response):
        try:
            kind.decode(head + data)
        except DecodeError:
            continue


@pytest.mark.parametrize("size", [0, 23, 24, 59])
def test_a_map_response_cut_short_is_refused(size: int) -> None:
    whole = Response(0, 1, 1, Mapped(NONCE, 1, Endpoint("203.0.113.7", 1))).encode()

    with pytest.raises(DecodeError):
        Response.decode(whole[:size])
