"""RS as a program: the role's machine over the Rust packet loop."""

from collections import Counter

import structlog

from ntmobile import _core
from ntmobile.proto.io import Caller, Entropy
from ntmobile.proto.relay.memory import Record
from ntmobile.proto.relay.relay import Bind, Command, ForgetPath, RelayRole, Unbind
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.driver import Driver, Outlet, sender
from ntmobile.runtime.tasks import Tasks
from ntmobile.servers.binding import udp_hosts
from ntmobile.servers.config import Site
from ntmobile.servers.relay_memory import RelayMemory
from ntmobile.servers.requests import Requests
from ntmobile.servers.signalling import Signalling
from ntmobile.servers.steps import Steps
from ntmobile.wire.message import Message

log = structlog.get_logger()


class RelayServer:
    """Runs one RS. Source: paper, Fig. 7."""

    def __init__(
        self,
        domain: str,
        site: Site,
        memory: RelayMemory,
        *,
        entropy: Entropy,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        """Opens the UDP port; raises OSError. Must be made inside the event loop.

        memory is closed with it.
        """
        hosts = udp_hosts(each.host for each in site.signalling())
        # Another RS at another address of this machine may have the same number.
        ipv6 = hosts.ipv6 if any(each.version == 6 for each in site.addresses) else b""
        self.port = _core.Relay(port=site.udp or 0, ipv4=hosts.ipv4, ipv6=ipv6)
        self.stranger = _core.Port(ipv4=hosts.ipv4, ipv6=ipv6)
        """Knocks leave from here: a port that no node's own port ever sends to. It answers STUN
        to whoever examines a NAT from ports of its own."""
        self.signalling = Signalling(self.port, self.stranger)
        self._knocked: Counter[str] = Counter()
        self.machine = RelayRole(domain, entropy, self._idle_ns)
        self.memory = memory
        self._requests = Requests()
        self.steps = Steps(clock)
        outlets = (
            Outlet[Record](self.machine.poll_record, memory.keep),
            Outlet[Command](self.machine.poll_command, self._command),
            Outlet(self.machine.poll_transmit, self.signalling.send),
            Outlet(self.machine.poll_knock, sender(self.stranger, self._knocked)),
            Outlet(self.machine.poll_reply, self._requests.answer),
            Outlet(self.machine.poll_event, self.steps.add),
        )
        self.driver = Driver(self.machine, outlets, clock=clock, tasks=tasks)
        self.signalling.read(self.driver, self.machine.handle_datagram)
        self.driver.start()
        self.driver.do(lambda now: self.machine.restore(memory.restored, now))

    async def take(self, caller: Caller, message: Message) -> Message:
        """Take a request that came over HTTPS; raises Overloaded."""
        machine = self.machine
        return await self._requests.ask(
            lambda id: self.driver.do(lambda now: machine.handle_request(id, caller, message, now))
        )

    def close(self) -> None:
        """Stops relaying."""
        self.driver.close()
        self.port.close()
        self.stranger.close()
        self.memory.close()

    def _command(self, command: Command) -> None:
        match command:
            case Bind(path, source, index, destination, rate):
                bound = self.port.bind(
                    source.host.packed,
                    source.port,
                    index,
                    destination.host.packed,
                    destination.port,
                    path=int.from_bytes(path),
                    rate=rate,
                )
                if not bound:
                    log.error("relay: index taken by another path", path=path.hex())
            case Unbind(source, index):
                self.port.unbind(source.host.packed, source.port, index)
            case ForgetPath(path):
                self.port.forget(int.from_bytes(path))

    def _idle_ns(self, path: bytes) -> int | None:
        return self.port.statistics(int.from_bytes(path))[2]
