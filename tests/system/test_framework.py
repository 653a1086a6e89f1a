"""The framework built-in type between real networks: programs without root, by name."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from ntmobile.lab.host import Host
from ntmobile.lab.ntm import PASSWORD, NtmNode, Organisation, World
from tests.system import framework_app, two_nodes

pytestmark = pytest.mark.lab
EXAMPLES = Path(__file__).parents[2] / "examples"
PYTHON = os.environ.get("NTM_TEST_PYTHON", sys.executable)
"""What runs the applications; scripts/install-check gives one that pip installed into."""
USER = int(os.environ.get("NTM_TEST_USER") or 65534)
"""Who runs them; scripts/install-check says who installed. Root gives all its rights up."""
RIGHTS = ["--clear-groups", "--bounding-set=-all"]
ORDINARY = ["setpriv", f"--reuid={USER}", f"--regid={USER}", *RIGHTS]


@dataclass
class App:
    """A machine with an application on it that is a node, run by nobody."""

    name: str
    user: str
    organisation: Organisation
    host: Host
    state: Path

    @property
    def fqdn(self) -> str:
        return f"{self.name}.{self.user}.{self.organisation.domain}"

    def command(self, file: str, *words: str) -> list[str]:
        return [*ORDINARY, PYTHON, file, str(self.state), *words]

    def login(self) -> None:
        if self.user not in self.organisation.users:
            self.organisation.add_user(self.user)
        self.state.mkdir()
        os.chown(self.state, USER, USER)
        who = f"{self.user}@{self.organisation.domain}"
        ca = shutil.copy(self.organisation.directory / "ca.pem", self.state / "ca.pem")
        made = self.host.run(
            self.command(str(EXAMPLES / "login.py"), who, self.name, str(ca)), input=PASSWORD + "\n"
        )
        assert made.stdout == f"{self.fqdn}\n"

    def start(self, file: str, *words: str) -> "subprocess.Popen[str]":
        return self.host.popen(
            self.command(file, *words), stdout=subprocess.PIPE, stdin=subprocess.PIPE
        )


@dataclass
class Place:
    """Two domains; an application of one behind a NAT, of the other behind another."""

    world: World
    here: App
    there: App
    pc: NtmNode
    """A machine of the system type."""


@pytest.fixture(scope="module")
def place(world: World) -> Place:
    org, net = world.federation("ntm.example.org", "ntm.example.net")
    lab, internet = world.lab, world.internet
    os.chmod(world.directory, 0o755)
    home, office = lab.nat("home", internet), lab.nat("office", internet)
    here = App("app", "alice", org, lab.host("app", home), world.directory / "state-app")
    there = App("shop", "bob", net, lab.host("shop", office), world.directory / "state-shop")
    for each in (here, there):
        each.login()
    pc = world.node("pc", "bob", net, office)
    return Place(world, here, there, pc)


def test_the_examples_serve_and_fetch_by_name_between_two_nats(place: Place) -> None:
    serving = place.there.start(str(EXAMPLES / "serve.py"))
    assert serving.stdout is not None
    try:
        assert serving.stdout.readline() == f"http://{place.there.fqdn}/\n"

        fetch = place.here.command(str(EXAMPLES / "fetch.py"), place.there.fqdn)
        fetched = place.here.host.run(fetch).stdout
        by_curl = place.pc.host.run(["curl", "-sS", f"http://{place.there.fqdn}/"]).stdout
    finally:
        serving.terminate()
        serving.wait()

    assert fetched == f"HTTP/1.1 200 OK\nhello, {place.here.fqdn}\n"
    assert by_curl == f"hello, {place.pc.fqdn}\n"


def test_a_web_application_answers_httpx_and_curl_and_knows_who_asks(place: Place) -> None:
    serving = place.there.start(str(EXAMPLES / "web_app.py"))
    assert serving.stdout is not None
    url = f"http://{place.there.fqdn}/"
    try:
        assert serving.stdout.readline() == f"{url}\n"

        by_httpx, by_aiohttp, by_blocking = (
            place.here.host.run(
                place.here.command(str(EXAMPLES / f"{kind}_client.py"), place.there.fqdn)
            ).stdout
            for kind in ("web", "aiohttp", "blocking")
        )
        by_curl = place.pc.host.run(["curl", "-sS", url]).stdout
    finally:
        serving.terminate()
        serving.wait()

    you = json.dumps({"you": place.here.fqdn}, separators=(",", ":"))
    assert by_httpx == f"{you}\n" * 2
    assert by_aiohttp == f"{you}\nstill there?\n"
    assert by_blocking == f"{you}\nHTTP/1.1 200 OK\n"
    assert json.loads(by_curl) == {"you": place.pc.fqdn}


def test_one_process_is_a_node_in_each_of_two_organisations(place: Place) -> None:
    host = place.world.lab.host("twin", place.world.lab.nat("flat", place.world.internet))
    twins = [
        App(name, "alice", each.organisation, host, place.world.directory / f"state-{name}")
        for name, each in (("first", place.here), ("second", place.there))
    ]
    for twin in twins:
        twin.login()

    states = [str(twin.state) for twin in twins]
    told = json.loads(host.run([*ORDINARY, PYTHON, two_nodes.__file__, *states]).stdout)

    assert told == {twin.fqdn: twin.fqdn for twin in twins}


def test_where_nobody_is_the_application_hears_why(place: Place) -> None:
    fetch = place.here.command(str(EXAMPLES / "fetch.py"), "nobody.bob.ntm.example.net")

    failed = place.here.host.run(fetch, check=False)

    assert failed.returncode == 1
    assert "there is no such node, or you may not know of it" in failed.stderr


def test_a_stream_survives_a_move_both_ways(place: Place) -> None:
    app = framework_app.__file__
    serving = place.there.start(app, "serve")
    assert serving.stdout is not None
    assert serving.stdout.readline() == "ready\n"
    asking = place.here.start(app, "ask", place.there.fqdn)
    assert asking.stdout is not None
    try:
        assert asking.stdout.readline() == "moving\n"
        place.here.host.move(place.world.internet)
        told = json.loads(asking.stdout.readline())
    finally:
        for each in (asking, serving):
            each.terminate()
            each.wait()

    assert told["bytes"] == framework_app.AMOUNT
    assert told["right"] is True
    assert told["handovers"] >= 1
