"""All 81 pairs of NATs with real nodes behind: the table in docs/paths.md.

    sudo python bench/paths.py [--ports random|sequential|preserved] [--runs 1] [--write]

18 nodes are up at once, one behind each NAT of either side; pairs meet one after the other, newly
in each run. What came of each pair is printed, and with --write put into docs/paths.md. Ends with 1
when a pair does not connect, or is relayed though the oracle says that it can be direct.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from statistics import median

from ntmobile.lab import Lab, Ports, unavailable
from ntmobile.lab.ntm import World
from ntmobile.lab.pairs import Matrix, Meeting, kinds

PAGE = Path(__file__).parent.parent / "docs" / "paths.md"
HEAD = (
    "| MN behind | CN behind | foretold | connected | direct | ms to first packet | ms to direct "
    "| probes | mappings |\n|---|---|---|---|---|---|---|---|---|"
)
PORTS = {ports.name.lower(): ports for ports in Ports}


def row(met: list[Meeting]) -> str:
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


def share(those: int, runs: int) -> str:
    """Say yes or no of one run, a fraction of several."""
    if runs == 1:
        return "yes" if those else "no"
    return f"{those} of {runs}"


def summary(met: list[Meeting], began: float, ended: float) -> str:
    """Say what the table shows in two sentences, and under what load it was measured."""
    foretold = sum(each.verdict.direct for each in met)
    direct = sum(each.direct and each.verdict.direct for each in met)
    lucky = sum(each.direct and not each.verdict.direct for each in met)
    hopeless = max((each.probes for each in met if not each.verdict.direct), default=0)
    return (
        f"{len(met)} meetings: {sum(each.connected for each in met)} connected; direct {direct} of "
        f"{foretold} that the oracle foretells, and {lucky} others; at most {hopeless} probes "
        f"where it says no. Load of the machine ({os.cpu_count()} processors) {began:.1f} at the "
        f"beginning, {ended:.1f} at the end; {datetime.now(UTC):%Y-%m-%d}."
    )


def measure(ports: Ports, runs: int) -> list[Meeting]:
    """Build the lab and have all pairs meet."""
    met: list[Meeting] = []
    for run in range(runs):
        with Lab() as lab:
            matrix = Matrix(World(lab), kinds(ports), kinds(ports))
            for number, pair in enumerate(matrix.pairs, 1):
                met.append(matrix.meet(*pair))
                print(f"{run + 1}/{runs} {number}/{len(matrix.pairs)}", row(met[-1:]), flush=True)
    return met


def table(met: Iterable[Meeting]) -> str:
    """Return the rows of all pairs, in their order."""
    ordered = sorted(met, key=lambda each: (each.here, each.there))
    pairs = groupby(ordered, key=lambda each: (each.here, each.there))
    return "\n".join([HEAD, *(row(list(each)) for _, each in pairs)])


def write(name: str, text: str) -> None:
    """Put one table into the page, in place of the one before."""
    begin, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    page, new = PAGE.read_text(), f"{begin}\n{text}\n{end}"
    PAGE.write_text(re.sub(f"{begin}.*?{end}", lambda _: new, page, flags=re.DOTALL))


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--ports", choices=PORTS, default="random")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="into docs/paths.md")
    chosen = parser.parse_args()
    if (reason := unavailable()) is not None:
        print(f"no lab here: {reason}", file=sys.stderr)
        return 2
    began = os.getloadavg()[0]
    met = measure(PORTS[chosen.ports], chosen.runs)
    text = f"{summary(met, began, os.getloadavg()[0])}\n\n{table(met)}"
    print(text)
    if chosen.write:
        write(chosen.ports, text)
    return 0 if all(each.as_foretold for each in met) else 1


if __name__ == "__main__":
    sys.exit(main())
