"""A server's UDP port: STUN is answered here, everything else goes to the role's machine."""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from ntmobile.runtime.driver import DatagramPort, Driver, sender
from ntmobile.servers.stun import StunResponder
from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.stun import is_stun

Handle = Callable[[Endpoint, bytes, Instant], None]


class OtherPort(DatagramPort, Protocol):
    """A `_core.Port`: it says its number."""

    @property
    def port(self) -> int:
        """The UDP port's number."""
        ...


class Signalling:
    """Reads a port for a machine; `send` is where its outlet of poll_transmit delivers to."""

    def __init__(self, port: DatagramPort, other: OtherPort | None = None) -> None:
        """The ports stay their owner's to close; the other one answers STUN and nothing else."""
        self._port = port
        self._other = other
        self.stun = StunResponder()
        self.counters: Counter[str] = Counter()
        self.send = sender(port, self.counters)

    def read(self, driver: Driver, handle: Handle) -> None:
        """From now hand the port's datagrams to the machine."""
        other = self._other
        from_other = self.send if other is None else sender(other, self.counters)
        other_port = None if other is None else other.port

        def take(source: Endpoint, data: bytes, now: Instant) -> None:
            if not is_stun(data):
                handle(source, data, now)
                return
            answer = self.stun.respond(source, data, now, other_port=other_port)
            if answer is not None:
                (from_other if answer.from_other_port else self.send)(answer.transmit)

        def take_at_other(source: Endpoint, data: bytes, now: Instant) -> None:
            answer = self.stun.respond(source, data, now) if is_stun(data) else None
            if answer is not None:
                from_other(answer.transmit)

        driver.read(self._port, take)
        if other is not None:
            driver.read(other, take_at_other)
