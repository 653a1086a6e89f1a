"""DC as a program: the role's machine on its UDP port, with the store behind it."""

from collections.abc import Iterable

import structlog

from ntmobile import _core
from ntmobile.proto.coordinator.coordinator import Coordinator
from ntmobile.proto.coordinator.policy import Policy
from ntmobile.proto.coordinator.settings import (
    Audit,
    CoordinatorSettings,
    NodeStored,
    Notifier,
    Relay,
    StoredNode,
    WakeUpFailed,
)
from ntmobile.proto.io import (
    AuthoritiesFound,
    Call,
    Caller,
    CoordinatorFound,
    Entropy,
    Failed,
    FindCoordinator,
    WakeUp,
)
from ntmobile.proto.journal import Step
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.driver import Driver, Outlet
from ntmobile.runtime.tasks import Tasks
from ntmobile.servers.binding import udp_hosts
from ntmobile.servers.calls import Calls
from ntmobile.servers.config import Role, ServerConfig
from ntmobile.servers.keeper import Keeper
from ntmobile.servers.push import Push
from ntmobile.servers.requests import Requests
from ntmobile.servers.signalling import Signalling
from ntmobile.servers.steps import Steps
from ntmobile.wire.message import Message

log = structlog.get_logger()

MOST_HOMES = 131_072
"""Nodes and DCs whose way to us is remembered where DC has several addresses of a family."""


class CoordinatorServer:
    """Runs one DC. Source: paper, Figs. 2 to 7."""

    def __init__(
        self,
        settings: ServerConfig,
        domain_key: bytes,
        policy: Policy,
        stored: Iterable[StoredNode],
        calls: Calls,
        push: Push,
        keeper: Keeper,
        *,
        entropy: Entropy,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        """Opens the UDP port; raises OSError. Must be made inside the event loop."""
        self._calls = calls
        self._push = push
        self._keeper = keeper
        self._clock = clock
        self._requests = Requests()
        self.steps = Steps(clock)
        hosts = udp_hosts(settings.site(Role.DC).addresses)
        self.port = _core.Port(
            port=settings.dc.udp, ipv4=hosts.ipv4, ipv6=hosts.ipv6, homes=MOST_HOMES
        )
        self.signalling = Signalling(self.port)
        self.machine = Coordinator(
            coordinator_settings(settings, domain_key), policy, entropy, stored, clock.now()
        )
        self.driver = Driver(self.machine, (), clock=clock, tasks=tasks)
        perform = self.driver.perform(self._perform, self.machine.handle_reply)
        self.driver.outlets = (
            Outlet(self.machine.poll_event, self._handle_event),
            Outlet(self.machine.poll_transmit, self.signalling.send),
            Outlet(self.machine.poll_request, perform),
            Outlet(self.machine.poll_reply, self._requests.answer),
        )
        self.signalling.read(self.driver, self.machine.handle_datagram)
        self.driver.start()

    async def take(self, caller: Caller, message: Message) -> Message:
        """Take a request that came over HTTPS; raises Overloaded."""
        machine = self.machine
        return await self._requests.ask(
            lambda id: self.driver.do(lambda now: machine.handle_request(id, caller, message, now))
        )

    def set_policy(self, policy: Policy) -> None:
        """Go by this policy; what it newly revokes is withdrawn at once."""
        self.driver.do(lambda now: self.machine.set_policy(policy, now))

    def set_settings(self, settings: ServerConfig) -> None:
        """Take over what may change while running: RS, NS and the push services."""
        self.driver.do(lambda _: self.machine.set_relays(relays_of(settings)))
        self.driver.do(lambda _: self.machine.set_push(settings.push.kinds))
        self.driver.do(lambda now: self.machine.set_notifiers(notifiers_of(settings), now))

    def registered(self) -> int:
        """How many nodes showed themselves lately."""
        return len(self.machine.registered(self._clock.now()))

    def close(self) -> None:
        """Stops signalling."""
        self.driver.close()
        self.port.close()

    async def _perform(
        self, request: Call | FindCoordinator | WakeUp
    ) -> Message | CoordinatorFound | AuthoritiesFound | Failed:
        if isinstance(request, WakeUp):
            return await self._push.perform(request)
        return await self._calls.perform(request)

    def _handle_event(self, event: NodeStored | Audit | WakeUpFailed | Step) -> None:
        match event:
            case NodeStored(node):
                self._keeper.keep_node(node)
            case Audit():
                self._keeper.keep_decision(event)
            case WakeUpFailed(_, fqdn, reason, detail):
                log.warning("node not woken", node=fqdn, reason=str(reason), why=detail)
            case Step():
                self.steps.add(event)


def coordinator_settings(settings: ServerConfig, domain_key: bytes) -> CoordinatorSettings:
    """Return what the machine is told of the settings, and of the domain's public key."""
    return CoordinatorSettings(
        settings.domain,
        relays_of(settings),
        settings.site(Role.DC).addresses,
        settings.nodes.ipv4_pool,
        settings.nodes.keepalive_s,
        registration_s=4 * settings.nodes.keepalive_s + 10,
        domain_key=domain_key,
        push=settings.push.kinds,
        notifiers=notifiers_of(settings),
    )


def relays_of(settings: ServerConfig) -> tuple[Relay, ...]:
    """Return the domain's RS, with one address a family."""
    return tuple(
        Relay(settings.host_of(site), site.signalling(), site.https) for site in settings.relays
    )


def notifiers_of(settings: ServerConfig) -> tuple[Notifier, ...]:
    """Return the domain's NS, with one address a family."""
    return tuple(Notifier(settings.host_of(site), site.signalling()) for site in settings.notifiers)
