"""The system type without root: a user of its own, and CAP_NET_ADMIN as its only right."""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ntmobile.agent.service import Service
from ntmobile.lab.ntm import NTM, PASSWORD, NtmNode, World
from ntmobile.runtime.clock import Clock
from tests.system import resolved
from tests.system.resolved import Resolved

pytestmark = pytest.mark.lab
AGENT = 4711
POLKIT_TRIES = 20
OPERATOR = pwd.getpwnam("nobody").pw_uid
STRANGER = 4713
CAPABILITIES = ("inh-caps", "ambient-caps", "bounding-set")


def as_user(uid: int, *rights: str) -> list[str]:
    """The start of a command that runs as this user with no other rights than these."""
    sets = [
        f"--{each}={','.join(['-all', *(f'+{right}' for right in rights)])}"
        for each in CAPABILITIES
    ]
    return [
        "setpriv",
        f"--reuid={uid}",
        f"--regid={uid}",
        "--clear-groups",
        "--no-new-privs",
        *sets,
    ]


@dataclass
class Place:
    """A machine whose agent has one right only, and one of the ordinary kind."""

    world: World
    kiosk: NtmNode
    pc: NtmNode

    def run(self, user: list[str], *words: str) -> "subprocess.CompletedProcess[str]":
        command = [*user, NTM, *words, "--state", str(self.kiosk.state)]
        return self.kiosk.host.run(command, check=False, input=PASSWORD + "\n", timeout=180)

    def start(self, user: list[str], *words: str) -> "tuple[str, subprocess.Popen[str]]":
        """Run the agent as systemd would; returns its first line, empty when it ended."""
        command = [*user, NTM, "up", "--foreground", *words, "--state", str(self.kiosk.state)]
        pipe = subprocess.PIPE
        agent = self.kiosk.host.popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
        assert agent.stdin is not None
        assert agent.stdout is not None
        agent.stdin.write(PASSWORD + "\n")
        agent.stdin.close()
        agent.stdin = None
        return agent.stdout.readline(), agent

    def first_login(self) -> tuple[str, ...]:
        who = f"{self.kiosk.user}@{self.kiosk.organisation.domain}"
        ca = str(self.kiosk.state / "ca.pem")
        return (who, "--name", self.kiosk.name, "--password-stdin", "--ca", ca)


@pytest.fixture(scope="module")
def place(world: World) -> Iterator[Place]:
    org = world.organisation("ntm.example.org")
    os.chmod(world.directory, 0o755)
    kiosk = world.machine("kiosk", "alice", org, world.lab.nat("home", world.internet))
    pc = world.node("pc", "bob", org, world.internet)
    kiosk.state.mkdir(mode=0o700)
    shutil.copy(org.directory / "ca.pem", kiosk.state / "ca.pem")
    for path in (kiosk.state, kiosk.state / "ca.pem"):
        os.chown(path, AGENT, AGENT)
    # As udev has it, on machines that have udev.
    kiosk.host.run(
        ["sh", "-ec", "mount -t tmpfs -o mode=755 tun /dev/net; mknod -m 666 /dev/net/tun c 10 200"]
    )
    made = Place(world, kiosk, pc)
    yield made
    kiosk.ntm("down", check=False)


def test_without_the_right_no_agent_stays_and_with_it_the_same_command_brings_the_node_up(
    place: Place,
) -> None:
    nothing, refused = place.start(as_user(AGENT), *place.first_login())
    said, _ = place.start(as_user(AGENT, "net_admin"), *place.first_login())

    assert nothing == ""
    assert "CAP_NET_ADMIN" in refused.communicate()[1]
    assert refused.returncode == 1
    assert said == f"{place.kiosk.fqdn} is up\n"
    standing = Path(f"/proc/{place.kiosk.pid}/status").read_text()
    fields = (line.partition(":") for line in standing.splitlines())
    held = {name: value.strip().partition("\t")[0] for name, _, value in fields}
    assert held["Uid"] == str(AGENT)
    assert {int(held[each], 16) for each in ("CapEff", "CapPrm", "CapBnd")} == {1 << 12}
    assert place.kiosk.status()["state"] == "up"


def test_programs_reach_a_peer_by_name_in_both_families(place: Place) -> None:
    host, pc = place.kiosk.host, place.pc

    for family in ("-4", "-6"):
        host.run(["ping", family, "-c", "1", "-W", "30", pc.fqdn])

    assert place.kiosk.status()["reasons"] == []


def test_a_connection_survives_a_move_of_an_agent_with_one_right(place: Place) -> None:
    host, pc = place.kiosk.host, place.pc
    pinging = host.popen(["ping", "-D", "-i", "0.2", "-w", "60", pc.fqdn], stdout=subprocess.PIPE)
    await_answer(pinging)

    host.move(place.world.lab.nat("cafe", place.world.internet))

    await_answer(pinging, since_s=Clock().wall())
    pinging.kill()
    assert place.kiosk.handovers()


def await_answer(pinging: "subprocess.Popen[str]", since_s: float = 0.0) -> None:
    """Read what `ping -D` says up to an answer after that time of day."""
    assert pinging.stdout is not None
    said = []
    for line in pinging.stdout:
        said.append(line)
        found = re.match(r"\[([\d.]+)\] \d+ bytes from", line)
        if found is not None and float(found[1]) > since_s:
            return
    raise AssertionError(f"no answer: {said}")


def test_the_operator_runs_ntm_and_another_user_is_told_how_to(place: Place) -> None:
    operator, stranger = as_user(OPERATOR), as_user(STRANGER)
    before = place.run(operator, "status")
    place.kiosk.ntm("set", "operator=nobody")

    shown, pinged = (
        place.run(operator, "status"),
        place.run(operator, "ping", "-c", "1", "pc.bob.ntm.example.org"),
    )
    again = place.run(operator, "up")
    refused, renamed = place.run(stranger, "status"), place.run(operator, "set", "operator=daemon")

    assert before.returncode == 1
    assert "set operator=" in before.stderr
    assert (shown.returncode, pinged.returncode, again.returncode) == (0, 0, 0), again.stderr
    assert "already running" in again.stderr
    assert refused.returncode == 1
    assert "you may not control this agent" in refused.stderr
    assert "set operator=" in refused.stderr
    assert renamed.returncode == 1
    assert "may not name operators" in renamed.stderr
    assert place.run(operator, "set", "relay-only=no").returncode == 0


def test_what_the_operator_takes_down_leaves_nothing_and_comes_back_only_with_the_right(
    place: Place,
) -> None:
    host, operator = place.kiosk.host, as_user(OPERATOR)

    done = place.run(operator, "down")

    assert done.returncode == 0, done.stderr
    assert "ntm0" not in host.run(["ip", "-brief", "link"]).stdout
    assert host.run(["nft", "list", "tables"]).stdout == ""
    without = place.run(operator, "up")
    assert without.returncode == 1
    assert "as root" in without.stderr
    said, _ = place.start(as_user(AGENT, "net_admin"))
    assert said == f"{place.kiosk.fqdn} is up\n"
    host.run(["ping", "-c", "1", "-W", "30", place.pc.fqdn])


@pytest.mark.skipif(
    resolved.unavailable() is not None or not Path(resolved.POLKIT).exists(),
    reason="no systemd-resolved or no polkit",
)
def test_systemd_resolved_takes_its_orders_once_the_service_is_installed(place: Place) -> None:
    host, service = place.kiosk.host, Service(Path("/var/lib/ntmobile"), Path(NTM))
    place.kiosk.ntm("down")
    servers = host.path("/etc/resolv.conf").read_text().split()
    # The bus knows nobody who is not in there; systemd-sysusers makes the service's user.
    host.run(["sh", "-c", f"echo ntmobile:x:{AGENT}:{AGENT}::/:/bin/false >> /etc/passwd"])
    Resolved(host, servers[servers.index("nameserver") + 1])

    without, _ = place.start(as_user(AGENT, "net_admin"))
    by_table = place.kiosk.ntm("status").stdout
    place.kiosk.ntm("down")
    service.install(
        *(
            host.path(f"/etc/{each}")
            for each in ("systemd/system", "sysusers.d", "polkit-1/rules.d")
        )
    )
    said, _ = place.start(as_user(AGENT, "net_admin"))
    for _ in range(POLKIT_TRIES):
        if "names by systemd-resolved" in place.kiosk.ntm("status").stdout:
            break
        # polkit reads its new rules a moment after they are there.
        place.kiosk.ntm("down")
        said, _ = place.start(as_user(AGENT, "net_admin"))

    assert without == said == f"{place.kiosk.fqdn} is up\n"
    assert "names by nftables" in by_table
    assert "names by systemd-resolved" in place.kiosk.ntm("status").stdout
    host.run(["ping", "-c", "1", "-W", "30", place.pc.fqdn])
