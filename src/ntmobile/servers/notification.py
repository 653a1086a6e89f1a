"""NS as a program: the role's machine, the DC's datagrams, and the connections of nodes."""

import structlog

from ntmobile import _core
from ntmobile.proto.io import Caller, Entropy, StreamCommand, StreamData, StreamEnd
from ntmobile.proto.notification.notification import MAX_NODES, NotificationRole
from ntmobile.runtime.acceptor import Acceptor, allow_descriptors
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.driver import Driver, Outlet
from ntmobile.runtime.tasks import Tasks
from ntmobile.servers.binding import local_endpoints, udp_hosts
from ntmobile.servers.config import Site
from ntmobile.servers.requests import Requests
from ntmobile.servers.signalling import Signalling
from ntmobile.servers.steps import Steps
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.message import Message

log = structlog.get_logger()


FEW = 4096
MORE = "run ntm serve as root, or allow it more descriptors: LimitNOFILE=1048576, or ulimit -Hn"
OTHERS_ALONE, OTHERS = 1000, 10_000
"""Descriptors for all but the connections of nodes: files, HTTPS; beside DC or RS also WebSockets,
two each."""


def capacity(descriptors: int, *, alone: bool) -> int:
    """Return how many connections of nodes so many descriptors of a process allow."""
    kept = min(OTHERS_ALONE if alone else OTHERS, descriptors // 4)
    return min(descriptors - kept, MAX_NODES)


class NotificationServer:
    """Runs one NS. Source: paper, Fig. 4."""

    def __init__(
        self,
        domain: str,
        site: Site,
        *,
        entropy: Entropy,
        clock: Clock,
        tasks: Tasks,
        alone: bool = True,
    ) -> None:
        """Opens the port, UDP and TCP; raises OSError. Must be made inside the event loop.

        Alone: no other role of this process needs descriptors.
        """
        descriptors = allow_descriptors()
        most = capacity(descriptors, alone=alone)
        hosts = [each.host for each in site.signalling()]
        bound = udp_hosts(hosts)
        ipv6 = bound.ipv6 if any(host.version == 6 for host in hosts) else b""
        self.port = _core.Port(port=site.udp or 0, ipv4=bound.ipv4, ipv6=ipv6)
        self.signalling = Signalling(self.port)
        self.machine = NotificationRole(domain, entropy, most)
        self._requests = Requests()
        self.steps = Steps(clock)
        outlets = (
            Outlet[StreamCommand](self.machine.poll_stream, self._command),
            Outlet(self.machine.poll_transmit, self.signalling.send),
            Outlet(self.machine.poll_reply, self._requests.answer),
            Outlet(self.machine.poll_event, self.steps.add),
        )
        self.driver = Driver(self.machine, outlets, clock=clock, tasks=tasks)
        self.acceptor = Acceptor(self._opened, self._received, self._closed)
        try:
            self.listening = self.acceptor.listen(local_endpoints(hosts, site.udp or 0))
        except OSError:
            self.acceptor.close()
            self.port.close()
            raise
        self.signalling.read(self.driver, self.machine.handle_datagram)
        self.driver.start()
        log.info("NS started", domain=domain, descriptors=descriptors, holds=most)
        if most < FEW:
            log.warning("NS can hold few nodes", holds=most, descriptors=descriptors, next=MORE)

    async def take(self, caller: Caller, message: Message) -> Message:
        """Take a request that came over HTTPS; raises Overloaded."""
        machine = self.machine
        return await self._requests.ask(
            lambda id: self.driver.do(lambda now: machine.handle_request(id, caller, message, now))
        )

    def close(self) -> None:
        """Lets go of all connections."""
        self.driver.close()
        self.acceptor.close()
        self.port.close()

    def _opened(self, stream: int, source: Endpoint) -> None:
        self.driver.do(lambda now: self.machine.handle_stream_opened(stream, source, now))

    def _received(self, stream: int, data: bytes) -> None:
        self.driver.do(lambda now: self.machine.handle_stream(stream, data, now))

    def _closed(self, stream: int) -> None:
        self.driver.do(lambda now: self.machine.handle_stream_closed(stream, now))

    def _command(self, command: StreamCommand) -> None:
        match command:
            case StreamData(stream, data):
                self.acceptor.write(stream, data)
            case StreamEnd(stream):
                self.acceptor.end(stream)
            case _:
                raise AssertionError("NS connects to nobody")
