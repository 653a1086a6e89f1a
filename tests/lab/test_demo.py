"""The demo: its measuring, its picture, and the whole of it as a process."""

import io
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ntmobile.lab import LabError, unavailable
from ntmobile.lab.demo.delays import one_way_delays
from ntmobile.lab.demo.download import Arrival, Gap, longest_gap
from ntmobile.lab.demo.findings import Findings, Move, Outage, SetUp
from ntmobile.lab.demo.map import draw
from ntmobile.lab.demo.measure import set_up
from ntmobile.lab.demo.scene import Scene, Way, Where
from ntmobile.lab.demo.screen import spark
from ntmobile.lab.demo.simulated import simulate
from ntmobile.lab.sweep import namespaces_of
from ntmobile.time import Instant

DEMO = [sys.executable, "-m", "ntmobile.lab.demo"]
FIG_7 = [
    ("Direction Request", "DC", True),
    ("NTM ACK", "DC", False),
    ("Route Direction", "DC", False),
    ("Tunnel Request", "RS", True),
    ("NTM ACK", "DC", True),
    ("Challenge", "RS", False),
    ("Tunnel Request", "RS", True),
    ("Tunnel Response", "RS", False),
]
FIG_6 = [
    ("Direction Request", "DC", True),
    ("Route Direction", "DC", False),
    ("Tunnel Request", "pc.bob.ntm.example.net", False),
    ("Tunnel Response", "pc.bob.ntm.example.net", True),
]
MOVE = Move(Where.HOME, Where.CAFE, Instant(0), Instant(1))
ANSWER = "pc.bob.ntm.example.net. 30 IN AAAA fd00::1\n;; Query time: 12345 usec\n"


@pytest.mark.parametrize(("steps", "delays"), [(FIG_7, 10), (FIG_6, 6)], ids=["fig7", "fig6"])
def test_a_trace_tells_how_many_one_way_delays_a_set_up_took(
    steps: list[tuple[str, str, bool]], delays: int
) -> None:
    assert one_way_delays(as_json(steps)) == delays


def test_a_trace_without_a_tunnel_is_an_error() -> None:
    with pytest.raises(LabError, match="no Tunnel Request"):
        one_way_delays(as_json(FIG_6[:2]))


def test_what_dig_says_becomes_an_address_and_a_time() -> None:
    made = set_up("pc.bob.ntm.example.net", ANSWER, as_json(FIG_7))

    assert (made.address, made.query_ms, made.figure) == ("fd00::1", 12.345, "Fig. 7")


def test_a_name_without_an_address_is_an_error_that_shows_what_dig_said() -> None:
    with pytest.raises(LabError, match="status: SERVFAIL"):
        set_up("pc.bob.ntm.example.net", "status: SERVFAIL", as_json(FIG_7))


def test_the_gap_of_a_move_is_the_longest_that_touches_it() -> None:
    arrivals = [arrival(at) for at in (0, 50, 60, 90, 95, 200)]

    assert longest_gap(arrivals, Instant(70), Instant(94)) == Gap(Instant(60), Instant(90))


def test_a_move_behind_the_end_of_a_download_has_no_gap() -> None:
    with pytest.raises(LabError, match="over before"):
        longest_gap([arrival(0), arrival(5)], Instant(6), Instant(9))


def test_a_run_in_which_all_held_breaks_no_promise() -> None:
    assert findings().broken_promises() == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"right_hash": False}, "not what was sent"),
        ({"received": 9}, "9 of 10 bytes"),
        ({"dead": ("ntm serve",)}, "ntm serve died"),
        ({"outages": (Outage(MOVE, 5, None),)}, "no move to the café NAT"),
    ],
)
def test_each_broken_promise_is_named(wrong: dict[str, object], said: str) -> None:
    [promise] = replace(findings(), **wrong).broken_promises()  # type: ignore[arg-type]

    assert said in promise


def test_the_map_leads_the_tunnel_by_rs_only_while_it_is_relayed() -> None:
    by_way = {way: draw(Scene(way=way)).plain.splitlines() for way in Way}

    under_rs = 3
    assert "┃" in by_way[Way.RELAY][under_rs]
    assert "┃" not in by_way[Way.DIRECT][under_rs]
    assert "━━━" in by_way[Way.DIRECT][under_rs + 1]


def test_the_map_shows_no_way_while_the_laptop_has_no_network() -> None:
    drawn = draw(Scene(way=Way.DIRECT, where=None)).plain

    assert "━" not in drawn
    assert "moving" in drawn


def test_a_graph_is_relative_to_its_largest_value_and_shows_what_is_missing() -> None:
    assert spark([0.0, 5.0, None, 10.0]) == "▁▅!█"


def test_the_simulated_story_keeps_the_download_whole_and_says_what_is_simulated() -> None:
    told = io.StringIO()

    code = simulate(Console(file=told, highlight=False), "no rights", pace=0.0)

    assert code == 0
    for said in ("no rights", "SIMULATED", "10 one-way delays", "6 one-way delays", "whole and in"):
        assert said in told.getvalue()


@pytest.mark.lab
def test_the_demo_tells_its_whole_story_in_plain_lines_where_there_is_no_terminal() -> None:
    need_lab()

    done = subprocess.run(DEMO, capture_output=True, text=True, timeout=500)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    for said in ("Fig. 7", "Fig. 6", "home NAT -> café NAT", "SHA-256 right", "All of it was real"):
        assert said in done.stdout


@pytest.mark.lab
def test_an_interrupt_leaves_nothing_behind() -> None:
    need_lab()
    # Who runs the tests in the background has switched interrupts off for what they start.
    command = ["env", "--default-signal=INT", *DEMO]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        assert "three NATs stand" in demo.stdout.readline()

        demo.send_signal(signal.SIGINT)

        assert "everything is removed" in demo.stdout.read()
    assert demo.returncode == 130
    assert namespaces_of(f"ntm-{demo.pid}") == []
    assert not Path(f"/run/ntmobile-lab/ntm-{demo.pid}-1").exists()


def test_a_word_that_is_no_option_is_answered_by_the_usage() -> None:
    done = subprocess.run([*DEMO, "--fast"], capture_output=True, text=True, timeout=180)

    assert done.returncode == 2
    assert "usage:" in done.stderr


def need_lab() -> None:
    if (reason := unavailable()) is not None:
        pytest.skip(f"no lab here: {reason}")


def as_json(steps: list[tuple[str, str, bool]]) -> list[dict[str, object]]:
    return [{"message": message, "there": there, "sent": sent} for message, there, sent in steps]


def arrival(at: int) -> Arrival:
    return Arrival(Instant(at), at)


def findings() -> Findings:
    made = SetUp("pc", "fd00::1", 10.0, "Fig. 7", 10, ())
    return Findings(1.0, (made,), (Outage(MOVE, 5, 5),), (), 10, 10, True, ())
