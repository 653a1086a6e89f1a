"""Nodes on TCP keep-alive, behind a NAT whose UDP mappings die after 10 s. Source: paper, Fig. 4.

`NTM_SILENCE_S=300 pytest tests/system/test_notification.py` keeps silent for five minutes instead.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from ntmobile.lab import Behaviour, Nat
from ntmobile.lab.capture import Capture
from ntmobile.lab.ntm import NtmNode, Organisation, World, together
from ntmobile.lab.waiting import wait_until
from tests.system.conftest import Figure
from tests.system.programs import HELLO, Programs

pytestmark = [pytest.mark.lab, pytest.mark.paper("Fig. 4", "TCP Keep Alive", "Notification")]
FORGETFUL = Behaviour(udp_lifetime_s=10)
SILENCE_S = float(os.environ.get("NTM_SILENCE_S", "14"))
"""More than the NAT remembers."""
SILENCES = 3
"""On a busy machine, what was said when the node came up may still be in the first one."""
TALK_S = 21.0
"""More than the interval of UDP keep-alives."""
BACK_S = 120.0
"""The DC is asked for NS at intervals that double from two seconds."""
SIGNALLING = "(udp port 4330 or udp port 4331 or tcp port 4434)"
HOUR_S = 3600


@dataclass
class Place:
    """One domain with its roles apart; a node on TCP and one on UDP behind one NAT."""

    org: Organisation
    home: Nat
    laptop: NtmNode
    held: NtmNode
    kept: NtmNode


@pytest.fixture(scope="module")
def place(world: World, tmp_path_factory: pytest.TempPathFactory) -> Place:
    org = world.organisation("ntm.example.org", apart=True)
    home = world.lab.nat("home", world.internet, FORGETFUL)
    held = world.machine("held", "bob", org, home)
    kept = world.machine("kept", "bob", org, home)
    laptop = world.machine("laptop", "alice", org, world.internet)
    programs = Programs(Path(tmp_path_factory.mktemp("web")) / "served")
    for node in (held, kept):
        programs.serve_web(node.host)
    ups = [(laptop, ()), (kept, ()), (held, ("--keepalive", "tcp"))]
    together(lambda one: one[0].up(options=one[1]), ups)
    wait_until(lambda: way(held) == "tcp", "the connection to NS", BACK_S)
    return Place(org, home, laptop, held, kept)


def way(node: NtmNode) -> str:
    """How the DC reaches a node now."""
    return str(node.status()["keepalive"]["now"])


def fetch(place: Place, node: NtmNode) -> float:
    """Fetch a page from a node by its name; returns how long that took in seconds."""
    url = f"http://{node.fqdn}/hello.txt"
    began = time.perf_counter()
    command = ["curl", "-sS", "--noproxy", "*", "--max-time", "60", url]
    assert place.laptop.host.run(command).stdout == HELLO
    return time.perf_counter() - began


def test_a_silent_node_is_reached_through_its_connection(place: Place, figure: Figure) -> None:
    address = place.held.host.ipv4
    most = 4 * (1 + SILENCE_S // 120)
    for _ in range(SILENCES):
        with Capture(place.home, f"host {address} and {SIGNALLING}") as quiet:
            time.sleep(SILENCE_S)
            seen = len(quiet.packets())
        if seen <= most:
            break
    hour = seen * HOUR_S / SILENCE_S
    figure(f"packets at the NAT in {SILENCE_S:.0f} s, node on tcp", f"{seen} ({hour:.0f} an hour)")

    took_s = fetch(place, place.held)

    figure(f"page fetched from it after {SILENCE_S:.0f} s of silence", f"{took_s:.2f} s")
    assert seen <= most


def test_a_node_on_udp_keeps_talking_all_the_while(place: Place, figure: Figure) -> None:
    """The twin: what TCP saves."""
    address = place.kept.host.ipv4
    with Capture(place.home, f"host {address} and {SIGNALLING}") as talk:
        time.sleep(TALK_S)
        seen = len(talk.packets())

    hour = seen * HOUR_S / TALK_S
    figure(f"packets at the NAT in {TALK_S:.0f} s, node on udp", f"{seen} ({hour:.0f} an hour)")
    assert seen >= 1


def test_an_ns_that_is_killed_leaves_the_node_on_udp_and_gets_it_back(
    place: Place, figure: Figure
) -> None:
    place.org.kill("ns")
    wait_until(lambda: way(place.held) == "udp", "the node to notice", BACK_S)
    said = place.held.status()["keepalive"]["problem"]
    fetch(place, place.held)

    began = time.perf_counter()
    place.org.start("ns")
    place.org.await_ready("ns")
    wait_until(lambda: way(place.held) == "tcp", "the connection again", BACK_S)

    figure("NS up again to the connection of a node", f"{time.perf_counter() - began:.1f} s")
    assert "no notification server of the domain answers" in said
    fetch(place, place.held)
