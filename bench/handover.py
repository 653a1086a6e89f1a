"""What applications notice of moves: NTMobile beside its neighbours.

Each row is a kind of move, made again and again while bytes flow: the mover downloads, uploads, or
exchanges datagrams with a peer that is reached directly or through a relay. The gap is the longest
time between two bytes delivered to the application, counted from the moment the new address is
usable (rows with two uplinks and rebooting NATs: from the beginning).

A row's whole name selects that row alone. Several such commands may run at once, each with a lab
of its own: then the processors, which they share, make the gaps longer than they are. Long holes
use none, and are best measured so.

As root: `build/venv/bin/python bench/handover.py [--runs N] [--rows PART,...] [--delay MS,...]
[--systems NAME,...] [--carries down,up,udp] [--peers relayed,punched,direct] [--json FILE]
[--add FILE ...] [--keep FOLDER] [--write]`. `--write` makes docs/handover.md of this run and of
those added; `--keep` keeps what the nodes report of runs with long gaps, or with losses, and where
in the lab packets were dropped meanwhile. The neighbours need Go, and are left out without it;
`without resend` is NTMobile that repeats nothing.
"""

import argparse
import json
import os
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from moves.drops import drops
from moves.measure import Outcome, measure
from moves.neighbours import available
from moves.ntmobile_stage import ntmobile, without_resend
from moves.rows import ROWS, Row
from moves.stage import Stage
from moves.table import page, table

PAGE = Path(__file__).resolve().parent.parent / "docs/handover.md"
LONG_S = 60.0
"""Rows with longer holes are run only where they are asked for."""
REMARKABLE_MS = 250.0
"""Beyond the round trip: of such a run one wants to know more."""
NAMES = {row.name for row in ROWS}


def main() -> int:
    options = parse()
    outcomes = [
        Outcome(**each)
        for file in options.add
        for each in map(json.loads, Path(file).read_text().splitlines())
    ]
    for delay_ms in (float(each) for each in options.delay.split(",") if each):
        for system, stage in stages(options, delay_ms):
            with stage as made:
                for outcome in run(system, made, options):
                    print(outcome.line(), file=sys.stderr, flush=True)
                    outcomes.append(outcome)
                    if options.json:
                        with Path(options.json).open("a") as file:
                            file.write(json.dumps(asdict(outcome)) + "\n")
    print(table(outcomes))
    if options.write:
        PAGE.write_text(page(outcomes, shlex.join(sys.argv[1:]), options.rate))
    return 1 if any(each.broken for each in outcomes if each.system == "NTMobile") else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", default="", help="names or parts; all but minutes if none")
    parser.add_argument("--delay", default="0,50", help="round trips between the ends, in ms")
    parser.add_argument(
        "--systems", default="", help="ntmobile, without resend, wireguard-go, nebula"
    )
    parser.add_argument("--carries", default="down,up,udp")
    parser.add_argument("--peers", default="relayed,punched,direct")
    parser.add_argument("--rate", type=float, default=20.0, help="of streams, megabytes a second")
    parser.add_argument("--json", help="a file to which every single run is added")
    parser.add_argument("--add", nargs="*", default=[], help="such files, to be in the table too")
    parser.add_argument("--keep", type=Path, help="a folder for what nodes say of long gaps")
    parser.add_argument("--write", action="store_true", help="make docs/handover.md")
    return parser.parse_args()


def stages(
    options: argparse.Namespace, delay_ms: float
) -> Iterator[tuple[str, AbstractContextManager[Stage]]]:
    wanted = options.systems.lower().split(",")
    systems = {"NTMobile": ntmobile, **dict(available(wanted))}
    if "without resend" in wanted:
        systems["without Resend"] = without_resend
    for name, make in systems.items():
        if wanted == [""] or name.lower() in wanted:
            yield name, make(delay_ms)


def rows(options: argparse.Namespace) -> Iterator[Row]:
    parts = [part for part in options.rows.split(",") if part]
    for row in ROWS:
        asked = any(part == row.name or (part in row.name and part not in NAMES) for part in parts)
        if asked or (not parts and row.hole_s <= LONG_S):
            yield row


def run(system: str, stage: Stage, options: argparse.Namespace) -> Iterator[Outcome]:
    for row in rows(options):
        if row.nobody_else and not stage.agents:
            continue
        for peer in row.peers:
            if peer not in stage.peers or peer not in options.peers.split(","):
                continue
            for carries in row.by_whom:
                if carries not in options.carries.split(","):
                    continue
                for _ in range(options.runs):
                    before = drops(stage.lab) if options.keep else Counter()
                    outcome = measure(system, stage, row, peer, carries, options.rate * 1e6)
                    is_long = outcome.gap_ms > REMARKABLE_MS + outcome.delay_ms
                    if options.keep and (is_long or (row.lossless and outcome.lost)):
                        keep(stage, outcome, options.keep, drops(stage.lab) - before)
                    yield outcome
                    time.sleep(0.2)


def keep(stage: Stage, outcome: Outcome, folder: Path, dropped: Counter[str]) -> None:
    """Write down what the nodes say of a run that they have just made, and what was dropped."""
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", f"{outcome.row} {outcome.peer} {outcome.carries}".lower())
    path = folder / f"{name}-{outcome.delay_ms:g}-{os.getpid()}-{len(list(folder.iterdir()))}.txt"
    places = "".join(f"{place}: {count}\n" for place, count in sorted(dropped.items()))
    path.write_text(f"{outcome.line()}\n\ndropped meanwhile\n{places}\n{stage.report()}")


if __name__ == "__main__":
    sys.exit(main())
