"""The VpnService type as the node's session sees it: a device from elsewhere, nothing of its own.

The device's packets to the node's DNS address go to a stack in this process, all others to the
tunnels. Source: paper, Implementation models (the VpnService type). Ours: docs/protocol.md
sections 5 and 6.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from errno import EPERM
from functools import partial
from ipaddress import IPv4Address
from types import TracebackType
from typing import Self

import structlog

from ntmobile._core import Engine, Stack
from ntmobile.agent.dns_stub import DnsStub
from ntmobile.agent.dns_stub_messages import Answer, Refused
from ntmobile.agent.names import name_or_refusal, search_domains
from ntmobile.agent.real_networks import Networks, first_routers, to_avoid
from ntmobile.agent.session import Session
from ntmobile.agent.state import State
from ntmobile.proto.io import Entropy, random_bytes
from ntmobile.proto.node.trust import domain_of
from ntmobile.runtime.tasks import Tasks
from ntmobile.sockets.events import Events
from ntmobile.vpn.configuration import Configuration, Network, configure, covers
from ntmobile.vpn.listener import InsideListener
from ntmobile.wire.endpoint import Endpoint, Host

Configure = Callable[[Configuration], Awaitable[int | None]]
"""Sets the device up and returns its descriptor, which the node owns from then on and closes;
None when the device stays the one that it was."""
DNS_PORT = 53
SEED_SIZE = 8
_LOG = structlog.get_logger(__name__)


class VpnModel:
    """Entered before the node starts; `attach` once it is registered."""

    def __init__(
        self,
        state: State,
        entropy: Entropy,
        *,
        tun_fd: int | None,
        protect: Callable[[int], object],
        configure: Configure,
        network: Network | None,
    ) -> None:
        """Owns tun_fd from now on."""
        self._state = state
        self._fd = tun_fd
        self._ask_protection = protect
        self._configure = configure
        self.network = network
        self.configuration: Configuration | None = None
        """What the system was last told."""
        self._stack = Stack(int.from_bytes(random_bytes(entropy, SEED_SIZE)))
        self._tasks = Tasks()
        self._resources = AsyncExitStack()
        self._changing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Opens what needs no registration."""
        self._resources.callback(self._stack.close)
        self._resources.callback(self._close_descriptor)
        self._events = Events(self._stack, asyncio.get_running_loop())
        self._resources.callback(self._events.close)
        await self._resources.enter_async_context(self._tasks)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Gives everything back."""
        await self.detach()

    async def detach(self) -> None:
        """Lets go of the device, before the session ends; a second time does nothing."""
        await self._resources.aclose()

    def protect(self, descriptor: int) -> None:
        """Has the system keep a socket out of its own VPN; raises OSError when it does not."""
        if self._ask_protection(descriptor) is False:
            raise OSError(EPERM, "the system does not protect a socket of the node")

    def servers(self) -> tuple[Endpoint, ...]:
        """The ordinary resolvers of the network that the machine is in."""
        told = self.network.dns if self.network is not None else ()
        return tuple(Endpoint(host, DNS_PORT) for host in told)

    @property
    def avoid(self) -> Networks:
        """Real networks here that virtual addresses must not hide."""
        routes = self.network.routes if self.network is not None else ()
        return to_avoid(routes, self.servers(), ())

    async def look_around(self, towards: IPv4Address | None) -> Networks:
        """Return the same, with what the way to a server shows."""
        routes = self.network.routes if self.network is not None else ()
        routers = () if towards is None else await first_routers(towards, protect=self.protect)
        return to_avoid(routes, self.servers(), routers)

    async def attach(self, session: Session) -> None:
        """Has the device set up for a node that is registered; raises OSError."""
        await self._set_up(session)
        self._resources.callback(session.engine.detach_tun)
        session.on_registered = lambda _: self.follow(session)
        session.on_readdressed = lambda before, now: self.follow(session)
        session.loops.on_open = lambda hosts: self.follow(session)
        await self._answer_names(session)

    def follow(self, session: Session) -> None:
        """Addresses, peers or the real networks here have changed."""
        self._tasks.start(self._try_set_up(session), "set up the device")

    async def _try_set_up(self, session: Session) -> None:
        try:
            await self._set_up(session)
        except OSError as error:
            _LOG.error("the system does not set the device up", error=str(error))

    async def _set_up(self, session: Session) -> None:
        async with self._changing:
            wanted = self._wanted(session)
            if wanted == self.configuration:
                return
            given = await self._configure(wanted)
            if given is not None:
                self._close_descriptor()
                self._fd = given
            self._take_device(session.engine, wanted)
            self.configuration = wanted

    def _take_device(self, engine: Engine, configuration: Configuration) -> None:
        """Nothing to do where the device is the one that it was."""
        if self._fd is None:
            return
        hosts = [host.packed for host in configuration.dns]
        self._stack.set_addresses(*hosts)
        engine.attach_divided(self._fd, self._stack, hosts)
        # The packet loops have a duplicate.
        self._close_descriptor()

    def _wanted(self, session: Session) -> Configuration:
        account, registered = session.account, session.registered
        assert registered is not None, "attached once it is registered"
        peers = [host for peer in self._state.peers.values() for host in (peer.ipv4, peer.ipv6)]
        peers += session.loops.peers()
        own = (registered.virtual_ipv4, registered.virtual_ipv6)
        return configure(own, peers, self.avoid, search_domains(account))

    async def _answer_names(self, session: Session) -> None:
        account = session.account
        assert self.configuration is not None, "the device is set up first"
        stub = DnsStub(
            lambda fqdn: self._resolve(session, fqdn),
            self._reverse,
            self.servers,
            own_zones=[account.domain],
            known_zones={domain_of(fqdn) for fqdn in self._state.peers},
            search=search_domains(account),
            addresses=[str(host) for host in self.configuration.dns],
            port=DNS_PORT,
            protect=self.protect,
            listener=partial(InsideListener, self._events),
        )
        await self._resources.enter_async_context(stub)

    async def _resolve(self, session: Session, fqdn: str) -> Answer | Refused:
        session.note_hooked(fqdn, answered=False)
        answer = await session.names.answer(fqdn)
        session.note_hooked(fqdn, answered=True)
        # The application sends as soon as it has the answer: the route must stand.
        if isinstance(answer, Answer) and not self._routes((answer.ipv4, answer.ipv6)):
            await self._try_set_up(session)
        return answer

    def _routes(self, hosts: tuple[Host, Host]) -> bool:
        return self.configuration is not None and covers(self.configuration, hosts)

    def _reverse(self, address: Host) -> str | Refused | None:
        account, state = self._state.account, self._state
        own = account.fqdn if account else ""
        return name_or_refusal(address, own, state.addresses, state.peers)

    def _close_descriptor(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
