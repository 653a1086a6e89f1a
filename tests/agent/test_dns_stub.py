import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import pytest
from dns.message import Message
from tests.ports import free_ports

from ntmobile.agent import dns_stub_nodes
from ntmobile.agent.dns_stub import DnsStub
from ntmobile.agent.dns_stub_messages import Answer, Refused
from ntmobile.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from conftest import Resolver

PC = "pc.bob.ntm.example.net"
ADDRESSES = Answer(IPv4Address("100.64.0.9"), IPv6Address("fd12:3456::9"))
GUARD_S = 60
OWN = "ntm.example.org"
LAPTOP = f"laptop.alice.{OWN}"


async def test_an_answer_with_data_passes_byte_for_byte(resolver: "Resolver") -> None:
    async with world(resolver) as w:
        w.resolver.records["www.example.com."] = "A 192.0.2.80"
        query = dns.message.make_query("wWw.Example.com.", "A", use_edns=0, payload=4096)

        answer = await raw(w.stub.endpoints[0], query.to_wire())

        assert answer == w.resolver.sent[-1]
        assert w.resolver.seen == [query.to_wire()]
        assert w.asked == []


@pytest.mark.parametrize(("kind", "address"), [("A", "100.64.0.9"), ("AAAA", "fd12:3456::9")])
async def test_a_name_that_dns_denies_in_an_ntmobile_zone_is_resolved(
    resolver: "Resolver", kind: str, address: str
) -> None:
    async with world(resolver) as w:
        w.resolver.zone("ntm.example.net.", ntm=True)

        assert await w.look_up(PC, kind) == [address]
        assert w.asked == [PC]


async def test_a_zone_is_asked_about_once_and_then_its_names_stay_here(
    resolver: "Resolver",
) -> None:
    async with world(resolver) as w:
        w.resolver.zone("ntm.example.net.", ntm=True)
        await w.look_up(PC)
        before = len(w.resolver.seen)

        await w.look_up("tv.carol.ntm.example.net")

        assert w.resolver.names() == [f"{PC}.", "_ntm._udp.ntm.example.net."]
        assert len(w.resolver.seen) == before


async def test_a_denied_name_of_an_ordinary_zone_stays_denied(resolver: "Resolver") -> None:
    async with world(resolver) as w:
        w.resolver.zone("example.com.", ntm=False)

        first = await w.ask("x.y.example.com", "A")
        second = await w.ask("z.y.example.com", "A")

        assert first.rcode() == second.rcode() == dns.rcode.NXDOMAIN
        assert w.resolver.names().count("_ntm._udp.example.com.") == 1
        assert w.asked == []


async def test_a_name_with_too_few_labels_to_be_a_node_costs_no_further_query(
    resolver: "Resolver",
) -> None:
    async with world(resolver) as w:
        w.resolver.zone("example.com.", ntm=False)

        await w.ask("www.example.com", "AAAA")

        assert w.resolver.names() == ["www.example.com."]


async def test_a_name_of_the_own_domain_never_reaches_a_resolver(resolver: "Resolver") -> None:
    async with world(resolver) as w:
        assert await w.look_up(LAPTOP) == ["100.64.0.9"]
        assert w.resolver.seen == []


@pytest.mark.parametrize("name", [OWN, f"dc.{OWN}", f"_ntm._udp.{OWN}", f"_ntm-as._tcp.{OWN}"])
async def test_the_servers_of_the_own_domain_are_found_in_ordinary_dns(
    resolver: "Resolver", name: str
) -> None:
    async with world(resolver) as w:
        await w.ask(name, "A")

        assert w.resolver.names() == [f"{name}."]
        assert w.asked == []


async def test_both_families_of_a_name_share_one_negotiation(resolver: "Resolver") -> None:
    async with world(resolver) as w:
        w.hold.clear()
        both = asyncio.gather(w.look_up(LAPTOP, "A"), w.look_up(LAPTOP, "AAAA"))
        await w.until(lambda: w.stub.counters["hooked"] == 2)
        w.hold.set()

        assert list(await both) == [["100.64.0.9"], ["fd12:3456::9"]]
        assert w.asked == [LAPTOP]


async def test_a_refused_name_does_not_exist(resolver: "Resolver") -> None:
    async with world(resolver, outcome=Refused()) as w:
        assert (await w.ask(LAPTOP, "A")).rcode() == dns.rcode.NXDOMAIN


async def test_an_undecided_name_is_a_server_failure(
    resolver: "Resolver", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_stub_nodes, "UNDECIDED_S", 0.01)
    async with world(resolver) as w:
        w.hold.clear()

        assert (await w.ask(LAPTOP, "A")).rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize("kind", ["HTTPS", "MX", "TXT", "SRV"])
async def test_other_types_of_a_node_have_no_data(resolver: "Resolver", kind: str) -> None:
    async with world(resolver) as w:
        answer = await w.ask(LAPTOP, kind)

        assert (answer.rcode(), answer.answer) == (dns.rcode.NOERROR, [])
        assert not w.asked
        assert not w.resolver.seen


async def test_a_short_name_is_found_below_the_own_user(resolver: "Resolver") -> None:
    async with world(resolver) as w:
        answer = await w.ask("laptop", "A")

        assert [r.to_text() for r in answer.answer] == [
            f"laptop. 30 IN CNAME {LAPTOP}.",
            f"{LAPTOP}. 30 IN A 100.64.0.9",
        ]


async def test_a_short_name_that_the_resolver_knows_is_the_resolvers(resolver: "Resolver") -> None:
    async with world(resolver) as w:
        w.resolver.records["printer."] = "A 192.0.2.60"

        assert await w.look_up("printer") == ["192.0.2.60"]
        assert w.asked == []


async def test_a_name_and_its_user_are_found_below_the_own_domain(resolver: "Resolver") -> None:
    async with world(resolver) as w:
        answer = await w.ask("laptop.alice", "A")

        assert [r.to_text() for r in answer.answer] == [
            f"laptop.alice. 30 IN CNAME {LAPTOP}.",
            f"{LAPTOP}. 30 IN A 100.64.0.9",
        ]


@pytest.mark.parametrize("zone", ["alice.", "laptop.alice."])
async def test_a_top_level_domain_goes_before_a_user(resolver: "Resolver", zone: str) -> None:
    async with world(resolver) as w:
        w.resolver.zone(zone, ntm=False)

        assert (await w.ask("laptop.alice", "A")).rcode() == dns.rcode.NXDOMAIN
        assert w.asked == []


async def test_a_virtual_address_has_the_peers_name(resolver: "Resolver") -> None:
    async with world(resolver) as w:
        answer = await w.ask("9.0.64.100.in-addr.arpa", "PTR")

        assert answer.answer[0][0].to_text() == f"{PC}."
        assert w.resolver.seen == []


async def test_a_virtual_address_without_a_peer_has_no_name(resolver: "Resolver") -> None:
    async with world(resolver) as w:
        assert (await w.ask("8.0.64.100.in-addr.arpa", "PTR")).rcode() == dns.rcode.NXDOMAIN
        assert w.resolver.seen == []


async def test_a_real_address_is_the_resolvers_to_name(resolver: "Resolver") -> None:
    async with world(resolver) as w:
        w.resolver.records["7.2.0.192.in-addr.arpa."] = "PTR host.example.com."

        answer = await w.ask("7.2.0.192.in-addr.arpa", "PTR")

        assert answer.answer[0][0].to_text() == "host.example.com."


async def test_tcp_is_served_and_forwarded_over_tcp(resolver: "Resolver") -> None:
    async with world(resolver) as w:
        w.resolver.records["www.example.com."] = "A 192.0.2.80"
        here = w.stub.endpoints[0]

        for name, address in (("www.example.com", "192.0.2.80"), (LAPTOP, "100.64.0.9")):
            query = dns.message.make_query(name, "A")
            answer = await dns.asyncquery.tcp(
                query, str(here.host), port=here.port, timeout=GUARD_S
            )
            assert answer.answer[0][0].to_text() == address
        assert w.resolver.over_tcp == 1


async def test_a_repeated_query_is_answered_once(resolver: "Resolver") -> None:
    async with world(resolver) as w:
        w.hold.clear()
        query = dns.message.make_query(LAPTOP, "A").to_wire()
        here = w.stub.endpoints[0]
        with client(here) as sock:
            for _ in range(3):
                await asyncio.get_running_loop().sock_sendall(sock, query)
            await w.until(lambda: w.stub.counters["repeated"] == 2)
            w.hold.set()
            await asyncio.get_running_loop().sock_recv(sock, 4096)

            marker = dns.message.make_query("9.0.64.100.in-addr.arpa", "PTR").to_wire()
            await asyncio.get_running_loop().sock_sendall(sock, marker)
            assert (await asyncio.get_running_loop().sock_recv(sock, 4096))[:2] == marker[:2]


async def test_a_dead_resolver_is_passed_over_for_the_next(resolver: "Resolver") -> None:
    dead = Endpoint("127.0.0.1", *free_ports(1))
    async with world(resolver, before=(dead,)) as w:
        w.resolver.records["www.example.com."] = "A 192.0.2.80"

        assert await w.look_up("www.example.com") == ["192.0.2.80"]


async def test_a_failing_resolver_is_asked_once_and_its_failure_passed_on(
    resolver: "Resolver",
) -> None:
    async with world(resolver) as w:
        w.resolver.failing = True

        assert (await w.ask("www.example.com", "A")).rcode() == dns.rcode.SERVFAIL
        assert len(w.resolver.seen) == 1


async def test_without_any_resolver_the_failure_is_immediate(resolver: "Resolver") -> None:
    async with world(resolver, servers=()) as w:
        assert (await w.ask("www.example.com", "A")).rcode() == dns.rcode.SERVFAIL


async def test_a_message_the_stub_does_not_understand_still_passes(resolver: "Resolver") -> None:
    async with world(resolver) as w:
        update = dns.message.make_query("example.com", "SOA")
        update.set_opcode(dns.opcode.NOTIFY)

        await raw(w.stub.endpoints[0], update.to_wire())

        assert w.resolver.seen == [update.to_wire()]


async def test_the_answer_carries_edns_when_the_query_did(resolver: "Resolver") -> None:
    async with world(resolver) as w:
        here = w.stub.endpoints[0]
        for edns in (-1, 0):
            query = dns.message.make_query(LAPTOP, "A", use_edns=edns)
            answer = dns.message.from_wire(await raw(here, query.to_wire()))
            assert answer.edns == edns
            assert answer.flags & dns.flags.RA


async def test_a_stub_written_into_resolv_conf_does_not_ask_itself(resolver: "Resolver") -> None:
    async with world(resolver, servers=()) as w:
        w.servers = w.stub.endpoints

        assert (await w.ask("www.example.com", "A")).rcode() == dns.rcode.SERVFAIL
        assert w.stub.counters["forwarded"] == 1


async def test_two_stubs_run_side_by_side(resolver: "Resolver") -> None:
    async with world(resolver) as one, world(resolver, outcome=Refused()) as other:
        assert await one.look_up(LAPTOP) == ["100.64.0.9"]
        assert (await other.ask(LAPTOP, "A")).rcode() == dns.rcode.NXDOMAIN


class World:
    """A stub, the resolver behind it, and a node's machine that answers as told."""

    def __init__(self, resolver: "Resolver", outcome: Answer | Refused) -> None:
        self.resolver = resolver
        self.servers: tuple[Endpoint, ...] = ()
        self.asked: list[str] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self._outcome = outcome
        self.stub = DnsStub(
            self._resolve,
            self._reverse,
            lambda: self.servers,
            own_zones=[OWN],
            search=[f"alice.{OWN}", OWN],
        )

    async def _resolve(self, fqdn: str) -> Answer | Refused:
        self.asked.append(fqdn)
        await self.hold.wait()
        return self._outcome

    def _reverse(self, address: IPv4Address | IPv6Address) -> str | Refused | None:
        if address == ADDRESSES.ipv4:
            return PC
        return Refused() if str(address).startswith("100.64.") else None

    async def ask(self, name: str, kind: str) -> Message:
        query = dns.message.make_query(f"{name}.", kind)
        return dns.message.from_wire(await raw(self.stub.endpoints[0], query.to_wire()))

    async def look_up(self, name: str, kind: str = "A") -> list[str]:
        answer = await self.ask(name, kind)
        return [each.to_text() for rrset in answer.answer for each in rrset]

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(GUARD_S):
            while not reached():  # noqa: ASYNC110
                await asyncio.sleep(0)


@asynccontextmanager
async def world(
    resolver: "Resolver",
    *,
    outcome: Answer | Refused = ADDRESSES,
    before: tuple[Endpoint, ...] = (),
    servers: tuple[Endpoint, ...] | None = None,
) -> AsyncIterator[World]:
    endpoint = await resolver.open()
    made = World(resolver, outcome)
    made.servers = (*before, endpoint) if servers is None else servers
    async with made.stub:
        yield made


def client(here: Endpoint) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.connect((str(here.host), here.port))
    return sock


async def raw(here: Endpoint, wire: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with client(here) as sock:
        async with asyncio.timeout(GUARD_S):
            await loop.sock_sendall(sock, wire)
            return await loop.sock_recv(sock, 65535)
