"""One domain on several machines, for real: `ntm serve` on each, nodes behind NATs."""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ntmobile.lab import Behaviour, Filtering, Host, Internet, Lab, Mapping, Ports, unavailable
from ntmobile.lab.errors import LabError
from ntmobile.runtime.clock import Clock
from ntmobile.servers.files import ServerDirectory
from ntmobile.servers.view import view
from ntmobile.wire.stun import BindingRequest, BindingResponse

pytestmark = pytest.mark.lab
DOMAIN = "ntm.example.org"
PASSWORD = "correct horse battery staple"
NTM = [sys.executable, "-c", "from ntmobile.cli.main import main; main()"]
HARD = Behaviour(
    Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT, Ports.RANDOM
)
SYSTEMS_CHOICE, FIRST, SECOND = "203.0.113.210", "203.0.113.211", "203.0.113.212"
"""Addresses of the main machine; DC is at the latter two."""
RELAYS = {"rs": "203.0.113.220", "rs2": "203.0.113.230"}
GUARD_S = 180.0
MAIN_SETTINGS = f"""
[[relay]]
name = "rs2"
addresses = ["{RELAYS["rs2"]}"]
"""


class Machine:
    """A machine of the operator with a directory of its own."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.host = host
        self.directory = directory
        self.log = directory.with_suffix(".log")
        self.process: subprocess.Popen[str] | None = None

    def serve(self, *arguments: str) -> None:
        with self.log.open("w") as log:
            self.process = self.host.popen(
                [*NTM, "serve", str(self.directory), *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self.log.read_text()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


class Domain:
    """AS and DC on one machine, each RS on another: one from a copy, one without secrets."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.net: Internet = lab.internet()
        self.main = Machine(lab.host("main", self.net, ipv4=SYSTEMS_CHOICE), folder / "main")
        for address in (FIRST, SECOND):
            self.main.host.ip(f"addr add {address}/32 dev eth0")
            self.net.ip(f"route add {address} dev {self.main.host.uplink.port}")
        self._init()
        self.relays = {label: self._relay(label, at) for label, at in RELAYS.items()}
        self.main.serve()

    def ntm(self, host: Host, *words: str, input: str | None = None) -> str:
        return host.run([*NTM, *words], input=input, timeout=GUARD_S).stdout

    def admin(self, *words: str, input: str | None = None) -> str:
        """Running servers take the change over before this returns."""
        command = ("admin", "--server", str(self.main.directory), *words)
        return self.ntm(self.main.host, *command, input=input)

    def node(self, name: str) -> "NodeHost":
        host = self.lab.host(name, self.lab.nat(f"nat-{name}", self.net, HARD))
        return NodeHost(self, host, self.folder / name)

    def _init(self) -> None:
        made = ["server", "init", str(self.main.directory), "--domain", DOMAIN, "--offline"]
        made += ["--address", FIRST, "--address", SECOND, "--rs-address", RELAYS["rs"]]
        records = self.ntm(self.main.host, *made).splitlines()
        file = self.main.directory / "server.toml"
        file.write_text(file.read_text() + MAIN_SETTINGS)
        self.lab.dns_parent({"example.org.": records}, self.net)
        self.admin("user", "add", "alice", "--password-stdin", input=PASSWORD)

    def _relay(self, label: str, address: str) -> Machine:
        host = self.lab.host(label, self.net, ipv4=address)
        directory = self.folder / label
        if label == "rs":
            database = shutil.ignore_patterns("ntm.db*")
            shutil.copytree(self.main.directory, directory, ignore=database)
        else:
            self.ntm(
                self.main.host, "server", "relay", str(self.main.directory), label, str(directory)
            )
        machine = Machine(host, directory)
        machine.serve()
        return machine


class NodeHost:
    def __init__(self, domain: Domain, host: Host, state: Path) -> None:
        self.domain = domain
        self.host = host
        self.state = state

    @property
    def fqdn(self) -> str:
        return f"{self.host.name}.alice.{DOMAIN}"

    def ntm(self, *words: str, input: str | None = None) -> str:
        return self.domain.ntm(self.host, *words, "--state", str(self.state), input=input)

    def up(self, *trust: str) -> None:
        trust = trust or ("--ca", str(self.domain.main.directory / "ca.pem"))
        login = ("up", f"alice@{DOMAIN}", "--name", self.host.name, *trust, "--password-stdin")
        self.ntm(*login, input=PASSWORD)

    def status(self) -> Any:  # noqa: ANN401
        return json.loads(self.ntm("status", "--json"))

    def path_to(self, other: "NodeHost") -> dict[str, Any]:
        [peer] = [peer for peer in self.status()["peers"] if peer["fqdn"] == other.fqdn]
        path: dict[str, Any] = peer["path"]
        return path


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domain]:
    if (reason := unavailable()) is not None:
        pytest.skip(f"no lab here: {reason}")
    with Lab() as lab:
        yield Domain(lab, tmp_path_factory.mktemp("domain"))


@pytest.fixture(scope="module")
def pair(domain: Domain) -> tuple[NodeHost, NodeHost]:
    laptop, pc = domain.node("laptop"), domain.node("pc")
    laptop.up()
    pc.up()
    return laptop, pc


def test_each_machine_runs_the_servers_that_are_at_home_there(domain: Domain) -> None:
    assert elsewhere(domain.main) == {"rs", "rs2"}
    assert elsewhere(domain.relays["rs"]) == {"as", "dc", "ns", "rs2"}
    assert elsewhere(domain.relays["rs2"]) == set()


@pytest.mark.parametrize(("label", "address"), RELAYS.items())
def test_the_dns_tells_where_each_rs_is(domain: Domain, label: str, address: str) -> None:
    code = f"import socket; print(socket.gethostbyname('{label}.{DOMAIN}'))"

    found = domain.main.host.run([sys.executable, "-c", code]).stdout

    assert found == f"{address}\n"


@pytest.mark.parametrize("asked", [FIRST, SECOND])
def test_a_dc_with_several_addresses_answers_from_the_one_that_was_asked(
    domain: Domain, pair: tuple[NodeHost, NodeHost], asked: str
) -> None:
    answer, source = stun(domain.relays["rs"].host, asked, 4330)

    assert (source, str(answer.mapped.host)) == (asked, RELAYS["rs"])


def test_a_port_that_remembers_nobody_answers_from_the_systems_choice(domain: Domain) -> None:
    """The negative twin: why the nodes behind their NATs hear the DC at all."""
    echo = (
        "import select; from ntmobile._core import Port; port = Port(port=5000)\n"
        "print('ready', flush=True); select.select([port], [], [])\n"
        "for d in port.drain(): port.send(d.source_host, d.source_port, d.payload)"
    )
    server = domain.main.host.popen([sys.executable, "-c", echo], stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"

    with domain.relays["rs"].host.socket() as asking:
        asking.settimeout(GUARD_S)
        asking.sendto(b"asked", (SECOND, 5000))
        _, source = asking.recvfrom(100)

    server.wait(GUARD_S)
    assert source[0] == SYSTEMS_CHOICE


def test_a_node_behind_a_nat_registers_with_such_a_dc(pair: tuple[NodeHost, NodeHost]) -> None:
    laptop, pc = pair

    assert laptop.status()["state"] == pc.status()["state"] == "up"


def test_two_hard_nats_meet_at_an_rs_and_at_the_other_one_when_it_dies(
    domain: Domain, pair: tuple[NodeHost, NodeHost]
) -> None:
    laptop, pc = pair
    laptop.ntm("ping", pc.fqdn, "-c", "1")
    path = laptop.path_to(pc)
    used = next(label for label, at in RELAYS.items() if at in path["remote"])
    [other] = set(RELAYS) - {used}
    assert path["kind"] == "relay"

    domain.relays[used].kill()
    laptop.host.run(["ping", "-c", "1", "-w", "120", pc.fqdn], timeout=GUARD_S)

    path = laptop.path_to(pc)
    assert path["kind"] == "relay"
    assert RELAYS[other] in path["remote"]


def test_a_node_that_trusts_a_fingerprint_outlives_the_certificate(domain: Domain) -> None:
    node = domain.node("phone")
    directory = ServerDirectory(domain.main.directory)
    settings = directory.config()
    before = view(directory).tls_fingerprint
    node.up("--fingerprint", before)
    node.ntm("down")
    # Running servers read everything again after a change by `ntm admin`.
    names = (*settings.names, f"renewed.{DOMAIN}")
    assert directory.renew(settings, names, serial=7, now_s=int(Clock().wall()))

    domain.admin("federation", "mode", "closed")
    node.ntm("up")

    assert node.status()["state"] == "up"
    with pytest.raises(LabError, match="not trusted"):
        domain.node("other").up("--fingerprint", before)


def elsewhere(machine: Machine) -> set[str]:
    """Which servers a machine said run elsewhere."""
    return set(re.findall(rf"server=(\w+)\.{DOMAIN}", machine.log.read_text()))


def stun(host: Host, server: str, port: int) -> tuple[BindingResponse, str]:
    request = BindingRequest(bytes(12))
    with host.socket(kind=socket.SOCK_DGRAM) as asking:
        asking.settimeout(GUARD_S)
        asking.sendto(request.encode(), (server, port))
        data, source = asking.recvfrom(2048)
    return BindingResponse.decode(data), source[0]
