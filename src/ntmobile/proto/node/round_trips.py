"""Measures round trips to servers by STUN Binding, from a socket of its own.

From a fresh socket, so that the filters of the node's own port stay as they are: else a knock of an
RS that was asked would get in where no stranger's does. The least of a few answers counts; what
the first of them waited for is not the way. Source: RFC 8489. Ours: docs/protocol.md section 7.
"""

from collections.abc import Iterable, Mapping

from ntmobile.proto.io import Entropy, Timeout
from ntmobile.proto.node.questions import Questions, Sending
from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint

ROUND_TRIP_SOCKETS = 1
SAMPLES = 3
"""Asked one after the other."""

Measured = Mapping[Endpoint, int | None]
"""Nanoseconds by server; None: no answer."""


class RoundTripTimes:
    """All servers at once; the same face as Discovery."""

    def __init__(self, servers: Iterable[Endpoint], entropy: Entropy) -> None:
        """Servers answer STUN."""
        self._servers = tuple(dict.fromkeys(servers))
        self._questions: Questions[Endpoint] = Questions(entropy)
        self._samples: dict[Endpoint, list[int]] = {server: [] for server in self._servers}
        self._started = False

    def start(self, now: Instant) -> None:
        """Ask each."""
        self._started = True
        for server in self._servers:
            self._questions.ask(server, 0, server, now)

    def handle_datagram(self, socket: int, data: bytes, now: Instant) -> None:
        """Take what came to the socket; what answers nothing is dropped."""
        answered = self._questions.handle_datagram(socket, data, now)
        if answered is None or answered.response is None:
            return
        samples = self._samples[answered.tag]
        samples.append(answered.rtt_ns)
        if len(samples) < SAMPLES:
            self._questions.ask(answered.tag, 0, answered.tag, now)

    def handle_timeout(self, now: Instant) -> None:
        """Ask again, or give a server up."""
        self._questions.handle_timeout(now)

    def poll_sending(self) -> Sending | None:
        """Next datagram to send."""
        return self._questions.poll_sending()

    def poll_finding(self) -> Measured | None:
        """Every server's least round trip, once none is awaited; it stays."""
        if not self._started or len(self._questions):
            return None
        return {server: min(times, default=None) for server, times in self._samples.items()}

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        return self._questions.poll_timeout()
