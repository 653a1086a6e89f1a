import asyncio

import dns.message
import dns.rcode
import dns.rrset
import pytest

from ntmobile.agent.dns_stub_messages import Negative
from ntmobile.agent.dns_stub_zones import LONGEST_DENIAL_S, SHORTEST_S, NtmZones

ZONE = "ntm.example.net"
PC = f"pc.bob.{ZONE}"
NODATA = Negative(ZONE, ttl_s=300)


async def test_a_zone_with_the_srv_record_is_an_ntmobile_zone_until_its_ttl_ends() -> None:
    dns_ = Dns({ZONE: 600})
    zones = dns_.zones()

    assert await zones.learn(PC, NODATA)
    dns_.now_s = 599
    assert await zones.is_node(PC)
    assert dns_.asked == [ZONE]


async def test_a_name_in_a_zone_once_known_waits_for_the_zone_to_be_asked_about_again() -> None:
    dns_ = Dns({ZONE: 600})
    zones = dns_.zones()
    await zones.learn(PC, NODATA)
    dns_.now_s = 601

    assert await zones.is_node(PC)
    assert dns_.asked == [ZONE, ZONE]


async def test_a_zone_that_stopped_being_ntmobiles_is_ordinary_again() -> None:
    dns_ = Dns({ZONE: 600})
    zones = dns_.zones()
    await zones.learn(PC, NODATA)
    dns_.srv.clear()
    dns_.now_s = 601

    assert not await zones.is_node(PC)


async def test_a_known_zone_stays_known_while_no_resolver_answers() -> None:
    dns_ = Dns({ZONE: 600})
    zones = dns_.zones()
    await zones.learn(PC, NODATA)
    dns_.silent = True
    dns_.now_s = 601

    assert await zones.is_node(PC)


async def test_a_denial_is_kept_for_an_hour_at_most() -> None:
    dns_ = Dns({}, denial_s=86_400)
    zones = dns_.zones()
    for now_s in (0, LONGEST_DENIAL_S - 1, LONGEST_DENIAL_S + 1):
        dns_.now_s = now_s
        assert not await zones.learn(PC, NODATA)

    assert dns_.asked == [ZONE, ZONE]


async def test_a_ttl_of_zero_does_not_make_every_query_ask() -> None:
    dns_ = Dns({ZONE: 0})
    zones = dns_.zones()
    await zones.learn(PC, NODATA)
    dns_.now_s = SHORTEST_S - 1
    await zones.is_node(PC)

    assert dns_.asked == [ZONE]


async def test_side_by_side_queries_ask_about_a_zone_once() -> None:
    dns_ = Dns({ZONE: 600})
    zones = dns_.zones()

    assert await asyncio.gather(*(zones.learn(PC, NODATA) for _ in range(5))) == [True] * 5
    assert dns_.asked == [ZONE]


async def test_without_a_soa_the_zone_is_what_follows_name_and_user() -> None:
    dns_ = Dns({ZONE: 600})

    assert await dns_.zones().learn(PC, Negative(None, ttl_s=60))


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("www.example.com", "example.com"),
        ("example.com", "example.com"),
        ("_sip._udp.example.com", "example.com"),
        ("a.b.com", "com"),
        ("a.b.c", ""),
        ("a.b.example.com", "other.example"),
        ("localhost", None),
    ],
)
async def test_what_cannot_be_a_node_by_its_form_is_not_asked_about(
    name: str, zone: str | None
) -> None:
    dns_ = Dns({"example.com": 600, "com": 600})

    assert not await dns_.zones().learn(name, Negative(zone, ttl_s=60))
    assert dns_.asked == []


async def test_an_own_domain_is_known_however_it_is_written() -> None:
    zones = NtmZones(Dns({}).ask, lambda: 0.0, own=["NTM.example.org"])

    assert zones.known == ("ntm.example.org",)
    assert await zones.is_node("laptop.alice.ntm.example.org")


async def test_domains_of_peers_met_before_are_known_at_once() -> None:
    dns_ = Dns({})
    zones = NtmZones(dns_.ask, lambda: 0.0, known=[ZONE])

    assert await zones.is_node(PC)
    assert dns_.asked == []


class Dns:
    """Answers SRV queries as an ordinary resolver would."""

    def __init__(self, srv: dict[str, int], denial_s: int = 300) -> None:
        self.srv = srv
        self.silent = False
        self.now_s = 0.0
        self.asked: list[str] = []
        self._denial_s = denial_s

    def zones(self) -> NtmZones:
        return NtmZones(self.ask, lambda: self.now_s)

    async def ask(self, wire: bytes) -> bytes | None:
        await asyncio.sleep(0)
        query = dns.message.from_wire(wire)
        owner = query.question[0].name
        zone = owner.to_text().removeprefix("_ntm._udp.").rstrip(".")
        self.asked.append(zone)
        if self.silent:
            return None
        response = dns.message.make_response(query)
        if zone in self.srv:
            record = f"0 0 4330 dc.{zone}."
            response.answer.append(dns.rrset.from_text(owner, self.srv[zone], "IN", "SRV", record))
        else:
            response.set_rcode(dns.rcode.NXDOMAIN)
            soa = f"ns.{zone}. root.{zone}. 1 3600 600 86400 {self._denial_s}"
            response.authority.append(
                dns.rrset.from_text(f"{zone}.", self._denial_s, "IN", "SOA", soa)
            )
        return response.to_wire()
