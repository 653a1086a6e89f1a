"""A download by curl, watched byte by byte: how much, how fast, what gaps, which hash."""

import hashlib
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from threading import Thread
from typing import NamedTuple

from ntmobile.lab.errors import LabError
from ntmobile.lab.host import Host
from ntmobile.runtime.clock import Clock
from ntmobile.time import Instant

READ = 1 << 18


class Arrival(NamedTuple):
    """Bytes came out of curl."""

    at: Instant
    total: int
    """Bytes so far."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without a byte."""

    begin: Instant
    end: Instant

    @property
    def ns(self) -> int:
        """How long."""
        return self.end - self.begin


class Download:
    """One run of curl on a machine, with one TCP connection: curl tries nothing twice."""

    def __init__(self, host: Host, url: str, clock: Clock) -> None:
        """Start it; its bytes are read and hashed in a thread."""
        command = ["curl", "--silent", "--show-error", "--fail", "--no-buffer", url]
        self._clock = clock
        self._curl = host.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._hash = hashlib.sha256()
        self.arrivals: list[Arrival] = [Arrival(clock.now(), 0)]
        """Grows while it runs; begins with the start of curl."""
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        """Whether more may come."""
        return self._reader.is_alive()

    @property
    def received(self) -> int:
        """Bytes so far."""
        return self.arrivals[-1].total

    def finish(self) -> str:
        """Wait for its end and return the SHA-256 in hex; raises LabError if curl failed."""
        self._reader.join()
        assert self._curl.stderr is not None
        said = self._curl.stderr.read().strip()
        if (code := self._curl.wait()) != 0:
            raise LabError(f"the download broke after {self.received} bytes, exit {code}: {said}")
        return self._hash.hexdigest()

    def _read(self) -> None:
        assert self._curl.stdout is not None
        descriptor = self._curl.stdout.fileno()
        while block := os.read(descriptor, READ):
            now = self._clock.now()
            self._hash.update(block)
            self.arrivals.append(Arrival(now, self.received + len(block)))


def longest_gap(arrivals: Sequence[Arrival], since: Instant, until: Instant) -> Gap:
    """Return the longest time without a byte that touches this span.

    Raises LabError if the arrivals do not reach into the span.
    """
    gaps = (
        Gap(one.at, other.at)
        for one, other in pairwise(arrivals)
        if other.at > since and one.at < until
    )
    longest = max(gaps, key=lambda gap: gap.ns, default=None)
    if longest is None:
        raise LabError("the download was over before the move")
    return longest
