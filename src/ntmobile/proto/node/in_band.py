"""What one tunnel says to its peer inside capsules. Ours: docs/protocol.md sections 7 and 8."""

from collections import deque
from collections.abc import Callable

from ntmobile.proto.journal import Journal
from ntmobile.proto.node.control import FIRST_RETRY_NS, TRIES, ControlRequests, Pending
from ntmobile.proto.node.ends import Path
from ntmobile.proto.node.events import Command, SendControl
from ntmobile.proto.node.purpose import Purpose
from ntmobile.time import Instant
from ntmobile.wire.datagram import encode_control
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.tunnel import Control, EchoReply, EchoRequest, PathChallenge, TunnelKeepAlive


class InBand:
    """Puts messages among the commands to the packet loops, and notes them in the journal."""

    def __init__(
        self,
        index: int,
        fqdn: str,
        requests: ControlRequests[Purpose],
        journal: Journal,
        commands: deque[Command],
        path: Callable[[], Path | None],
    ) -> None:
        """Of the tunnel of this index to that peer; path tells where it leads now."""
        self._index = index
        self._fqdn = fqdn
        self._requests = requests
        self._journal = journal
        self._commands = commands
        self._path = path

    def ask(
        self,
        number: int,
        message: Control,
        purpose: Purpose,
        now: Instant,
        *,
        destination: Endpoint | None = None,
        tries: int = 8,
        wait_ns: int = FIRST_RETRY_NS,
    ) -> None:
        """Send a message until the answer with this number comes."""
        self._requests.open(
            number, message, purpose, now, destination=destination, tries=tries, wait_ns=wait_ns
        )
        self.send(message, now, destination)

    def close(self, number: int) -> None:
        """The answer with this number came."""
        self._requests.close(number)

    def drop(self, purpose: Purpose) -> None:
        """Nobody waits for the answers to requests of this purpose any more."""
        self._requests.drop(purpose)

    def repeat(self, now: Instant) -> list[Pending[Purpose]]:
        """Send again what is due; returns what was asked often enough in vain."""
        again, lost = self._requests.due(now)
        for pending in again:
            self.send(pending.message, now, pending.destination, pending.interface)
        return lost

    def challenge(
        self,
        number: int,
        to: Endpoint | None,
        purpose: Purpose,
        now: Instant,
        tries: int = TRIES,
        wait_ns: int = FIRST_RETRY_NS,
    ) -> None:
        """Ask who is there for a Path Response of this number."""
        ask = PathChallenge(number)
        self.ask(number, ask, purpose, now, destination=to, tries=tries, wait_ns=wait_ns)

    def send(
        self,
        message: Control,
        now: Instant,
        destination: Endpoint | None = None,
        interface: int = 0,
        socket: int | None = None,
    ) -> None:
        """Send along the path, or to an explicit address, through a socket of the tunnel's own.

        Without one what goes to the path's far end goes as the path does, unless that is by the
        node's other port: then it asks for the far end's answer by this one.
        """
        if not isinstance(message, EchoRequest | EchoReply | TunnelKeepAlive):
            self._journal.note(now, message, self._fqdn, sent=True)
        path = self._path()
        if socket is None:
            same = path is not None and path.remote == destination and not path.by_other_port
            socket = path.socket if path is not None and same else 0
        self.post(message, destination, interface, socket)

    def post(
        self, message: Control, destination: Endpoint | None, interface: int, socket: int
    ) -> None:
        """The same without a line in the journal."""
        payload = encode_control(message)
        self._commands.append(SendControl(self._index, payload, destination, interface, socket))
