"""Drives one machine on a host: the simulator's counterpart of the asyncio driver."""

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from ntmobile.keys.table import Keyring
from ntmobile.proto.io import StreamCommand, StreamData, StreamEnd, StreamOpen, Timeout, Transmit
from ntmobile.sim.calendar import Entry
from ntmobile.sim.errors import SimulationError
from ntmobile.sim.host import SimHost
from ntmobile.sim.internet import Internet
from ntmobile.sim.packet import Transport
from ntmobile.sim.recorder import Recorder
from ntmobile.sim.stream import Streams, StreamUser
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint

SPINS = 1000
"""Time-outs at one and the same instant after which a machine is said to spin."""

STORM_NS = 10 * SECOND
STORM_MESSAGES = 1500
"""Signalling messages between one process and one other participant in that time after which it
is said to storm, as two machines do that answer each other's answers."""

T = TypeVar("T")


class Machine(Protocol):
    """The part of every machine's face that a Process drives."""

    @property
    def keyring(self) -> Keyring:
        """What the participant holds."""
        ...

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        ...

    def poll_event(self) -> Any:  # noqa: ANN401 - every machine has events of its own
        """Next event, or None."""
        ...

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        ...


class StreamMachine(Protocol):
    """The part of the face of a machine that talks over connections."""

    def handle_stream_opened(self, stream: int, source: Endpoint, now: Instant) -> None:
        """A connection stands."""
        ...

    def handle_stream(self, stream: int, data: bytes, now: Instant) -> None:
        """Bytes came."""
        ...

    def handle_stream_closed(self, stream: int, now: Instant) -> None:
        """A connection broke."""
        ...


class Process:
    """A program on a host: one machine behind one UDP port.

    Subclasses say what becomes of the machine's other outputs in `_drain_more` and of its events in
    `_handle_event`. Whatever a machine raises ends the run as a SimulationError.
    """

    machine: Machine

    def __init__(self, internet: Internet, recorder: Recorder, host: SimHost, port: int) -> None:
        """Listens on the UDP port; the subclass makes the machine."""
        self.internet = internet
        self.recorder = recorder
        self.host = host
        self.port = port
        self.alive = True
        self._timer: Entry | None = None
        self._spins = (Instant(-1), 0)
        self._talk: Counter[str] = Counter()
        self._talk_since = self.now
        host.listen(Transport.UDP, port, self._receive)

    @property
    def now(self) -> Instant:
        """The instant it is."""
        return self.internet.now

    def call(self, verb: Callable[[Instant], T]) -> T:
        """Call into the machine, then drain everything it has to say."""
        try:
            result = verb(self.now)
            self._drain()
        except SimulationError:
            raise
        except Exception as error:
            problem = f"{self.host.name} raised {error!r}"
            raise SimulationError(self.now, problem, self.recorder.tail()) from error
        return result

    def kill(self) -> None:
        """Die as by kill -9: nothing is said, nothing is kept but what was stored."""
        self.alive = False
        self.host.close(Transport.UDP, self.port)
        if self._timer is not None:
            self._timer.cancel()

    def _receive(self, source: Endpoint, data: bytes, interface: int) -> None:
        with self.recorder.arriving(data):
            self.call(lambda now: self._handle_datagram(source, data, interface, now))

    def _open_streams(self, machine: StreamMachine, listen: int | None = None) -> Streams:
        """Let the machine talk over connections, too."""

        def received(stream: int, data: bytes) -> None:
            with self.recorder.arriving(data):
                self.call(lambda now: machine.handle_stream(stream, data, now))

        user = StreamUser(
            lambda stream, source: self.call(
                lambda now: machine.handle_stream_opened(stream, source, now)
            ),
            received,
            lambda stream: self.call(lambda now: machine.handle_stream_closed(stream, now)),
        )
        return Streams(self.host, self.internet.calendar, user, listen)

    def _command_stream(self, streams: Streams, command: StreamCommand, identifier: int) -> None:
        """Do what the machine wants done with a connection; identifier is random."""
        match command:
            case StreamOpen(stream, destination):
                streams.connect(stream, destination, identifier)
            case StreamData(stream, data):
                self.recorder.departed(self.host.name, data, self.now, "TCP")
                streams.write(stream, data)
            case StreamEnd(stream):
                streams.end(stream)

    def _handle_datagram(self, source: Endpoint, data: bytes, interface: int, now: Instant) -> None:
        raise NotImplementedError

    def _handle_event(self, event: Any) -> None:  # noqa: ANN401
        """Take one event that is not a Step."""

    def _poll_transmit(self) -> Transmit | None:
        """Next datagram that the machine wants sent."""
        raise NotImplementedError

    def _drain_more(self) -> bool:
        """Carry out one output that is neither datagram nor event; False when there is none."""
        return False

    def _transmit(self, transmit: Transmit) -> None:
        self.recorder.departed(self.host.name, transmit.payload, self.now)
        self.host.send(
            Transport.UDP, self.port, transmit.destination, transmit.payload, transmit.interface
        )

    def _drain(self) -> None:
        busy = True
        while busy and self.alive:
            busy = self._drain_more()
            while (transmit := self._poll_transmit()) is not None:
                self._transmit(transmit)
                busy = True
            while (event := self.machine.poll_event()) is not None:
                if self.recorder.take_step(self.host.name, event):
                    self._count_talk(event.there)
                else:
                    self._handle_event(event)
                busy = True
        self.recorder.take_keys(self.host.name, self.machine.keyring)
        self._arm()

    def _count_talk(self, there: str) -> None:
        if self.now - self._talk_since > STORM_NS:
            self._talk_since = self.now
            self._talk.clear()
        self._talk[there] += 1
        if self._talk[there] > STORM_MESSAGES:
            problem = f"{self.host.name} storms at {there}"
            raise SimulationError(self.now, problem, self.recorder.tail())

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        timeout = self.machine.poll_timeout() if self.alive else None
        if timeout is not None:
            due = max(timeout.at, self.now)
            self._timer = self.internet.calendar.at(due, lambda: self._time_out(timeout))

    def _time_out(self, timeout: Timeout) -> None:
        at, count = self._spins
        self._spins = (self.now, count + 1 if at == self.now else 1)
        if self._spins[1] > SPINS:
            raise SimulationError(self.now, f"{self.host.name} spins on {timeout.reason}")
        self.call(self.machine.handle_timeout)
