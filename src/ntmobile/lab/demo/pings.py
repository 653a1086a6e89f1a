"""`ntm ping`, running: each answer's round trip and way go onto the scene."""

import json
import subprocess
from contextlib import suppress
from threading import Thread
from typing import NamedTuple

from ntmobile.lab.demo.scene import Scene, Way
from ntmobile.lab.ntm import NTM, NtmNode
from ntmobile.runtime.clock import Clock
from ntmobile.time import Instant

INTERVAL_S = 0.2


class Answer(NamedTuple):
    """What came back for one ping, or did not."""

    at: Instant
    rtt_ms: float | None
    way: Way | None
    remote: str | None


class Pings:
    """Pings a peer through its tunnel until stopped."""

    def __init__(self, node: NtmNode, peer: NtmNode, scene: Scene, clock: Clock) -> None:
        """Start `ntm ping`; its answers are read in a thread."""
        ping = [NTM, "ping", peer.fqdn, "--json", "--interval", str(INTERVAL_S)]
        command = [*ping, "--state", str(node.state)]
        self.answers: list[Answer] = []
        """Oldest first."""
        self._scene = scene
        self._clock = clock
        with node.state.with_name("ping.log").open("w") as log:
            self._ping = node.host.popen(command, stdout=subprocess.PIPE, stderr=log)
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        """Whether `ntm ping` goes on, as it should."""
        return self._ping.poll() is None

    def stop(self) -> None:
        """End it."""
        with suppress(ProcessLookupError):
            self._ping.terminate()
        self._ping.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._ping.stdout is not None
        for line in self._ping.stdout:
            pong = json.loads(line)
            if "sequence" in pong:
                self._take(pong["rtt_ms"], pong["kind"], pong["remote"])

    def _take(self, rtt_ms: float | None, kind: str | None, remote: str | None) -> None:
        way = None if kind is None else Way(kind)
        self.answers.append(Answer(self._clock.now(), rtt_ms, way, remote))
        self._scene.rtts_ms.append(rtt_ms)
        if way is not None:
            self._scene.way = way
