"""A network with IPv6 only, and servers and peers with IPv4 only: NAT64 and DNS64 between."""

import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ntmobile.lab.errors import LabError
from ntmobile.lab.ntm import NtmNode, World
from ntmobile.lab.waiting import wait_until
from tests.system.conftest import Figure
from tests.system.programs import HELLO, Programs, fetch, ping

pytestmark = pytest.mark.lab

GUARD_S = 120.0
SAYS = "IPv4 addresses are reached by NAT64 (2001:db8:64:ff9b::/96)"


@dataclass
class Scene:
    """A node behind NAT64, and peers with IPv4 only: on the internet, and behind a NAT."""

    world: World
    programs: Programs
    laptop: NtmNode
    peers: dict[str, NtmNode]


@pytest.fixture(scope="module")
def scene(world: World) -> Scene:
    org = world.organisation("ntm.example.org", ipv6=None)
    lab, internet = world.lab, world.internet
    six = lab.nat64("six", internet)
    _, office = lab.nat("home", internet), lab.nat("office", internet)
    laptop = world.machine("laptop", "alice", org, six)
    peers = {
        "global": world.machine("server", "alice", org, internet, ipv6=None),
        "behind a NAT": world.machine("pc", "alice", org, office),
    }
    world.bring_up(laptop, *peers.values())
    served = Programs(world.directory / "served")
    for node in peers.values():
        served.serve_web(node.host)
        served.serve_ssh(node.host)
    served.serve_web(laptop.host)
    return Scene(world, served, laptop, peers)


@pytest.mark.parametrize("where", ["global", "behind a NAT"])
def test_unmodified_programs_reach_a_peer_with_ipv4_only_by_its_name(
    scene: Scene, where: str
) -> None:
    mn, cn = scene.laptop, scene.peers[where]

    assert (fetch(mn, cn, "-4"), fetch(mn, cn, "-6")) == (HELLO, HELLO)
    assert "1 received" in ping(mn, cn, "-4")
    assert mn.host.run(scene.programs.ssh(cn.fqdn, "echo", "hi")).stdout == "hi\n"
    assert mn.peer(cn)["path"]["family"] == "ipv4"


@pytest.mark.parametrize("where", ["global", "behind a NAT"])
def test_and_is_reached_by_it(scene: Scene, where: str) -> None:
    mn, cn = scene.peers[where], scene.laptop

    assert (fetch(mn, cn, "-4"), fetch(mn, cn, "-6")) == (HELLO, HELLO)


def test_status_says_so(scene: Scene) -> None:
    assert SAYS in scene.laptop.ntm("status").stdout
    assert SAYS not in scene.peers["global"].ntm("status").stdout


@pytest.fixture(scope="module")
def session(scene: Scene) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    command = scene.programs.ssh(scene.peers["behind a NAT"].fqdn, "cat")
    made = scene.laptop.host.popen(command, stdin=pipe, stdout=pipe)
    answer(made, "ready")
    yield made
    made.kill()


def answer(session: subprocess.Popen[str], line: str) -> float:
    """Return after how many seconds what is typed came back."""
    assert session.stdin is not None
    assert session.stdout is not None
    began = time.perf_counter()
    session.stdin.write(f"{line}\n")
    session.stdin.flush()
    assert select.select([session.stdout], [], [], GUARD_S)[0], "no answer"
    assert session.stdout.readline() == f"{line}\n"
    return time.perf_counter() - began


MOVES = ("home", "six", "home", "six")


@pytest.mark.parametrize("step", range(len(MOVES)))
def test_a_session_goes_on_out_of_and_into_the_network(
    scene: Scene, session: subprocess.Popen[str], step: int, figure: Figure
) -> None:
    """In the order given."""
    place: Any = scene.world.lab.machines[MOVES[step]]

    scene.laptop.host.move(place)
    took_s = answer(session, f"{step}")

    told = MOVES[step] == "six"
    wait_until(lambda: (SAYS in scene.laptop.ntm("status").stdout) is told, "status to say so")
    figure(f"ssh, a move to {MOVES[step]} (six is IPv6 only)", f"answers after {took_s:.1f} s")


def test_without_nat64_there_is_no_way_and_the_node_says_so(scene: Scene) -> None:
    """The negative twin: IPv6 alone does not reach servers with IPv4 only."""
    organisation = scene.laptop.organisation
    alone = scene.world.machine("alone", "alice", organisation, scene.world.internet, ipv4=None)

    with pytest.raises(LabError, match="the account server of"):
        alone.up()
