"""Real NTMobile in a lab: organisations with their servers, and nodes, run by the `ntm` command.

with Lab() as lab:
    world = World(lab)
    org, net = world.federation("ntm.example.org", "ntm.example.net")
    laptop = world.machine("laptop", "alice", org, lab.nat("home", world.internet))
    pc = world.machine("pc", "bob", net, lab.nat("office", world.internet))
    world.bring_up(laptop, pc)
    laptop.host.run(["ping", "-c", "1", pc.fqdn])

Starting a command is mostly Python reading its modules, so `federation` and `bring_up`
start as many at once as there are processors.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ntmobile.lab.addresses import AUTO
from ntmobile.lab.errors import LabError
from ntmobile.lab.host import Host
from ntmobile.lab.lab import Lab
from ntmobile.lab.namespace import PATIENCE_S
from ntmobile.lab.network import Network

PASSWORD = "correct horse battery staple"
NTM = str(Path(sys.executable).with_name("ntm"))
"""The command of the environment that runs the lab."""
ROLES = ("as", "dc", "ns", "rs")
WIDTH = max(2, os.cpu_count() or 1)
"""How many commands are started at once."""
APART = {"as": 443, "dc": 444, "rs": 445, "ns": 446}
"""HTTPS ports where each role is a process of its own."""
REPORT_S = 30.0
"""What asks for a report does not wait longer for an agent that hangs."""

One = TypeVar("One")
Made = TypeVar("Made")


@dataclass
class Organisation:
    """One operator: a machine, a directory and the processes of `ntm serve`."""

    domain: str
    host: Host
    directory: Path
    records: tuple[str, ...] = ()
    """What the parent zone must hold, as `ntm server init` printed it."""
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    """By roles: "as,dc,ns,rs" where they run together."""
    users: set[str] = field(default_factory=set)
    """Who was let in by `add_user`."""
    roles: tuple[str, ...] = ROLES
    """What runs on its machine."""

    def serve(self, *, apart: bool = False) -> None:
        """Start the servers, each role alone if so said; returns when all are ready."""
        if apart:
            self._give_ports()
        for roles in processes(self.roles, apart=apart):
            self.start(roles)
        for roles in self.processes:
            self.await_ready(roles)

    def start(self, roles: str) -> None:
        """Start the process of these roles without waiting for it."""
        command = [NTM, "serve", str(self.directory), "--roles", roles]
        with self.log(roles).open("a") as log:
            self.processes[roles] = self.host.popen(command, stdout=subprocess.PIPE, stderr=log)

    def await_ready(self, roles: str) -> None:
        """Wait for the line `ready`; raises LabError with the log if it does not come."""
        process = self.processes[roles]
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise LabError(f"ntm serve of {self.domain} failed:\n{self.log(roles).read_text()}")

    def kill(self, roles: str) -> None:
        """End a process with kill -9, as a power cut would."""
        process = self.processes.pop(roles)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def reload(self) -> None:
        """Have every process read its settings again."""
        for process in self.processes.values():
            process.send_signal(signal.SIGHUP)

    def log(self, roles: str) -> Path:
        """Where the process of these roles writes its log."""
        return self.directory.with_name(f"{self.directory.name}.{roles}.log")

    def admin(self, *words: str, input: str | None = None) -> str:
        """Run `ntm admin` here and return what it printed."""
        command = [NTM, "admin", "--server", str(self.directory), *words]
        return self.host.run(command, input=input).stdout

    def add_user(self, user: str, password: str = PASSWORD) -> None:
        """Let somebody log in."""
        self.admin("user", "add", user, "--password-stdin", input=password + "\n")
        self.users.add(user)

    def show(self) -> dict[str, Any]:
        """Return `ntm server show --json`."""
        shown: dict[str, Any] = json.loads(
            self.host.run([NTM, "server", "show", str(self.directory), "--json"]).stdout
        )
        return shown

    def believe(self, anchor: str) -> None:
        """Validate DNSSEC from another trust anchor than the Internet's."""
        (self.directory / "anchor").write_text(anchor + "\n")
        settings = self.directory / "server.toml"
        text = settings.read_text().replace('trust_anchor = ""', 'trust_anchor = "anchor"')
        settings.write_text(text)

    def _give_ports(self) -> None:
        settings = self.directory / "server.toml"
        text = settings.read_text()
        for role, port in APART.items():
            text = re.sub(rf"(\[{role}\]\n(?:\w.*\n)*?https = )\d+", rf"\g<1>{port}", text)
        settings.write_text(text)


@dataclass
class NtmNode:
    """One machine with `ntm` on it."""

    name: str
    user: str
    organisation: Organisation
    host: Host
    state: Path

    @property
    def fqdn(self) -> str:
        """Its permanent name."""
        return f"{self.name}.{self.user}.{self.organisation.domain}"

    def ntm(
        self,
        *words: str,
        input: str | None = None,
        check: bool = True,
        timeout: float = PATIENCE_S,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run an `ntm` command on this node's state, with these variables besides the others."""
        command = [NTM, words[0], *words[1:], "--state", str(self.state)]
        variables = None if env is None else {**os.environ, **env}
        return self.host.run(command, input=input, check=check, timeout=timeout, env=variables)

    def up(
        self,
        password: str = PASSWORD,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """Log in for the first time; options are further ones of `ntm up`."""
        self.ntm(
            "up",
            f"{self.user}@{self.organisation.domain}",
            "--name",
            self.name,
            "--password-stdin",
            "--ca",
            str(self.organisation.directory / "ca.pem"),
            *options,
            input=password + "\n",
            env=env,
        )

    def status(self) -> dict[str, Any]:
        """Return `ntm status --json`."""
        status: dict[str, Any] = json.loads(self.ntm("status", "--json").stdout)
        return status

    def peer(self, other: "NtmNode") -> dict[str, Any]:
        """Return what status says of the tunnel to another node; raises LabError without one."""
        for peer in self.status()["peers"]:
            if peer["fqdn"] == other.fqdn:
                found: dict[str, Any] = peer
                return found
        raise LabError(f"{self.fqdn} has no tunnel to {other.fqdn}")

    def handovers(self) -> list[dict[str, Any]]:
        """Return the moves of `ntm handovers --json`, oldest first."""
        told = json.loads(self.ntm("handovers", "--json").stdout)
        moves: list[dict[str, Any]] = told["handovers"]
        return moves

    @property
    def pid(self) -> int:
        """The agent's process."""
        return int((self.state / "agent.lock").read_text())

    def log(self) -> str:
        """Return the agent's log, which may be on a disk that only its machine sees."""
        return self.host.path(str(self.state / "agent.log")).read_text()

    def report(self) -> str:
        """Return what `ntm bugreport` says; the log alone while no agent answers."""
        asked = self.ntm("bugreport", check=False, timeout=REPORT_S)
        return asked.stdout if asked.returncode == 0 else f"{asked.stderr}{self.log()}"


class World:
    """An internet, its parent DNS, and the organisations and nodes on it."""

    def __init__(self, lab: Lab, *, signed: bool = False) -> None:
        """Uses an entered lab; its internet and DNS are made here.

        Signed: the parent zones are, and the operators believe the key of the lab's root.
        """
        self.lab = lab
        self.internet = lab.internet()
        self.signed = signed
        zones: dict[str, list[str]] = {"example.org": [], "example.net": []}
        self.dns = lab.dns_parent(zones, self.internet, signed=signed)
        self.directory = lab.directory
        self.organisations: list[Organisation] = []

    def organisation(
        self,
        domain: str,
        *,
        apart: bool = False,
        ipv4: str | None = AUTO,
        ipv6: str | None = AUTO,
        rs_ipv4: str | None = None,
        roles: tuple[str, ...] = ROLES,
    ) -> Organisation:
        """Make an operator of a zone under example.org or example.net and start its servers.

        rs_ipv4 is an address of its own for RS, on the same machine: to nodes, another host.
        """
        made = self._operator(domain, ipv4, ipv6)
        made.roles = roles
        self._establish(made, apart=apart, rs_ipv4=rs_ipv4)
        return made

    def federation(self, *domains: str, apart: bool = False) -> tuple[Organisation, ...]:
        """Make several such operators at once, each of which pins the others' domain keys."""
        made = tuple(self._operator(domain, AUTO, AUTO) for domain in domains)
        together(lambda one: self._establish(one, apart=apart), made)
        self.federate(*made)
        return made

    def federate(self, *organisations: Organisation) -> None:
        """Have each pin the others' domain keys."""
        keys = together(lambda one: str(one.show()["domain_key"]), organisations)

        def pin(one: Organisation) -> None:
            for other, key in zip(organisations, keys, strict=True):
                if other is not one:
                    one.admin("federation", "add", other.domain, "--key", key)

        together(pin, organisations)

    def machine(
        self,
        name: str,
        user: str,
        organisation: Organisation,
        network: Network,
        *,
        ipv4: str | None = AUTO,
        ipv6: str | None = AUTO,
    ) -> NtmNode:
        """Make a machine that is not up yet, adding its user first."""
        host = self.lab.host(name, network, ipv4=ipv4, ipv6=ipv6)
        if user not in organisation.users:
            organisation.add_user(user)
        made = NtmNode(name, user, organisation, host, self.directory / f"state-{name}")
        self.lab.logs[f"node {made.fqdn}"] = made.report
        return made

    def bring_up(self, *nodes: NtmNode) -> None:
        """Log in machines, several at once."""
        together(NtmNode.up, nodes)

    def node(
        self,
        name: str,
        user: str,
        organisation: Organisation,
        network: Network,
        *,
        ipv4: str | None = AUTO,
        ipv6: str | None = AUTO,
    ) -> NtmNode:
        """Make a machine and bring it up, adding its user first."""
        node = self.machine(name, user, organisation, network, ipv4=ipv4, ipv6=ipv6)
        node.up()
        return node

    def _operator(self, domain: str, ipv4: str | None, ipv6: str | None) -> Organisation:
        name = f"dc-{domain.rsplit('.', 1)[1]}"
        if name in self.lab.machines:
            name = f"dc-{domain}"
        host = self.lab.host(name, self.internet, ipv4=ipv4, ipv6=ipv6)
        made = Organisation(domain, host, self.directory / domain)
        self.organisations.append(made)
        return made

    def _establish(self, made: Organisation, *, apart: bool, rs_ipv4: str | None = None) -> None:
        uplink = made.host.uplink
        command = [NTM, "server", "init", str(made.directory), "--domain", made.domain, "--offline"]
        command += ["--roles", ",".join(made.roles)]
        for end in (uplink.ipv4, uplink.ipv6):
            command += ["--address", str(end.ip)] if end is not None else []
        if rs_ipv4 is not None:
            made.host.ip(f"addr add {rs_ipv4}/32 dev {uplink.interface}")
            self.internet.ip(f"route add {rs_ipv4} dev {uplink.port}")
            command += ["--rs-address", rs_ipv4]
        made.records = tuple(made.host.run(command).stdout.splitlines())
        self.dns.add(*(line for line in made.records if line.strip()))
        if self.signed:
            made.believe(self.dns.digest())
        for roles in processes(made.roles, apart=apart):
            self.lab.logs[f"{roles} of {made.domain}"] = made.log(roles).read_text
        made.serve(apart=apart)


def processes(roles: tuple[str, ...], *, apart: bool) -> tuple[str, ...]:
    """Return the roles of each process of an operator."""
    return roles if apart else (",".join(roles),)


def together(act: Callable[[One], Made], ones: Iterable[One]) -> list[Made]:
    """Do the same to all, several at once; returns the results in their order, or raises."""
    with ThreadPoolExecutor(WIDTH) as pool:
        return list(pool.map(act, ones))
