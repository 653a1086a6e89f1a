"""Finds out which outer port a NAT gives to a mapping that is made now.

A fresh socket asks one server by STUN; where a NAT counts its ports, those of the next mappings
follow. Source: RFC 8489. Ours: docs/protocol.md section 7.
"""

from ntmobile.proto.io import Entropy, Timeout
from ntmobile.proto.node.questions import Questions, Sending
from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint

NEWEST_PORT_SOCKETS = 1


class NewestPort:
    """One question; the same face as Discovery. The finding is 0 where nobody answers."""

    def __init__(self, server: Endpoint, entropy: Entropy) -> None:
        """Server answers STUN."""
        self._server = server
        self._questions: Questions[None] = Questions(entropy)
        self._port: int | None = None

    def start(self, now: Instant) -> None:
        """Ask."""
        self._questions.ask(None, 0, self._server, now)

    def handle_datagram(self, socket: int, data: bytes, now: Instant) -> None:
        """Take what came to the socket; what answers nothing is dropped."""
        answered = self._questions.handle_datagram(socket, data, now)
        if answered is not None and answered.response is not None:
            self._port = answered.response.mapped.port

    def handle_timeout(self, now: Instant) -> None:
        """Ask again, or give up."""
        self._questions.handle_timeout(now)
        if self._port is None and not len(self._questions):
            self._port = 0

    def poll_sending(self) -> Sending | None:
        """Next datagram to send."""
        return self._questions.poll_sending()

    def poll_finding(self) -> int | None:
        """The port, once it is there; it stays."""
        return self._port

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        return self._questions.poll_timeout()
