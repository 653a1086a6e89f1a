"""Names by systemd-resolved: Debian's own, told over a private system bus."""

import json
import os
import signal
from dataclasses import dataclass

import pytest

from ntmobile.lab.ntm import NtmNode, World
from ntmobile.lab.waiting import wait_until
from tests.system import resolved
from tests.system.resolved import Resolved

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(resolved.unavailable() is not None, reason=str(resolved.unavailable())),
]


@dataclass
class Place:
    """A machine with systemd-resolved on it, and two peers of the same domain."""

    world: World
    laptop: NtmNode
    desk: NtmNode
    pc: NtmNode
    resolved: Resolved

    def look_up(self, name: str, family: str = "ahostsv4") -> str:
        """What a program gets by getaddrinfo; empty when the name is unknown."""
        found = self.laptop.host.run(["getent", family, name], check=False, timeout=120).stdout
        return found.split(" ")[0] if found else ""

    def hook(self) -> str:
        told = json.loads(self.laptop.ntm("dns", "status", "--json").stdout)
        return str(told["hook"])


@pytest.fixture(scope="module")
def place(world: World) -> Place:
    org = world.organisation("ntm.example.org")
    lab, internet = world.lab, world.internet
    laptop = world.machine("laptop", "alice", org, lab.nat("home", internet))
    desk = world.machine("desk", "alice", org, internet)
    pc = world.machine("pc", "bob", org, internet)
    servers = laptop.host.path("/etc/resolv.conf").read_text().split()
    there = Resolved(laptop.host, servers[servers.index("nameserver") + 1])
    world.bring_up(laptop, desk, pc)
    return Place(world, laptop, desk, pc, there)


def test_the_stub_is_the_server_of_the_tunnel_device_and_resolv_conf_stays(place: Place) -> None:
    shown = place.resolved.control("status", "ntm0")

    assert place.hook() == "systemd-resolved"
    assert "systemd-resolved" in place.laptop.ntm("status").stdout
    assert "127.0.0.1:" in shown
    assert "DNS Domain: ~. alice.ntm.example.org ntm.example.org" in shown
    assert "53" not in place.laptop.host.run(["nft", "list", "ruleset"]).stdout
    assert "127.0.0.53" in place.laptop.host.run(["cat", "/etc/resolv.conf"]).stdout


@pytest.mark.parametrize("family", ["ahostsv4", "ahostsv6"])
def test_programs_reach_peers_by_full_and_by_short_names(place: Place, family: str) -> None:
    version = "-4" if family == "ahostsv4" else "-6"

    assert place.look_up(place.pc.fqdn, family) == place.look_up("pc.bob", family) != ""
    assert place.look_up(place.desk.fqdn, family) == place.look_up("desk", family) != ""
    for name in (place.pc.fqdn, "pc.bob", "desk"):
        place.laptop.host.run(["ping", version, "-c", "1", "-W", "30", name])


def test_ordinary_names_are_the_ordinary_servers_business(place: Place) -> None:
    server = place.laptop.organisation

    assert place.look_up(f"dc.{server.domain}") == str(server.host.ipv4)
    assert place.look_up("nobody.example.org") == ""


def test_after_a_crash_of_systemd_resolved_names_are_found_again(place: Place) -> None:
    place.resolved.kill()

    wait_until(lambda: place.look_up(place.pc.fqdn) != "", "names", 120)


def test_what_somebody_else_changed_is_told_again(place: Place) -> None:
    place.resolved.control("revert", "ntm0")

    wait_until(
        lambda: "127.0.0.1:" in place.resolved.control("dns", "ntm0"), "the stub at the link", 120
    )


@pytest.mark.parametrize("end", ["down", "kill"])
def test_at_the_end_of_the_agent_names_are_as_before(place: Place, end: str) -> None:
    if end == "down":
        place.laptop.ntm("down")
    else:
        os.kill(place.laptop.pid, signal.SIGKILL)
    wait_until(lambda: "ntm0" not in place.resolved.control("status"), "the link to go", 120)

    assert place.look_up(f"dc.{place.laptop.organisation.domain}") != ""
    assert place.look_up(place.pc.fqdn) == ""
    place.laptop.ntm("up")
    assert place.look_up(place.pc.fqdn) != ""


def test_where_queries_leave_by_tls_the_packet_path_is_hooked_instead(place: Place) -> None:
    place.laptop.ntm("down")
    place.laptop.host.run(["sh", "-c", "echo DNSOverTLS=yes >> /etc/systemd/resolved.conf"])
    place.resolved.kill()

    place.laptop.ntm("up")

    assert place.hook() == "nftables"
