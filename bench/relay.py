"""The Relay Server's forwarding against coturn, in datagrams per CPU second.

Both forward what the same clients send to the same sink over the loopback interface,
one after the other within each round. A relay is pinned to one core, the traffic to
another, so that the relay is what limits. Run as root: `build/venv/bin/python
bench/relay.py [--rounds N] [--seconds N] [--json]`; needs coturn and cargo.
"""

import argparse
import json
import os
import resource
import secrets
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRAFFIC = ROOT / "target/release/examples/relay_traffic"
RELAY_CORE, TRAFFIC_CORE = 0, 1
SO_RCVBUFFORCE, UDP_GRO = 33, 104
COOKIE, CHANNEL = 0x2112A442, 0x4000


@dataclass(frozen=True)
class Case:
    """One kind of traffic."""

    name: str
    size: int
    paths: int
    burst: int
    offload: bool
    goal: str


CASES = (
    Case("bulk 1,300 B, senders with offload", 1300, 8, 48, True, "2x, 5x"),
    Case("bulk 1,300 B, senders without", 1300, 8, 48, False, "2x, 5x"),
    Case("200 B over 1,000 paths", 200, 1000, 1, False, "1.5x, 2x"),
)


@dataclass(frozen=True)
class Result:
    """What one relay did in one run."""

    sent: int
    arrived: int
    cpu_s: float
    seconds: int

    @property
    def per_cpu_second(self) -> float:
        return self.arrived / self.cpu_s


Target = tuple[str, int]


@dataclass(frozen=True)
class Client:
    """A socket connected to the relay, and how each of its datagrams begins."""

    socket: socket.socket
    prefix: bytes


Start = Callable[[Case, list[Target]], AbstractContextManager[tuple[int, list[Client]]]]
Results = dict[str, dict[str, list[Result]]]


def main() -> None:
    options = parse()
    subprocess.run(
        ["cargo", "build", "-q", "--release", "-p", "ntmobile-relay", "--example", "relay_traffic"],
        cwd=ROOT,
        check=True,
    )
    allow_many_files()
    results: Results = {}
    for number in range(options.rounds):
        for case in CASES:
            for name, relay in (("ntmobile", ours), ("coturn", coturn)):
                print(f"round {number + 1}: {case.name}: {name}", file=sys.stderr)
                result = run(case, relay, options.seconds)
                results.setdefault(case.name, {}).setdefault(name, []).append(result)
    print(as_json(results) if options.json else as_table(results))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def run(case: Case, relay: Start, seconds: int) -> Result:
    with ExitStack() as stack:
        sink = stack.enter_context(open_sink())
        port = sink.getsockname()[1]
        targets = [(f"127.1.{n // 250}.{n % 250 + 1}", port) for n in range(case.paths)]
        process, clients = stack.enter_context(relay(case, targets))
        before = cpu_seconds(process)
        sent, arrived = send(case, clients, sink, seconds)
        cpu = cpu_seconds(process) - before
    return Result(sent, arrived, cpu, seconds)


def send(case: Case, clients: list[Client], sink: socket.socket, seconds: int) -> tuple[int, int]:
    descriptors = [client.socket.fileno() for client in clients]
    lines = [f"{fd} {client.prefix.hex()}" for fd, client in zip(descriptors, clients, strict=True)]
    # A relay adds or takes away its own header; what it forwards has the size of the case.
    size = case.size + overhead(clients[0])
    arguments = [seconds, size, case.burst, int(case.offload), sink.fileno()]
    done = subprocess.run(
        [TRAFFIC, *map(str, arguments)],
        input="\n".join(lines) + "\n",
        pass_fds=[*descriptors, sink.fileno()],
        preexec_fn=lambda: os.sched_setaffinity(0, {TRAFFIC_CORE}),
        capture_output=True,
        text=True,
        check=True,
    )
    sent, arrived = map(int, done.stdout.split())
    return sent, arrived


def overhead(client: Client) -> int:
    return 4 if client.prefix[0] & 0xC0 == 0x40 else 0


def cpu_seconds(process: int) -> float:
    """CPU time of all threads of a process, from the scheduler's own account."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


@contextmanager
def open_sink() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        sink.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        sink.bind(("0.0.0.0", 0))
        yield sink


OURS = """
import os, sys
from ipaddress import IPv4Address
from ntmobile._core import Relay
os.sched_setaffinity(0, {%d})
relay = Relay()
print(relay.port, flush=True)
here = IPv4Address("127.0.0.1").packed
for line in sys.stdin:
    source, index, host, port = line.split()
    target = IPv4Address(host).packed
    assert relay.bind(here, int(source), int(index), target, int(port), path=int(index), rate=0)
    print("bound", flush=True)
"""


@contextmanager
def ours(_: Case, targets: list[Target]) -> Iterator[tuple[int, list[Client]]]:
    process = subprocess.Popen(
        [sys.executable, "-c", OURS % RELAY_CORE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    with ExitStack() as stack:
        stack.callback(stop, process)
        server = ("127.0.0.1", int(process.stdout.readline()))
        clients = []
        for index, (host, port) in enumerate(targets):
            client = stack.enter_context(connected(server))
            print(client.getsockname()[1], index, host, port, file=process.stdin, flush=True)
            assert process.stdout.readline() == "bound\n"
            clients.append(Client(client, struct.pack("!IIQ", 0x04000000, index, 0)))
        yield process.pid, clients


@contextmanager
def coturn(case: Case, targets: list[Target]) -> Iterator[tuple[int, list[Client]]]:
    server = ("127.0.0.1", free_port())
    flags = "--no-auth --no-tls --no-dtls --no-cli --no-tcp --allow-loopback-peers"
    process = subprocess.Popen(
        [
            *("taskset", "-c", str(RELAY_CORE), "turnserver", *flags.split()),
            *("--relay-threads=1", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1"),
            *(f"--listening-port={server[1]}", "--pidfile=", "--log-file=stdout"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with ExitStack() as stack:
        stack.callback(stop, process)
        clients = []
        for target in targets:
            client = stack.enter_context(connected(server))
            allocate(client)
            bind_channel(client, target)
            clients.append(Client(client, struct.pack("!HH", CHANNEL, case.size)))
        yield process.pid, clients


def stop(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()


def connected(server: Target) -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.bind(("127.0.0.1", 0))
    client.connect(server)
    return client


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def allocate(client: socket.socket) -> None:
    """RFC 8656, section 7: REQUESTED-TRANSPORT is UDP."""
    ask(client, 0x0003, struct.pack("!HHI", 0x0019, 4, 17 << 24))


def bind_channel(client: socket.socket, peer: Target) -> None:
    """RFC 8656, section 12: CHANNEL-NUMBER and XOR-PEER-ADDRESS."""
    host = int.from_bytes(socket.inet_aton(peer[0])) ^ COOKIE
    number = struct.pack("!HHHH", 0x000C, 4, CHANNEL, 0)
    address = struct.pack("!HHHHI", 0x0012, 8, 1, peer[1] ^ COOKIE >> 16, host)
    ask(client, 0x0009, number + address)


def ask(client: socket.socket, method: int, attributes: bytes) -> None:
    """One STUN transaction; repeated, as the server may still be starting."""
    request = (
        struct.pack("!HHI", method, len(attributes), COOKIE) + secrets.token_bytes(12) + attributes
    )
    client.settimeout(0.2)
    for _ in range(50):
        try:
            client.send(request)
            answer = client.recv(1500)
        except ConnectionRefusedError:
            time.sleep(0.1)
            continue
        except TimeoutError:
            continue
        if answer[8:20] == request[8:20]:
            kind = int.from_bytes(answer[:2])
            assert kind == method | 0x0100, f"coturn refused: {answer.hex()}"
            return
    raise TimeoutError("coturn does not answer")


def allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def median(results: list[Result]) -> float:
    return statistics.median(result.per_cpu_second for result in results)


def as_table(results: Results) -> str:
    rows = [f"{'case':36} {'ntmobile':>12} {'coturn':>12} {'ratio':>7}  goal (must, reach)"]
    for case in CASES:
        own, peer = (median(results[case.name][name]) for name in ("ntmobile", "coturn"))
        rows.append(f"{case.name:36} {own:12,.0f} {peer:12,.0f} {own / peer:6.2f}x  {case.goal}")
    rows.append("datagrams per CPU second, medians of interleaved rounds")
    return "\n".join(rows)


def as_json(results: Results) -> str:
    rows = [
        {
            "case": case.name,
            **{name: median(runs) for name, runs in results[case.name].items()},
            "runs": {
                name: [asdict(run) for run in runs] for name, runs in results[case.name].items()
            },
        }
        for case in CASES
    ]
    return json.dumps({"unit": "datagrams per CPU second", "rows": rows}, indent=1)


if __name__ == "__main__":
    main()
