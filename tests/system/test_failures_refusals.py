"""What is refused is refused at once, with a reason for who may know it, and harms nothing else."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from ntmobile.lab.ntm import PASSWORD, NtmNode, Organisation, World
from tests.system.failing import (
    forget_tunnels,
    newest_log,
    refusal,
    restart,
)

pytestmark = pytest.mark.lab
ANOTHER_KEY = "SHA256:" + "ab" * 32
ROLES = ("as", "dc", "rs")
QUERIES = 5


@dataclass
class Place:
    """Two domains that list each other, and nodes of both; org has its roles apart."""

    world: World
    org: Organisation
    net: Organisation
    laptop: NtmNode
    """Of org: a stranger to net."""
    pc: NtmNode
    """Of net."""
    box: NtmNode
    """Of net."""


@pytest.fixture(scope="module")
def place(world: World) -> Place:
    org = world.organisation("ntm.example.org", apart=True)
    net = world.organisation("ntm.example.net")
    world.federate(org, net)
    lab, internet = world.lab, world.internet
    laptop = world.machine("laptop", "alice", org, lab.nat("home", internet))
    pc = world.machine("pc", "bob", net, lab.nat("office", internet))
    box = world.machine("box", "bob", net, internet)
    world.bring_up(laptop, pc, box)
    return Place(world, org, net, laptop, pc, box)


@pytest.fixture(scope="module")
def newcomer(place: Place) -> NtmNode:
    """A machine that never logged in."""
    return place.world.machine("newcomer", "alice", place.org, place.world.internet)


def login(node: NtmNode, *, user: str | None = None, trust: tuple[str, ...] = ()) -> list[str]:
    """The words of a first login."""
    domain = node.organisation.domain
    trust = trust or ("--ca", str(node.organisation.directory / "ca.pem"))
    return ["up", f"{user or node.user}@{domain}", "--name", node.name, "--password-stdin", *trust]


def nothing_stays(node: NtmNode) -> bool:
    """Whether a login that failed left neither an agent nor an account."""
    asked = node.ntm("status", check=False).returncode
    return asked == 3 and not (node.state / "account.json").exists()


def look_up(node: NtmNode, name: str) -> str:
    """What an application's query for a name comes to.

    Undecided for 4 s, it is SERVFAIL: then the application asks again.
    """
    for _ in range(QUERIES):
        said = node.host.run(["dig", "+tries=1", "+time=60", name, "A"], check=False).stdout
        found = re.search(r"status: (\w+)", said)
        assert found is not None, said
        if found[1] != "SERVFAIL":
            break
    return found[1]


def test_a_wrong_password_and_an_unknown_user_get_the_same_answer_and_change_nothing(
    newcomer: NtmNode,
) -> None:
    wrong = refusal(newcomer, *login(newcomer), input="not the password")
    unknown = refusal(newcomer, *login(newcomer, user="mallory"), input=PASSWORD)

    assert wrong[0] == unknown[0] == 1
    assert wrong[1] == unknown[1].replace("mallory", "alice")
    assert "refused the user, the password or the key; nothing was changed here" in wrong[1]
    ca = newcomer.organisation.directory / "ca.pem"
    again = f"up alice@ntm.example.org --ca {ca} --name newcomer, with the right password"
    assert f"next: ntm --state {newcomer.state} {again}" in wrong[1]
    assert nothing_stays(newcomer)


def test_a_server_with_a_certificate_of_another_authority_gets_no_password(
    place: Place, newcomer: NtmNode
) -> None:
    for trust in (
        ("--ca", str(place.net.directory / "ca.pem")),
        ("--fingerprint", "SHA256:" + "00" * 32),
    ):
        code, said = refusal(newcomer, *login(newcomer, trust=trust), input=PASSWORD)

        assert code == 1
        assert "could not prove who it is; no password was sent" in said
        assert str(place.org.show()["tls_fingerprint"]).removeprefix("SHA256:").lower() in said
        assert "--fingerprint SHA256:" in said
        assert nothing_stays(newcomer)


def test_with_the_servers_down_a_first_login_says_which_and_what_to_do(
    place: Place, newcomer: NtmNode
) -> None:
    with without(place.org, "as"):
        code, said = refusal(newcomer, *login(newcomer), input=PASSWORD)
    assert code == 1
    assert "the account server of ntm.example.org does not answer" in said
    assert "next: check the network and the server" in said
    assert nothing_stays(newcomer)

    direct = f"https://{place.org.host.ipv4}:443"
    with without(place.org, "dc"):
        code, said = refusal(newcomer, *login(newcomer), "--as", direct, input=PASSWORD)
    assert code == 1
    assert "the coordinator of ntm.example.org did not take this node" in said
    assert "next: tell the operator" in said
    assert nothing_stays(newcomer)


def test_the_same_login_with_the_right_words_and_the_servers_up_goes_well(
    newcomer: NtmNode,
) -> None:
    """The negative twin of the refused logins above."""
    assert newcomer.ntm(*login(newcomer), input=PASSWORD).returncode == 0
    assert newcomer.status()["state"] == "up"


@pytest.mark.parametrize("domain", ["ntm.example.org", "ntm.example.net"])
def test_a_name_that_is_nobodys_does_not_exist_at_once_and_ntm_says_why(
    place: Place, domain: str
) -> None:
    status = look_up(place.laptop, f"nobody.bob.{domain}")
    code, said = refusal(place.laptop, "ping", f"nobody.bob.{domain}", "-c", "1")

    assert status == "NXDOMAIN"
    assert code == 1
    assert "there is no such node, or you may not know of it" in said
    assert "next: check the name" in said
    assert look_up(place.laptop, place.pc.fqdn) == "NOERROR"


def test_a_stranger_cannot_tell_a_refused_name_from_an_unknown_one(place: Place) -> None:
    forget_tunnels(place.laptop)
    with denied(place.net, "*.ntm.example.org", place.pc.fqdn):
        refused = strangers_view(place, "pc")
        unknown = strangers_view(place, "nobody")
        audit = place.net.admin("audit")
        inside = place.box.ntm("ping", place.pc.fqdn, "-c", "1").stdout

    assert refused == unknown
    assert refused[0] == "NXDOMAIN"
    assert "pong from" in inside
    assert re.search(rf"refused.*{place.laptop.fqdn}.*{place.pc.fqdn}.*not-allowed", audit)
    assert look_up(place.laptop, place.pc.fqdn) == "NOERROR"


def strangers_view(place: Place, name: str) -> tuple[object, ...]:
    """All that a node of another domain learns about a name, but for the name itself."""
    fqdn = f"{name}.bob.{place.net.domain}"
    status = look_up(place.laptop, fqdn)
    code, said = refusal(place.laptop, "ping", fqdn, "-c", "1")
    return status, code, said.replace(fqdn, "NAME")


def test_the_refused_node_itself_hears_a_reason_inside_its_own_domain(place: Place) -> None:
    forget_tunnels(place.box)
    with denied(place.net, place.box.fqdn, place.pc.fqdn):
        code, said = refusal(place.box, "ping", place.pc.fqdn, "-c", "1")

    assert code == 1
    assert "a policy forbids this tunnel" in said
    assert "next: ask the operators" in said
    assert "pong from" in place.box.ntm("ping", place.pc.fqdn, "-c", "1").stdout


def test_a_domain_that_is_not_listed_is_refused_until_it_is(place: Place) -> None:
    for judge, other in ((place.org, place.net), (place.net, place.org)):
        forget_tunnels(place.laptop)
        with unlisted(judge, other):
            status = look_up(place.laptop, place.pc.fqdn)
            code, said = refusal(place.laptop, "ping", place.pc.fqdn, "-c", "1")

        assert status == "NXDOMAIN"
        assert code == 1
        assert "one of the two domains does not list the other" in said
        assert "federation add" in said
    assert "pong from" in place.laptop.ntm("ping", place.pc.fqdn, "-c", "1").stdout


@pytest.mark.parametrize("judge", ["org", "net"])
def test_a_domain_with_another_key_than_the_pinned_one_is_refused_and_both_operators_see_why(
    place: Place, judge: str
) -> None:
    ours, theirs = (place.org, place.net) if judge == "org" else (place.net, place.org)
    nodes = (place.laptop, place.box) if judge == "org" else (place.box, place.laptop)
    forget_tunnels(*nodes)
    with pinned(ours, theirs, ANOTHER_KEY):
        refused = [
            refusal(one, "ping", other.fqdn, "-c", "1")
            for one, other in (nodes, tuple(reversed(nodes)))
        ]

    for code, said in refused:
        assert code == 1
        assert "the peer's domain could not prove its key" in said
        assert "federation add DOMAIN --key SHA256:" in said
    key = str(theirs.show()["domain_key"])
    for operator in (ours, theirs):
        assert f"the key of {theirs.domain} is not trusted" in newest_log(operator)
        assert f"its key is {key}, pinned is {ANOTHER_KEY}" in newest_log(operator)
    assert "pong from" in nodes[0].ntm("ping", nodes[1].fqdn, "-c", "1").stdout


@contextmanager
def without(organisation: Organisation, role: str) -> Iterator[None]:
    """One role is down."""
    organisation.kill(role)
    try:
        yield
    finally:
        restart(organisation, role)


@contextmanager
def denied(organisation: Organisation, source: str, destination: str) -> Iterator[None]:
    """A policy forbids tunnels from a source to a destination."""
    rule = f'[[rule]]\naction = "deny"\nfrom = ["{source}"]\nto = ["{destination}"]\n'
    organisation.admin("policy", "set", "-", input=rule)
    try:
        yield
    finally:
        organisation.admin("policy", "set", "-", input="")


@contextmanager
def unlisted(organisation: Organisation, other: Organisation) -> Iterator[None]:
    """An organisation does not federate with another."""
    organisation.admin("federation", "remove", other.domain)
    try:
        yield
    finally:
        key = str(other.show()["domain_key"])
        organisation.admin("federation", "add", other.domain, "--key", key)


@contextmanager
def pinned(organisation: Organisation, other: Organisation, key: str) -> Iterator[None]:
    """An organisation pins a key for another that is not the other's."""
    organisation.admin("federation", "remove", other.domain)
    organisation.admin("federation", "add", other.domain, "--key", key)
    try:
        yield
    finally:
        organisation.admin("federation", "remove", other.domain)
        true_key = str(other.show()["domain_key"])
        organisation.admin("federation", "add", other.domain, "--key", true_key)
