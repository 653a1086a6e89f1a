"""What the tests of failures share: a download that is timed, servers that hang, waiting."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Self

from ntmobile.lab import Behaviour, Filtering, Mapping, Ports
from ntmobile.lab.host import Host
from ntmobile.lab.namespace import Namespace
from ntmobile.lab.ntm import NTM, NtmNode, Organisation
from tests.system import stream
from tests.system.programs import PATIENCE_S as CONNECT_S
from tests.system.programs import await_listening

SYMMETRIC = Behaviour(
    Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT, Ports.RANDOM
)
"""Two ends behind such NATs stay on the relay."""
STREAM_PORT = 8080
PATIENCE_S = 120.0
"""For what must come at all, on a machine that does other things too."""
STEP_S = 0.02
FLOW_S = 1.0
"""Of a stream: far more than can be on its way, or in a buffer, when its path dies."""
STALL_S = 1.0
"""Many times what lies between two blocks of a stream that flows."""


def seconds_until(
    condition: Callable[[], bool],
    what: str,
    timeout_s: float = PATIENCE_S,
    *,
    step_s: float = STEP_S,
) -> float:
    """Wait for other processes to bring something about; returns how long that took.

    Between two looks step_s pass: longer ones where a look costs the processor much.
    """
    began = time.perf_counter()
    while not condition():
        assert time.perf_counter() - began < timeout_s, f"waited {timeout_s:g} s for {what}"
        time.sleep(step_s)
    return time.perf_counter() - began


def serve_stream(host: Host) -> None:
    """Start the server of paced downloads on a machine."""
    host.popen([sys.executable, stream.__file__, str(STREAM_PORT)])
    await_listening(host, STREAM_PORT)


class Download:
    """curl fetching numbered blocks from a peer; knows when each part came.

    As a context manager it ends curl, finished or not.
    """

    def __init__(self, mn: NtmNode, cn: NtmNode, seconds: float) -> None:
        """Starts it, and returns when bytes come; raises AssertionError if none do."""
        self.blocks = int(seconds / stream.PACE_S)
        url = f"http://{cn.fqdn}:{STREAM_PORT}/{self.blocks}"
        command = ["curl", "-sS", "-N", "--noproxy", "*", "--connect-timeout", str(CONNECT_S), url]
        self._curl = mn.host.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._data = bytearray()
        self._arrivals: list[float] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        self.await_more()

    @property
    def size(self) -> int:
        """How many bytes came so far."""
        return len(self._data)

    def await_more(self) -> float:
        """Return after how many seconds new bytes have come, or all have."""
        size = self.size
        return seconds_until(
            lambda: self.size > size or not self._thread.is_alive(), "more of the download"
        )

    def await_flow(self, seconds: float = FLOW_S) -> None:
        """Return when so much of the stream has come as is sent in that time, or all has."""
        enough = self.size + int(seconds / stream.PACE_S) * stream.BLOCK
        seconds_until(
            lambda: self.size >= enough or not self._thread.is_alive(), "the download to flow"
        )

    def await_stall(self, since: float, seconds: float = STALL_S) -> None:
        """Return when nothing has come for so long at a stretch, after `since`."""
        seconds_until(lambda: self.longest_gap_s(since) > seconds, "the download to stall")

    def longest_gap_s(self, since: float) -> float:
        """Return the longest time without a byte after `since` (of time.perf_counter)."""
        times = [since, *(at for at in list(self._arrivals) if at > since)]
        if self._thread.is_alive():
            times.append(time.perf_counter())
        return max((later - sooner for sooner, later in pairwise(times)), default=0.0)

    def finish(self) -> None:
        """Wait for the end; raises AssertionError unless every byte came, in order."""
        self._thread.join(PATIENCE_S)
        assert self._curl.wait(PATIENCE_S) == 0, self._curl.communicate()[1]
        assert self.size == self.blocks * stream.BLOCK
        view = memoryview(self._data)
        for number in range(self.blocks):
            part = view[number * stream.BLOCK : (number + 1) * stream.BLOCK]
            assert part == stream.block(number), f"block {number} is another one"

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End curl."""
        self._curl.kill()
        self._thread.join()

    def _read(self) -> None:
        assert self._curl.stdout is not None
        while part := os.read(self._curl.stdout.fileno(), 1 << 16):
            self._arrivals.append(time.perf_counter())
            self._data += part


@contextmanager
def hanging(process: subprocess.Popen[str]) -> Iterator[None]:
    """Stop a process in its tracks; it goes on at the end unless it was killed meanwhile."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)


def queued(host: Namespace, transport: str, port: int) -> bool:
    """Whether something waits at a port, to be taken by a process that hangs."""
    option = {"tcp": "-Hltn", "udp": "-Huan"}[transport]
    lines = host.run(["ss", option, f"sport = :{port}"]).stdout.splitlines()
    return any(int(line.split()[1]) > 0 for line in lines)


def restart(organisation: Organisation, roles: str) -> float:
    """Start killed roles; returns when they are ready, and when that was."""
    organisation.start(roles)
    organisation.await_ready(roles)
    return time.perf_counter()


def setting(organisation: Organisation, name: str, value: str) -> None:
    """Change a line of server.toml, for servers that start or read it from then on."""
    file = organisation.directory / "server.toml"
    text, found = re.subn(rf"^{name} = .*$", f"{name} = {value}", file.read_text(), flags=re.M)
    assert found == 1
    file.write_text(text)


def command(node: NtmNode, *words: str) -> subprocess.Popen[str]:
    """Start an `ntm` command without waiting for its end."""
    line = [NTM, *words, "--state", str(node.state)]
    return node.host.popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(process: subprocess.Popen[str], timeout_s: float = PATIENCE_S) -> tuple[int, str, str]:
    """Wait for a command; returns its exit code and what it said on stdout and stderr."""
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err


def forget_tunnels(*nodes: NtmNode) -> None:
    """Have nodes leave and come back: what they do next begins from nothing."""
    for node in nodes:
        node.ntm("down")
        node.ntm("up")


def refusal(node: NtmNode, *words: str, input: str | None = None) -> tuple[int, str]:
    """Run an `ntm` command that must fail; returns its exit code and what it said."""
    done = node.ntm(*words, input=input, check=False, timeout=PATIENCE_S)
    assert done.returncode != 0, f"it went well:\n{done.stdout}{done.stderr}"
    return done.returncode, done.stderr


def traces_in(host: Host) -> tuple[str, ...]:
    """Return everything an agent changes on a machine."""
    commands = (
        ["nft", "list", "tables"],
        ["ip", "-brief", "link"],
        ["ip", "route", "show", "table", "all"],
        ["ip", "-6", "route", "show", "table", "all"],
        ["cat", "/etc/resolv.conf"],
    )
    return tuple(host.run(each, check=False).stdout for each in commands)


def resolves(host: Host, name: str) -> bool:
    """Whether the C library finds a name."""
    return host.run(["getent", "ahosts", name], check=False).returncode == 0


@contextmanager
def full_disk(host: Host, directory: Path) -> Iterator[None]:
    """Leave no byte free where a directory is, whatever is removed meanwhile."""
    filler = directory / "filler"
    script = f"while :; do cat /dev/zero >> {filler} 2>/dev/null; sleep 0.02; done"
    filling = host.popen(["sh", "-c", script])
    try:
        seconds_until(lambda: not has_room(host, directory), "the disk to be full")
        yield
    finally:
        filling.kill()
        filling.wait()
        host.run(["rm", "-f", str(filler)])


def has_room(host: Host, directory: Path) -> bool:
    """Whether a page of a file fits where a directory is."""
    free = os.statvfs(host.path(str(directory))).f_bavail
    return free > 0


def make_writes_need_room(host: Host, database: Path) -> None:
    """Empty SQLite's write-ahead log, whose pages would be used again without asking the disk."""
    script = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute(sys.argv[2])"
    pragma = "PRAGMA wal_checkpoint(TRUNCATE)"
    host.run([sys.executable, "-c", script, str(database), pragma])


def put_on_small_disk(host: Host, directory: Path, kilobytes: int) -> None:
    """Move a directory of a machine onto a file system of its own with so much room."""
    aside = directory.with_name(f"{directory.name}.aside")
    script = f"""
    set -e
    mkdir -p {directory}
    cp -a {directory} {aside}
    mount -t tmpfs -o size={kilobytes}k,mode=700 tmpfs {directory}
    cp -a {aside}/. {directory}/
    rm -r {aside}
    """
    host.run(["sh", "-c", script])


def newest_log(organisation: Organisation) -> str:
    """Return all that the servers of an organisation logged."""
    return "".join(organisation.log(roles).read_text() for roles in organisation.processes)
