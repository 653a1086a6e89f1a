"""The framework built-in type: one stream, thousands of connections, and what they leave behind.

The same two namespaces as bench/tunnel.py, an unprivileged process at each end; the systems take
turns within each round. Run as root:
`build/venv/bin/python bench/framework.py [--rounds N] [--seconds N] [--json]`.
"the same program" runs asyncio over the system type's device; iroh is left out where it is not
installed (`python3 -m venv build/bench/iroh && build/bench/iroh/bin/pip install iroh`).
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunnel import BUILT, INNER, OUTER, PORT, Net, cpu_seconds, ntmobile, stream, two_namespaces

HERE = Path(__file__).resolve().parent
IROH = BUILT / "iroh/bin/python"
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]
IDLE = 1000
MANY = 1000
CHURN = 10_000
SYSTEM = "system type, iperf3"
FRAMEWORK = "framework type"
BESIDE_IDLE = f"framework type, {IDLE:,} idle"


@dataclass(frozen=True)
class Speed:
    """What one stream did."""

    gbit_s: float
    cpu_s_per_gb: float
    """Of both ends and, in the system type, its daemons."""


class Ends:
    """Two processes; the first does what it is told."""

    def __init__(self, client: "subprocess.Popen[str]", server: "subprocess.Popen[str]") -> None:
        self.client, self.server = client, server

    def do(self, command: str, number: float = 0) -> dict[str, Any]:
        return ask(self.client, command, number)

    def speed(self, seconds: int, *daemons: int) -> Speed:
        all_of_them = (self.client.pid, self.server.pid, *daemons)
        before = sum(map(cpu_seconds, all_of_them))
        told = self.do("stream", seconds)
        used = sum(map(cpu_seconds, all_of_them)) - before
        return Speed(told["bytes"] * 8e-9 / told["seconds"], used / told["bytes"] * 1e9)


def main() -> None:
    options = parse()
    speeds: dict[str, list[Speed]] = {}
    ratios: list[float] = []
    costs: list[float] = []
    for number in range(options.rounds):
        for name, run in available():
            print(f"round {number + 1}: {name}", file=sys.stderr)
            speeds.setdefault(name, []).append(run(options.seconds))
        print(f"round {number + 1}: beside {IDLE:,} idle connections", file=sys.stderr)
        alone, beside = idle(options.seconds)
        speeds.setdefault(BESIDE_IDLE, []).extend(beside)
        ratios.append(total(beside) / total(alone))
        costs.append(cost(beside) / cost(alone))
    print(f"{MANY:,} at once, then {CHURN:,} one after the other", file=sys.stderr)
    report = {
        "streams": {name: [asdict(run) for run in runs] for name, runs in speeds.items()},
        "idle_speed_ratio": ratios,
        "idle_cpu_ratio": costs,
        "connections": connections(),
    }
    print(json.dumps(report, indent=2) if options.json else as_table(report))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def available() -> Iterator[tuple[str, Callable[[int], Speed]]]:
    yield SYSTEM, by_iperf3
    yield "the same program", by_the_same_program
    yield FRAMEWORK, by_framework
    if IROH.exists():
        yield "iroh", by_iroh
    else:
        install = f"python3 -m venv {IROH.parents[1]} && {IROH.parent}/pip install iroh"
        print(f"no iroh here: it is left out; {install}", file=sys.stderr)


def by_iperf3(seconds: int) -> Speed:
    with two_namespaces(offload=True) as net, ntmobile(net) as running:
        done = stream(net, running, seconds, reverse=False)
    return Speed(done.gbit_s, done.cpu_s_per_gb)


def by_the_same_program(seconds: int) -> Speed:
    with (
        two_namespaces(offload=True) as net,
        ntmobile(net) as running,
        two_ends(net, "plain", INNER) as ends,
    ):
        return ends.speed(seconds, *running.daemons)


def by_framework(seconds: int) -> Speed:
    with two_namespaces(offload=True) as net, two_ends(net, "framework", OUTER) as ends:
        return ends.speed(seconds)


def by_iroh(seconds: int) -> Speed:
    program = [str(IROH), str(HERE / "iroh_end.py")]
    with two_namespaces(offload=True) as net, ExitStack() as stack:
        server, told = started(net, "b", [*program, "b", str(PORT)], stack)
        place = f"{OUTER['b']}:{PORT}"
        client, _ = started(net, "a", [*program, "a", place, told.split()[1]], stack)
        return Ends(client, server).speed(seconds)


def idle(seconds: int) -> tuple[list[Speed], list[Speed]]:
    """A stream alone and beside idle connections, in turns, in one pair of processes."""
    alone, beside = [], []
    with two_namespaces(offload=True) as net, two_ends(net, "framework", OUTER) as ends:
        # The first stream of a process warms it up.
        ends.speed(1)
        for _ in range(2):
            alone.append(ends.speed(seconds))
            ends.do("idle", IDLE)
            beside.append(ends.speed(seconds))
            ends.do("drop")
    return alone, beside


def total(speeds: list[Speed]) -> float:
    return sum(speed.gbit_s for speed in speeds)


def cost(speeds: list[Speed]) -> float:
    return sum(speed.cpu_s_per_gb for speed in speeds)


def connections() -> list[dict[str, Any]]:
    """What both ends hold after each step; a leak shows between the last two."""
    steps = (("usage", 0), ("churn", 500), ("idle", IDLE), ("drop", 0), ("busy", MANY))
    churns = (("churn", CHURN), ("churn", CHURN))
    found = []
    with two_namespaces(offload=True) as net, two_ends(net, "framework", OUTER) as ends:
        for command, number in steps + churns:
            here = ends.do(command, number)
            there = ask(ends.server, "settled", 0)
            found.append({"step": f"{command} {number}", "client": here, "server": there})
    return found


@contextmanager
def two_ends(net: Net, kind: str, hosts: dict[str, str]) -> Iterator[Ends]:
    program = [sys.executable, str(HERE / "framework_end.py"), kind]
    with ExitStack() as stack:
        server, _ = started(net, "b", [*NOBODY, *program, "b", hosts["a"]], stack)
        client, _ = started(net, "a", [*NOBODY, *program, "a", hosts["b"]], stack)
        yield Ends(client, server)


def started(
    net: Net, side: str, command: list[str], stack: ExitStack
) -> "tuple[subprocess.Popen[str], str]":
    process = subprocess.Popen(
        net.inside(side, *command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith("ready"):
        raise RuntimeError(f"{command[-3:]} did not start")
    return process, line


def ask(process: "subprocess.Popen[str]", command: str, number: float) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{command} {number:.0f}\n")
    process.stdin.flush()
    told: dict[str, Any] = json.loads(process.stdout.readline())
    return told


def as_table(report: dict[str, Any]) -> str:
    lines = ["", "1 TCP stream"]
    medians = {
        name: {field: statistics.median(run[field] for run in runs) for field in runs[0]}
        for name, runs in report["streams"].items()
    }
    base = medians[SYSTEM]["gbit_s"]
    for name, row in medians.items():
        figures = "  ".join(f"{field} {value:7.2f}" for field, value in row.items())
        lines.append(f"  {name:28} {figures}  {row['gbit_s'] / base:5.2f} of the system type")
    if "iroh" in medians:
        times = medians[FRAMEWORK]["gbit_s"] / medians["iroh"]["gbit_s"]
        lines.append(f"  the framework type is {times:.0f} times as fast as iroh")
    for what in ("speed", "cpu"):
        ratios = report[f"idle_{what}_ratio"]
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        median = statistics.median(ratios)
        lines.append(f"  beside {IDLE:,} idle ones: {what} {median:.2f} of alone ({each})")
    lines += ["", "connections"]
    for row in report["connections"]:
        for end in ("client", "server"):
            figures = "  ".join(f"{name} {value:8.1f}" for name, value in row[end].items())
            lines.append(f"  {row['step']:12} {end}  {figures}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
