"""The validator against zones that BIND's tools signed, and our zone against BIND's validator.

One BIND on loopback serves the root, org, net and example.org, and hands what lies below
example.org to our own server; it validates nothing itself.
"""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from threading import Event

import dns.message
import dns.name
import dns.rdataset
import dns.rdatatype
import dns.rrset
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from dns.rdatatype import RdataType
from tests.ports import free_ports

from ntmobile.runtime.clock import Clock
from ntmobile.runtime.dnssec import (
    IANA_ROOT,
    AnchorWrong,
    Insecure,
    Secure,
    Validator,
    parse_anchors,
)
from ntmobile.runtime.dnssec_proof import Absent, Bogus, Denial, denial, keys_under
from ntmobile.runtime.resolver import Resolver, ResolverError
from ntmobile.runtime.tasks import Tasks
from ntmobile.servers.dns import Responder
from ntmobile.servers.dns_server import DnsServer
from ntmobile.servers.dns_signing import ZoneSigner
from ntmobile.servers.dns_zone import Services, Zone, read_extra
from ntmobile.time import SECOND
from ntmobile.wire.endpoint import Endpoint

TOOLS = ("named", "dnssec-keygen", "dnssec-signzone", "delv")
NTM = "ntm.example.org"
KEY = f"_ntm.{NTM}"
WRONG = "wrong.example.org"
"""Ours too, with a DS record of another key above it."""
UNKNOWN = "DS 1 5 2 " + "ab" * 32
"""Of RSASHA1, which is not validated any more."""
EXAMPLE = f"""
{NTM}. IN NS dc.{NTM}.
{WRONG}. IN NS dc.{WRONG}.
plain IN NS dc.plain
old IN NS dc.old
old IN {UNKNOWN}
a.b IN A 192.0.2.1
"""
EXTRA = """
www 300 IN CNAME dc
sub 300 IN NS ns.sub
ns.sub 300 IN A 127.0.0.1
"""
CONFIGURATION = """
controls {{ }};
options {{
  directory "{directory}";
  pid-file none;
  session-keyfile none;
  listen-on port {port} {{ 127.0.0.1; }};
  listen-on-v6 {{ none; }};
  recursion yes;
  dnssec-validation no;
  empty-zones-enable no;
}};
"""
PRIMARY = 'zone "{name}" {{ type primary; file "{name}signed"; }};\n'
FORWARD = (
    'zone "{name}" {{ type forward; forward only; forwarders {{ 127.0.0.1 port {port}; }}; }};\n'
)
HEAD = "$TTL 300\n{name} IN SOA ns.lab. hostmaster.lab. 1 60 60 3600 60\n{name} IN NS ns.lab.\n"
PATIENCE_S = 60
STEP_S = 0.01
RUNNING = re.compile(r"\brunning$", re.MULTILINE)
"""What BIND logs when it has loaded its zones and listens."""
ROOT_DATA = Path("/usr/share/dns/root.ds")

pytestmark = pytest.mark.skipif(
    any(shutil.which(tool, path="/usr/bin:/usr/sbin:/bin:/sbin") is None for tool in TOOLS),
    reason="needs BIND: apt install bind9 bind9-dnsutils bind9-utils",
)


@dataclass
class Tree:
    """Signed zones from the root down to our own, and BIND, which serves them."""

    directory: Path
    bind: Endpoint
    ours: dict[str, Endpoint]
    """Where our servers are to listen, by zone."""
    signers: dict[str, ZoneSigner]
    anchors: str = ""
    digests: dict[str, str] = field(default_factory=dict)

    def sign(self, name: str, algorithm: str, records: str, *denial: str) -> None:
        """Sign a zone with keys of its own."""
        file = self.directory / f"{name}zone"
        file.write_text(HEAD.format(name=name) + records)
        for flags in ([], ["-f", "KSK"]):
            self.run("dnssec-keygen", "-a", algorithm, *flags, name)
        done = [*denial, "-S", "-o", name, "-f", f"{name}signed", "-d", ".", file.name]
        self.run("dnssec-signzone", *done)
        self.digests[name] = (self.directory / f"dsset-{name}").read_text()

    def run(self, *command: str) -> None:
        subprocess.run(
            command,
            cwd=self.directory,
            check=True,
            capture_output=True,
            env={"PATH": "/usr/bin:/usr/sbin:/bin:/sbin"},
        )

    async def delv(self, name: str, kind: str) -> str:
        """What BIND's own validator finds."""
        file = self.directory / "anchors"
        lines = [line.split() for line in self.anchors.splitlines()]
        entries = "".join(
            f'. static-ds {tag} {algorithm} {digest} "{"".join(rest)}";\n'
            for _, _, _, tag, algorithm, digest, *rest in lines
        )
        file.write_text(f"trust-anchors {{\n{entries}}};\n")
        place = ["@127.0.0.1", "-p", str(self.bind.port), "-a", str(file), "+root=."]
        made = await asyncio.create_subprocess_exec(
            "delv",
            *place,
            name,
            kind,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        told, _ = await made.communicate()
        return told.decode()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    directory = tmp_path_factory.mktemp("tree")
    bind, ours = free_endpoint(), {name: free_endpoint() for name in (NTM, WRONG)}
    signers = {name: new_signer(name) for name in ours}
    tree = Tree(directory, bind, ours, signers)
    digests = f"{NTM}. IN {signers[NTM].ds}\n{WRONG}. IN {new_signer(WRONG).ds}\n"
    tree.sign("example.org.", "ED25519", EXAMPLE + digests)
    below = "example.org. IN NS ns.lab.\nunsigned.org. IN NS ns.lab.\ntext.org. IN TXT text\n"
    tree.sign("org.", "ECDSAP256SHA256", below + tree.digests["example.org."], "-3", "ab")
    tree.sign("net.", "ECDSAP384SHA384", "example.net. IN NS ns.lab.\n", "-3", "-", "-A")
    tree.sign("many.", "ED25519", "below.many. IN NS ns.lab.\n", "-3", "-", "-H", "60")
    top = "".join(f"{name}. IN NS ns.lab.\n" for name in ("org", "net", "many"))
    named_above = (tree.digests[name] for name in ("org.", "net.", "many."))
    tree.sign(".", "RSASHA256", "".join((top, "ns.lab. IN A 127.0.0.1\n", *named_above)))
    tree.anchors = tree.digests["."]
    configuration = CONFIGURATION.format(directory=directory, port=bind.port)
    configuration += "".join(PRIMARY.format(name=name) for name in tree.digests)
    configuration += "".join(FORWARD.format(name=n, port=at.port) for n, at in ours.items())
    (directory / "named.conf").write_text(configuration)
    with subprocess.Popen(
        ["named", "-f", "-n", "1", "-c", "named.conf", "-L", "log"],
        cwd=directory,
        env={"PATH": "/usr/bin:/usr/sbin:/bin:/sbin"},
    ) as named:
        try:
            await_running(directory / "log")
            yield tree
        finally:
            named.terminate()


def free_endpoint() -> Endpoint:
    return Endpoint("127.0.0.1", *free_ports(1))


def new_signer(name: str) -> ZoneSigner:
    return ZoneSigner(name, ec.generate_private_key(ec.SECP256R1()))


def await_running(log: Path) -> None:
    # Not by connecting: on loopback a socket may be given the very port that it tries, and it
    # connects to itself.
    clock = Clock()
    until = clock.now() + PATIENCE_S * SECOND
    while clock.now() < until:
        if log.exists() and RUNNING.search(log.read_text()):
            return
        Event().wait(STEP_S)
    raise AssertionError(log.read_text())


class Shifted(Clock):
    """A wall clock that is wrong, or a validator that looks later."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def wall(self) -> float:
        return super().wall() + self.ahead_s


Change = Callable[[dns.message.QueryMessage], None]


class Between:
    """A resolver whose answers somebody changes on the way."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self.changes: dict[tuple[str, RdataType], Change] = {}
        self.asked: list[tuple[str, RdataType]] = []

    async def signed(self, name: dns.name.Name, kind: RdataType) -> dns.message.QueryMessage:
        answer = await self._resolver.signed(name, kind)
        question = (name.to_text(), kind)
        self.asked.append(question)
        self.changes.get(question, lambda _: None)(answer)
        return answer

    def change(self, name: str, kind: str, change: Change) -> None:
        self.changes[name, dns.rdatatype.from_text(kind)] = change


@pytest.fixture
def clock() -> Shifted:
    return Shifted()


@pytest.fixture
async def served(tree: Tree) -> AsyncIterator[None]:
    """Our zones, served where BIND looks for them."""
    hosts = (("dc", (ip_address("127.0.0.1"),)),)
    async with Tasks() as tasks:
        servers = []
        for name, endpoint in tree.ours.items():
            services = Services(name, bytes(32), hosts, 4330, 443, 443, 1)
            zone = Zone(services, read_extra(EXTRA, name), tree.signers[name])
            servers.append(DnsServer(Responder(zone, bytes(32)), Clock(), tasks))
            await servers[-1].listen([endpoint])
        yield
        for server in servers:
            server.close()


@pytest.fixture
def between(tree: Tree, clock: Shifted) -> Between:
    return Between(Resolver(lambda: [tree.bind], clock))


@pytest.fixture
def validator(tree: Tree, between: Between, clock: Shifted) -> Validator:
    return Validator(between, parse_anchors(tree.anchors), clock)


async def bogus(validator: Validator, name: str = KEY, zone: str = NTM) -> str:
    with pytest.raises(Bogus) as raised:
        await validator.texts(name, zone)
    return str(raised.value)


@pytest.mark.usefixtures("served")
async def test_the_key_of_a_signed_domain_is_proven_from_the_root_down(
    validator: Validator,
) -> None:
    found = await validator.texts(KEY, NTM)

    assert isinstance(found, Secure)
    [text] = found.texts
    assert text.startswith(b"v=ntm1 key=SHA256:")


@pytest.mark.usefixtures("served")
async def test_a_record_that_is_not_there_is_proven_not_to_be(validator: Validator) -> None:
    assert await validator.texts(f"other.{NTM}", NTM) == Secure(())


@pytest.mark.usefixtures("served")
async def test_zones_on_the_way_are_asked_once(validator: Validator, between: Between) -> None:
    await validator.texts(KEY, NTM)
    between.asked.clear()

    await validator.texts(KEY, NTM)

    assert between.asked == [(f"{KEY}.", RdataType.TXT)]


@pytest.mark.parametrize(
    ("zone", "why"),
    [
        ("plain.example.org", "example.org. has no DS record of plain.example.org."),
        ("old.example.org", "old.example.org. is signed by no algorithm that is known here"),
        ("unsigned.org", "org. has no DS record of unsigned.org."),
        ("ntm.unsigned.org", "org. has no DS record of unsigned.org."),
        ("example.net", "net. does not sign the delegation of example.net."),
        ("below.many", "many. hashes names 60 times over"),
    ],
)
async def test_what_is_proven_to_be_unsigned_proves_nothing(
    validator: Validator, zone: str, why: str
) -> None:
    assert await validator.texts(f"_ntm.{zone}", zone) == Insecure(why)


@pytest.mark.usefixtures("served")
async def test_another_key_than_the_zone_above_names_is_bogus(validator: Validator) -> None:
    told = await bogus(validator, f"_ntm.{WRONG}", WRONG)

    assert told == f"no key of {WRONG}. is the one that the zone above names"


@pytest.mark.parametrize(
    ("zone", "why"),
    [
        ("nothing.example.org", "does not exist"),
        ("zzz.example.org", "does not exist"),
        ("missing.org", "does not exist"),
        ("b.example.org", "is no zone of its own"),
        ("text.org", "is no zone of its own"),
    ],
)
async def test_a_zone_that_is_proven_not_to_be_one_is_bogus(
    validator: Validator, zone: str, why: str
) -> None:
    assert why in await bogus(validator, f"_ntm.{zone}", zone)


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("ahead_s", "why"), [(90 * 86400, "expired"), (-90 * 86400, "not yet valid")]
)
async def test_signatures_of_another_time_are_bogus(
    validator: Validator, clock: Shifted, ahead_s: int, why: str
) -> None:
    clock.ahead_s = ahead_s

    assert why in await bogus(validator)


def without_signatures(answer: dns.message.QueryMessage) -> None:
    for section in (answer.answer, answer.authority):
        section[:] = [rrset for rrset in section if rrset.rdtype != RdataType.RRSIG]


def without_anything(answer: dns.message.QueryMessage) -> None:
    answer.answer.clear()
    answer.authority.clear()


def forged_text(answer: dns.message.QueryMessage) -> None:
    forged = dns.rrset.from_text(f"{KEY}.", 300, "IN", "TXT", '"v=ntm1 key=SHA256:00"')
    answer.answer[0] = forged


def forged_signature(answer: dns.message.QueryMessage) -> None:
    for rrset in answer.answer:
        if rrset.rdtype == RdataType.RRSIG:
            records = [each.replace(signature=bytes(64)) for each in rrset]
            rrset.clear()
            rrset.update(dns.rdataset.from_rdata_list(rrset.ttl, records))


def resigned(answer: dns.message.QueryMessage) -> None:
    stranger = new_signer(NTM)
    answer.answer[:] = [stranger.dnskey, stranger.sign(stranger.dnskey, int(Clock().wall()))]


def many_keys(answer: dns.message.QueryMessage) -> None:
    for _ in range(30):
        answer.answer[0].add(new_signer(NTM).dnskey[0])


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("name", "kind", "change", "why"),
    [
        (KEY, "TXT", forged_text, "verify failure"),
        (KEY, "TXT", forged_signature, "verify failure"),
        (KEY, "TXT", without_signatures, f"no signature of {NTM}."),
        (KEY, "TXT", without_anything, "does not prove that the record is missing"),
        (NTM, "DNSKEY", resigned, "is the one that the zone above names"),
        (NTM, "DNSKEY", many_keys, "more keys than anybody needs"),
        (NTM, "DNSKEY", without_signatures, f"no signature of {NTM}."),
        (NTM, "DNSKEY", without_anything, "has no DNSKEY record"),
        (NTM, "DS", forged_signature, "verify failure"),
        (NTM, "DS", without_signatures, "no signature of example.org."),
        (NTM, "DS", without_anything, "does not prove that the record is missing"),
        ("org", "DS", without_anything, "does not prove that the record is missing"),
    ],
)
async def test_what_somebody_changed_on_the_way_is_bogus(
    validator: Validator, between: Between, name: str, kind: str, change: Change, why: str
) -> None:
    between.change(f"{name}.", kind, change)

    assert why in await bogus(validator)


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("name", "kind", "other", "other_kind", "why"),
    [
        (NTM, "DS", NTM, "NSEC", "its DS record was taken out of the answer"),
        (NTM, "DS", "plain.example.org", "DS", "does not prove that the record is missing"),
        (NTM, "DS", f"dc.{NTM}", "TXT", "no signature of example.org."),
        ("example.org", "DS", "unsigned.org", "DS", "does not prove"),
        ("example.org", "DS", "example.net", "DS", "does not prove"),
        (KEY, "TXT", KEY, "A", "its TXT record was taken out of the answer"),
        (KEY, "TXT", f"dc.{NTM}", "TXT", "does not prove that the record is missing"),
    ],
)
async def test_a_proof_about_something_else_is_bogus(
    validator: Validator,
    between: Between,
    name: str,
    kind: str,
    other: str,
    other_kind: str,
    why: str,
) -> None:
    asked = dns.name.from_text(other), dns.rdatatype.from_text(other_kind)
    elsewhere = await between.signed(*asked)

    def replay(answer: dns.message.QueryMessage) -> None:
        answer.answer.clear()
        answer.authority[:] = [*elsewhere.answer, *elsewhere.authority]

    between.change(f"{name}.", kind, replay)

    assert why in await bogus(validator)


@pytest.mark.usefixtures("served")
async def test_what_is_bogus_beside_remembered_keys_is_looked_at_again_from_the_start(
    validator: Validator, between: Between
) -> None:
    await validator.texts(KEY, NTM)

    def once(answer: dns.message.QueryMessage) -> None:
        between.changes.clear()
        forged_text(answer)

    between.change(f"{KEY}.", "TXT", once)

    assert isinstance(await validator.texts(KEY, NTM), Secure)
    assert (".", RdataType.DNSKEY) in between.asked


async def test_a_name_of_ever_more_labels_is_not_walked_along(
    validator: Validator, between: Between
) -> None:
    deep = "a." * 20 + NTM

    assert await validator.texts(f"_ntm.{deep}", deep) == Insecure(
        f"{deep}. is too far below the root"
    )
    assert between.asked == []


async def test_a_resolver_without_dnssec_proves_nothing(
    validator: Validator, between: Between
) -> None:
    between.change(".", "DNSKEY", without_signatures)

    found = await validator.texts(KEY, NTM)

    assert isinstance(found, Insecure)
    assert "the resolver gives no signatures" in found.why


async def test_a_name_under_no_trust_anchor_is_not_even_asked(
    tree: Tree, between: Between, clock: Shifted
) -> None:
    anchors = parse_anchors(tree.digests["net."])

    found = await Validator(between, anchors, clock).texts(KEY, NTM)

    assert found == Insecure(f"no trust anchor is above {NTM}.")
    assert between.asked == []


@pytest.mark.usefixtures("served")
async def test_an_anchor_below_the_root_is_enough_for_what_is_under_it(
    tree: Tree, between: Between, clock: Shifted
) -> None:
    anchors = parse_anchors(tree.digests["org."])

    assert isinstance(await Validator(between, anchors, clock).texts(KEY, NTM), Secure)


async def test_another_root_than_the_anchors_is_bogus(between: Between, clock: Shifted) -> None:
    told = await bogus(Validator(between, parse_anchors(IANA_ROOT), clock))

    assert told == "no key of . is the one that the zone above names"


@pytest.mark.parametrize("place", [-1, -30])
async def test_an_anchor_that_only_has_the_tag_of_a_key_is_bogus(
    tree: Tree, between: Between, clock: Shifted, place: int
) -> None:
    text = tree.anchors.strip()
    changed = "0" if text[place] != "0" else "1"
    anchors = parse_anchors(text[:place] + changed + text[place:][1:])

    told = await bogus(Validator(between, anchors, clock))

    assert told == "no key of . is the one that the zone above names"


@pytest.mark.parametrize(
    ("asked", "name", "proven"),
    [
        ("a.b.example.org.", "x.a.b.example.org.", True),
        ("plain.example.org.", "x.plain.example.org.", False),
    ],
)
async def test_a_zone_denies_names_of_its_own_and_none_below_a_cut(
    tree: Tree, between: Between, clock: Shifted, asked: str, name: str, proven: bool
) -> None:
    zone = dns.name.from_text("example.org.")
    anchors = parse_anchors(tree.digests["example.org."])[zone]
    signed = await between.signed(zone, RdataType.DNSKEY)
    keys, _ = keys_under(signed.answer, zone, anchors, clock.wall())
    section = (await between.signed(dns.name.from_text(asked), RdataType.DS)).authority

    def judged() -> Denial:
        return denial(section, dns.name.from_text(name), keys, clock.wall())[0]

    if proven:
        assert judged() == Absent()
    else:
        with pytest.raises(Bogus, match="does not prove"):
            judged()


async def test_a_dead_resolver_is_not_a_proof_of_anything(tree: Tree, clock: Shifted) -> None:
    resolver = Resolver(lambda: [Endpoint("127.0.0.1", 1)], clock)

    with pytest.raises(ResolverError):
        await Validator(resolver, parse_anchors(tree.anchors), clock).texts(KEY, NTM)


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("name", "kind", "verdict"),
    [
        (KEY, "TXT", "fully validated"),
        (NTM, "DNSKEY", "fully validated"),
        (f"_ntm._udp.{NTM}", "SRV", "fully validated"),
        (f"www.{NTM}", "A", "fully validated"),
        (f"pc.alice.{NTM}", "A", "negative response, fully validated"),
        (f"nobody.{NTM}", "AAAA", "negative response, fully validated"),
        (NTM, "MX", "negative response, fully validated"),
        (f"sub.{NTM}", "DS", "negative response, fully validated"),
        (f"_ntm.{WRONG}", "TXT", "no valid"),
        (f"pc.alice.{WRONG}", "A", "no valid"),
    ],
)
async def test_the_validator_of_bind_agrees(tree: Tree, name: str, kind: str, verdict: str) -> None:
    told = await tree.delv(name, kind)

    assert verdict in told
    assert ("fully validated" in told) == ("fully validated" in verdict)


@pytest.mark.skipif(not ROOT_DATA.exists(), reason="needs dns-root-data")
def test_the_built_in_anchors_are_those_of_the_distribution() -> None:
    assert set(IANA_ROOT.upper().split()) >= set(ROOT_DATA.read_text().upper().split())
    assert parse_anchors(IANA_ROOT)[dns.name.root] == tuple(
        parse_anchors(ROOT_DATA.read_text())[dns.name.root]
    )


@pytest.mark.parametrize(
    "text", ["", "nonsense", ". IN NS a.example.", f". IN {UNKNOWN}", ". IN DS 1 8 2 ab"]
)
def test_anchors_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(AnchorWrong):
        parse_anchors(text)
