"""An NS, its DC and the nodes that connect to it, played by hand."""

from dataclasses import dataclass, field
from random import Random

from tests.proto.parts import DC, T0, Mouth, after, drain, key

from ntmobile.keys.channel import Channel
from ntmobile.keys.table import CommonKey, Kdcns, Kntmns
from ntmobile.proto.io import Caller, StreamData, StreamEnd
from ntmobile.proto.notification.notification import NotificationRole
from ntmobile.time import Instant
from ntmobile.wire.datagram import MAX_CARRYING, Envelope, Header, Sender, Signal
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.federation import KeySharing, SharedKey
from ntmobile.wire.message import Message
from ntmobile.wire.notification import (
    NotificationDirection,
    NotificationRegistration,
)
from ntmobile.wire.registration import Challenge
from ntmobile.wire.stream import frame, split

DOMAIN = "example.org"
ELSEWHERE = Endpoint("198.51.100.7", 51000)


@dataclass
class Connection:
    """One connection of a node, or of whoever has its key."""

    rig: "Rig"
    stream: int
    fqdn: str
    channel: Channel
    transactions: int = 0
    heard: list[Envelope] = field(default_factory=list)
    rest: bytes = b""
    ended: bool = False

    def frame(self, message: Signal) -> bytes:
        """Return the next frame of the node."""
        self.transactions += 1
        envelope = Envelope(1000 * self.stream + self.transactions, b"", message)
        return frame(self.channel.seal(envelope.encode()))

    def say(self, message: Signal) -> None:
        """Send a message."""
        self.write(self.frame(message))

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.rig.role.handle_stream(self.stream, data, self.rig.now)
        self.rig.gather()

    def register(self, sequence: int = 1, interval_s: int = 60) -> None:
        """Send Notification Registration."""
        self.say(NotificationRegistration(self.fqdn, sequence, interval_s))

    def close(self) -> None:
        """The node's end closes."""
        self.rig.role.handle_stream_closed(self.stream, self.rig.now)
        self.rig.gather()

    def take(self) -> Message:
        """Return the oldest message from NS."""
        return self.heard.pop(0).message


class Rig:
    """One NS and everybody who talks to it."""

    def __init__(self) -> None:
        self.now = T0
        self.role = NotificationRole(DOMAIN, Random(1))
        self.dc = Mouth(Sender.DC, self.share_key())
        self.transaction = 0
        self.streams = 0
        self.connections: dict[int, Connection] = {}
        self.ended: set[int] = set()

    def share_key(self, number: int = 200, domain: str = DOMAIN) -> CommonKey:
        """Let the DC share its Kdcns."""
        kdcns = key(Kdcns, number)
        sharing = KeySharing(SharedKey.KDCNS, kdcns.identifier, kdcns.secret, 86400, domain)
        self.role.handle_request(1, Caller(domain, "192.0.2.1"), sharing, self.now)
        (self.shared,) = drain(self.role.poll_reply)
        return kdcns

    def direct(self, fqdn: str, number: int, lifetime_s: int = 86400) -> Message:
        """Let the DC allow a node in under the key of that number."""
        kntmns = key(Kntmns, number)
        return self.ask(NotificationDirection(fqdn, kntmns.identifier, kntmns.secret, lifetime_s))

    def ask(self, message: Signal) -> Message:
        """Ask as the DC, proving its boot when challenged."""
        self.transaction += 1
        token = b""
        for _ in range(2):
            data = self.dc.say(message, self.transaction, token)
            self.role.handle_datagram(DC, data, self.now)
            sent = drain(self.role.poll_transmit)
            self.gather()
            answer = self.dc.hear(sent[-1]).message
            if not isinstance(answer, Challenge):
                return answer
            token = answer.token
        raise AssertionError("challenged twice")

    def connect(
        self, fqdn: str, number: int, source: Endpoint = ELSEWHERE, salt: int = 0
    ) -> Connection:
        """Open a connection of whoever has the key of that number; it has said nothing."""
        stream = self.open(source)
        salt_bytes = (salt or stream).to_bytes(8)
        channel = Channel(key(Kntmns, number), Sender.NODE, Sender.NS, salt_bytes)
        made = Connection(self, stream, fqdn, channel)
        self.connections[stream] = made
        return made

    def open(self, source: Endpoint = ELSEWHERE) -> int:
        """Open a connection of a stranger."""
        self.streams += 1
        self.role.handle_stream_opened(self.streams, source, self.now)
        self.gather()
        return self.streams

    def held(self, fqdn: str, number: int, interval_s: int = 60) -> Connection:
        """Return a connection that stands."""
        self.direct(fqdn, number)
        connection = self.connect(fqdn, number)
        connection.register(interval_s=interval_s)
        connection.take()
        return connection

    def pass_time(self, seconds: float) -> None:
        """Let that much time pass."""
        until = after(self.now, seconds)
        while (due := self.role.poll_timeout()) is not None and due.at <= until:
            self.now = max(self.now, due.at)
            self.role.handle_timeout(self.now)
            following = self.role.poll_timeout()
            assert following is None or following.at > self.now, f"spins: {due.reason}"
            self.gather()
        self.now = Instant(until)

    def gather(self) -> None:
        """Bring connections what NS wrote."""
        for command in drain(self.role.poll_stream):
            match command:
                case StreamData(stream, data):
                    assert stream not in self.ended
                    self._bring(self.connections[stream], data)
                case StreamEnd(stream):
                    assert stream not in self.ended
                    self.ended.add(stream)
                    if stream in self.connections:
                        self.connections[stream].ended = True
                case _:
                    raise AssertionError(command)
        drain(self.role.poll_event)

    def _bring(self, connection: Connection, data: bytes) -> None:
        found, connection.rest = split(connection.rest + data)
        for each in found:
            header = Header.decode(each, MAX_CARRYING)
            connection.heard.append(Envelope.decode(connection.channel.open(header, each)))
