import os
import subprocess
import sys
from collections import deque

import pytest

from ntmobile.keys.table import Keyring, Party
from ntmobile.proto.io import Timeout, Transmit
from ntmobile.proto.journal import Journal, Step
from ntmobile.sim.errors import SimulationError
from ntmobile.sim.internet import Internet
from ntmobile.sim.process import Process
from ntmobile.sim.quality import Quality
from ntmobile.sim.recorder import Recorder
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import UdpKeepAlive

PORT = 700


def test_what_one_machine_sends_reaches_the_other_and_is_written_down() -> None:
    internet, recorder = Internet(), Recorder()
    beater, echo = a_pair(internet, recorder)

    beater.call(beater.machine.beat)
    internet.calendar.run_to(Instant(SECOND // 2))

    assert echo.machine.heard == 1
    assert [(a.message, a.sender, a.receiver) for a in recorder.arrows] == [
        ("UDP Keep Alive", "beater", "echo"),
    ]
    assert recorder.arrows[0].arrived - recorder.arrows[0].sent == 10_000_000


def test_a_machine_is_called_when_its_time_comes() -> None:
    internet, recorder = Internet(), Recorder()
    beater, echo = a_pair(internet, recorder)

    beater.call(beater.machine.beat)
    internet.calendar.run_to(Instant(10 * SECOND))

    assert echo.machine.heard == 10


def test_a_killed_process_neither_hears_nor_beats() -> None:
    internet, recorder = Internet(), Recorder()
    beater, echo = a_pair(internet, recorder)
    beater.call(beater.machine.beat)

    echo.kill()
    internet.calendar.run_to(Instant(5 * SECOND))
    beater.kill()
    sent = len(recorder.steps)
    internet.calendar.run_to(Instant(20 * SECOND))

    assert echo.machine.heard == 0
    assert len(recorder.steps) == sent


def test_an_exception_in_a_machine_ends_the_run_and_says_where() -> None:
    internet, recorder = Internet(), Recorder()
    beater, echo = a_pair(internet, recorder)
    echo.machine.broken = True

    beater.call(beater.machine.beat)

    with pytest.raises(SimulationError, match="echo raised ZeroDivisionError"):
        internet.calendar.run_to(Instant(SECOND))


def test_a_machine_that_wants_to_be_called_at_once_for_ever_ends_the_run() -> None:
    internet, recorder = Internet(), Recorder()
    beater, _ = a_pair(internet, recorder)
    beater.machine.every_ns = 0

    beater.call(beater.machine.beat)

    with pytest.raises(SimulationError, match="beater spins on beat"):
        internet.calendar.run_to(Instant(SECOND))


def test_machines_that_talk_without_end_end_the_run() -> None:
    internet, recorder = Internet(), Recorder()
    beater, _ = a_pair(internet, recorder)
    beater.machine.every_ns = SECOND // 1000

    beater.call(beater.machine.beat)

    with pytest.raises(SimulationError, match="storms"):
        internet.calendar.run_to(Instant(10 * SECOND))


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_same_seed_gives_the_same_run_whatever_python_hashes(hash_seed: str) -> None:
    script = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
    script += "from test_process import a_trace; print(a_trace(5))"
    there = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )

    assert there.stdout.strip() == a_trace(5)
    assert a_trace(5) != a_trace(6)


class Beater:
    """A toy machine: says Keep Alive every second."""

    def __init__(self, to: Endpoint) -> None:
        self.keyring = Keyring(Party.NODE)
        self.heard = 0
        self.broken = False
        self.every_ns = SECOND
        self._to = to
        self._journal = Journal("toy")
        self._transmits: deque[Transmit] = deque()
        self._next: Instant | None = None

    def beat(self, now: Instant) -> None:
        self._journal.note(now, UdpKeepAlive(), "echo", sent=True)
        self._transmits.append(Transmit(self._to, now.to_bytes(8)))
        self._next = Instant(now + self.every_ns)

    def handle_datagram(self, _source: Endpoint, _data: bytes, now: Instant) -> None:
        self.heard += 1 // (not self.broken)
        self._journal.note(now, UdpKeepAlive(), "beater", sent=False)

    def handle_timeout(self, now: Instant) -> None:
        if self._next is not None and now >= self._next:
            self.beat(now)

    def poll_transmit(self) -> Transmit | None:
        return self._transmits.popleft() if self._transmits else None

    def poll_event(self) -> Step | None:
        return self._journal.poll()

    def poll_timeout(self) -> Timeout | None:
        return None if self._next is None else Timeout(self._next, "beat")


class Toy(Process):
    """Its process."""

    def __init__(self, internet: Internet, recorder: Recorder, name: str, to: Endpoint) -> None:
        super().__init__(internet, recorder, internet.host(name), PORT)
        self.machine: Beater = Beater(to)

    def _poll_transmit(self) -> Transmit | None:
        return self.machine.poll_transmit()

    def _handle_datagram(
        self, source: Endpoint, data: bytes, _interface: int, now: Instant
    ) -> None:
        self.machine.handle_datagram(source, data, now)


def a_pair(internet: Internet, recorder: Recorder) -> tuple[Toy, Toy]:
    nowhere = Endpoint("192.0.2.1", 1)
    echo = Toy(internet, recorder, "echo", nowhere)
    place = echo.host.source_for(4)
    assert place is not None
    return Toy(internet, recorder, "beater", Endpoint(place[1], PORT)), echo


def a_trace(seed: int) -> str:
    """One line for a run over a bad network."""
    internet = Internet(seed, Quality(10_000_000, 3_000_000, 0.2, 0.1, 0.1))
    recorder = Recorder()
    beater, _ = a_pair(internet, recorder)
    beater.call(beater.machine.beat)
    internet.calendar.run_to(Instant(60 * SECOND))
    return " ".join(str(arrow.arrived) for arrow in recorder.arrows)
