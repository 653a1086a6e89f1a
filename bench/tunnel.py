"""The tunnel of the system type against the plain path and wireguard-go.

Two network namespaces joined by a veth pair; the systems take turns within each
round. CPU time is that of both daemons and both ends of iperf3. Run as root:
`build/venv/bin/python bench/tunnel.py [--rounds N] [--seconds N] [--json]`; needs
iperf3 and ethtool; Go for wireguard-go and fastd, each left out where there is none.
"""

import argparse
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ntmobile._core import x25519_public

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / "build/bench"
WIREGUARD = "golang.zx2c4.com/wireguard"
SIDES = ("a", "b")
OUTER = {"a": "192.0.2.1", "b": "192.0.2.2"}
INNER = {"a": "100.64.0.1", "b": "100.64.0.2"}
PORT = 4330


@dataclass(frozen=True)
class Case:
    """What is measured."""

    name: str
    offload: bool = True
    pings: int = 0
    reverse: bool = False
    size: int = 0
    """Of UDP payloads; 0 is a TCP stream."""
    rate: int = 0
    """Datagrams a second; 0 looks for the highest with less than 1 % loss."""
    loaded: bool = False
    """Pings beside a TCP stream."""


CASES = (
    Case("1 TCP stream"),
    Case("1 TCP stream, back", reverse=True),
    Case("1 TCP stream, single datagrams", offload=False),
    Case("200 B, 20,000/s", size=200, rate=20_000),
    Case("64 B, highest rate", size=64),
    Case("200 B, highest rate", size=200),
    Case("idle round trip", pings=2000),
    Case("round trip beside a stream", pings=500, loaded=True),
)


@dataclass(frozen=True)
class Stream:
    """What one TCP stream did."""

    gbit_s: float
    cpu_s_per_gb: float
    daemons_s_per_gb: float


@dataclass(frozen=True)
class RoundTrip:
    """Milliseconds."""

    median_us: float
    p99_us: float


@dataclass(frozen=True)
class Datagrams:
    """Many small datagrams: how many arrived in a second, at what cost."""

    rate: float
    per_daemon_cpu_s: float
    loss_percent: float


Result = Stream | RoundTrip | Datagrams


@dataclass(frozen=True)
class Running:
    """A system that is up: where to connect, and what runs it."""

    address: str
    daemons: tuple[int, ...]


@dataclass(frozen=True)
class Net:
    """The two namespaces."""

    names: dict[str, str]

    def run(self, side: str, *command: str, check: bool = True) -> str:
        done = subprocess.run(
            self.inside(side, *command), check=check, capture_output=True, text=True
        )
        return done.stdout

    def inside(self, side: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.names[side], *command]


System = Callable[[Net], AbstractContextManager[Running]]


def main() -> None:
    options = parse()
    systems = dict(available())
    if options.only:
        systems = {name: systems[name] for name in options.only.split(",")}
    results: dict[str, dict[str, list[Result]]] = {}
    for number in range(options.rounds):
        for case in (case for case in CASES if options.case in case.name):
            for name, system in systems.items():
                print(f"round {number + 1}: {case.name}: {name}", file=sys.stderr)
                result = run(case, system, options.seconds)
                results.setdefault(case.name, {}).setdefault(name, []).append(result)
    print(as_json(results) if options.json else as_table(results))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--only", help="systems, separated by commas")
    parser.add_argument("--case", default="", help="part of the name of those to run")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def available() -> Iterator[tuple[str, System]]:
    yield "plain path", plain
    yield "ntmobile", ntmobile
    for name, tool, system in (
        ("wireguard-go", "go", wireguard_go),
        ("fastd", "fastd", fastd),
    ):
        if shutil.which(tool):
            yield name, system
        else:
            print(f"no {tool} here: {name} is left out", file=sys.stderr)


def run(case: Case, system: System, seconds: int) -> Result:
    with two_namespaces(offload=case.offload) as net, system(net) as running:
        if case.pings:
            return round_trip(net, running, case.pings, loaded=case.loaded)
        if case.rate:
            return datagrams(net, running, seconds, case.size, case.rate)
        if case.size:
            return highest_rate(net, running, case.size)
        return stream(net, running, seconds, reverse=case.reverse)


def stream(net: Net, running: Running, seconds: int, *, reverse: bool) -> Stream:
    arguments = ["-t", str(seconds), *(["-R"] if reverse else [])]
    report, ends, daemons = iperf3(net, running, arguments)
    received = report["end"]["sum_received"]
    gigabytes = received["bytes"] / 1e9
    return Stream(
        received["bits_per_second"] / 1e9,
        (daemons + ends) / gigabytes,
        daemons / gigabytes,
    )


def datagrams(net: Net, running: Running, seconds: int, size: int, rate: int) -> Datagrams:
    arguments = ["-u", "-w", "4M", "-l", str(size), "-b", str(rate * size * 8), "-t", str(seconds)]
    report, _, daemons = iperf3(net, running, arguments)
    total = report["end"]["sum"]
    arrived = total["packets"] - total["lost_packets"]
    per_cpu_s = arrived / daemons if daemons else 0.0
    return Datagrams(arrived / total["seconds"], per_cpu_s, total["lost_percent"])


def highest_rate(net: Net, running: Running, size: int) -> Datagrams:
    """Bisects between a rate that passes and one that does not, to 5 %."""
    passes, fails = 10_000, 640_000
    best = datagrams(net, running, 1, size, passes)
    while fails > 1.05 * passes:
        rate = round((passes * fails) ** 0.5)
        tried = datagrams(net, running, 1, size, rate)
        # A sender that is too slow for the rate proves nothing about it.
        if tried.loss_percent < 1 and tried.rate > 0.9 * rate:
            passes, best = rate, tried
        else:
            fails = rate
    return best


def listening(net: Net) -> "subprocess.Popen[str]":
    server = subprocess.Popen(
        net.inside("b", "iperf3", "-s", "-1", "--forceflush"), stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    if not any("listening" in line for line in iter(server.stdout.readline, "")):
        raise RuntimeError("iperf3 does not listen")
    return server


def iperf3(net: Net, running: Running, arguments: list[str]) -> tuple[Any, float, float]:
    """The report, and the CPU seconds of its two ends and of the daemons."""
    server = listening(net)
    assert server.stdout is not None
    before = sum(map(cpu_seconds, running.daemons))
    command = ["iperf3", "-c", running.address, "-J", *arguments]
    client = subprocess.Popen(net.inside("a", *command), stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    report = json.loads(client.stdout.read())
    daemons = sum(map(cpu_seconds, running.daemons)) - before
    server.stdout.read()
    return report, used_by(client) + used_by(server), daemons


def round_trip(net: Net, running: Running, count: int, *, loaded: bool) -> RoundTrip:
    with ExitStack() as stack:
        if loaded:
            stack.enter_context(background_stream(net, running))
        interval = "0.01" if loaded else "0.001"
        report = net.run(
            "a", "ping", "-n", "-c", str(count), "-i", interval, running.address, check=False
        )
    times = sorted(
        float(line.rsplit("time=", 1)[1].split()[0]) * 1000
        for line in report.splitlines()
        if "time=" in line
    )
    return RoundTrip(statistics.median(times), times[len(times) * 99 // 100])


@contextmanager
def background_stream(net: Net, running: Running) -> Iterator[None]:
    server = listening(net)
    client = subprocess.Popen(
        net.inside("a", "iperf3", "-c", running.address, "-t", "60"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # A second for the stream to get under way.
    net.run("a", "ping", "-n", "-c", "100", "-i", "0.01", running.address, check=False)
    try:
        yield
    finally:
        for process in (client, server):
            process.terminate()
            process.wait()


def cpu_seconds(process: int) -> float:
    """CPU time of all threads of a process, from the scheduler's own account."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def used_by(process: "subprocess.Popen[str]") -> float:
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return usage.ru_utime + usage.ru_stime


@contextmanager
def two_namespaces(*, offload: bool) -> Iterator[Net]:
    net = Net({side: f"ntmb-{os.getpid()}-{side}" for side in SIDES})
    with ExitStack() as stack:
        for side in SIDES:
            checked("ip", "netns", "add", net.names[side])
            stack.callback(checked, "ip", "netns", "del", net.names[side])
        ends = ["peer", "name", "up0", "netns", net.names["b"]]
        checked("ip", "-n", net.names["a"], "link", "add", "up0", "type", "veth", *ends)
        for side in SIDES:
            checked("ip", "-n", net.names[side], "link", "set", "lo", "up")
            checked("ip", "-n", net.names[side], "addr", "add", f"{OUTER[side]}/24", "dev", "up0")
            checked("ip", "-n", net.names[side], "link", "set", "up0", "up")
            if not offload:
                net.run(side, "ethtool", "-K", "up0", "tx-udp-segmentation", "off")
        yield net


@contextmanager
def plain(net: Net) -> Iterator[Running]:
    yield Running(OUTER["b"], ())


@contextmanager
def ntmobile(net: Net) -> Iterator[Running]:
    with ExitStack() as stack:
        daemons = []
        for side, peer in (("a", "b"), ("b", "a")):
            script = str(ROOT / "bench/tunnel_end.py")
            arguments = [side, "--device", "tun0", "--peer", f"{OUTER[peer]}:{PORT}"]
            process = subprocess.Popen(
                net.inside(side, sys.executable, script, *arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.communicate)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            daemons.append(process.pid)
        yield Running(INNER["b"], tuple(daemons))


@contextmanager
def wireguard_go(net: Net) -> Iterator[Running]:
    binary = build_wireguard_go()
    keys = {side: secrets.token_bytes(32) for side in SIDES}
    with ExitStack() as stack:
        daemons = []
        for side, peer in (("a", "b"), ("b", "a")):
            device = f"wgb{side}{os.getpid() % 100000}"
            process = subprocess.Popen(
                net.inside(side, str(binary), "-f", device),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            daemons.append(process.pid)
            configure_wireguard(device, keys[side], x25519_public(keys[peer]), OUTER[peer])
            for command in (f"addr add {INNER[side]}/24 dev {device}", f"link set {device} up"):
                net.run(side, "ip", *command.split())
        yield Running(INNER["b"], tuple(daemons))


FASTD = """
log level warn;
interface "tun0";
mode tun;
mtu 1400;
method "salsa2012+umac";
bind 0.0.0.0:{port};
secret "{secret}";
on up "ip addr add {inner}/24 dev tun0; ip link set tun0 up";
peer "peer" {{ key "{public}"; remote {outer}:{port}; }}
"""
"""Its fastest method that encrypts and authenticates."""


@contextmanager
def fastd(net: Net) -> Iterator[Running]:
    keys = {side: fastd_key() for side in SIDES}
    with ExitStack() as stack:
        daemons = []
        for side, peer in (("a", "b"), ("b", "a")):
            configuration = FASTD.format(
                port=PORT,
                secret=keys[side][0],
                public=keys[peer][1],
                inner=INNER[side],
                outer=OUTER[peer],
            )
            process = subprocess.Popen(
                net.inside(side, "fastd", "--config", "-"),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            assert process.stdin is not None
            process.stdin.write(configuration)
            process.stdin.close()
            daemons.append(process.pid)
        for _ in range(20):
            if "1 received" in net.run("a", "ping", "-c1", "-W1", INNER["b"], check=False):
                break
        yield Running(INNER["b"], tuple(daemons))


def fastd_key() -> tuple[str, str]:
    """Secret and public key."""
    made = subprocess.run(
        ["fastd", "--generate-key"], check=True, capture_output=True, text=True
    ).stdout
    secret, public = (line.split()[1] for line in made.splitlines())
    return secret, public


def configure_wireguard(device: str, private: bytes, peer: bytes, host: str) -> None:
    lines = (
        "set=1",
        f"private_key={private.hex()}",
        f"listen_port={PORT}",
        f"public_key={peer.hex()}",
        f"endpoint={host}:{PORT}",
        "allowed_ip=0.0.0.0/0",
    )
    with wireguard_control(f"/var/run/wireguard/{device}.sock") as control:
        control.sendall("\n".join(lines).encode() + b"\n\n")
        answer = control.recv(1000).decode()
    if "errno=0" not in answer:
        raise RuntimeError(f"wireguard-go refused its configuration: {answer}")


def wireguard_control(path: str) -> socket.socket:
    """The daemon's socket, which it makes a moment after its start."""
    for _ in range(500):
        control = socket.socket(socket.AF_UNIX)
        try:
            control.connect(path)
        except OSError:
            control.close()
            time.sleep(0.01)
        else:
            return control
    raise RuntimeError("wireguard-go does not listen")


def build_wireguard_go() -> Path:
    binary = BUILT / "wireguard-go"
    if not binary.exists():
        module = BUILT / "wireguard"
        module.mkdir(parents=True, exist_ok=True)
        (module / "go.mod").write_text("module bench\n\ngo 1.23\n")
        for arguments in (["get", f"{WIREGUARD}@latest"], ["build", "-o", str(binary), WIREGUARD]):
            subprocess.run(["go", *arguments], cwd=module, check=True)
    return binary


def checked(*command: str) -> None:
    subprocess.run(command, check=True)


def as_json(results: dict[str, dict[str, list[Result]]]) -> str:
    plain_results = {
        case: {name: [asdict(run) for run in runs] for name, runs in by_system.items()}
        for case, by_system in results.items()
    }
    return json.dumps(plain_results, indent=2)


def as_table(results: dict[str, dict[str, list[Result]]]) -> str:
    lines = []
    for case, by_system in results.items():
        lines += ["", case]
        for name, runs in by_system.items():
            figures = {
                field: statistics.median(getattr(run, field) for run in runs)
                for field in asdict(runs[0])
            }
            row = "  ".join(f"{field} {value:8.2f}" for field, value in figures.items())
            lines.append(f"  {name:14} {row}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
