"""Where moves are measured: two homes, offices, the internet; the mover and its peers on it.

A `Stage` has the networks and the programs at both ends; what carries between them (NTMobile, or a
neighbour that it is measured beside) brings the address at which the mover reaches its peer.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ntmobile.lab import Behaviour, Impairment, Internet, Lab, Link, Nat, Network, Ports
from ntmobile.lab.host import Host
from ntmobile.lab.namespace import Namespace
from ntmobile.lab.waiting import wait_until

PROGRAM = str(Path(__file__).with_name("flow.py"))
PORT = 8090
QUARTER = 4
"""A round trip between the ends passes the wires of two routers, each of them twice."""


class Program:
    """flow.py on a machine: what it says, as it says it."""

    def __init__(self, host: Host, *words: str) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, "-I", "-S", PROGRAM, *words]
        self._process = host.popen(command, stdin=pipe, stdout=pipe)
        self.total, self.at = 0, 0.0
        self._reports: queue.Queue[dict[str, Any]] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def report(self, patience_s: float) -> dict[str, Any] | None:
        """The next report; None if none comes."""
        try:
            return self._reports.get(timeout=patience_s)
        except queue.Empty:
            return None

    def forget(self) -> None:
        """Reports of a flow before are of no interest."""
        while not self._reports.empty():
            self._reports.get_nowait()

    def end(self) -> None:
        """Let it end by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if "total" in told:
                self.total, self.at = told["total"], told["at"]
            else:
                self._reports.put(told)


@dataclass
class Peer:
    """An other end, and how the mover reaches it."""

    host: Host
    address: str
    program: Program


@dataclass
class Stage:
    """Networks, mover and peers; leaving its stack takes all away."""

    stack: ExitStack
    lab: Lab
    internet: Internet
    homes: tuple[Nat, ...]
    """Where the mover may be; the first two differ in nothing, the third lets no UDP pass, the
    fourth picks its outside ports at random."""
    offices: tuple[Nat, ...]
    """Where its peer may be."""
    delay_ms: float
    mover: Host
    peers: dict[str, Peer] = field(default_factory=dict)
    """By how the way to it is: relayed or direct."""
    wires: dict[str, Link] = field(default_factory=dict)
    """Those that delay, by the router they belong to."""
    agents: tuple[Path, ...] = ()
    """State directories of the NTMobile agents."""
    agent_pid: int = 0
    """What runs the mover's end."""
    coordinators: tuple[subprocess.Popen[str], ...] = ()
    report: Callable[[], str] = str
    """What all ends say of themselves."""

    @property
    def wire_ms(self) -> float:
        return self.delay_ms / QUARTER

    def impair(self, name: str, target: Nat | Host) -> None:
        if self.delay_ms:
            impairment = Impairment(delay_ms=self.wire_ms)
            self.wires[name] = self.lab.impair(target, impairment)

    def where(self, machine: Namespace) -> Network | None:
        """The network that a machine prefers now."""
        assert isinstance(machine, Host)
        return machine.uplink.network if machine.uplinks else None

    def other_home(self) -> Nat:
        """The one of the first two where the mover is not."""
        return self.homes[1] if self.where(self.mover) is self.homes[0] else self.homes[0]

    def add_peer(self, kind: str, host: Host, address: str) -> None:
        program = Program(host, "serve", str(PORT))
        ready = program.report(20)
        assert ready == {"ready": True}, ready
        self.peers[kind] = Peer(host, address, program)


def networks(stack: ExitStack, lab: Lab, internet: Internet, delay_ms: float) -> Stage:
    """The stage without any end."""
    homes = (
        lab.nat("home", internet),
        lab.nat("cafe", internet),
        lab.nat("firm", internet, Behaviour(block_udp=True)),
        lab.nat("hotel", internet, Behaviour(ports=Ports.RANDOM)),
    )
    offices = (lab.nat("office", internet), lab.nat("branch", internet))
    mover = lab.host("laptop", homes[0])
    stage = Stage(stack, lab, internet, homes, offices, delay_ms, mover)
    for router in (*homes, *offices):
        stage.impair(router.name, router)
    return stage


def await_answer(stage: Stage, address: str, patience_s: float = 40.0) -> None:
    """Wait until the mover's ping is answered; raises LabError."""
    command = ["ping", "-c", "1", "-W", "1", address]

    def answers() -> bool:
        return stage.mover.run(command, check=False).returncode == 0

    began = time.perf_counter()
    while not answers():
        if time.perf_counter() - began > patience_s:
            wait_until(answers, f"an answer of {address}")


def wall_cpu_s(lab: str) -> tuple[float, float]:
    """CPU seconds that the whole machine used so far, and those of the lab's processes."""
    ticks = os.sysconf("SC_CLK_TCK")
    first = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    idle = int(first[3]) + int(first[4])
    busy = sum(int(each) for each in first[:8]) - idle
    spaces = {each.stat().st_ino for each in Path("/run/netns").glob(f"{lab}-*")}
    own = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            inside = (process / "ns/net").stat().st_ino in spaces or int(
                process.name
            ) == os.getpid()
            if inside:
                numbers = (process / "stat").read_text().rsplit(")", 1)[1].split()
                own += int(numbers[11]) + int(numbers[12])
        except OSError:
            pass
    return busy / ticks, own / ticks
