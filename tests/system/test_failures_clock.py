"""Clocks that are wrong: nothing that stands suffers, and what must be refused names the clock."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from ntmobile.lab.ntm import NTM, PASSWORD, NtmNode, Organisation, World
from tests.system.clocks import at
from tests.system.failing import forget_tunnels, newest_log, refusal, restart, seconds_until

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(shutil.which("faketime") is None, reason="not installed: faketime"),
]
ALL = "as,dc,ns,rs"
DAY_S, MINUTE_S = 86400, 60
"""The way of a request, in whole seconds, is on top of what a clock is off."""
OFF = {"+1d": "ahead of", "-1d": "behind"}
CENTURY = "+36500d"
"""Beyond the life of any certificate."""


@dataclass
class Place:
    """Two domains that list each other, and a node of each."""

    world: World
    org: Organisation
    net: Organisation
    laptop: NtmNode
    pc: NtmNode


@pytest.fixture(scope="module")
def place(world: World) -> Place:
    org, net = world.federation("ntm.example.org", "ntm.example.net")
    lab, internet = world.lab, world.internet
    laptop = world.machine("laptop", "alice", org, lab.nat("home", internet))
    pc = world.machine("pc", "bob", net, internet)
    world.bring_up(laptop, pc)
    return Place(world, org, net, laptop, pc)


def ntm_at(offset: str, node: NtmNode, *words: str, check: bool = True) -> tuple[int, str]:
    """Run an `ntm` command by a wrong clock; returns its exit code and what it said."""
    command = [*at(offset), NTM, *words, "--state", str(node.state)]
    done = node.host.run(command, input=PASSWORD, check=check)
    return done.returncode, done.stdout + done.stderr


def connects(node: NtmNode, peer: NtmNode) -> bool:
    """Whether a node reaches a peer."""
    return node.ntm("ping", peer.fqdn, "-c", "1", check=False).returncode == 0


@contextmanager
def serving_at(offset: str, organisation: Organisation) -> Iterator[None]:
    """The servers start anew, by a wrong clock, and by the right one again at the end."""
    organisation.kill(ALL)
    command = [*at(offset), NTM, "serve", str(organisation.directory), "--roles", ALL]
    with organisation.log(ALL).open("a") as log:
        started = organisation.host.popen(command, stdout=subprocess.PIPE, stderr=log)
    organisation.processes[ALL] = started
    organisation.await_ready(ALL)
    try:
        yield
    finally:
        organisation.kill(ALL)
        restart(organisation, ALL)


@pytest.mark.parametrize("offset", OFF)
def test_a_node_whose_clock_is_off_by_a_day_logs_in_and_connects(place: Place, offset: str) -> None:
    name = f"off{'-'.join(OFF[offset].split())}"
    node = place.world.machine(name, "alice", place.org, place.world.internet)
    ca = str(place.org.directory / "ca.pem")
    who = f"alice@{place.org.domain}"

    ntm_at(offset, node, "up", who, "--name", name, "--password-stdin", "--ca", ca)

    assert node.status()["state"] == "up"
    assert "pong from" in node.ntm("ping", place.pc.fqdn, "-c", "1").stdout
    assert "pong from" in place.pc.ntm("ping", node.fqdn, "-c", "1").stdout
    both = node.peer(place.pc), place.pc.peer(node)
    assert [peer["authenticated"] for peer in both] == ["certificate", "certificate"]


def test_a_node_whose_clock_is_ten_days_ahead_believes_nobody_and_says_that_it_is_the_clock(
    place: Place,
) -> None:
    """The negative twin: certificates last a week, and a node looks at the time in them."""
    node = place.world.node("early-bird", "alice", place.org, place.world.internet)
    node.ntm("down")
    ntm_at("+10d", node, "up")

    code, said = refusal(node, "ping", place.pc.fqdn, "-c", "1")
    shown = node.ntm("status").stdout

    assert code == 1
    assert "the node's certificate has expired, by this machine's clock" in said
    assert "next: check the clock here (date)" in said
    assert f"{place.pc.fqdn} refused: the node's certificate has expired" in shown
    node.ntm("down")
    node.ntm("up")
    assert connects(node, place.pc)


def test_a_node_whose_clock_is_ten_days_behind_is_told_so_before_it_sends_anything(
    place: Place,
) -> None:
    node = place.world.machine("late-riser", "alice", place.org, place.world.internet)
    ca = str(place.org.directory / "ca.pem")
    words = ("up", f"alice@{place.org.domain}", "--name", "late-riser", "--password-stdin")

    code, said = ntm_at("-10d", node, *words, "--ca", ca, check=False)

    assert code == 1
    assert "no password was sent" in said
    assert "certificate is not yet valid, if it is 20" in said
    assert "as this machine's clock says" in said
    assert "next: check the clock (date, or timedatectl set-ntp true)" in said


def test_a_node_whose_clock_is_off_by_a_century_is_told_what_it_says(place: Place) -> None:
    """The negative twin: the node does look at its clock."""
    node = place.world.machine("ancient", "alice", place.org, place.world.internet)
    ca = str(place.org.directory / "ca.pem")
    words = ("up", f"alice@{place.org.domain}", "--name", "ancient", "--password-stdin")

    code, said = ntm_at(CENTURY, node, *words, "--ca", ca, check=False)

    assert code == 1
    assert "no password was sent" in said
    assert "certificate has expired, if it is 21" in said
    assert "as this machine's clock says" in said
    assert "next: check the clock (date, or timedatectl set-ntp true)" in said


@pytest.mark.parametrize("offset", OFF)
def test_servers_whose_clock_is_off_by_a_day_serve_their_own_and_name_it_to_others(
    place: Place, offset: str
) -> None:
    with serving_at(offset, place.org):
        seconds_until(lambda: place.laptop.status()["state"] == "up", "the laptop to be back")
        forget_tunnels(place.laptop)
        refused = [
            refusal(one, "ping", other.fqdn, "-c", "1")
            for one, other in ((place.laptop, place.pc), (place.pc, place.laptop))
        ]
        logs = newest_log(place.org), newest_log(place.net)

    for code, said in refused:
        assert code == 1
        assert "the servers of the two domains do not agree on the time" in said
        assert "next: tell both operators" in said
    for log in logs:
        said = rf"the clock of {place.org.domain} is (\d+) s {OFF[offset]} that of"
        assert {abs(int(told) - DAY_S) < MINUTE_S for told in re.findall(said, log)} == {True}
        assert "correct the clock that is wrong" in log
    # What was registered by the wrong clock may have ended by the right one: its DC forgot the
    # laptop, which would notice within two minutes (tests/scenarios/test_forgotten.py).
    forget_tunnels(place.laptop)
    seconds_until(lambda: connects(place.laptop, place.pc), "the domains to be one again")
