"""Certificates of nodes in real domains: on, off and mixed; what is asked, refused and renewed.

Source: paper, Node authentication. Ours: docs/protocol.md sections 2 and 4.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ntmobile.lab.ntm import NtmNode, Organisation, World
from tests.system.failing import forget_tunnels, refusal, restart, seconds_until, setting
from tests.system.programs import HELLO, Programs, fetch

pytestmark = [
    pytest.mark.lab,
    pytest.mark.paper("Node authentication"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="not installed: openssl"),
]
ALL = "as,dc,ns,rs"


@dataclass
class Place:
    """Two domains, of which the second gives no certificates, and nodes of both behind NATs."""

    world: World
    org: Organisation
    net: Organisation
    laptop: NtmNode
    desk: NtmNode
    pc: NtmNode
    first: str
    """When the desk's first certificate ends."""


@pytest.fixture(scope="module")
def place(world: World) -> Place:
    org, net = world.federation("ntm.example.org", "ntm.example.net")
    setting(net, "certificates", "false")
    setting(org, "certificate_s", "60")
    # First the one that gives none: whose CA the other has seen must show certificates for ever.
    for organisation in (net, org):
        organisation.kill(ALL)
        restart(organisation, ALL)
    lab, internet = world.lab, world.internet
    laptop = world.machine("laptop", "alice", org, lab.nat("home", internet))
    desk = world.machine("desk", "alice", org, lab.nat("office", internet))
    pc = world.machine("pc", "bob", net, internet)
    world.bring_up(laptop, desk, pc)
    served = Programs(world.directory / "served")
    for node in (desk, pc):
        served.serve(node.host)
    return Place(world, org, net, laptop, desk, pc, ends(desk))


def test_nodes_with_certificates_know_each_other_by_them(place: Place) -> None:
    assert fetch(place.laptop, place.desk, "-4") == HELLO

    both = place.laptop.peer(place.desk), place.desk.peer(place.laptop)
    assert [peer["authenticated"] for peer in both] == ["certificate", "certificate"]
    assert place.laptop.status()["certificate"]["issuer"] == f"CN=NTMobile CA of {place.org.domain}"


def test_with_a_domain_that_gives_none_unmodified_programs_connect_all_the_same(
    place: Place,
) -> None:
    assert fetch(place.laptop, place.pc, "-6") == HELLO

    assert place.laptop.peer(place.pc)["authenticated"] == "device-key"
    assert place.pc.peer(place.laptop)["authenticated"] == "certificate"
    assert place.pc.status()["certificate"] is None


def test_where_neither_domain_gives_any_the_device_key_does(place: Place) -> None:
    tower = place.world.node("tower", "bob", place.net, place.world.internet)

    assert fetch(tower, place.pc, "-4") == HELLO

    assert tower.peer(place.pc)["authenticated"] == "device-key"


def test_who_asks_for_certificates_refuses_a_node_without_and_says_what_to_do(
    place: Place,
) -> None:
    forget_tunnels(place.laptop)
    place.laptop.ntm("set", "authentication=certificate")
    try:
        code, said = refusal(place.laptop, "ping", place.pc.fqdn, "-c", "1")
        assert fetch(place.laptop, place.desk, "-4") == HELLO
        refused = place.laptop.status()["refused"]
    finally:
        place.laptop.ntm("set", "authentication=device-key")

    assert code == 1
    assert "shows no certificate" in said
    assert "next: there: ntm down, ntm up" in said
    assert [each["fqdn"] for each in refused] == [place.pc.fqdn]
    assert fetch(place.laptop, place.pc, "-4") == HELLO


def test_a_certificate_logs_in_without_a_password_and_is_needed_only_once(
    place: Place, tmp_path: Path
) -> None:
    node = place.world.machine("kiosk", "alice", place.org, place.world.internet)
    place.org.admin("certificate", "issue", "alice", "--name", "kiosk", "--out", str(tmp_path))

    up_with(node, tmp_path / "cert.pem", tmp_path / "key.pem")

    assert fetch(node, place.desk, "-4") == HELLO
    assert place.desk.peer(node)["authenticated"] == "certificate"
    for file in ("cert.pem", "key.pem"):
        (tmp_path / file).unlink()
    node.ntm("down")
    assert "kiosk.alice" in node.ntm("up").stdout


def test_an_application_without_root_logs_in_by_certificate(place: Place, tmp_path: Path) -> None:
    organisation, host = place.org, place.pc.host
    organisation.admin("certificate", "issue", "alice", "--name", "app", "--out", str(tmp_path))
    script = tmp_path / "login.py"
    script.write_text(LOGIN)
    ca = str(organisation.directory / "ca.pem")

    said = host.run([sys.executable, str(script), str(tmp_path), organisation.domain, ca]).stdout

    assert said.split() == [f"app.alice.{organisation.domain}", "certificate"]


LOGIN = """
import asyncio, sys
import ntmobile

async def main(directory, domain, ca):
    files = {"certificate": directory + "/cert.pem", "key": directory + "/key.pem", "ca": ca}
    state = directory + "/state"
    print(await ntmobile.Node.login(state, "alice@" + domain, name="app", **files))
    async with ntmobile.Node.open(state) as node:
        await node.open_connection("desk.alice." + domain, 22)
        print(node.status().peers[0].authenticated)

asyncio.run(main(*sys.argv[1:]))
"""


def test_a_certificate_of_a_ca_outside_logs_in_where_the_operator_trusts_it_and_only_there(
    place: Place, tmp_path: Path
) -> None:
    node = place.world.machine("badge", "alice", place.org, place.world.internet)
    ca = corporation(tmp_path, node.fqdn)
    words = credential(tmp_path / "cert.pem", tmp_path / "key.pem")

    refused = up_with(node, tmp_path / "cert.pem", tmp_path / "key.pem", check=False)
    shutil.copy(ca, place.org.directory / "corporation.pem")
    setting(place.org, "trusted_cas", '["corporation.pem"]')
    place.org.admin("federation", "mode", "listed")
    node.ntm("up", f"alice@{place.org.domain}", "--name", "badge", *trust(node), *words)
    place.laptop.ntm("set", f"trusted-ca={ca}")
    try:
        seconds_until(lambda: known(place.laptop, node) == "certificate", "the laptop to know it")
        code, said = refusal(place.laptop, "ping", f"desk.alice.{place.org.domain}", "-c", "1")
    finally:
        place.laptop.ntm("set", "trusted-ca=")

    assert "a CA that ntm.example.org does not trust" in refused
    assert "[nodes] trusted_cas" in refused
    assert node.status()["certificate"]["given"] is True
    assert code == 1
    assert "of a CA that this node does not know" in said


def test_a_revoked_node_is_refused_though_its_certificate_is_good(place: Place) -> None:
    lost = place.world.node("lost", "alice", place.org, place.world.internet)
    assert "pong from" in lost.ntm("ping", place.desk.fqdn, "-c", "1").stdout

    place.org.admin("node", "revoke", lost.fqdn)

    seconds_until(lambda: lost.fqdn not in peers(place.desk), "the desk to let go")
    assert refusal(place.desk, "ping", lost.fqdn, "-c", "1")[0] == 1
    seconds_until(lambda: "revoked" in str(lost.status()["reasons"]), "the node to hear of it")
    told_at_once = lost.ntm("status").stdout
    code, pinged = refusal(lost, "ping", place.desk.fqdn, "-c", "1")
    again = refusal(lost, "up")
    told_later, view = lost.ntm("status").stdout, lost.status()

    assert code == 1
    assert "was revoked by the operator" in pinged
    assert again[0] == 1
    for told in (told_at_once, told_later):
        assert "next: ask the operator, then: ntm up alice@" in told
        assert "[ok]" not in told
        assert "refuses this node: it was revoked" in told
        assert "reached by" not in told
        assert "of no use: this node was revoked" in told
    assert (view["keepalive"], view["certificate"]["renewed"]) == (None, False)
    after = place.desk.status()
    assert (after["keepalive"]["now"], after["certificate"]["renewed"]) == ("udp", True)


def test_a_node_renews_its_certificate_alone(place: Place) -> None:
    """Last, so that nobody waits for it."""
    seconds_until(lambda: ends(place.desk) > place.first, "a new certificate", 240)


def ends(node: NtmNode) -> str:
    return str(node.status()["certificate"]["ends"])


def peers(node: NtmNode) -> list[str]:
    return [peer["fqdn"] for peer in node.status()["peers"]]


def known(node: NtmNode, peer: NtmNode) -> Any:  # noqa: ANN401
    forget_tunnels(node)
    node.ntm("ping", peer.fqdn, "-c", "1", check=False)
    found = [each for each in node.status()["peers"] if each["fqdn"] == peer.fqdn]
    return found[0]["authenticated"] if found else None


def trust(node: NtmNode) -> tuple[str, ...]:
    return "--ca", str(node.organisation.directory / "ca.pem")


def credential(certificate: Path, key: Path) -> tuple[str, ...]:
    return "--certificate", str(certificate), "--key", str(key)


def up_with(node: NtmNode, certificate: Path, key: Path, *, check: bool = True) -> str:
    who = f"{node.user}@{node.organisation.domain}"
    words = ("up", who, "--name", node.name, *trust(node), *credential(certificate, key))
    done = node.ntm(*words, check=check)
    return done.stdout + done.stderr


def corporation(directory: Path, fqdn: str) -> Path:
    """A CA of OpenSSL's making, and a certificate by it for that name."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=directory)

    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Example Corporation", "-days", "30"),
    )
    openssl("genpkey", "-algorithm", "ed25519", "-out", "key.pem")
    openssl("req", "-new", "-key", "key.pem", "-subj", "/CN=badge", "-out", "request.pem")
    (directory / "extensions").write_text(
        f"subjectAltName=DNS:{fqdn}\nextendedKeyUsage=clientAuth\nkeyUsage=digitalSignature\n"
        "basicConstraints=CA:FALSE\n"
    )
    openssl(
        *("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "7"),
        *("-extfile", "extensions", "-out", "cert.pem"),
    )
    return directory / "ca.pem"
