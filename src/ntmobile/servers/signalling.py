"""A server's UDP port: STUN is answered here, everything else goes to the role's machine."""

from collections import Counter
from collections.abc import Callable

from ntmobile.runtime.driver import DatagramPort, Driver, sender
from ntmobile.servers.stun import StunResponder
from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.stun import is_stun

Handle = Callable[[Endpoint, bytes, Instant], None]


class Signalling:
    """Reads a port for a machine; `send` is where its outlet of poll_transmit delivers to."""

    def __init__(self, port: DatagramPort) -> None:
        """The port stays its owner's to close."""
        self._port = port
        self.stun = StunResponder()
        self.counters: Counter[str] = Counter()
        self.send = sender(port, self.counters)

    def read(self, driver: Driver, handle: Handle) -> None:
        """From now hand the port's datagrams to the machine."""

        def take(source: Endpoint, data: bytes, now: Instant) -> None:
            if not is_stun(data):
                handle(source, data, now)
            elif (answer := self.stun.respond(source, data, now)) is not None:
                self.send(answer)

        driver.read(self._port, take)
