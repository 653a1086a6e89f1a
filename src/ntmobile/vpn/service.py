"""`attach`: a node on a device that the operating system's VPN service hands over."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from ntmobile.agent.session import Session
from ntmobile.agent.state import State
from ntmobile.agent.status import handovers_view, status_view
from ntmobile.agent.views import HandoversView, StatusView
from ntmobile.errors import Remedy, StateError
from ntmobile.proto.node.events import LocalAddress
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.resolver import Resolver
from ntmobile.sockets.names import Names
from ntmobile.sockets.opening import log_in, opened_state
from ntmobile.vpn.configuration import Configuration, Network
from ntmobile.vpn.model import Configure, VpnModel
from ntmobile.vpn.uplinks import ToldUplinks
from ntmobile.wire.endpoint import Host


def attach(
    tun_fd: int | None,
    *,
    state: str | Path,
    protect: Callable[[int], object],
    configure: Configure,
    network: Network | None,
) -> "Vpn":
    """Return a node that runs on a TUN descriptor; enter it to bring it up.

    state is a directory that `ntmobile.Node.login` made. protect is called in the event loop's
    thread with the descriptor of each socket that the node opens, before it is used, and keeps its
    packets out of the device; False, or OSError, says that it could not. configure is awaited with
    what the device needs, once the node is registered and whenever that changes. It returns the
    device's descriptor, or None when that stays what it was: where the system gives the
    descriptor only with the configuration (Android), tun_fd is None. The node owns the descriptors
    and closes them. network is where the machine is; `network_changed` tells of another.
    """
    return Vpn(Path(state), tun_fd, protect, configure, network)


class Vpn:
    """A node of the VpnService type, up while its context is entered; no right is needed."""

    def __init__(
        self,
        directory: Path,
        tun_fd: int | None,
        protect: Callable[[int], object],
        configure: Configure,
        network: Network | None,
    ) -> None:
        """See `attach`."""
        self._directory = directory
        self._given = (tun_fd, protect, configure, network)
        self._stack = AsyncExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: tuple[Session, State, VpnModel] | None = None
        self._uplinks: ToldUplinks | None = None

    async def __aenter__(self) -> Self:
        """Logs in by the device key, registers and takes the device; raises Remedy."""
        self._loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            try:
                self._open = await self._start(stack)
            except OSError as error:
                raise Remedy(
                    f"the system refused: {error}", remedy="look at docs/vpn.md"
                ) from error
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the tunnels and lets go of the device."""
        self._open = None
        await self._stack.aclose()

    @property
    def fqdn(self) -> str:
        """The node's permanent name."""
        return self._parts()[0].account.fqdn

    @property
    def configuration(self) -> Configuration:
        """What the system was last told to set up."""
        configuration = self._parts()[2].configuration
        assert configuration is not None, "open means set up"
        return configuration

    def whois(self, address: Host) -> str | None:
        """Return the name of a virtual address's owner, as its tunnel proves it."""
        session, state, _ = self._parts()
        return Names(session, state).owner(address)

    def status(self) -> StatusView:
        """What `ntm status --json` prints."""
        session, state, _ = self._parts()
        return status_view(session, state, [])

    def handovers(self) -> HandoversView:
        """What `ntm handovers --json` prints: those of earlier runs too, oldest first."""
        return handovers_view(self._parts()[0])

    def network_changed(self, network: Network | None) -> None:
        """The machine is in another network now, or in none; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._follow, network)

    def _follow(self, network: Network | None) -> None:
        if self._open is None or self._uplinks is None:
            return
        session, _, model = self._open
        model.network = network
        self._uplinks.tell(network)
        model.follow(session)

    async def _start(self, stack: AsyncExitStack) -> tuple[Session, State, VpnModel]:
        entropy = secrets.SystemRandom()
        tun_fd, protect, configure, network = self._given
        state = await stack.enter_async_context(opened_state(self._directory, entropy))
        if state.account is None:
            raise Remedy(
                f"{self._directory} is no node's state yet",
                remedy="ntmobile.Node.login(state, 'USER@DOMAIN', password=...)",
            )
        model = await stack.enter_async_context(
            VpnModel(
                state,
                entropy,
                tun_fd=tun_fd,
                protect=protect,
                configure=configure,
                network=network,
            )
        )
        resolver = Resolver(model.servers, Clock(), protect=model.protect)
        session = Session(state, state.account, resolver, entropy, model, self._watch)
        # Routers are asked for ports by sockets that nobody protects.
        session.map_port = False
        await stack.enter_async_context(session)
        stack.push_async_callback(model.detach)
        await log_in(session, None, None)
        await model.attach(session)
        return session, state, model

    def _watch(self, report: Callable[[tuple[LocalAddress, ...]], None], port: int) -> ToldUplinks:
        self._uplinks = ToldUplinks(report, port, self._given[3])
        return self._uplinks

    def _parts(self) -> tuple[Session, State, VpnModel]:
        if self._open is None:
            raise StateError("the node is not open: async with ntmobile.vpn.attach(...) as node")
        return self._open
