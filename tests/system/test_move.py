"""A download and an ssh session go on while a machine moves into, out of and between networks."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ntmobile.lab import Network
from ntmobile.lab.ntm import NtmNode, World
from ntmobile.lab.waiting import wait_until
from tests.system.conftest import Figure
from tests.system.programs import PACED, Programs
from tests.system.transfers import Transfer, make_file

pytestmark = [pytest.mark.lab, pytest.mark.alone, pytest.mark.paper("Abstract", "Overview")]

SIZE = 96 << 20
PACE = 40 << 20
"""Bytes a second: the transfer lasts longer than any move."""
MOVES = (("home", "cafe"), ("cafe", "street"), ("street", "square"), ("square", "home"))
"""Home and cafe are behind NATs, street and square are addresses on the internet: each move
begins where the one before ended."""
STREETS = {"street": "203.0.113.101", "square": "203.0.113.102"}
GAP_S = 10.0
"""Of which a move needs a fraction of one (docs/handover.md): however busy the machine, who waits
for one of our long timers, or TCP's, waits longer."""
STALL_S = 1.5


@dataclass
class Journey:
    """The mover, its peer, and what runs between them."""

    world: World
    laptop: NtmNode
    pc: NtmNode
    session: subprocess.Popen[str]
    """ssh from the mover to its peer: what is typed comes back."""
    digest: str
    place: str = "home"

    def go(self, place: str) -> None:
        """Move, with nothing in between: the old address goes, the new one comes."""
        network: Network = self.world.internet
        if place in STREETS:
            self.laptop.host.move(network, ipv4=STREETS[place])
        else:
            at = self.world.lab.machines[place]
            assert isinstance(at, Network)
            self.laptop.host.move(at)
        self.place = place

    def type(self, line: str) -> str:
        """Return what the ssh session answers."""
        assert self.session.stdin is not None
        assert self.session.stdout is not None
        self.session.stdin.write(f"{line}\n")
        self.session.stdin.flush()
        return self.session.stdout.readline().rstrip("\n")


@pytest.fixture(scope="module")
def journey(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    org, net = world.federation("ntm.example.org", "ntm.example.net")
    home, _, office = (world.lab.nat(name, world.internet) for name in ("home", "cafe", "office"))
    laptop = world.machine("laptop", "alice", org, home)
    pc = world.machine("pc", "bob", net, office)
    world.bring_up(laptop, pc)
    served = Programs(tmp_path_factory.mktemp("served") / "files")
    digest = make_file(served.folder / "file", SIZE)
    for node in (laptop, pc):
        served.serve_paced(node.host, PACE)
    served.serve_ssh(pc.host)
    pipe = subprocess.PIPE
    session = laptop.host.popen(served.ssh(pc.fqdn, "cat"), stdin=pipe, stdout=pipe)
    made = Journey(world, laptop, pc, session, digest)
    assert made.type("ready") == "ready"
    yield made
    session.kill()


@pytest.mark.parametrize("mover", ["receives", "sends"])
@pytest.mark.parametrize(("old", "new"), MOVES, ids=[f"{old}-to-{new}" for old, new in MOVES])
def test_a_download_and_an_ssh_session_survive_a_move(
    journey: Journey, figure: Figure, old: str, new: str, mover: str
) -> None:
    laptop, pc = journey.laptop, journey.pc
    receiver, sender = (laptop, pc) if mover == "receives" else (pc, laptop)
    if journey.place != old:
        journey.go(old)
    before = len(laptop.handovers())
    with Transfer(receiver, sender, "file", port=PACED) as transfer:
        transfer.await_bytes(SIZE // 4)

        left_at = time.perf_counter()
        journey.go(new)
        arrived_at = time.perf_counter()

        assert transfer.received < SIZE
        assert transfer.finish() == journey.digest
        gap_s = transfer.longest_gap_s(left_at)
    assert journey.type(f"{old} to {new}") == f"{old} to {new}"
    [move, *_] = laptop.handovers()[before:]
    moving_ms = (arrived_at - left_at) * 1000
    figure(
        f"move {old} to {new}, mover {mover}: longest gap",
        f"{gap_s * 1000:.0f} ms, {moving_ms:.0f} of them without an address; "
        f"agent: {move['outage_ms']:.0f} ms",
    )
    assert move["fqdn"] == pc.fqdn
    assert gap_s < GAP_S


def stalled(transfer: Transfer) -> bool:
    size = transfer.received
    time.sleep(STALL_S)
    return transfer.received == size


def test_without_its_agent_a_moving_machine_hears_nothing_more(journey: Journey) -> None:
    laptop, agent = journey.laptop, journey.laptop.pid
    with Transfer(laptop, journey.pc, "file", port=PACED) as transfer:
        transfer.await_bytes(SIZE // 4)
        os.kill(agent, signal.SIGSTOP)
        try:
            journey.go("cafe" if journey.place != "cafe" else "home")
            wait_until(lambda: stalled(transfer), "the download to stall")
            assert transfer.received < SIZE
        finally:
            os.kill(agent, signal.SIGCONT)

        assert transfer.finish() == journey.digest
    assert journey.type("still there") == "still there"
