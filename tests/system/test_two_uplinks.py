"""A machine with two uplinks: the better one carries once it has shown that it does."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ntmobile.lab import Nat
from ntmobile.lab.ntm import NtmNode, World
from ntmobile.lab.waiting import wait_until
from tests.system.conftest import Figure

pytestmark = [pytest.mark.lab, pytest.mark.alone]

FLOW = str(Path(__file__).resolve().parents[2] / "bench/moves/flow.py")
PORT = 8090
RATE = 1_000_000
"""Bytes a second, each way; what the machine carries is measured elsewhere."""
SWALLOW = """
table ip portal {
  chain forward { type filter hook forward priority -20; policy drop; }
}
"""
TOGETHER_S = 1.0
SETTLED_S = 3.0
"""For two seconds after a move a peer follows no other one (docs/protocol.md section 8)."""
GAP_S = 2.0
"""As for every move: on a busy machine it must hold too."""


@dataclass
class Place:
    """A laptop that may have two uplinks, and its peer."""

    laptop: NtmNode
    pc: NtmNode
    home: Nat
    cafe: Nat
    portal: Nat
    """Takes everything and lets nothing out."""
    server: "subprocess.Popen[str]"


@pytest.fixture(scope="module")
def place(world: World) -> Iterator[Place]:
    org, net = world.federation("ntm.example.org", "ntm.example.net")
    names = ("home", "cafe", "portal", "office")
    home, cafe, portal, office = (world.lab.nat(name, world.internet) for name in names)
    portal.nft(SWALLOW)
    laptop = world.machine("laptop", "alice", org, home)
    pc = world.machine("pc", "bob", net, office)
    world.bring_up(laptop, pc)
    laptop.host.run(["ping", "-c", "1", "-W", "30", pc.fqdn])
    program = [sys.executable, "-I", "-S", FLOW, "serve", str(PORT)]
    server = pc.host.popen(program, stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert json.loads(server.stdout.readline()) == {"ready": True}
    yield Place(laptop, pc, home, cafe, portal, server)
    server.kill()
    server.wait()


@contextmanager
def datagrams(place: Place) -> Iterator[dict[str, dict[str, object]]]:
    """Numbered datagrams go both ways meanwhile; afterwards there is what either end saw."""
    address = place.laptop.peer(place.pc)["virtual_ipv4"]
    program = [sys.executable, "-I", "-S", FLOW, "udp", address, str(PORT), str(RATE)]
    pipe = subprocess.PIPE
    client = place.laptop.host.popen(program, stdin=pipe, stdout=pipe)
    seen: dict[str, dict[str, object]] = {}
    assert client.stdout is not None
    first = client.stdout.readline()
    assert "total" in json.loads(first)
    yield seen
    said, _ = client.communicate()
    seen["client"] = json.loads(said.splitlines()[-1])
    assert place.server.stdout is not None
    for line in place.server.stdout:
        if "udp" in (told := json.loads(line)):
            seen["server"] = told
            break


def lost(seen: dict[str, dict[str, object]]) -> int:
    sent = sum(int(str(each["sent"])) for each in seen.values())
    return sent - sum(int(str(each["taken"])) for each in seen.values())


def test_a_better_uplink_takes_over_and_the_old_one_goes_without_a_datagram_lost(
    place: Place, figure: Figure
) -> None:
    before = len(place.laptop.handovers())
    with datagrams(place) as seen:
        place.laptop.host.move(place.cafe, keep_old=True, interface="wlan0")
        wait_until(lambda: len(place.laptop.handovers()) > before, "the better uplink to carry")
        time.sleep(TOGETHER_S)
        place.laptop.host.drop_uplink("eth0")
        time.sleep(TOGETHER_S)

    moves = place.laptop.handovers()[before:]
    deepest = max(int(str(each["deepest"])) for each in seen.values())
    figure("two uplinks: datagrams lost, reordering depth", f"{lost(seen)}, {deepest}")
    assert moves[0]["outage_ms"] == 0
    assert lost(seen) == 0


def test_a_better_uplink_that_leads_nowhere_carries_nothing(place: Place) -> None:
    before = len(place.laptop.handovers())
    place.laptop.host.move(place.home, interface="eth0")
    wait_until(lambda: len(place.laptop.handovers()) > before, "the move home")
    time.sleep(SETTLED_S)
    with datagrams(place) as seen:
        place.laptop.host.move(place.portal, keep_old=True, interface="wlan0")
        time.sleep(GAP_S + TOGETHER_S)
        place.laptop.host.drop_uplink("wlan0")
        time.sleep(TOGETHER_S)

    assert longest_pause_s(seen) < GAP_S


def test_the_only_uplink_that_leads_nowhere_carries_nothing_at_all(place: Place) -> None:
    """The negative twin: it is the old uplink that carried."""
    with datagrams(place) as seen:
        place.laptop.host.move(place.portal, interface="eth0")
        time.sleep(GAP_S + TOGETHER_S)
        place.laptop.host.move(place.home, interface="eth0")
        wait_until(lambda: place.laptop.status()["state"] == "up", "the registration", 120)
        time.sleep(TOGETHER_S)

    assert longest_pause_s(seen) > GAP_S


def longest_pause_s(seen: dict[str, dict[str, object]]) -> float:
    pauses = [pause for each in seen.values() for pause in each["pauses"]]  # type: ignore[attr-defined]
    return max(to - at for at, to in pauses)
