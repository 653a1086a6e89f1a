import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.sockets.proxy import http, socks, udp

NAME = "pc.bob.ntm.example.net"


def fed(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


@pytest.mark.parametrize(
    ("place", "host"),
    [
        (b"\x01\x64\x40\x00\x02", "100.64.0.2"),
        (b"\x03" + bytes([len(NAME)]) + NAME.encode(), NAME),
        (b"\x04\xfd" + bytes(14) + b"\x02", "fd00::2"),
    ],
    ids=["IPv4", "name", "IPv6"],
)
async def test_a_socks_request_names_the_far_end(place: bytes, host: str) -> None:
    request = await socks.read_request(fed(b"\x05\x01\x00" + place + b"\x00\x50"))

    assert request == socks.Request(socks.CONNECT, host, 80)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x05\x02\x00\x01\x64\x40\x00\x02\x00\x50", socks.NO_COMMAND),
        (b"\x05\x01\x00\x09", socks.NO_FAMILY),
    ],
    ids=["BIND", "unknown kind of address"],
)
async def test_what_the_proxy_does_not_serve_has_its_code(data: bytes, code: int) -> None:
    with pytest.raises(socks.Unsupported) as raised:
        await socks.read_request(fed(data))

    assert raised.value.reply == code


@given(st.binary(max_size=300))
def test_no_socks_request_does_harm(data: bytes) -> None:
    async def read() -> None:
        try:
            await socks.read_request(fed(data))
        except (socks.Unsupported, ValueError, EOFError):
            return

    asyncio.run(read())


def test_a_whole_url_becomes_a_request_of_its_own_connection() -> None:
    head = (
        b"GET http://PC.bob.ntm.example.net:8080/a?b=c HTTP/1.1\r\n"
        b"Host: pc.bob.ntm.example.net:8080\r\nProxy-Connection: keep-alive\r\nAccept: */*\r\n\r\n"
    )

    request = http.parse(head)

    assert (request.host, request.port) == (NAME, 8080)
    assert request.head == (
        b"GET /a?b=c HTTP/1.1\r\nHost: pc.bob.ntm.example.net:8080\r\nAccept: */*\r\n"
        b"Connection: close\r\n\r\n"
    )


def test_connect_leaves_nothing_to_send() -> None:
    assert http.parse(b"CONNECT [fd00::2]:443 HTTP/1.1\r\nHost: x\r\n\r\n") == http.Request(
        "fd00::2", 443, b""
    )


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n", b"CONNECT :80 HTTP/1.1\r\n\r\n"]
)
def test_what_is_no_request_to_a_proxy_is_refused(head: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        http.parse(head)


@given(st.binary(max_size=300))
def test_no_head_does_harm(data: bytes) -> None:
    try:
        http.parse(data + b"\r\n\r\n")
    except ValueError:
        return


@given(st.sampled_from(["100.64.0.2", "fd00::2"]), st.integers(0, 65535), st.binary(max_size=99))
def test_a_carried_datagram_is_read_as_it_was_written(host: str, port: int, data: bytes) -> None:
    carried = udp.Carried(host, port, data)

    assert udp.decode(udp.encode(carried)) == carried


def test_a_datagram_may_go_to_a_name() -> None:
    data = b"\0\0\0\x03" + bytes([len(NAME)]) + NAME.encode() + b"\0\x35query"

    assert udp.decode(data) == udp.Carried(NAME, 53, b"query")


def test_a_fragment_of_a_datagram_is_dropped() -> None:
    assert udp.decode(b"\0\0\x01\x01\x64\x40\x00\x02\0\x35query") is None


@given(st.binary(max_size=60))
def test_no_datagram_does_harm(data: bytes) -> None:
    udp.decode(data)
