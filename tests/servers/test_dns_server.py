import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from tests.ports import free_ports

from ntmobile.proto.rate import BURST
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.dns_client import ask
from ntmobile.runtime.tasks import Tasks
from ntmobile.servers.dns import Responder
from ntmobile.servers.dns_server import MAX_STREAMS_A_SOURCE, DnsServer
from ntmobile.servers.dns_zone import Services, Zone, read_extra
from ntmobile.wire.endpoint import Endpoint

DOMAIN = "ntm.example.org"
SERVICES = Services(
    domain=DOMAIN,
    domain_key=bytes(32),
    hosts=tuple((each, (ip_address("203.0.113.10"),)) for each in ("dc", "as", "rs")),
    udp=4330,
    dc_https=443,
    as_https=443,
    serial=7,
)
LONG = "\n".join(f'@ 300 IN TXT "{n:0>200}"' for n in range(20))


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    responder = Responder(Zone(SERVICES, read_extra(LONG, DOMAIN)), secret=bytes(32))
    async with Tasks() as tasks:
        server = DnsServer(responder, Clock(), tasks)
        yield server
        server.close()


def query(kind: str, *, cookie: dns.edns.Option | None = None) -> dns.message.Message:
    options = [cookie] if cookie is not None else None
    return dns.message.make_query(f"{DOMAIN}.", kind, use_edns=0, options=options)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_question_over_udp_is_answered(server: DnsServer, host: str) -> None:
    [place] = await server.listen([Endpoint(host, 0)])

    reply = await ask(place, query("SOA"), timeout_s=60)

    assert reply.rcode() == dns.rcode.NOERROR
    assert reply.answer[0].rdtype == dns.rdatatype.SOA


async def test_a_long_answer_comes_over_tcp(server: DnsServer) -> None:
    [place] = await server.listen([Endpoint("127.0.0.1", *free_ports(1))])

    reply = await ask(place, query("TXT"), timeout_s=60)

    assert len(reply.answer[0]) == 20


async def test_a_flood_is_limited_and_a_cookie_gets_through(server: DnsServer) -> None:
    source = ip_address("198.51.100.7")
    first = server.answer_datagram(
        query("SOA", cookie=dns.edns.CookieOption(b"client__", b"")).to_wire(), source
    )
    assert first is not None
    [cookie] = dns.message.from_wire(first).options

    answers = [server.answer_datagram(query("SOA").to_wire(), source) for _ in range(3 * BURST)]

    whole = [a for a in answers if a and not dns.message.from_wire(a).flags & dns.flags.TC]
    assert BURST - 1 <= len(whole) < 2 * BURST
    assert None in answers
    proven = server.answer_datagram(query("SOA", cookie=cookie).to_wire(), source)
    assert proven is not None
    assert dns.message.from_wire(proven).answer


async def test_one_source_cannot_hold_all_tcp_connections(server: DnsServer) -> None:
    [place] = await server.listen([Endpoint("127.0.0.1", *free_ports(1))])
    streams = [
        await asyncio.open_connection(str(place.host), place.port)
        for _ in range(MAX_STREAMS_A_SOURCE + 1)
    ]

    async with asyncio.timeout(60):
        refused = await streams[-1][0].read()

    assert refused == b""
    assert server.counters["streams refused"] == 1
    for _, writer in streams:
        writer.close()


async def test_garbage_over_tcp_ends_that_connection_only(server: DnsServer) -> None:
    [place] = await server.listen([Endpoint("127.0.0.1", *free_ports(1))])
    reader, writer = await asyncio.open_connection(str(place.host), place.port)
    writer.write(b"\xff\xff" + bytes(100))

    async with asyncio.timeout(60):
        assert await reader.read() == b""
    writer.close()

    assert (await ask(place, query("TXT"), timeout_s=60)).answer
