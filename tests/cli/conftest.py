"""A domain and two nodes as people would have them: real servers, NATs and `ntm` commands."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ntmobile.lab import Host, Internet, Lab, unavailable

DOMAIN = "ntm.example.org"
PASSWORD = "correct horse battery staple"
NTM = [sys.executable, "-c", "from ntmobile.cli.main import main; main()"]
GUARD_S = 180.0


class World:
    """An internet with one organisation on it; nodes are made as tests need them."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.net: Internet = lab.internet()
        self.server = lab.host("server", self.net)
        self.organisation = folder / "organisation"
        self.ca = self.organisation / "ca.pem"
        address = str(self.server.ipv4)
        made = self.run(
            self.server,
            "server",
            "init",
            str(self.organisation),
            "--domain",
            DOMAIN,
            "--address",
            address,
            "--offline",
        )
        assert made.returncode == 0, made.stderr
        lab.dns_parent({"example.org.": made.stdout.splitlines()}, self.net)
        for user in ("alice", "bob"):
            self.run(
                self.server,
                "admin",
                "--server",
                str(self.organisation),
                "user",
                "add",
                user,
                "--password-stdin",
                input=PASSWORD,
            )
        self.ntm_command = NTM
        self.serving: subprocess.Popen[str] | None = None
        lab.logs["servers"] = (folder / "serve.log").read_text
        self.serve()

    def serve(self) -> None:
        with open(self.folder / "serve.log", "a") as log:
            self.serving = self.server.popen(
                [*NTM, "serve", str(self.organisation)], stdout=subprocess.PIPE, stderr=log
            )
        assert self.serving.stdout is not None
        assert self.serving.stdout.readline() == "ready\n"

    def stop_serving(self) -> None:
        assert self.serving is not None
        self.serving.terminate()
        self.serving.communicate(timeout=GUARD_S)

    def node(self, name: str, *, nat: bool = False) -> "NodeHost":
        place = self.lab.nat(f"nat-{name}", self.net) if nat else self.net
        return NodeHost(self, self.lab.host(name, place), self.folder / name)

    def run(
        self, host: Host, *arguments: str, input: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        return host.run([*NTM, *arguments], check=False, input=input, timeout=GUARD_S)


class NodeHost:
    """A machine with a state directory of its own."""

    def __init__(self, world: World, host: Host, state: Path) -> None:
        self.world = world
        self.host = host
        self.state = state
        world.lab.logs[f"node {host.name}"] = self.report

    def ntm(self, *arguments: str, input: str | None = None) -> "subprocess.CompletedProcess[str]":
        return self.world.run(self.host, *arguments, "--state", str(self.state), input=input)

    def report(self) -> str:
        """What the node did; the log alone while no agent answers."""
        asked = self.ntm("bugreport")
        return asked.stdout if asked.returncode == 0 else (self.state / "agent.log").read_text()

    def json(self, *arguments: str) -> Any:  # noqa: ANN401
        done = self.ntm(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def up(self, user: str = "alice", *, password: str = PASSWORD) -> None:
        """First login."""
        done = self.login(user, password=password)
        assert done.returncode == 0, done.stderr

    def login(
        self, user: str = "alice", *extra: str, password: str = PASSWORD
    ) -> "subprocess.CompletedProcess[str]":
        trust = extra or ("--ca", str(self.world.ca))
        who = f"{user}@{DOMAIN}"
        return self.ntm(
            "up", who, "--name", self.host.name, *trust, "--password-stdin", input=password
        )

    @property
    def agent(self) -> int:
        """The agent's process id."""
        return int((self.state / "agent.lock").read_text())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if (reason := unavailable()) is not None:
        pytest.skip(f"no lab here: {reason}")
    with Lab() as lab:
        yield World(lab, tmp_path_factory.mktemp("world"))


@pytest.fixture
def new_node(world: World, request: pytest.FixtureRequest) -> Iterator[Callable[..., NodeHost]]:
    """Makes nodes that are down again when the test ends."""
    made: list[NodeHost] = []

    def make(name: str, *, nat: bool = False) -> NodeHost:
        made.append(world.node(name, nat=nat))
        return made[-1]

    yield make
    for node in made:
        node.ntm("down")


@pytest.fixture(scope="module")
def pair(world: World) -> tuple[NodeHost, NodeHost]:
    """laptop.alice behind a NAT and pc.bob on the net, both up; nobody takes them down."""
    laptop, pc = world.node("laptop", nat=True), world.node("pc")
    laptop.up("alice")
    pc.up("bob")
    return laptop, pc
