import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from tests.ports import free_ports

from ntmobile.runtime.clock import Clock
from ntmobile.runtime.resolver import (
    LONGEST_NEGATIVE_S,
    NoSuchName,
    Resolver,
    ResolverFailed,
    Service,
    SystemServers,
    Zone,
)
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint

SOA = "ntm.example.org. 60 IN SOA dc.ntm.example.org. h.example.org. 1 60 60 60 60"
RECORDS = """
ntm.example.org. 100 IN NS dc.ntm.example.org.
ntm.example.org. 100 IN NS secondary.example.net.
_ntm._udp.ntm.example.org. 100 IN SRV 20 0 4330 b.ntm.example.org.
_ntm._udp.ntm.example.org. 100 IN SRV 10 0 4331 dc.ntm.example.org.
_off._tcp.ntm.example.org. 100 IN SRV 0 0 0 .
dc.ntm.example.org. 100 IN A 203.0.113.10
dc.ntm.example.org. 100 IN AAAA 2001:db8::10
b.ntm.example.org. 100 IN A 203.0.113.11
www.ntm.example.org. 100 IN CNAME b.ntm.example.org.
_ntm.ntm.example.org. 100 IN TXT "v=ntm1 " "key=1"
"""


class Movable(Clock):
    """A clock that a test can put forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> Instant:
        return Instant(super().now() + round(self.ahead_s * SECOND))


class Recursive(asyncio.DatagramProtocol):
    """A recursive resolver with a fixed world; can be dead, lying or cut short."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], dns.rrset.RRset] = {}
        for line in RECORDS.strip().splitlines():
            name, ttl, _, kind, *rest = line.split(" ")
            key = (name, kind)
            if key in self.records:
                more = dns.rrset.from_text(name, int(ttl), "IN", kind, " ".join(rest))
                self.records[key].add(more[0])
            else:
                self.records[key] = dns.rrset.from_text(name, int(ttl), "IN", kind, " ".join(rest))
        self.asked: Counter[str] = Counter()
        self.dead = False
        self.rcode = dns.rcode.NOERROR
        self.forge_first = False
        self.cut = False

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.dead:
            return
        reply = self.answer(dns.message.from_wire(data))
        if self.forge_first:
            forged = dns.message.from_wire(reply.to_wire())
            forged.id ^= 1
            self.transport.sendto(b"garbage", addr)
            self.transport.sendto(forged.to_wire(), addr)
        if self.cut:
            reply.flags |= dns.flags.TC
            reply.answer.clear()
        self.transport.sendto(reply.to_wire(), addr)

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2))
        wire = self.answer(dns.message.from_wire(await reader.readexactly(size))).to_wire()
        writer.write(len(wire).to_bytes(2) + wire)
        await writer.drain()
        writer.close()

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        reply = dns.message.make_response(query)
        reply.set_rcode(self.rcode)
        question = query.question[0]
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked[f"{question.name} {kind}"] += 1
        name = question.name.to_text()
        if alias := self.records.get((name, "CNAME")):
            reply.answer.append(alias)
            name = alias[0].target.to_text()
        if found := self.records.get((name, kind)):
            reply.answer.append(found)
        elif name.endswith("ntm.example.org."):
            head, _, _, _, rest = SOA.split(" ", 4)
            reply.authority.append(dns.rrset.from_text(head, 60, "IN", "SOA", rest))
        return reply


@pytest.fixture
async def world() -> AsyncIterator[tuple[Recursive, Endpoint]]:
    loop = asyncio.get_running_loop()
    recursive = Recursive()
    [number] = free_ports(1)
    tcp = await asyncio.start_server(recursive.stream, "127.0.0.1", number)
    transport, _ = await loop.create_datagram_endpoint(
        lambda: recursive, local_addr=("127.0.0.1", number)
    )
    yield recursive, Endpoint("127.0.0.1", number)
    transport.close()
    tcp.close()
    await tcp.wait_closed()


@pytest.fixture
def clock() -> Movable:
    return Movable()


@pytest.fixture
def recursive(world: tuple[Recursive, Endpoint]) -> Recursive:
    return world[0]


@pytest.fixture
def resolver(world: tuple[Recursive, Endpoint], clock: Movable) -> Resolver:
    return Resolver(lambda: [world[1]], clock)


NTM_ZONE = Zone("ntm.example.org", frozenset({"dc.ntm.example.org", "secondary.example.net"}))


@pytest.mark.parametrize("name", ["ntm.example.org", "pc.alice.ntm.example.org"])
async def test_the_zone_of_a_name_is_the_closest_that_encloses_it(
    resolver: Resolver, name: str
) -> None:
    assert await resolver.zone(name) == NTM_ZONE


async def test_without_a_soa_in_the_answer_the_search_goes_up(resolver: Resolver) -> None:
    with pytest.raises(NoSuchName, match=r"pc\.example\.com"):
        await resolver.zone("pc.example.com")


async def test_services_come_best_first_with_their_addresses(resolver: Resolver) -> None:
    services = await resolver.services("_ntm._udp.ntm.example.org")

    assert services == (
        Service("dc.ntm.example.org", 4331, 10, 0),
        Service("b.ntm.example.org", 4330, 20, 0),
    )
    assert await resolver.endpoints(services[0]) == (
        Endpoint("2001:db8::10", 4331),
        Endpoint("203.0.113.10", 4331),
    )


async def test_a_service_that_is_not_offered_is_none(resolver: Resolver) -> None:
    with pytest.raises(NoSuchName):
        await resolver.services("_off._tcp.ntm.example.org")


async def test_an_alias_is_followed(resolver: Resolver) -> None:
    assert await resolver.addresses("www.ntm.example.org") == (ip_address("203.0.113.11"),)


async def test_the_strings_of_a_text_record_are_joined(resolver: Resolver) -> None:
    assert await resolver.texts("_ntm.ntm.example.org") == (b"v=ntm1 key=1",)


async def test_an_answer_is_asked_once_within_its_ttl(
    resolver: Resolver, recursive: Recursive, clock: Movable
) -> None:
    for ahead_s in (0, 99):
        clock.ahead_s = ahead_s
        await asyncio.gather(*(resolver.texts("_ntm.ntm.example.org") for _ in range(5)))
    assert recursive.asked == {"_ntm.ntm.example.org. TXT": 1}

    clock.ahead_s = 101
    await resolver.texts("_ntm.ntm.example.org")

    assert recursive.asked == {"_ntm.ntm.example.org. TXT": 2}


async def test_that_there_is_nothing_is_remembered_too(
    resolver: Resolver, recursive: Recursive, clock: Movable
) -> None:
    for ahead_s in (0, 59, 61):
        clock.ahead_s = ahead_s
        with pytest.raises(NoSuchName):
            await resolver.texts("nothing.ntm.example.org")

    assert LONGEST_NEGATIVE_S > 60
    assert recursive.asked.total() == 2


async def test_the_last_good_answer_serves_while_no_resolver_does(
    resolver: Resolver, recursive: Recursive, clock: Movable
) -> None:
    await resolver.texts("_ntm.ntm.example.org")
    clock.ahead_s = 86400
    recursive.rcode = dns.rcode.SERVFAIL

    assert await resolver.texts("_ntm.ntm.example.org") == (b"v=ntm1 key=1",)
    with pytest.raises(ResolverFailed, match="SERVFAIL"):
        await resolver.texts("other.ntm.example.org")


async def test_a_dead_resolver_is_passed_over(
    world: tuple[Recursive, Endpoint], clock: Movable
) -> None:
    resolver = Resolver(lambda: [Endpoint("127.0.0.1", 1), world[1]], clock)

    assert await resolver.texts("_ntm.ntm.example.org") == (b"v=ntm1 key=1",)


async def test_without_any_resolver_it_says_so(clock: Movable) -> None:
    with pytest.raises(ResolverFailed, match="no resolver is configured"):
        await Resolver(list, clock).texts("_ntm.ntm.example.org")


async def test_forged_answers_are_ignored(resolver: Resolver, recursive: Recursive) -> None:
    recursive.forge_first = True

    assert await resolver.texts("_ntm.ntm.example.org") == (b"v=ntm1 key=1",)


async def test_a_cut_answer_is_asked_again_over_tcp(
    resolver: Resolver, recursive: Recursive
) -> None:
    recursive.cut = True

    assert await resolver.texts("_ntm.ntm.example.org") == (b"v=ntm1 key=1",)


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example.org"])
async def test_a_name_that_cannot_be_in_the_dns_is_no_such_name(
    resolver: Resolver, name: str
) -> None:
    with pytest.raises(NoSuchName):
        await resolver.zone(name)


def test_the_systems_resolvers_are_read_again_when_they_change(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    servers = SystemServers(str(file))
    assert servers() == ()

    file.write_text("nameserver 192.0.2.53\nnameserver fe80::1%lo\n")
    assert servers() == (Endpoint("192.0.2.53", 53), Endpoint("fe80::1%lo", 53))

    other = tmp_path / "other"
    other.write_text("nameserver 2001:db8::53\n")
    other.rename(file)
    assert servers() == (Endpoint("2001:db8::53", 53),)
