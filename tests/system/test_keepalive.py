"""`ntm up --keepalive auto`: it measures each network, and what it chooses does there.

One network forgets idle UDP after 10 s, the other later. A node measures up to five minutes; one of
these lives ten times as fast, so that its five minutes are half a minute here.
Source: paper, Fig. 4. Ours: docs/protocol.md section 9.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ntmobile.lab import Behaviour, Nat
from ntmobile.lab.capture import Capture
from ntmobile.lab.errors import LabError
from ntmobile.lab.ntm import NTM, NtmNode, Organisation, World, together
from tests.system.clocks import faster
from tests.system.conftest import Figure
from tests.system.failing import seconds_until
from tests.system.programs import HELLO, Programs, fetch

pytestmark = [
    pytest.mark.lab,
    pytest.mark.paper("Fig. 4"),
    pytest.mark.skipif(shutil.which("faketime") is None, reason="not installed: faketime"),
]
FAST = 10
FORGETFUL = Behaviour(udp_lifetime_s=10)
PATIENT = Behaviour(udp_lifetime_s=25)
"""To the fast node 250 s: more than 185 and less than 305, which it tries."""
SILENCE_S = 26.0
"""More than both networks remember."""
FORGOTTEN_S = 11.0
"""More than the forgetful one does, and less than the 20 s between two keep-alives by UDP."""
MEASURED_S = 180.0
"""A network is by then, on any machine: the slowest here takes about 50 s."""
HURRY_S = 3.0
"""Less than what is left until the next of them."""
LOOK_S = 1.0
KEEP_ALIVE = "udp port 4330"


@dataclass
class Place:
    """One domain; behind the forgetful NAT a node on auto and one on UDP; one on the move."""

    org: Organisation
    forgetful: Nat
    patient: Nat
    laptop: NtmNode
    auto: NtmNode
    kept: NtmNode
    rover: NtmNode
    """On auto too, behind the patient NAT at first; its time runs faster."""


@pytest.fixture(scope="module")
def place(world: World, tmp_path_factory: pytest.TempPathFactory) -> Place:
    org = world.organisation("ntm.example.org")
    lab, internet = world.lab, world.internet
    forgetful = lab.nat("forgetful", internet, FORGETFUL)
    patient = lab.nat("patient", internet, PATIENT)
    auto = world.machine("auto", "bob", org, forgetful)
    kept = world.machine("kept", "bob", org, forgetful)
    rover = world.machine("rover", "bob", org, patient)
    laptop = world.machine("laptop", "alice", org, internet)
    programs = Programs(Path(tmp_path_factory.mktemp("web")) / "served")
    for node in (auto, kept, rover):
        programs.serve_web(node.host)
    ups = [(rover, ()), (auto, ("--keepalive", "auto")), (kept, ()), (laptop, ())]
    together(lambda one: one[0].up(options=one[1]), ups)
    live_faster(rover, "--keepalive", "auto")
    return Place(org, forgetful, patient, laptop, auto, kept, rover)


def live_faster(node: NtmNode, *options: str) -> None:
    """Start an agent again, in whose eyes time runs faster."""
    node.ntm("down")
    who = f"{node.user}@{node.organisation.domain}"
    words = (NTM, "up", who, "--name", node.name, *options, "--state", str(node.state))
    node.host.run([*faster(FAST), *words])


def reached(node: NtmNode) -> dict[str, Any]:
    """How the DC reaches a node, as `ntm status --json` has it."""
    shown: dict[str, Any] = node.status()["keepalive"]
    return shown


def decided(node: NtmNode, way: str) -> dict[str, Any]:
    """Wait until a node has measured its network and is reached as it chose; returns how."""

    def stands(shown: dict[str, Any]) -> bool:
        chosen = shown["mapping_s"] is not None and shown["interval_s"] not in (0, 20)
        return chosen and shown["now"] == way

    what = f"the network to be measured, and {way} to be chosen"
    seconds_until(lambda: stands(reached(node)), what, MEASURED_S, step_s=LOOK_S)
    return reached(node)


def silent_for(node: NtmNode, network: Nat, seconds: float) -> None:
    """Return so long after a keep-alive of a node passed its NAT."""
    with Capture(network, f"host {node.host.ipv4} and {KEEP_ALIVE}") as capture:
        empty = capture.file.stat().st_size
        seconds_until(lambda: capture.file.stat().st_size > empty, "a keep-alive")
        heard_at = time.perf_counter()
    # From then on, not from the end of the recording: on a busy machine that takes seconds, and
    # the next keep-alive would come before what was to happen in the silence.
    time.sleep(max(0.0, heard_at + seconds - time.perf_counter()))


def test_auto_holds_a_connection_where_mappings_die_soon_and_says_so(place: Place) -> None:
    before = place.auto.ntm("status").stdout
    shown = decided(place.auto, "tcp")

    assert (shown["chosen"], shown["now"], shown["server"]) == ("auto", "tcp", "ns.ntm.example.org")
    assert (shown["mapping_s"], shown["mapping_dead_s"]) == (0, 20)
    assert "(auto: this network is being measured" in before
    after = place.auto.ntm("status").stdout
    assert "reached by TCP through ns.ntm.example.org, a keep-alive every 120 s" in after
    assert "(auto: life of an idle UDP mapping here: under 20 s)" in after


def test_auto_keeps_alive_by_rare_udp_where_mappings_live_long_and_says_so(place: Place) -> None:
    shown = decided(place.rover, "udp")

    assert (shown["chosen"], shown["now"], shown["server"]) == ("auto", "udp", None)
    assert (shown["mapping_s"], shown["mapping_dead_s"], shown["interval_s"]) == (185, 305, 148)
    said = place.rover.ntm("status").stdout
    assert "reached by UDP, a keep-alive every 148 s" in said
    assert "(auto: life of an idle UDP mapping here: between 185 and 305 s)" in said


def test_after_silence_what_auto_chose_is_reached_and_a_node_on_udp_is_not(
    place: Place, figure: Figure
) -> None:
    """That one is the negative twin: it is the choice that keeps the others within reach."""
    began = time.perf_counter()
    with (
        Capture(place.forgetful, f"host {place.auto.host.ipv4} and udp") as tcp,
        Capture(place.patient, f"host {place.rover.host.ipv4} and udp") as udp,
    ):
        silent_for(place.kept, place.forgetful, FORGOTTEN_S)
        with pytest.raises(LabError):
            fetch(place.laptop, place.kept, "-4", patience_s=HURRY_S)
        time.sleep(max(0.0, began + SILENCE_S - time.perf_counter()))
        lasted_s = time.perf_counter() - began
        seen = len(tcp.packets()), len(udp.packets())

    for node in (place.auto, place.rover):
        assert fetch(place.laptop, node, "-4") == HELLO
    figure(f"auto: UDP packets at the NAT in {lasted_s:.0f} s, where it chose TCP", str(seen[0]))
    figure(f"auto: where it chose UDP, by a clock {FAST} times as fast", str(seen[1]))
    silent_for(place.kept, place.forgetful, 0)
    assert fetch(place.laptop, place.kept, "-4", patience_s=20) == HELLO


def test_a_node_that_moves_decides_anew(place: Place) -> None:
    place.rover.host.move(place.forgetful)
    seconds_until(lambda: reached(place.rover)["mapping_s"] is None, "the move to be noticed")

    shown = decided(place.rover, "tcp")

    assert (shown["chosen"], shown["now"]) == ("auto", "tcp")
    assert 0 < shown["mapping_s"] < 150
    assert fetch(place.laptop, place.rover, "-4") == HELLO
