"""Certificates that are wrong, each in its way: the login and the peer name it and what to do.

They are by a CA outside the domain, which its operator and the laptop trust; the twin of each wrong
one is a good one by the same CA. Last, what the AS issued runs out while the AS is away.
Source: paper, Node authentication. Ours: docs/protocol.md sections 2 and 4.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from ntmobile.agent.records import SavedCertificates, decode, encode
from ntmobile.keys.node_certificates import device_credential
from ntmobile.lab.ntm import NtmNode, Organisation, World
from tests.keys.authorities import DAY_S, DEVICE, SECRET, Issuer
from tests.system.failing import forget_tunnels, refusal, restart, seconds_until, setting

pytestmark = [pytest.mark.lab, pytest.mark.paper("Node authentication")]
LIFE_S = 60
"""Of what the AS issues in the end; else a week."""
BRIEF_S = 30
"""Of a certificate that is good at the login and not much longer."""
OTHER_DEVICE = bytes(32)
SERVER_USE = ExtendedKeyUsageOID.SERVER_AUTH


@dataclass
class Place:
    """One domain with its roles apart, and three of its nodes."""

    world: World
    org: Organisation
    corporation: Issuer
    """A CA outside the domain that its operator and the laptop trust."""
    stranger: Issuer
    """One that nobody trusts."""
    laptop: NtmNode
    desk: NtmNode
    badge: NtmNode
    """It shows the corporation's certificates."""
    brief: NtmNode
    """Likewise; its one runs out while it is up."""
    directory: Path


@pytest.fixture(scope="module")
def place(world: World, tmp_path_factory: pytest.TempPathFactory) -> Place:
    org, internet = world.organisation("ntm.example.org", apart=True), world.internet
    directory = Path(tmp_path_factory.mktemp("certificates"))
    made = [
        Issuer(ec.generate_private_key(ec.SECP256R1()), name, wall_s())
        for name in ("Example Corporation CA", "Another CA")
    ]
    for each in (directory, org.directory):
        (each / "corporation.pem").write_bytes(pem(made[0].der))
    setting(org, "trusted_cas", '["corporation.pem"]')
    org.kill("as")
    restart(org, "as")
    names = ("laptop", "desk", "badge", "brief")
    laptop, desk, badge, brief = (world.machine(name, "alice", org, internet) for name in names)
    place = Place(world, org, made[0], made[1], laptop, desk, badge, brief, directory)
    world.bring_up(laptop, desk)
    assert log_in(place, badge, place.corporation.certificate(badge.fqdn)) == ""
    return place


def wall_s() -> int:
    return int(time.time())  # noqa: TID251


def pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)


def log_in(place: Place, node: NtmNode, certificate: bytes) -> str:
    """Log in for the first time by a certificate; returns what was said where it failed."""
    files = [place.directory / f"{node.name}.{kind}" for kind in ("pem", "key")]
    made = device_credential(certificate, SECRET)
    files[0].write_bytes(made.certificate)
    files[1].write_bytes(made.key)
    who = f"{node.user}@{node.organisation.domain}"
    trust = ("--ca", str(node.organisation.directory / "ca.pem"))
    words = ("--certificate", str(files[0]), "--key", str(files[1]))
    done = node.ntm("up", who, "--name", node.name, *trust, *words, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stderr if done.returncode else ""


@dataclass(frozen=True)
class Wrong:
    """How a certificate differs from a good one, and the words in which that is told."""

    problem: str
    remedy: str
    options: dict[str, Any] = field(default_factory=dict)
    begins_in_s: int | None = None
    ends_in_s: int | None = None

    def made(self, place: Place, fqdn: str) -> bytes:
        """Return the certificate, for a name unless the options have another."""
        options = dict(self.options)
        issuer = getattr(place, options.pop("issuer", "corporation"))
        if options.pop("alone", False):
            issuer, options["subject"] = Issuer(issuer.key, "me", wall_s()), "me"
        for name, offset in (("begins_s", self.begins_in_s), ("ends_s", self.ends_in_s)):
            if offset is not None:
                options[name] = wall_s() + offset
        made: bytes = issuer.certificate(options.pop("fqdn", fqdn), **options)
        return made


AT_LOGIN = {
    "expired": Wrong(
        "the certificate has expired, by the clock of the account server",
        "ask the operator of ntm.example.org for a new one",
        begins_in_s=-2 * DAY_S,
        ends_in_s=-60,
    ),
    "not valid yet": Wrong(
        "the certificate is not valid yet, by the clock of the account server",
        "wait, or tell the operator of ntm.example.org that a clock is wrong",
        begins_in_s=DAY_S,
    ),
    "of the wrong name": Wrong(
        "the certificate is for another name than newcomer.alice.ntm.example.org",
        "log in under the name that it has",
        {"fqdn": "boss.alice.ntm.example.org"},
    ),
    "of an unknown CA": Wrong(
        "the certificate is of a CA that ntm.example.org does not trust",
        "ask its operator for one of the domain's CA, or to add yours to [nodes] trusted_cas",
        {"issuer": "stranger"},
    ),
    "self-signed": Wrong(
        "the certificate is signed by itself, not by a CA",
        "ask the operator of ntm.example.org for one: ntm admin certificate issue alice",
        {"alone": True},
    ),
    "of the wrong use": Wrong(
        "the certificate is for another use than signing as a client",
        "ask for one for client authentication",
        {"purpose": SERVER_USE},
    ),
}


def test_a_login_by_a_certificate_that_is_wrong_is_refused_and_by_a_good_one_is_not(
    place: Place,
) -> None:
    node = place.world.machine("newcomer", "alice", place.org, place.world.internet)

    for name, wrong in AT_LOGIN.items():
        said = log_in(place, node, wrong.made(place, node.fqdn))
        assert wrong.problem in said, name
        assert f"next: {wrong.remedy}" in " ".join(said.split()), name
        assert not (node.state / "account.json").exists()

    assert log_in(place, node, place.corporation.certificate(node.fqdn)) == ""
    assert "pong from" in node.ntm("ping", place.desk.fqdn, "-c", "1").stdout


SHOWN = {
    "not valid yet": Wrong(
        "the node's certificate is not valid yet, by this machine's clock",
        "set the clock here (date), or that of its account server",
        begins_in_s=DAY_S,
    ),
    "of the wrong name": Wrong(
        "the node's certificate is for another name",
        "there: log in under the name of the certificate",
        {"fqdn": "desk.alice.ntm.example.org"},
    ),
    "of an unknown CA": Wrong(
        "the node's certificate is of a CA that this node does not know",
        "ntm set trusted-ca=FILE, with a CA file you have from its operator",
        {"issuer": "stranger"},
    ),
    "self-signed": Wrong(
        "the node's certificate is signed by itself, not by a CA",
        "there: log in with one of the domain's CA; or trust it here: ntm set trusted-ca=FILE",
        {"alone": True},
    ),
    "of the wrong use": Wrong(
        "the node's certificate is for another use than signing as a client",
        "its operator issues one for client authentication",
        {"purpose": SERVER_USE},
    ),
    "of another key": Wrong(
        "the node's certificate is for another key than its own",
        "there: ntm down, ntm up, for a new one",
        {"device": OTHER_DEVICE},
    ),
}
EXPIRED = Wrong(
    "the node's certificate has expired, by this machine's clock",
    "check the clock here (date); there: ntm status says why it was not renewed",
    ends_in_s=BRIEF_S,
)


def test_a_peer_whose_certificate_is_wrong_is_refused_and_with_a_good_one_is_not(
    place: Place,
) -> None:
    """The badge's owner has changed what it shows; its login is as good as before."""
    place.laptop.ntm("set", f"trusted-ca={place.directory / 'corporation.pem'}")
    assert log_in(place, place.brief, EXPIRED.made(place, place.brief.fqdn)) == ""
    ends_at = time.perf_counter() + BRIEF_S
    try:
        assert "pong from" in place.laptop.ntm("ping", place.brief.fqdn, "-c", "1").stdout
        for wrong in SHOWN.values():
            show(place.badge, wrong.made(place, place.badge.fqdn))
            refuses(place.laptop, place.badge, wrong)
        forget_tunnels(place.laptop)
        time.sleep(max(0.0, ends_at + 1 - time.perf_counter()))
        refuses(place.laptop, place.brief, EXPIRED)

        show(place.badge, place.corporation.certificate(place.badge.fqdn, DEVICE))
        assert "pong from" in place.laptop.ntm("ping", place.badge.fqdn, "-c", "1").stdout
        assert place.laptop.peer(place.badge)["authenticated"] == "certificate"
        refused = [each["fqdn"] for each in place.laptop.status()["refused"]]
        assert refused == [place.brief.fqdn]
    finally:
        place.laptop.ntm("set", "trusted-ca=")


def refuses(node: NtmNode, peer: NtmNode, wrong: Wrong) -> None:
    """A node refuses a peer, and both who asks and who looks later read why."""
    code, said = refusal(node, "ping", peer.fqdn, "-c", "1")
    assert (code, wrong.problem in said) == (1, True), said
    words = " ".join(said.replace(f"ntm --state {node.state} ", "ntm ").split())
    assert f"next: {wrong.remedy}" in words
    assert f"! {peer.fqdn} refused: {wrong.problem}" in node.ntm("status").stdout


def show(node: NtmNode, certificate: bytes) -> None:
    """Have a node start anew with another certificate for its peers."""
    node.ntm("down")
    file = node.state / "certificates.json"
    kept = decode(SavedCertificates, file.read_bytes())
    file.write_bytes(encode(msgspec.structs.replace(kept, given=certificate)))
    node.ntm("up")


def test_a_certificate_that_ran_out_while_the_as_was_away_is_named_and_renewed_when_it_is_back(
    place: Place,
) -> None:
    """Nobody does anything at the nodes: they renew alone."""
    nodes = place.laptop, place.desk
    place.org.kill("as")
    setting(place.org, "certificate_s", str(LIFE_S))
    restart(place.org, "as")
    forget_tunnels(*nodes)
    place.org.kill("as")
    seconds_until(
        lambda: all("peers refuse it" in told(node) for node in nodes),
        "the certificates to run out",
        LIFE_S + 120,
        step_s=1.0,
    )
    code, said = refusal(place.laptop, "ping", place.desk.fqdn, "-c", "1")
    there = told(place.desk)

    restart(place.org, "as")
    seconds_until(
        lambda: not any(told(node) for node in nodes), "the nodes to renew alone", step_s=1.0
    )

    assert code == 1
    assert "the node's certificate has expired, by this machine's clock" in said
    assert "next: check the clock here (date); there: ntm status" in said
    assert "it is renewed once the account server answers" in there
    assert "next: check the clock (date) and the server (ntm status)" in there
    assert "pong from" in place.laptop.ntm("ping", place.desk.fqdn, "-c", "1").stdout
    assert place.laptop.peer(place.desk)["authenticated"] == "certificate"


def told(node: NtmNode) -> str:
    """Why a node is not simply up."""
    return " ".join(node.status()["reasons"])
