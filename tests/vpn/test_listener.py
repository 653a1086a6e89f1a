"""DNS out of a device, over a socket pair and two stacks: no kernel, no right."""

import asyncio
from collections import Counter
from ipaddress import IPv4Address, IPv6Address

import dns.message
import pytest
from tests.vpn.conftest import DNS, OWN, Applications, Device

from ntmobile.agent.dns_stub import DnsStub
from ntmobile.agent.dns_stub_listener import Query
from ntmobile.agent.dns_stub_messages import Answer, Refused, parse_query, truncated
from ntmobile.runtime.tasks import Tasks
from ntmobile.sockets.connecting import connect
from ntmobile.sockets.datagrams import Datagrams
from ntmobile.vpn.listener import InsideListener
from ntmobile.wire.endpoint import Endpoint, Host

PORT = 53
PEER = Answer(IPv4Address("100.64.0.9"), IPv6Address("fd0a:b:c::9"))
NAME = "pc.bob.ntm.example.net"


class Heard(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.first: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.first.set_result(data)


async def ask_udp(applications: Applications, server: Host, wire: bytes) -> bytes:
    heard = Heard()
    there = Endpoint(server, PORT)
    transport = Datagrams(
        applications.events,
        heard,
        port=0,
        own=lambda version: OWN[version == 6],
        remote=there,
        fqdn=None,
    )
    transport.begin()
    transport.sendto(wire)
    async with asyncio.timeout(60):
        answer = await heard.first
    transport.close()
    return answer


async def ask_tcp(applications: Applications, server: Host, wire: bytes) -> bytes:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    async with asyncio.timeout(60):
        stream = await connect(applications.events, Endpoint(server, PORT), protocol, fqdn=None)
        stream.write(len(wire).to_bytes(2) + wire)
        answer = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
    stream.abort()
    return answer


async def resolve(fqdn: str) -> Answer | Refused:
    return PEER if fqdn == NAME else Refused()


@pytest.mark.parametrize("ask", [ask_udp, ask_tcp], ids=["UDP", "TCP"])
@pytest.mark.parametrize("server", DNS, ids=["IPv4", "IPv6"])
async def test_the_stub_answers_inside_the_device(
    device: Device, applications: Applications, ask: "type[ask_udp]", server: Host
) -> None:
    def make(respond: object, tasks: object, counters: object) -> InsideListener:
        return InsideListener(device.inside, respond, tasks, counters)

    stub = DnsStub(
        resolve,
        lambda _: None,
        lambda: (),
        own_zones=["ntm.example.net"],
        addresses=[str(host) for host in DNS],
        port=PORT,
        listener=make,
    )
    async with stub:
        query = dns.message.make_query(NAME, "AAAA")
        answer = dns.message.from_wire(await ask(applications, server, query.to_wire()))
        absent = dns.message.make_query("nobody.bob.ntm.example.net", "AAAA")
        refused = dns.message.from_wire(await ask(applications, server, absent.to_wire()))

    assert [str(record) for rrset in answer.answer for record in rrset] == [str(PEER.ipv6)]
    assert refused.rcode() == dns.rcode.NXDOMAIN


async def test_a_long_answer_is_cut_by_udp_and_whole_by_tcp(
    device: Device, applications: Applications
) -> None:
    async def respond(query: Query) -> bytes:
        asked = parse_query(query.wire)
        assert asked is not None
        response = dns.message.make_response(asked)
        texts = [f'"{number}{"x" * 200}"' for number in range(60)]
        response.answer.append(dns.rrset.from_text(asked.question[0].name, 1, "IN", "TXT", *texts))
        return response.to_wire()

    async with Tasks() as tasks:
        listener = InsideListener(device.inside, respond, tasks, Counter())
        await listener.open([str(host) for host in DNS], PORT)
        wire = dns.message.make_query("example.org", "TXT").to_wire()
        cut = dns.message.from_wire(await ask_udp(applications, DNS[0], wire))
        whole = dns.message.from_wire(await ask_tcp(applications, DNS[0], wire))
        listener.close()

    assert cut.flags & dns.flags.TC
    assert not cut.answer
    assert len(whole.answer[0]) == 60


def test_only_what_is_too_long_is_cut() -> None:
    answer = dns.message.make_response(dns.message.make_query("example.org", "A")).to_wire()

    assert truncated(answer, len(answer)) == answer
    cut = dns.message.from_wire(truncated(answer, len(answer) - 1))
    assert cut.flags & dns.flags.TC
    assert cut.question == dns.message.from_wire(answer).question
