"""The proxy model: unmodified programs of somebody without root reach nodes by name."""

import shutil
import subprocess
import sys
from dataclasses import dataclass

import pytest

from ntmobile.lab.errors import LabError
from ntmobile.lab.ntm import NTM, PASSWORD, NtmNode, World
from tests.system import browser
from tests.system.browser import Browser
from tests.system.programs import HELLO, Programs, await_listening

pytestmark = pytest.mark.lab
POWERLESS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
"""Root without any right of root: another user might not find the way to the interpreter."""
SOCKS, HTTP = 1055, 1056
SERVICE = 8000


@dataclass
class Place:
    """A laptop of somebody without root behind a NAT, a machine of the system type elsewhere."""

    world: World
    laptop: NtmNode
    pc: NtmNode

    def ntm(self, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run an `ntm` command without rights on the laptop."""
        command = [*POWERLESS, NTM, *words, "--state", str(self.laptop.state)]
        return self.laptop.host.run(command, input=PASSWORD + "\n", check=check)

    def curl(self, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run curl on the laptop."""
        command = [*POWERLESS, "curl", "-sS", "--max-time", "60", *words]
        return self.laptop.host.run(command, check=check)


@pytest.fixture(scope="module")
def place(world: World) -> Place:
    org, net = world.federation("ntm.example.org", "ntm.example.net")
    home = world.lab.nat("home", world.internet)
    laptop = world.machine("laptop", "alice", org, home)
    pc = world.node("pc", "bob", net, world.internet)
    Programs(world.directory / "served").serve_web(pc.host)
    laptop.state.mkdir()
    ca = shutil.copy(org.directory / "ca.pem", laptop.state / "ca.pem")
    made = Place(world, laptop, pc)
    who = f"alice@{org.domain}"
    trust = ["--ca", str(ca), "--password-stdin"]
    made.ntm("up", who, "--name", "laptop", "--model", "proxy", *trust)
    return made


@pytest.mark.parametrize(
    "proxy", [f"socks5h://127.0.0.1:{SOCKS}", f"http://127.0.0.1:{HTTP}"], ids=["SOCKS", "HTTP"]
)
@pytest.mark.parametrize("tunnel", [[], ["--proxytunnel"]], ids=["plain", "CONNECT"])
def test_curl_reaches_a_node_by_name(place: Place, proxy: str, tunnel: list[str]) -> None:
    url = f"http://{place.pc.fqdn}/hello.txt"

    assert place.curl("--proxy", proxy, *tunnel, url).stdout == HELLO


def test_what_is_no_node_goes_out_by_the_ordinary_network(place: Place) -> None:
    url = f"http://{place.pc.host.ipv4}/hello.txt"

    assert place.curl("--proxy", f"http://127.0.0.1:{HTTP}", url).stdout == HELLO


def test_a_node_that_is_not_there_is_a_bad_gateway_that_says_why(place: Place) -> None:
    url = "http://nobody.bob.ntm.example.net/"

    answer = place.curl("--proxy", f"http://127.0.0.1:{HTTP}", "-i", url).stdout

    assert answer.startswith("HTTP/1.1 502 Bad Gateway")
    assert "there is no such node, or you may not know of it" in answer
    with pytest.raises(LabError, match="SOCKS5"):
        place.curl("--proxy", f"socks5h://127.0.0.1:{SOCKS}", url)


def test_an_exposed_port_is_reached_by_name_until_it_is_taken_back(place: Place) -> None:
    Programs(place.world.directory / "exposed").serve_web(place.laptop.host)
    command = ["curl", "-sS", "--max-time", "30", f"http://{place.laptop.fqdn}/hello.txt"]
    assert place.pc.host.run(command, check=False).returncode != 0

    said = place.ntm("expose", "80").stdout
    assert said == "port 80 of localhost is offered to peers\n"
    await_listening(place.laptop.host, 80)
    assert place.pc.host.run(command).stdout == HELLO
    own = f"http://{place.laptop.fqdn}/hello.txt"
    assert place.curl("--proxy", f"http://127.0.0.1:{HTTP}", own).stdout == HELLO

    other = place.ntm("expose", "81", "--off", check=False)
    assert other.returncode == 1
    assert "port 81 was not offered to peers; these are: 80" in other.stderr
    place.ntm("expose", "80", "--off")
    assert place.pc.host.run(command, check=False).returncode != 0


def test_status_says_the_model(place: Place) -> None:
    told = place.ntm("status", "--json").stdout

    assert '"model": "proxy"' in told


@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium: scripts/system-tools browser")
def test_a_browser_loads_a_page_by_name_and_keeps_its_websocket_through_a_move(
    place: Place,
) -> None:
    cafe = place.world.lab.nat("cafe", place.world.internet)
    serving = [sys.executable, browser.__file__, str(SERVICE)]
    place.pc.host.popen(serving, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    await_listening(place.pc.host, SERVICE)
    url = f"http://{place.pc.fqdn}:{SERVICE}"
    profile = place.world.directory / "browser"
    place.world.directory.chmod(0o755)
    chromium = Browser(place.laptop.host, profile, f"http://127.0.0.1:{HTTP}", f"{url}/")
    try:
        loaded = chromium.hear()
        before = chromium.hear_echoes(5)
        place.laptop.host.move(cafe)
        after = chromium.hear_echoes(60)
    finally:
        chromium.close()

    assert loaded == f"loaded hello from {place.pc.fqdn}:{SERVICE}"
    # One and the same WebSocket: none is missing, none came twice.
    assert before + after == list(range(65))
    assert place.laptop.peer(place.pc)["last_handover"] is not None
