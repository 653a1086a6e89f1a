"""Has the router keep the node's UDP port mapped, from `ntm up` to `ntm down`, wherever it is."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address

import structlog

from ntmobile._core import Port
from ntmobile.agent.bell import Bell
from ntmobile.agent.links_netlink import read_gateway
from ntmobile.agent.router import Router
from ntmobile.proto.io import Entropy
from ntmobile.proto.node.events import LocalAddress
from ntmobile.proto.node.port_mapping import ALL, PortMapped, PortMapping, PortUnmapped
from ntmobile.proto.node.port_mapping_udp import MappingProtocol
from ntmobile.proto.node.port_mapping_upnp import RouterRequest
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.driver import Driver, Outlet, sender
from ntmobile.runtime.protection import Protect, unprotected
from ntmobile.runtime.tasks import Tasks
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.pcp import ANNOUNCEMENT_PORT

FAREWELL_S = 1.0
"""`ntm down` waits no longer for a router; the mapping then ends by itself."""
QUEUE = 64
_LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Behind which router this machine is, and with which address."""

    gateway: IPv4Address
    own: IPv4Address


class PortMapper:
    """Follows the machine from network to network with one PortMapping at a time."""

    def __init__(
        self,
        port: int,
        clock: Clock,
        entropy: Entropy,
        tasks: Tasks,
        *,
        protect: Protect = unprotected,
        protocols: tuple[MappingProtocol, ...] = ALL,
        find: Callable[[tuple[LocalAddress, ...]], Place | None] | None = None,
        tell: Callable[[Endpoint | None], None] = lambda external: None,
    ) -> None:
        """Port is the node's UDP port. Nothing is asked before `follow`.

        tell is called with where others get in, and None when they do not any more.
        """
        self._tell = tell
        self._protect = protect
        self._port = port
        self._clock = clock
        self._entropy = entropy
        self._tasks = tasks
        self._protocols = protocols
        self._find = find or place_of
        self._place: Place | None = None
        self._stack = ExitStack()
        self._machine: PortMapping | None = None
        self._driver: Driver | None = None
        self.reason = "not asked for"
        """Why no port is mapped, while none is."""
        self.settled = False
        """Whether the router of this network has said yes or no."""
        self.changed = Bell()

    @property
    def mapped(self) -> PortMapped | None:
        """What is mapped now."""
        return None if self._machine is None else self._machine.mapped

    @property
    def is_asking(self) -> bool:
        """Whether a router is being asked and has not said yes or no."""
        return self._machine is not None and not self.settled

    def follow(self, addresses: tuple[LocalAddress, ...]) -> None:
        """Ask the router of this network, unless that is the one asked already."""
        place = self._find(addresses)
        if place == self._place:
            return
        if self.mapped is not None:
            self._tell(None)
        self._leave()
        self._place = place
        self.settled = place is None
        self.reason = "this machine is behind no IPv4 router" if place is None else "being asked"
        if place is not None:
            try:
                self._open(place)
            except OSError as error:
                _LOG.warning("cannot ask the router", error=str(error))
                self.reason, self.settled = f"the system refused: {error.strerror}", True
        self.changed.ring()

    def renew(self) -> None:
        """Renew now: the NAT seems to have restarted."""
        if self._machine is not None and self._driver is not None:
            self._driver.do(self._machine.renew)

    async def close(self) -> None:
        """Give the port back, waiting a moment for the router, and close."""
        machine, driver = self._machine, self._driver
        if machine is not None and driver is not None and machine.mapped is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    self.settled = False
                    driver.do(machine.stop)
                    await self.changed.until(lambda: self.settled)
        self._leave()

    def _open(self, place: Place) -> None:
        machine = PortMapping(
            place.gateway, place.own, self._port, self._entropy, protocols=self._protocols
        )
        router = Router(place.gateway, place.own)
        port = Port(ipv6=b"", queue=QUEUE)
        self._stack.callback(port.close)
        for descriptor in port.sockets():
            self._protect(descriptor)
        driver = Driver(machine, (), clock=self._clock, tasks=self._tasks)

        def perform(request: RouterRequest) -> None:
            driver.perform(router.perform, machine.handle_reply)(request)

        driver.outlets = (
            Outlet(machine.poll_transmit, sender(port, driver.counters)),
            Outlet(machine.poll_request, perform),
            Outlet(machine.poll_event, self._handle_event),
        )
        driver.read(port, machine.handle_datagram)
        self._stack.callback(driver.close)
        self._listen(driver, machine)
        self._machine, self._driver = machine, driver
        driver.start()
        driver.do(machine.start)

    def _listen(self, driver: Driver, machine: PortMapping) -> None:
        """Hear routers announce that they restarted; another program may have the port."""
        hearing = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._stack.callback(hearing.close)
        hearing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            hearing.bind(("", ANNOUNCEMENT_PORT))
        except OSError as error:
            _LOG.debug("announcements of routers are not heard", error=str(error))
            return

        def take() -> None:
            with suppress(BlockingIOError):
                data, (host, number) = hearing.recvfrom(2048)
                source = Endpoint(host, number)
                driver.do(lambda now: machine.handle_announcement(source, data, now))

        loop = asyncio.get_running_loop()
        loop.add_reader(hearing, take)
        self._stack.callback(loop.remove_reader, hearing)

    def _leave(self) -> None:
        self._machine = self._driver = self._place = None
        self._stack.close()

    def _handle_event(self, event: PortMapped | PortUnmapped) -> None:
        match event:
            case PortMapped(protocol, external):
                _LOG.info("port mapped", protocol=str(protocol))
                self._tell(None if event.behind_another_nat else external)
            case PortUnmapped(reason):
                self.reason = reason
                self._tell(None)
                _LOG.info("no port mapped", reason=reason)
        self.settled = True
        self.changed.ring()


def place_of(addresses: tuple[LocalAddress, ...]) -> Place | None:
    """Return behind which router these addresses are, None without one."""
    try:
        gateway = read_gateway()
    except OSError:
        return None
    if gateway is None:
        return None
    for address in addresses:
        host = address.endpoint.host
        if address.interface == gateway.index and isinstance(host, IPv4Address):
            return Place(gateway.host, host)
    return None
