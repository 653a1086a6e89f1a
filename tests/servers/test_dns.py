from ipaddress import ip_address

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.errors import Remedy
from ntmobile.servers.dns import PLAIN_SIZE, UDP_SIZE, Responder
from ntmobile.servers.dns_zone import Services, Zone, read_extra

DOMAIN = "ntm.example.org"
ASKER = "198.51.100.7"
NOW_S = 1_800_000_000
SERVICES = Services(
    domain=DOMAIN,
    domain_key=bytes(32),
    hosts=(
        ("dc", (ip_address("203.0.113.10"), ip_address("2001:db8::10"))),
        ("as", (ip_address("203.0.113.10"),)),
        ("rs", (ip_address("203.0.113.20"),)),
    ),
    udp=4330,
    dc_https=443,
    as_https=8443,
    serial=7,
)
EXTRA = """
@ 300 IN MX 10 mail
mail 300 IN A 203.0.113.25
www 300 IN CNAME mail
away 300 IN CNAME www.example.net.
sub 300 IN NS ns.sub
ns.sub 300 IN A 203.0.113.53
@ 300 IN SOA other other 1 1 1 1 1
"""


@pytest.fixture
def responder() -> Responder:
    return Responder(Zone(SERVICES), secret=bytes(32))


@pytest.fixture
def whole() -> Responder:
    return Responder(Zone(SERVICES, read_extra(EXTRA, DOMAIN)), secret=bytes(32))


def ask(
    responder: Responder,
    name: str,
    kind: str,
    *,
    source: str = ASKER,
    now_s: int = NOW_S,
    stream: bool = False,
    options: list[dns.edns.Option] | None = None,
) -> dns.message.Message:
    query = dns.message.make_query(f"{name}.", kind, use_edns=0, options=options)
    answered = responder.respond(query.to_wire(), source, now_s, stream=stream)
    assert answered is not None
    reply = dns.message.from_wire(answered.wire)
    assert query.is_response(reply)
    return reply


def lines(section: list[dns.rrset.RRset]) -> list[str]:
    return sorted(line for rrset in section for line in rrset.to_text().splitlines())


def test_the_ns_record_of_the_zone_names_the_dc_with_its_addresses(responder: Responder) -> None:
    reply = ask(responder, DOMAIN, "NS")

    assert lines(reply.answer) == [f"{DOMAIN}. 3600 IN NS dc.{DOMAIN}."]
    assert lines(reply.additional) == [
        f"dc.{DOMAIN}. 300 IN A 203.0.113.10",
        f"dc.{DOMAIN}. 300 IN AAAA 2001:db8::10",
    ]
    assert reply.flags & dns.flags.AA


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("_ntm._udp", f"0 0 4330 dc.{DOMAIN}."),
        ("_ntm-dc._tcp", f"0 0 443 dc.{DOMAIN}."),
        ("_ntm-as._tcp", f"0 0 8443 as.{DOMAIN}."),
    ],
)
def test_services_say_where_the_servers_are(responder: Responder, name: str, target: str) -> None:
    reply = ask(responder, f"{name}.{DOMAIN}", "SRV")

    assert lines(reply.answer) == [f"{name}.{DOMAIN}. 300 IN SRV {target}"]


def test_the_domain_key_is_published_by_its_fingerprint(responder: Responder) -> None:
    [line] = lines(ask(responder, f"_ntm.{DOMAIN}", "TXT").answer)

    assert '"v=ntm1 key=SHA256:66687aadf862bd776c8fc18b8e9f8e20' in line


@pytest.mark.parametrize("kind", ["A", "AAAA", "TXT", "NS", "SRV"])
def test_every_name_that_is_no_server_gets_the_same_nodata(responder: Responder, kind: str) -> None:
    replies = [
        ask(responder, name, kind)
        for name in (f"pc.alice.{DOMAIN}", f"nobody.{DOMAIN}", f"a.b.c.{DOMAIN}")
    ]

    for reply in replies:
        assert reply.rcode() == dns.rcode.NOERROR
        assert reply.answer == []
        [soa] = reply.authority
        assert soa.name.to_text() == f"{DOMAIN}."
        assert soa.rdtype == dns.rdatatype.SOA


def test_case_does_not_matter_and_comes_back_as_asked(responder: Responder) -> None:
    reply = ask(responder, "_NTM._uDp.nTm.ExAmPlE.oRg", "SRV")

    assert len(reply.answer) == 1
    assert reply.question[0].name.to_text() == "_NTM._uDp.nTm.ExAmPlE.oRg."


def test_any_gets_one_minimal_record_for_every_name(responder: Responder) -> None:
    for name in (DOMAIN, f"pc.alice.{DOMAIN}"):
        [line] = lines(ask(responder, name, "ANY").answer)
        assert line == f'{name}. 3600 IN HINFO "RFC8482" ""'


@pytest.mark.parametrize("kind", ["AXFR", "IXFR"])
def test_transfers_are_refused_over_tcp_too(responder: Responder, kind: str) -> None:
    query = dns.message.make_query(f"{DOMAIN}.", kind)

    answered = responder.respond(query.to_wire(), ASKER, NOW_S, stream=True)

    assert answered is not None
    assert answered.kind == "REFUSED"


@pytest.mark.parametrize("name", ["example.org", "ntm.example.net", "xntm.example.org", ""])
def test_names_outside_the_zone_are_refused(responder: Responder, name: str) -> None:
    reply = ask(responder, name, "A")

    assert reply.rcode() == dns.rcode.REFUSED
    assert reply.answer == []


def test_another_class_is_refused(responder: Responder) -> None:
    query = dns.message.make_query(f"{DOMAIN}.", "TXT", rdclass=dns.rdataclass.CH)

    answered = responder.respond(query.to_wire(), ASKER, NOW_S, stream=False)

    assert answered is not None
    assert answered.kind == "REFUSED"


def test_an_update_is_not_implemented(responder: Responder) -> None:
    query = dns.message.make_query(f"{DOMAIN}.", "SOA")
    query.set_opcode(dns.opcode.NOTIFY)

    answered = responder.respond(query.to_wire(), ASKER, NOW_S, stream=False)

    assert answered is not None
    assert answered.kind == "NOTIMP"


def test_an_unknown_edns_version_is_answered_with_ours(responder: Responder) -> None:
    query = dns.message.make_query(f"{DOMAIN}.", "SOA", use_edns=1)

    answered = responder.respond(query.to_wire(), ASKER, NOW_S, stream=False)

    assert answered is not None
    reply = dns.message.from_wire(answered.wire)
    assert reply.rcode() == dns.rcode.BADVERS
    assert reply.edns == 0


def test_a_cookie_is_given_and_proves_its_holder_from_the_same_address_only(
    responder: Responder,
) -> None:
    asked = dns.edns.CookieOption(b"client__", b"")
    [given_back] = ask(responder, DOMAIN, "SOA", options=[asked]).options
    assert isinstance(given_back, dns.edns.CookieOption)
    query = dns.message.make_query(f"{DOMAIN}.", "SOA", use_edns=0, options=[given_back])

    def proven(source: str, now_s: int) -> bool:
        answered = responder.respond(query.to_wire(), source, now_s, stream=False)
        return answered is not None and answered.proven

    assert given_back.client == b"client__"
    assert proven(ASKER, NOW_S + 60)
    assert not proven("198.51.100.8", NOW_S + 60)
    assert not proven(ASKER, NOW_S + 7200)


def test_a_long_answer_is_cut_over_udp_and_whole_over_tcp() -> None:
    text = "\n".join(f'@ 300 IN TXT "{n:0>200}"' for n in range(20))
    responder = Responder(Zone(SERVICES, read_extra(text, DOMAIN)), secret=bytes(32))

    over_udp = ask(responder, DOMAIN, "TXT")
    over_tcp = ask(responder, DOMAIN, "TXT", stream=True)

    assert over_udp.flags & dns.flags.TC
    assert len(over_udp.to_wire()) <= UDP_SIZE
    assert not over_tcp.flags & dns.flags.TC
    assert len(over_tcp.answer[0]) == 20


def test_without_edns_no_udp_answer_exceeds_512_bytes() -> None:
    text = "\n".join(f'@ 300 IN TXT "{n:0>200}"' for n in range(20))
    responder = Responder(Zone(SERVICES, read_extra(text, DOMAIN)), secret=bytes(32))
    query = dns.message.make_query(f"{DOMAIN}.", "TXT")

    answered = responder.respond(query.to_wire(), ASKER, NOW_S, stream=False)

    assert answered is not None
    assert len(answered.wire) <= PLAIN_SIZE


def test_the_zone_file_adds_records_and_replaces_none_of_ours(whole: Responder) -> None:
    assert lines(ask(whole, DOMAIN, "MX").answer) == [f"{DOMAIN}. 300 IN MX 10 mail.{DOMAIN}."]
    [soa] = lines(ask(whole, DOMAIN, "SOA").answer)
    assert f"dc.{DOMAIN}." in soa


def test_an_alias_is_followed_inside_the_zone_only(whole: Responder) -> None:
    inside = lines(ask(whole, f"www.{DOMAIN}", "A").answer)
    outside = ask(whole, f"away.{DOMAIN}", "A")

    assert inside == [
        f"mail.{DOMAIN}. 300 IN A 203.0.113.25",
        f"www.{DOMAIN}. 300 IN CNAME mail.{DOMAIN}.",
    ]
    assert lines(outside.answer) == [f"away.{DOMAIN}. 300 IN CNAME www.example.net."]


def test_a_delegation_refers_to_its_servers(whole: Responder) -> None:
    reply = ask(whole, f"host.sub.{DOMAIN}", "A")

    assert not reply.flags & dns.flags.AA
    assert lines(reply.authority) == [f"sub.{DOMAIN}. 300 IN NS ns.sub.{DOMAIN}."]
    assert lines(reply.additional) == [f"ns.sub.{DOMAIN}. 300 IN A 203.0.113.53"]


def test_a_wrong_zone_file_says_what_is_wrong() -> None:
    with pytest.raises(Remedy, match="in line 2"):
        read_extra("@ IN A 192.0.2.1\n@ IN A not-an-address", DOMAIN)


def test_the_zone_file_cannot_speak_for_other_zones() -> None:
    assert read_extra("www.example.net. 300 IN A 192.0.2.1", DOMAIN) == ()


@given(st.binary(max_size=600))
def test_garbage_is_dropped_or_answered_and_never_raises(data: bytes) -> None:
    check_any_answer(data)


@given(
    name=st.sampled_from([DOMAIN, f"pc.{DOMAIN}", f"_ntm._udp.{DOMAIN}", "."]),
    kind=st.integers(0, 0xFFFF),
    edits=st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=6),
)
def test_mangled_questions_never_raise(name: str, kind: int, edits: list[tuple[int, int]]) -> None:
    cookie = dns.edns.CookieOption(b"client__", bytes(16))
    query = dns.message.make_query(name, dns.rdatatype.RdataType.make(kind), options=[cookie])
    data = bytearray(query.to_wire())
    for place, value in edits:
        data[place % len(data)] = value
    check_any_answer(bytes(data))


def check_any_answer(data: bytes) -> None:
    responder = Responder(Zone(SERVICES), secret=bytes(32))
    responder.truncated(data)
    for stream in (False, True):
        answered = responder.respond(data, ASKER, NOW_S, stream=stream)
        if answered is not None:
            assert answered.wire[2] & 0x80
            assert stream or len(answered.wire) <= UDP_SIZE
