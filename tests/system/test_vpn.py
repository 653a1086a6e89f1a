"""The VpnService type: a node without rights on a device that another process hands over."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from ntmobile.agent.links import OWN_TUN_PREFIX
from ntmobile.lab.errors import LabError
from ntmobile.lab.host import Host
from ntmobile.lab.ntm import NtmNode, World
from ntmobile.vpn.configuration import DNS_IPV4
from ntmobile.vpn.linux import MARK, PRIORITY
from tests.system import vpn_unprotected
from tests.system.phones import NOBODY, Phone
from tests.system.programs import HELLO, PACED, Programs
from tests.system.transfers import Transfer, make_file

pytestmark = pytest.mark.lab


@dataclass
class Place:
    world: World
    phone: Phone
    pc: NtmNode
    node: "subprocess.Popen[str]"
    programs: Programs
    system: "subprocess.Popen[str]"
    before: str
    """The machine's resolv.conf without a VPN."""
    web: Host
    """A server on the internet that is no node."""


@pytest.fixture(scope="module")
def place(world: World) -> Place:
    org, net = world.federation("ntm.example.org", "ntm.example.net")
    os.chmod(world.directory, 0o755)
    home = world.lab.nat("home", world.internet)
    office = world.lab.nat("office", world.internet)
    host = world.lab.host("phone", home)
    phone = Phone("phone", "alice", org, host, world.directory / "state-phone")
    phone.login()
    pc = world.node("pc", "bob", net, office)
    programs = Programs(world.directory / "served")
    web = world.lab.host("web", world.internet)
    for each in (phone.host, pc.host, web):
        programs.serve_web(each)
    before = phone.host.path("/etc/resolv.conf").read_text()
    system = phone.start_system("--lockdown")
    return Place(world, phone, pc, phone.start_node(), programs, system, before, web)


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_unmodified_curl_reaches_a_node_by_name_and_the_other_way(
    place: Place, family: str
) -> None:
    assert place.phone.curl(f"http://{place.pc.fqdn}/hello.txt", family) == HELLO

    back = ["curl", family, "-sS", "--max-time", "20", f"http://{place.phone.fqdn}/hello.txt"]
    assert place.pc.host.run(back).stdout == HELLO


def test_the_process_has_no_right_at_all(place: Place) -> None:
    lines = Path(f"/proc/{place.node.pid}/status").read_text().splitlines()
    told = dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    assert [told[f"Cap{kind}"] for kind in ("Prm", "Eff", "Bnd", "Amb")] == ["0" * 16] * 4
    assert told["Uid"].split() == [str(NOBODY)] * 4


def test_every_socket_of_the_node_is_protected(place: Place) -> None:
    shown = place.phone.host.run(["ss", "-H", "-a", "-n", "-p", "-m", "-e", "-A", "inet"]).stdout
    own = [line for line in shown.splitlines() if f"pid={place.node.pid}," in line]

    assert own
    assert all(f"fwmark:{MARK:#x}" in line for line in own), own


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_names_are_answered_out_of_the_device(place: Place, transport: str) -> None:
    dig = ["dig", "+short", "+tries=1", "+time=8", transport, f"@{DNS_IPV4}"]

    node = place.phone.host.run([*dig, "AAAA", place.pc.fqdn]).stdout.split()
    ordinary = place.phone.host.run([*dig, "NS", "example.org"]).stdout
    back = place.phone.host.run([*dig, "-x", node[0]]).stdout

    assert node == [place.pc.status()["virtual_ipv6"]]
    assert ordinary
    assert back == f"{place.pc.fqdn}.\n"


def test_a_short_name_is_another_node_of_the_same_user(place: Place) -> None:
    assert place.phone.curl(f"http://{place.phone.name}/hello.txt") == HELLO


def test_nothing_leaves_past_the_device_in_lockdown(place: Place) -> None:
    with pytest.raises(LabError):
        place.phone.curl(f"http://{place.web.ipv4}/hello.txt")


def test_a_download_survives_a_move_that_the_system_tells(place: Place) -> None:
    sha256 = make_file(place.programs.folder / "large", 1 << 23)
    place.programs.serve_paced(place.pc.host, 4_000_000)

    with Transfer(place.phone, place.pc, "large", port=PACED) as transfer:
        transfer.await_bytes(1 << 21)
        place.phone.host.move(place.world.internet)

        assert transfer.finish() == sha256


def test_only_a_node_whose_sockets_are_protected_starts_again_in_lockdown(place: Place) -> None:
    place.node.terminate()
    place.node.wait()

    alone = place.phone.command(Path(vpn_unprotected.__file__))
    failed = place.phone.host.run(alone, check=False)
    place.node = place.phone.start_node()

    assert failed.returncode == 1
    assert "ntmobile.errors.Remedy" in failed.stderr
    assert place.phone.curl(f"http://{place.pc.fqdn}/hello.txt") == HELLO


def test_at_its_end_the_system_gives_everything_back(place: Place) -> None:
    phone = place.phone.host
    assert f"{PRIORITY}:" in phone.run(["ip", "rule"]).stdout

    for process in (place.node, place.system):
        process.terminate()
        assert process.wait() == 0

    rules = phone.run(["ip", "rule"]).stdout + phone.run(["ip", "-6", "rule"]).stdout
    assert f"{PRIORITY}:" not in rules
    assert phone.path("/etc/resolv.conf").read_text() == place.before
    assert OWN_TUN_PREFIX not in phone.run(["ip", "-br", "link"]).stdout
    assert place.phone.curl(f"http://{place.web.ipv4}/hello.txt") == HELLO
