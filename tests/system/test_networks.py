"""Networks beyond a node: a machine that cannot run the software, and the Internet by a peer."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ntmobile.lab.host import Host
from ntmobile.lab.ntm import NtmNode, World
from tests.system.programs import PATIENCE_S, await_listening

pytestmark = pytest.mark.lab
PORT = 8080
A_MOMENT_S = 3.0
WHO_ASKS = str(Path(__file__).with_name("who_asks.py"))


@dataclass
class Place:
    """A laptop at home; a gateway with a leg in a workshop; a printer there, a site outside."""

    world: World
    laptop: NtmNode
    gateway: NtmNode
    printer: Host
    site: Host

    def ask(self, url: str, *, patience_s: float = PATIENCE_S) -> str:
        """As whom an unmodified curl is seen; empty when it gets no answer."""
        command = ["curl", "-sS", "-g", "--max-time", str(patience_s), url]
        return self.laptop.host.run(command, check=False).stdout

    @property
    def workshop(self) -> str:
        return str(self.printer.uplink.ipv4.network)  # type: ignore[union-attr]

    @property
    def printer_page(self) -> str:
        return f"http://{self.printer.ipv4}:{PORT}/"

    def site_page(self, version: int) -> str:
        site = self.site
        host = str(site.ipv4) if version == 4 else f"[{site.ipv6}]"
        return f"http://{host}:{PORT}/"

    def refused(self) -> int:
        """How many packets the gateway refused because nobody leads there."""
        for line in self.gateway.ntm("bugreport").stdout.splitlines():
            if "inner_unpermitted" in line:
                return int(line.split()[-1])
        return 0


@pytest.fixture(scope="module")
def place(world: World) -> Place:
    org = world.organisation("ntm.example.org")
    lab, internet = world.lab, world.internet
    laptop = world.machine("laptop", "alice", org, lab.nat("home", internet))
    gateway = world.machine("gw", "bob", org, internet)
    workshop = lab.nat("workshop", internet)
    gateway.host.add_uplink(workshop, interface="lan0", ipv6=None)
    printer, site = lab.host("printer", workshop), lab.host("site", internet)
    for each in (printer, site):
        each.popen([sys.executable, WHO_ASKS, str(PORT)])
        await_listening(each, PORT)
    world.bring_up(laptop, gateway)
    return Place(world, laptop, gateway, printer, site)


@pytest.fixture(autouse=True)
def _afterwards(place: Place) -> Iterator[None]:
    yield
    place.laptop.ntm("set", "routes=")
    place.gateway.ntm("set", "advertise-routes=")


def test_a_machine_without_the_software_is_reached_when_both_ends_say_so(place: Place) -> None:
    place.gateway.host.configure({"ipv4/ip_forward": "1"})
    nobody_leads = place.ask(place.printer_page, patience_s=A_MOMENT_S)

    place.laptop.ntm("set", f"routes={place.workshop}@{place.gateway.fqdn}")
    place.laptop.ntm("wait", place.gateway.fqdn)
    only_one_said_so = place.ask(place.printer_page, patience_s=A_MOMENT_S)
    place.gateway.ntm("set", f"advertise-routes={place.workshop}")

    assert nobody_leads == only_one_said_so == ""
    lan = place.gateway.host.uplinks["lan0"].ipv4
    assert lan is not None
    assert place.ask(place.printer_page) == str(lan.ip)
    place.laptop.ntm("set", "routes=")
    assert place.ask(place.printer_page, patience_s=A_MOMENT_S) == ""


def test_what_nobody_leads_to_is_dropped_and_counted(place: Place) -> None:
    place.gateway.ntm("set", f"advertise-routes={place.workshop}")
    place.laptop.ntm("set", f"routes=192.168.0.0/16@{place.gateway.fqdn}")
    before = place.refused()

    assert place.ask("http://192.168.99.7/", patience_s=A_MOMENT_S) == ""
    assert place.ask(place.printer_page) != ""

    assert place.refused() > before


def test_a_gateway_that_does_not_forward_says_what_to_do(place: Place) -> None:
    place.gateway.host.configure({"ipv4/ip_forward": "0"})

    place.gateway.ntm("set", f"advertise-routes={place.workshop}")

    said = place.gateway.ntm("status").stdout
    assert "does not forward IPv4" in said
    assert "echo 1 > /proc/sys/net/ipv4/ip_forward" in said
    place.gateway.host.configure({"ipv4/ip_forward": "1"})
    assert place.gateway.status()["reasons"] == []


@pytest.mark.parametrize("version", [4, 6])
def test_the_internet_by_an_exit_node_and_no_capsule_loops(place: Place, version: int) -> None:
    laptop, gateway = place.laptop, place.gateway
    gateway.host.configure({"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"})
    everything = "0.0.0.0/0" if version == 4 else "::/0"
    directly = place.ask(place.site_page(version))
    gateway.ntm("set", f"advertise-routes={everything}")

    laptop.ntm("set", f"routes={everything}@{gateway.fqdn}")
    wanted = str(gateway.host.ipv4 if version == 4 else gateway.host.ipv6)
    laptop.ntm("wait", gateway.fqdn)

    assert place.ask(place.site_page(version)) == wanted
    assert directly != wanted
    # The servers and the gateway itself lie in what is routed into the tunnel.
    assert place.laptop.ntm("ping", "-c", "2", gateway.fqdn).returncode == 0
    assert place.laptop.status()["state"] == "up"
    router = place.laptop.host.uplink.ipv4.network[1]  # type: ignore[union-attr]
    laptop.host.run(["ping", "-c", "1", "-W", "30", str(router)])
    laptop.ntm("set", "routes=")
    assert place.ask(place.site_page(version)) == directly


def test_after_down_the_machine_routes_as_before(place: Place) -> None:
    laptop = place.laptop
    laptop.ntm("set", f"routes={place.workshop}@{place.gateway.fqdn},::/0@{place.gateway.fqdn}")
    with_routes = [laptop.host.run(["ip", each, "rule"]).stdout for each in ("-4", "-6")]

    laptop.ntm("down")

    assert all("suppress_prefixlength 0" in each for each in with_routes)
    for each in ("-4", "-6"):
        assert "78" not in laptop.host.run(["ip", each, "rule"]).stdout
    laptop.ntm("up")
    assert laptop.ntm("set", "--json").stdout.count("@gw.bob") == 2


def test_wrong_networks_are_refused_with_what_to_write(place: Place) -> None:
    for wrong in ("routes=192.168.50.0/24", "routes=192.168.50.1/24@gw.bob.ntm.example.org"):
        said = place.laptop.ntm("set", wrong, check=False)
        assert said.returncode == 1
        assert "next:" in said.stderr
    taken = place.laptop.ntm("set", "advertise-routes=100.64.0.0/16", check=False)
    assert "virtual addresses" in taken.stderr
