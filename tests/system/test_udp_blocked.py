"""Where no UDP passes, nodes log in, reach each other and move all the same: by WebSocket."""

import select
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from ntmobile.lab import Behaviour, Nat
from ntmobile.lab.errors import LabError
from ntmobile.lab.ntm import NtmNode, World
from ntmobile.lab.waiting import wait_until
from tests.system.conftest import Figure
from tests.system.programs import HELLO, SSH, Programs, await_listening, fetch, iperf, ping

pytestmark = pytest.mark.lab

BLOCKED = Behaviour(block_udp=True)
PAIRS = (("blocked", "open"), ("open", "blocked"), ("blocked", "blocked"))
SAYS = "UDP is blocked here: signalling and relay by WebSocket"
GUARD_S = 120.0
"""Until a session answers again, however busy the machine; how soon is a figure."""
NO_TCP = """
table ip shut {
  chain forward { type filter hook forward priority -10; tcp dport 443 drop; }
}
"""


@dataclass
class Scene:
    """A node of each domain in a network that lets UDP pass, and in one that does not."""

    world: World
    programs: Programs
    open: Nat
    blocked: Nat
    here: dict[str, NtmNode]
    there: dict[str, NtmNode]


@pytest.fixture(scope="module")
def scene(world: World) -> Scene:
    org, net = world.federation("ntm.example.org", "ntm.example.net")
    lab, internet = world.lab, world.internet
    home = lab.nat("home", internet)
    firm, works = (lab.nat(name, internet, BLOCKED) for name in ("firm", "works"))
    office = lab.nat("office", internet)
    here = {
        "open": world.machine("laptop", "alice", org, home),
        "blocked": world.machine("desk", "alice", org, firm),
    }
    there = {
        "open": world.machine("pc", "bob", net, office),
        "blocked": world.machine("box", "bob", net, works),
    }
    world.bring_up(*here.values(), *there.values())
    served = Programs(world.directory / "served")
    for each in there.values():
        served.serve(each.host)
    return Scene(world, served, home, firm, here, there)


@pytest.mark.parametrize(("here", "there"), PAIRS)
def test_unmodified_programs_reach_the_peer_by_its_name(
    scene: Scene, here: str, there: str, figure: Figure
) -> None:
    mn, cn = scene.here[here], scene.there[there]

    assert (fetch(mn, cn, "-4"), fetch(mn, cn, "-6")) == (HELLO, HELLO)
    assert "1 received" in ping(mn, cn, "-4")
    assert mn.host.run(scene.programs.ssh(cn.fqdn, "echo", "hi")).stdout == "hi\n"
    carried = iperf(mn, cn, "-4", "--time", "1")

    paths = [one.peer(other)["path"] for one, other in ((mn, cn), (cn, mn))]
    assert [path["kind"] for path in paths] == ["relay", "relay"]
    assert [path["websocket"] for path in paths] == [here == "blocked", there == "blocked"]
    rate = carried["bits_per_second"] / 1e6
    figure(f"1 TCP stream, UDP of MN {here}, of CN {there}", f"{rate:.0f} Mbit/s")


def test_status_says_what_the_network_lets_pass_and_only_there(scene: Scene) -> None:
    status = {place: node.ntm("status").stdout for place, node in scene.here.items()}

    assert SAYS in status["blocked"]
    assert SAYS not in status["open"]


def test_where_443_is_closed_too_the_node_says_so_and_comes_back_when_it_opens(
    scene: Scene,
) -> None:
    """The negative twin: it was the WebSocket that got through."""
    node = scene.here["blocked"]
    scene.blocked.nft(NO_TCP)
    # The move makes it notice at once.
    node.host.renumber()
    try:
        with pytest.raises(LabError):
            fetch(node, scene.there["open"], "-4", patience_s=2)
        told = _await(lambda: node.ntm("status").stdout, "no WebSocket either")
    finally:
        scene.blocked.nft("delete table ip shut")

    assert "no UDP passes to the DC and no WebSocket either" in told
    node.host.renumber()
    _await(lambda: node.ntm("status").stdout, SAYS)
    assert fetch(node, scene.there["open"], "-4") == HELLO


@pytest.fixture(scope="module")
def session(scene: Scene) -> Iterator["Session"]:
    laptop, pc = scene.here["open"], scene.there["open"]
    await_listening(pc.host, SSH)
    pipe = subprocess.PIPE
    made = laptop.host.popen(scene.programs.ssh(pc.fqdn, "cat"), stdin=pipe, stdout=pipe)
    held = Session(made)
    held.type("ready")
    yield held
    made.kill()


@dataclass
class Session:
    """ssh to a peer that repeats what is typed."""

    process: subprocess.Popen[str]

    def type(self, line: str) -> float:
        """Return after how many seconds it came back."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        began = time.perf_counter()
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        assert select.select([self.process.stdout], [], [], GUARD_S)[0], "no answer"
        assert self.process.stdout.readline() == f"{line}\n"
        return time.perf_counter() - began


MOVES = ("firm", "works", "home", "firm", "internet")
"""From an open NAT into a blocked network, on to another, back to UDP, and so on."""


@pytest.mark.parametrize("step", range(len(MOVES)), ids=[f"to-{place}" for place in MOVES])
def test_a_session_goes_on_into_and_out_of_networks_without_udp(
    scene: Scene, session: Session, step: int, figure: Figure
) -> None:
    """In the order given: each move starts from where the one before led."""
    laptop, place = scene.here["open"], MOVES[step]
    network = scene.world.lab.machines[place]

    laptop.host.move(network)  # type: ignore[arg-type]
    took_s = session.type(f"{step} {place}")

    blocked = place in ("firm", "works")
    wait_until(lambda: (SAYS in laptop.ntm("status").stdout) is blocked, "status to say so")
    figure(f"ssh, a move to {place}", f"answers after {took_s:.1f} s")


def _await(look: Callable[[], str], words: str) -> str:
    seen: list[str] = []

    def said() -> bool:
        seen.append(look())
        return words in seen[-1]

    wait_until(said, words, timeout_s=GUARD_S)
    return seen[-1]
