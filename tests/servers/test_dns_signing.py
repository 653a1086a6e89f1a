from ipaddress import ip_address

import dns.dnssec
import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.RRSIG import RRSIG
from hypothesis import given, settings
from hypothesis import strategies as st

from ntmobile.servers.dns import UDP_SIZE, Responder
from ntmobile.servers.dns_signing import MAX_SIGNATURES, RENEW_S, VALID_S, ZoneSigner
from ntmobile.servers.dns_zone import Services, Zone, read_extra

DOMAIN = "ntm.example.org"
ORIGIN = dns.name.from_text(DOMAIN)
NOW_S = 1_800_000_000
ASKER = "198.51.100.7"
SERVICES = Services(
    domain=DOMAIN,
    domain_key=bytes(32),
    hosts=(("dc", (ip_address("203.0.113.10"), ip_address("2001:db8::10"))),),
    udp=4330,
    dc_https=443,
    as_https=443,
    serial=7,
)
DIGEST = "ab" * 32
EXTRA = f"""
www 300 IN CNAME dc
away 300 IN CNAME www.example.net.
there 300 IN CNAME host.sub
sub 300 IN NS ns.sub
ns.sub 300 IN A 203.0.113.53
own 300 IN NS own
own 300 IN A 203.0.113.53
signed 300 IN NS ns.signed
signed 300 IN DS 1 13 2 {DIGEST}
"""
SIGNER = ZoneSigner(DOMAIN, ec.derive_private_key(7, ec.SECP256R1()))


@pytest.fixture
def responder() -> Responder:
    return Responder(Zone(SERVICES, read_extra(EXTRA, DOMAIN), fresh_signer()), secret=bytes(32))


def fresh_signer() -> ZoneSigner:
    return ZoneSigner(DOMAIN, ec.derive_private_key(7, ec.SECP256R1()))


def ask(
    responder: Responder, name: str, kind: str, *, now_s: int = NOW_S, signed: bool = True
) -> dns.message.Message:
    query = dns.message.make_query(f"{name}.", kind, use_edns=0, want_dnssec=signed)
    answered = responder.respond(query.to_wire(), ASKER, now_s, stream=False)
    assert answered is not None
    reply = dns.message.from_wire(answered.wire)
    assert bool(reply.ednsflags & dns.flags.DO) is signed
    return reply


def records(section: list[dns.rrset.RRset]) -> list[tuple[str, str]]:
    """Name below the zone and type, signatures apart."""
    return [
        (rrset.name.relativize(ORIGIN).to_text(), rrset.rdtype.name)
        for rrset in section
        if rrset.rdtype != RdataType.RRSIG
    ]


def signatures(section: list[dns.rrset.RRset]) -> list[RRSIG]:
    return [each for rrset in section for each in rrset if isinstance(each, RRSIG)]


def validate(reply: dns.message.Message, now_s: int = NOW_S) -> None:
    """All records have a good signature; but not a delegation, which nobody signs here."""
    keys = {ORIGIN: dns.rdataset.from_rdata_list(0, list(SIGNER.dnskey))}
    for section in (reply.answer, reply.authority):
        found = {(each.name, each.covers): each for each in section}
        for rrset in section:
            if rrset.rdtype == RdataType.RRSIG:
                continue
            signature = found.get((rrset.name, rrset.rdtype))
            if rrset.rdtype == RdataType.NS and rrset.name != ORIGIN:
                assert signature is None
                continue
            assert signature is not None, rrset
            dns.dnssec.validate(rrset, signature, keys, now=now_s)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "kind", "answer", "authority"),
    [
        ("@", "SOA", [("@", "SOA")], []),
        ("@", "NS", [("@", "NS")], []),
        ("@", "DNSKEY", [("@", "DNSKEY")], []),
        ("_ntm", "TXT", [("_ntm", "TXT")], []),
        ("_ntm", "ANY", [("_ntm", "HINFO")], []),
        ("_ntm", "NSEC", [("_ntm", "NSEC")], []),
        ("www", "AAAA", [("www", "CNAME"), ("dc", "AAAA")], []),
        ("www", "MX", [("www", "CNAME")], [("@", "SOA"), ("dc", "NSEC")]),
        ("away", "A", [("away", "CNAME")], []),
        ("there", "A", [("there", "CNAME")], []),
        ("@", "MX", [], [("@", "SOA"), ("@", "NSEC")]),
        ("pc.alice", "A", [], [("@", "SOA"), ("pc.alice", "NSEC")]),
        ("host.sub", "A", [], [("sub", "NS"), ("sub", "NSEC")]),
        ("sub", "DS", [], [("@", "SOA"), ("sub", "NSEC")]),
        ("host.signed", "A", [], [("signed", "NS"), ("signed", "DS")]),
        ("signed", "DS", [("signed", "DS")], []),
    ],
)
def test_whoever_asks_for_signatures_gets_them_with_every_proof(
    responder: Responder,
    name: str,
    kind: str,
    answer: list[tuple[str, str]],
    authority: list[tuple[str, str]],
) -> None:
    reply = ask(responder, DOMAIN if name == "@" else f"{name}.{DOMAIN}", kind)

    assert (records(reply.answer), records(reply.authority)) == (answer, authority)
    validate(reply)


@pytest.mark.parametrize("name", ["_ntm", "pc.alice", "host.signed", "host.sub"])
def test_whoever_does_not_ask_gets_neither_signatures_nor_proofs(
    responder: Responder, name: str
) -> None:
    reply = ask(responder, f"{name}.{DOMAIN}", "TXT", signed=False)

    kinds = {rrset.rdtype for rrset in (*reply.answer, *reply.authority)}
    assert not kinds & {RdataType.RRSIG, RdataType.NSEC, RdataType.DS}


def test_a_zone_without_a_key_answers_as_before() -> None:
    reply = ask(Responder(Zone(SERVICES), secret=bytes(32)), f"pc.alice.{DOMAIN}", "A")

    assert records(reply.authority) == [("@", "SOA")]
    assert signatures(reply.authority) == []


@pytest.mark.parametrize(
    ("name", "kind", "types"),
    [
        (DOMAIN, "MX", "NS SOA RRSIG NSEC DNSKEY"),
        (f"dc.{DOMAIN}", "MX", "A AAAA RRSIG NSEC"),
        (f"sub.{DOMAIN}", "DS", "NS RRSIG NSEC"),
        (f"own.{DOMAIN}", "DS", "NS RRSIG NSEC"),
        (f"pc.alice.{DOMAIN}", "A", "RRSIG NSEC"),
        (f"nobody.{DOMAIN}", "A", "RRSIG NSEC"),
        (f"_udp.{DOMAIN}", "A", "RRSIG NSEC"),
    ],
)
def test_a_proof_is_of_that_name_only_and_tells_its_types(
    responder: Responder, name: str, kind: str, types: str
) -> None:
    [proof] = [each for each in ask(responder, name, kind).authority if each.rdtype == 47]

    assert proof.to_text() == f"{name}. 60 IN NSEC \\000.{name}. {types}"


def test_a_signature_serves_until_it_is_due_and_never_expires(responder: Responder) -> None:
    made = [
        signatures(ask(responder, DOMAIN, "SOA", now_s=NOW_S + after_s).answer)[0]
        for after_s in (0, RENEW_S - 1, RENEW_S)
    ]

    assert made[0] == made[1] != made[2]
    assert made[0].expiration == NOW_S + VALID_S
    validate(ask(responder, DOMAIN, "SOA", now_s=NOW_S + 50 * VALID_S), NOW_S + 50 * VALID_S)


def test_a_clock_that_was_set_back_makes_signatures_that_are_valid_now(
    responder: Responder,
) -> None:
    ask(responder, DOMAIN, "SOA")

    validate(ask(responder, DOMAIN, "SOA", now_s=NOW_S - VALID_S), NOW_S - VALID_S)


def test_ever_new_names_cannot_make_the_server_remember_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert MAX_SIGNATURES >= 1000
    monkeypatch.setattr("ntmobile.servers.dns_signing.MAX_SIGNATURES", 20)
    signer = fresh_signer()
    responder = Responder(Zone(SERVICES, (), signer), secret=bytes(32))

    for number in range(100):
        validate(ask(responder, f"n{number}.{DOMAIN}", "A"))

    assert signer.kept == 20


@pytest.mark.parametrize(("size", "proven"), [(253, True), (254, False), (255, False)])
def test_the_longest_names_are_answered_and_proven_while_another_can_follow(
    responder: Responder, size: int, proven: bool
) -> None:
    labels = []
    left = size - len(ORIGIN.to_wire())
    while left:
        labels.append(b"x" * (min(left, 60) - 1))
        left -= min(left, 60)
    name = dns.name.Name([*labels, *ORIGIN.labels])

    reply = ask(responder, name.to_text(omit_final_dot=True), "A")

    assert len(name.to_wire()) == size
    assert any(rrset.rdtype == RdataType.NSEC for rrset in reply.authority) is proven
    validate(reply)


@settings(deadline=None)
@given(labels=st.lists(st.binary(min_size=1, max_size=63), min_size=1, max_size=4))
def test_whatever_name_is_asked_its_denial_is_valid_and_fits(labels: list[bytes]) -> None:
    name = dns.name.Name((*labels, *ORIGIN.labels)) if sum(map(len, labels)) < 200 else ORIGIN
    responder = Responder(Zone(SERVICES, (), fresh_signer()), secret=bytes(32))
    query = dns.message.make_query(name, "MX", use_edns=0, want_dnssec=True)

    answered = responder.respond(query.to_wire(), ASKER, NOW_S, stream=False)

    assert answered is not None
    assert len(answered.wire) <= UDP_SIZE
    reply = dns.message.from_wire(answered.wire)
    assert not reply.flags & dns.flags.TC
    assert any(rrset.rdtype == RdataType.NSEC for rrset in reply.authority)
    validate(reply)


def test_the_digest_for_the_zone_above_is_that_of_the_key() -> None:
    [key] = SIGNER.dnskey

    assert SIGNER.ds == f"DS {dns.dnssec.make_ds(ORIGIN, key, 'SHA256').to_text()}"


def test_a_checking_disabled_bit_comes_back(responder: Responder) -> None:
    query = dns.message.make_query(DOMAIN, "SOA", want_dnssec=True)
    query.flags |= dns.flags.CD

    answered = responder.respond(query.to_wire(), ASKER, NOW_S, stream=False)

    assert answered is not None
    assert dns.message.from_wire(answered.wire).flags & dns.flags.CD
