"""The end of the demo: its figures, in a few lines."""

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ntmobile.lab.demo.delays import PAPER
from ntmobile.lab.demo.findings import Findings, Outage, RoundTrip, SetUp
from ntmobile.lab.demo.scene import Way
from ntmobile.lab.demo.setup import ONE_WAY_MS
from ntmobile.lab.demo.story import RATE

LABEL = 12
NS_PER_MS = 1_000_000


def print_summary(console: Console, findings: Findings, elapsed_s: float) -> None:
    """Print every figure, then whether all that was promised held."""
    print_lines(console, lines(findings))
    broken = findings.broken_promises()
    for promise in broken:
        console.print(Text(f"FAILED: {promise}", "bold red"), soft_wrap=True)
    if not broken:
        said = f"All of it was real: processes, packets, NATs. It took {elapsed_s:.0f} s."
        console.print(Text(said, "bold green"))


def print_lines(console: Console, labelled: Iterable[tuple[str, str]]) -> None:
    """Print texts beside their labels: wrapped on a terminal, one line each elsewhere."""
    console.print()
    if console.is_terminal:
        grid = Table.grid(padding=(0, 2))
        for label, text in labelled:
            grid.add_row(Text(label, "bold"), text)
        console.print(grid)
        return
    for label, text in labelled:
        console.print(label.ljust(LABEL) + text, soft_wrap=True, markup=False)


def lines(findings: Findings) -> Iterator[tuple[str, str]]:
    """Return what to say, each with the label it stands under."""
    yield "start", f"two organisations and four nodes from nothing in {findings.start_s:.1f} s"
    for number, made in enumerate(findings.set_ups):
        keys = "keys warm" if number else "domains meet (Key Sharing extra)"
        yield ("" if number else "set-up"), _set_up(made, keys)
    for number, trip in enumerate(findings.round_trips):
        yield ("" if number else "path"), _round_trip(trip)
    for number, outage in enumerate(findings.outages):
        yield ("" if number else "outage"), _outage(outage)
    yield "download", _download(findings)


def _set_up(made: SetUp, keys: str) -> str:
    return (
        f"{made.figure}, {keys}: {made.delays} one-way delays of {ONE_WAY_MS} ms "
        f"(the paper: {PAPER[made.figure]}); DNS answered after {made.query_ms:.0f} ms"
    )


def _round_trip(trip: RoundTrip) -> str:
    how = "direct to" if trip.way is Way.DIRECT else "through RS at"
    return f"from the {trip.where} {how} {trip.remote}, round trip {trip.rtt_ms:.2f} ms"


def _outage(outage: Outage) -> str:
    move = outage.move
    plug_ms = (move.back - move.away) / NS_PER_MS
    told = "nothing" if outage.told_ms is None else f"{outage.told_ms:.0f} ms"
    return (
        f"{move.origin} -> {move.goal}: {outage.gap_ms:.0f} ms without a byte for curl "
        f"(changing networks took {plug_ms:.0f} ms); ntm handovers: {told}"
    )


def _download(findings: Findings) -> str:
    verdict = "right" if findings.right_hash else "WRONG"
    return (
        f"{findings.received:,} of {findings.size:,} bytes at {RATE / 1e6:.0f} MB/s, "
        f"SHA-256 {verdict}, one TCP connection, {len(findings.outages)} moves"
    )
