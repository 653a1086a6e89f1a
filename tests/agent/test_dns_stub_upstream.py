import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING

import dns.flags
import dns.message
import pytest

from ntmobile.agent import dns_stub_upstream
from ntmobile.agent.dns_stub_upstream import Upstream
from ntmobile.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from conftest import Namespace, Resolver

QUERY = dns.message.make_query("www.example.com.", "A")
GOOD = dns.message.make_response(QUERY).to_wire()
TRUNCATED = bytes([*GOOD[:2], GOOD[2] | 0x02, *GOOD[3:]])


@pytest.mark.parametrize(
    "forgery",
    [
        bytes([GOOD[0] ^ 1]) + GOOD[1:],
        GOOD.replace(b"www", b"ftp"),
        QUERY.to_wire(),
        b"",
        GOOD[:11],
    ],
    ids=["another id", "another name", "no answer", "nothing", "cut short"],
)
async def test_what_is_no_answer_to_the_query_is_passed_over(
    server: "Server", forgery: bytes
) -> None:
    server.answers = [forgery, GOOD]

    assert await Upstream().ask(QUERY.to_wire(), [server.endpoint]) == GOOD


async def test_an_answer_in_another_case_is_the_answer(server: "Server") -> None:
    server.answers = [GOOD.replace(b"www", b"WWW")]

    assert await Upstream().ask(QUERY.to_wire(), [server.endpoint]) == server.answers[0]


async def test_a_lost_query_is_repeated(server: "Server", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_stub_upstream, "INTERVAL_S", 0.01)
    server.deaf = 2
    server.answers = [GOOD]

    assert await Upstream().ask(QUERY.to_wire(), [server.endpoint]) == GOOD


async def test_a_silent_server_is_given_up(
    server: "Server", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_stub_upstream, "INTERVAL_S", 0.01)

    assert await Upstream().ask(QUERY.to_wire(), [server.endpoint]) is None
    assert server.heard == dns_stub_upstream.TRIES


@pytest.mark.lab
async def test_a_server_with_a_link_local_address_is_reached(inside: "Namespace") -> None:
    inside.ip("link add up0 type veth peer name far0")
    inside.ip("link set far0 up")
    inside.ip("link set up0 up")
    inside.ip("addr add fe80::53/64 dev up0 nodad")
    server = Server()
    here = ("fe80::53", 53, 0, socket.if_nametoindex("up0"))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(here)
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: server, sock=sock)
        server.answers = [GOOD]
        for text in ("fe80::53%up0", f"fe80::53%{here[3]}"):
            endpoint = Endpoint(ip_address(text), 53)
            assert await Upstream().ask(QUERY.to_wire(), [endpoint]) == GOOD
        server.close()

    gone = Endpoint(ip_address("fe80::53%gone0"), 53)
    assert await Upstream().ask(QUERY.to_wire(), [gone]) is None


async def test_a_truncated_answer_passes_as_it_is(server: "Server") -> None:
    server.answers = [TRUNCATED]

    assert await Upstream().ask(QUERY.to_wire(), [server.endpoint]) == TRUNCATED


async def test_a_truncated_answer_to_the_stubs_own_query_is_asked_for_over_tcp(
    resolver: "Resolver", monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver.records["www.example.com."] = "A 192.0.2.80"
    resolver.flags_over_udp = dns.flags.TC
    endpoint = await resolver.open()

    answer = await Upstream().ask_whole(QUERY.to_wire(), [endpoint])

    assert answer is not None
    assert not dns.message.from_wire(answer).flags & dns.flags.TC
    assert resolver.over_tcp == 1


async def test_a_server_without_tcp_is_passed_over_for_the_next(
    server: "Server", resolver: "Resolver"
) -> None:
    resolver.records["www.example.com."] = "A 192.0.2.80"
    other = await resolver.open()

    assert await Upstream().ask_tcp(QUERY.to_wire(), [server.endpoint, other]) is not None


class Server(asyncio.DatagramProtocol):
    """Answers each query with all of the datagrams it was given."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.deaf = 0
        self.heard = 0
        self.endpoint = Endpoint("127.0.0.1", 0)
        self.close: Callable[[], None]

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport
        self.close = transport.close
        self.endpoint = Endpoint("127.0.0.1", transport.get_extra_info("sockname")[1])

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.heard += 1
        if self.heard > self.deaf:
            for answer in self.answers:
                self._transport.sendto(answer, addr)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    here = ("127.0.0.1", 0)
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: made, local_addr=here)
    yield made
    made.close()
