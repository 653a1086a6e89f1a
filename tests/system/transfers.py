"""A download by curl that is watched while it runs: what came, when, and whether it is right."""

import hashlib
import os
import secrets
import subprocess
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Self

from ntmobile.lab.ntm import NtmNode
from ntmobile.lab.waiting import wait_until
from tests.system.programs import PATIENCE_S as CONNECT_S
from tests.system.programs import WEB

CHUNK = 1 << 16
PATIENCE_S = 120.0


def make_file(path: Path, size: int) -> str:
    """Write random bytes; returns their SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size // CHUNK):
            part = secrets.token_bytes(CHUNK)
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


class Transfer:
    """curl on one node, fetching a file from the web server of another.

    As a context manager it ends curl, finished or not.
    """

    def __init__(self, receiver: NtmNode, sender: NtmNode, file: str, *, port: int = WEB) -> None:
        """Start; returns when the first bytes are there, or raises LabError."""
        options = [
            "-sS",
            "--fail",
            "--no-buffer",
            "--noproxy",
            "*",
            "--connect-timeout",
            str(CONNECT_S),
        ]
        command = ["curl", *options, f"http://{sender.fqdn}:{port}/{file}"]
        pipe = subprocess.PIPE
        self._curl = receiver.host.popen(command, stdout=pipe, stderr=pipe)
        self._digest = hashlib.sha256()
        self._arrivals: list[tuple[float, int]] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        self.await_bytes(1)

    @property
    def received(self) -> int:
        """Bytes delivered to the application so far."""
        return self._arrivals[-1][1] if self._arrivals else 0

    def await_bytes(self, count: int) -> None:
        """Wait until so many have come in all; raises LabError."""
        wait_until(lambda: self.received >= count, f"{count} bytes", timeout_s=PATIENCE_S)

    def longest_gap_s(self, since: float = 0.0) -> float:
        """Return the longest time between two deliveries, the later after `since`.

        `since` is of time.perf_counter.
        """
        times = [at for at, _ in list(self._arrivals)]
        before = [at for at in times if at <= since]
        times = [*before[-1:], *times[len(before) :]]
        return max(later - sooner for sooner, later in pairwise(times))

    def finish(self) -> str:
        """Wait for the end; returns the SHA-256 of what came, or raises AssertionError."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), f"stuck at {self.received} bytes"
        assert self._curl.wait(PATIENCE_S) == 0, self._curl.communicate()[1]
        return self._digest.hexdigest()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End curl."""
        self._curl.kill()
        self._thread.join()

    def _read(self) -> None:
        assert self._curl.stdout is not None
        total = 0
        while part := os.read(self._curl.stdout.fileno(), CHUNK):
            total += len(part)
            self._arrivals.append((time.perf_counter(), total))
            self._digest.update(part)
