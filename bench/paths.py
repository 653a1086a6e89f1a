"""All 81 pairs of NATs with real nodes behind: the table in docs/paths.md.

    sudo python bench/paths.py [--ports random|sequential|preserved] [--runs 1] [--at-once 3]
                               [--only REGEX] [--guessed] [--json FILE] [--add FILE ...] [--write]

18 nodes are up at once, one behind each NAT of either side. Pairs meet in rounds, in which no NAT
has two of them: a NAT that counts its ports is predicted only while nobody else makes it count. Of
a round, --at-once pairs meet at the same time, since most of it is waiting. In each run all is made
anew. What came of each pair is printed, and with --write put into docs/paths.md; of several runs
medians, and of probes and mappings the most. --only takes those pairs whose `MN - CN` matches, such
as '^EI/APD .* - APD', --guessed those where chance is involved, which have a table of their own.
--json adds every meeting to a file, --add takes those of such files as well. Ends with 1 when a
pair does not connect, or is relayed though the oracle says that it can be direct; of the guessed
ones, when fewer than 95 of 100 are direct. Several of these programs can run side by side.
"""

import argparse
import fcntl
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from statistics import median

import msgspec

from ntmobile.lab import Behaviour, Lab, LabError, Ports, unavailable
from ntmobile.lab.ntm import World
from ntmobile.lab.pairs import Matrix, Meeting, kind, kinds, name
from ntmobile.proto.oracle import Way, oracle

PAGE = Path(__file__).parent.parent / "docs" / "paths.md"
HEAD = (
    "| MN behind | CN behind | foretold | connected | direct | ms to first packet | ms to direct "
    "| probes | mappings |\n|---|---|---|---|---|---|---|---|---|"
)
GUESSED_HEAD = (
    "| MN behind | CN behind | connected | direct | by the first tunnel | ms to direct: median "
    "| worst | probes | mappings |\n|---|---|---|---|---|---|---|---|---|"
)
MUST = 0.95
"""Of the meetings of a pair whose port is guessed, so many are direct."""
PORTS = {ports.name.lower(): ports for ports in Ports}
Pair = tuple[Behaviour, Behaviour]


def row(met: Sequence[Meeting]) -> str:
    """Return one pair's line, of all its runs."""
    one, runs = met[0], len(met)
    direct = sum(each.direct for each in met)
    soon = [each.direct_ms for each in met if each.direct_ms is not None]
    cells = (
        one.here,
        one.there,
        one.verdict.way.value,
        share(sum(each.connected for each in met), runs),
        share(direct, runs),
        f"{median(each.first_ms for each in met):.0f}",
        f"{median(soon):.0f}" if soon else "",
        str(max(each.probes for each in met)),
        str(max(each.mappings for each in met)),
    )
    return f"| {' | '.join(cells)} |"


def guessed_row(met: Sequence[Meeting]) -> str:
    """Return the line of a pair that has to guess, of all its runs."""
    one, runs = met[0], len(met)
    soon = [each.direct_ms for each in met if each.direct_ms is not None]
    cells = (
        one.here,
        one.there,
        share(sum(each.connected for each in met), runs),
        share(sum(each.direct for each in met), runs),
        share(sum(each.direct and each.guesses == 1 for each in met), runs),
        f"{median(soon):.0f}" if soon else "",
        f"{max(soon):.0f}" if soon else "",
        str(max(each.probes for each in met)),
        str(max(each.mappings for each in met)),
    )
    return f"| {' | '.join(cells)} |"


def share(those: int, runs: int) -> str:
    """Say yes or no of one run, a fraction of several."""
    if runs == 1:
        return "yes" if those else "no"
    return f"{those} of {runs}"


class Record(msgspec.Struct):
    """A line of a file of meetings."""

    met: Meeting
    load: float
    """Of the machine, when it was over."""


class Table:
    """What came of all meetings so far, and how loaded the machine was meanwhile."""

    def __init__(
        self, at_once: int, before: Sequence[Record] = (), file: Path | None = None
    ) -> None:
        """Begins now, with those that met before; the file is told of all others."""
        self.at_once = at_once
        self.met = [each.met for each in before]
        self._file = file
        self.broken: list[str] = []
        """What did not come to an end, with the reason."""
        self.loads = [each.load for each in before] or [os.getloadavg()[0]]

    @property
    def as_foretold(self) -> bool:
        """Every meeting came to an end, and to the one that was foretold."""
        return not self.broken and all(each.as_foretold for each in self.met)

    @property
    def as_likely(self) -> bool:
        """Every meeting came to an end, and of each pair that guesses enough to a direct path."""
        return not self.broken and all(
            sum(each.direct for each in met) >= MUST * len(met) for met in self._pairs()
        )

    def summary(self) -> str:
        """Say what the table shows in three sentences, and under what load it was measured."""
        met = self.met
        foretold = sum(each.verdict.direct for each in met)
        direct = sum(each.direct and each.verdict.direct for each in met)
        lucky = sum(each.direct and not each.verdict.direct for each in met)
        hopeless = max((each.probes for each in met if not each.verdict.direct), default=0)
        broken = f", {len(self.broken)} broke off" if self.broken else ""
        return (
            f"{len(met)} meetings{broken}: {sum(each.connected for each in met)} connected; "
            f"direct {direct} of {foretold} that the oracle foretells, and {lucky} others; at most "
            f"{hopeless} probes where it says no. {self.at_once} pairs at once on "
            f"{os.cpu_count()} processors, whose load was {max(self.loads):.0f} at most; "
            f"{datetime.now(UTC):%Y-%m-%d}."
        )

    def rows(self) -> str:
        """Return the rows of all pairs, in their order."""
        return "\n".join([HEAD, *map(row, self._pairs())])

    def guessed_summary(self) -> str:
        """Say how many of the pairs that guess are direct as often as they must."""
        pairs = self._pairs()
        fit = sum(sum(each.direct for each in met) >= MUST * len(met) for met in pairs)
        least = min(sum(each.direct for each in met) / len(met) for met in pairs)
        return (
            f"{len(self.met)} meetings of {len(pairs)} pairs: {fit} pairs are direct in at least "
            f"{MUST:.0%} of their meetings, the least lucky one in {least:.0%}. "
            f"Load of {os.cpu_count()} processors up to {max(self.loads):.0f} meanwhile; "
            f"{datetime.now(UTC):%Y-%m-%d}."
        )

    def guessed_rows(self) -> str:
        """Return the rows of pairs whose port is guessed, in their order."""
        return "\n".join([GUESSED_HEAD, *map(guessed_row, self._pairs())])

    def _pairs(self) -> list[list[Meeting]]:
        """Return the meetings of each pair, ordered by the pair."""
        ordered = sorted(self.met, key=lambda each: (each.here, each.there))
        return [list(met) for _, met in groupby(ordered, key=lambda each: (each.here, each.there))]

    def meet(self, matrix: Matrix, pairs: Sequence[Pair], title: str) -> None:
        """Have the pairs of one round meet, and print what comes of each."""
        with ThreadPoolExecutor(self.at_once) as pool:
            under_way = {pool.submit(matrix.meet, *pair): pair for pair in pairs}
            for done in as_completed(under_way):
                label = " - ".join(map(name, under_way[done]))
                try:
                    self._add(done.result())
                except (LabError, LookupError) as error:
                    self.broken.append(label)
                    print(f"{title} {label} broke off: {error!r}", file=sys.stderr, flush=True)
                else:
                    print(title, row(self.met[-1:]), flush=True)
        self.loads.append(os.getloadavg()[0])

    def _add(self, met: Meeting) -> None:
        self.met.append(met)
        if self._file is not None:
            with self._file.open("ab") as file:
                file.write(msgspec.json.encode(Record(met, os.getloadavg()[0])) + b"\n")


def rounds(here: Sequence[Behaviour], there: Sequence[Behaviour]) -> list[list[Pair]]:
    """Return all pairs in rounds in which nobody meets two."""
    size = max(len(here), len(there))
    return [
        [
            (one, there[(number + shift) % size])
            for number, one in enumerate(here)
            if (number + shift) % size < len(there)
        ]
        for shift in range(size)
    ]


def is_guessed(pair: Pair) -> bool:
    """Return whether chance is involved."""
    here, there = map(kind, pair)
    return oracle(here, there).way is Way.GUESSED


def measure(table: Table, ports: Ports, runs: int, wanted: Callable[[Pair], bool]) -> None:
    """Build the lab anew in each run and have the chosen pairs meet."""
    chosen = [
        [pair for pair in each if wanted(pair)] for each in rounds(kinds(ports), kinds(ports))
    ]
    here, there = (
        [one for one in kinds(ports) if any(pair[side] == one for each in chosen for pair in each)]
        for side in (0, 1)
    )
    for run in range(runs):
        with Lab() as lab:
            matrix = Matrix(World(lab), here, there)
            for number, pairs in enumerate(filter(None, chosen), 1):
                table.meet(matrix, pairs, f"run {run + 1}/{runs} round {number}")


def write(title: str, text: str) -> None:
    """Put one table into the page, in place of the one before; another program may write too."""
    begin, end = f"<!-- {title} -->", f"<!-- end {title} -->"
    with PAGE.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        page, new = file.read(), f"{begin}\n{text}\n{end}"
        file.seek(0)
        file.write(re.sub(f"{begin}.*?{end}", lambda _: new, page, flags=re.DOTALL))
        file.truncate()


def choices(words: Iterable[str] | None = None) -> argparse.Namespace:
    """Parse the command line; exits with 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--ports", choices=PORTS, default="random")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=3, help="pairs that meet at the same time")
    parser.add_argument("--only", type=re.compile, default=re.compile(""), metavar="REGEX")
    parser.add_argument("--guessed", action="store_true", help="pairs whose port is guessed")
    parser.add_argument("--json", type=Path, help="a file to which every meeting is added")
    parser.add_argument("--add", nargs="*", type=Path, default=[], help="such files")
    parser.add_argument("--write", action="store_true", help="into docs/paths.md")
    chosen = parser.parse_args(None if words is None else list(words))
    if chosen.write and chosen.only.pattern:
        parser.error("--write takes the whole table, and --only a part of it")
    return chosen


def is_wanted(pair: Pair, chosen: argparse.Namespace) -> bool:
    """Return whether the command line chose a pair."""
    label = " - ".join(map(name, pair))
    return bool(chosen.only.search(label)) and (is_guessed(pair) or not chosen.guessed)


def read(files: Iterable[Path], ports: str) -> Iterator[Record]:
    """Return the meetings behind such NATs that were measured before."""
    for file in files:
        for line in file.read_bytes().splitlines():
            record = msgspec.json.decode(line, type=Record)
            if record.met.here.endswith(ports):
                yield record


def main() -> int:
    """Measure, print, write."""
    chosen = choices()
    if (reason := unavailable()) is not None:
        print(f"no lab here: {reason}", file=sys.stderr)
        return 2
    table = Table(chosen.at_once, list(read(chosen.add, chosen.ports)), chosen.json)
    measure(table, PORTS[chosen.ports], chosen.runs, lambda pair: is_wanted(pair, chosen))
    if not table.met:
        print("no pair matches, or none came to an end", file=sys.stderr)
        return 1
    if chosen.guessed:
        text = f"{table.guessed_summary()}\n\n{table.guessed_rows()}"
    else:
        text = f"{table.summary()}\n\n{table.rows()}"
    print(text)
    if chosen.write:
        write(f"guessed {chosen.ports}" if chosen.guessed else chosen.ports, text)
    return 0 if (table.as_likely if chosen.guessed else table.as_foretold) else 1


if __name__ == "__main__":
    sys.exit(main())
