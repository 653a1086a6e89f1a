"""Reads what the demo's programs printed and noted, and makes figures of it."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ntmobile.lab.demo.delays import figure_of, one_way_delays
from ntmobile.lab.demo.download import Arrival, longest_gap
from ntmobile.lab.demo.findings import Move, Outage, RoundTrip, SetUp
from ntmobile.lab.demo.pings import Answer
from ntmobile.lab.demo.scene import Way, Where
from ntmobile.lab.errors import LabError
from ntmobile.lab.host import Host
from ntmobile.time import SECOND, Instant

ADDRESS = re.compile(r"\sIN\s+AAAA\s+([0-9a-f:]+)")
QUERY_TIME = re.compile(r"Query time: (\d+) usec")
AFTER_MOVE_NS = 2 * SECOND
"""A gap that begins later than this after a move has another cause."""
NS_PER_MS = 1_000_000


def set_up(fqdn: str, said: str, steps: Sequence[dict[str, Any]]) -> SetUp:
    """Return what `dig -u` and `ntm trace` say; raises LabError if there is no address."""
    address, took = ADDRESS.search(said), QUERY_TIME.search(said)
    if address is None or took is None:
        raise LabError(f"{fqdn} has no address on the laptop:\n{said}")
    return SetUp(
        fqdn,
        address[1],
        int(took[1]) / 1000,
        figure_of(steps),
        one_way_delays(steps),
        tuple(steps),
    )


def outages(
    arrivals: Sequence[Arrival], moves: Iterable[Move], told_ms: Sequence[float]
) -> tuple[Outage, ...]:
    """Return the gap that each move left in a download, beside what the node itself told."""
    found = []
    for number, move in enumerate(moves):
        gap = longest_gap(arrivals, move.away, Instant(move.back + AFTER_MOVE_NS))
        told = told_ms[number] if number < len(told_ms) else None
        found.append(Outage(move, gap.ns / NS_PER_MS, told))
    return tuple(found)


def round_trips(answers: Iterable[Answer], moves: Sequence[Move]) -> tuple[RoundTrip, ...]:
    """Return the median round trip of each place and way, in the order of their first answer."""
    rtts: dict[tuple[Where, Way], list[float]] = {}
    remotes: dict[tuple[Where, Way], str] = {}
    for answer in answers:
        if answer.rtt_ms is not None and answer.way is not None:
            place = _place(answer.at, moves), answer.way
            rtts.setdefault(place, []).append(answer.rtt_ms)
            remotes[place] = answer.remote or ""
    return tuple(RoundTrip(*place, remotes[place], median(rtts[place])) for place in rtts)


def _place(at: Instant, moves: Sequence[Move]) -> Where:
    left = [move for move in moves if move.back <= at]
    return left[-1].goal if left else Where.HOME


def right_hash(sha256: str, host: Host, file: Path) -> bool:
    """Say whether a file on a machine has this SHA-256."""
    return host.run(["sha256sum", file]).stdout.split()[0] == sha256
