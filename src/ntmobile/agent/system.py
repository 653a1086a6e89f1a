"""The system model: every application of this machine takes part, unmodified.

A TUN device carries the virtual addresses; each known peer has a route into it, which also tells
the kernel how large its packets may be; the DNS hook catches name queries. Whole virtual ranges
are not routed: behind a carrier's NAT the provider's own servers live in 100.64.0.0/10.
Source: paper, Abstract; paper, Overview; paper, Implementation models (the kernel type).
Ours: docs/protocol.md sections 5 to 7.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Literal, ParamSpec, Self

import structlog

from ntmobile.agent.dns_hook_table import HookUnavailable
from ntmobile.agent.dns_stub_messages import Answer, Refused
from ntmobile.agent.machine_names import MachineNames, Named
from ntmobile.agent.network_routes import NetworkRoutes
from ntmobile.agent.networks import NetworksBeyond
from ntmobile.agent.real_networks import Networks, first_routers, real_networks
from ntmobile.agent.routes import SystemRefused
from ntmobile.agent.session import Session
from ntmobile.agent.state import State
from ntmobile.agent.tun import Tun
from ntmobile.agent.views import DnsView
from ntmobile.errors import Remedy
from ntmobile.proto.node.events import NameResolved, Registered
from ntmobile.runtime.priority import as_others, decide_first, wait_turn
from ntmobile.runtime.protection import Protect
from ntmobile.runtime.tasks import Tasks
from ntmobile.wire.endpoint import Host

LEAST_MTU = 1280
"""Of a peer whose path is not known yet."""
MEET_AGAIN_S = 30.0
_CAP_NET_ADMIN = 12
P = ParamSpec("P")
_LOG = structlog.get_logger(__name__)


class SystemModel:
    """Entered before the node starts; attached once it is registered; detached first."""

    def __init__(
        self, state: State, names: MachineNames | None = None, devices: set[int] | None = None
    ) -> None:
        """Reads the state when it attaches.

        The identities of one agent share names, and the set of their devices' indices.
        """
        self._state = state
        self._names = names or MachineNames()
        self._devices = set() if devices is None else devices
        self._tun: Tun | None = None
        self._named: Named | None = None
        self._beyond: NetworksBeyond | None = None
        self._routes: NetworkRoutes | None = None
        self._stack = AsyncExitStack()
        self._tasks = Tasks()
        self._hook: Literal["systemd-resolved", "nftables", "resolv.conf", "off"] = "off"
        self._hook_detail = "not registered yet"
        self._wanted = self._claimed = False
        self.servers = self._names.servers
        """The ordinary resolvers, whoever asks."""
        self.avoid: Networks = ()
        """Real networks here that virtual addresses must not hide."""
        self.attached = False

    async def __aenter__(self) -> Self:
        """Claims the place of the DNS hook; raises Remedy without the right to."""
        if not may_administer_network():
            raise Remedy(
                "a node that serves the whole machine needs the right to make network devices "
                "(CAP_NET_ADMIN)",
                remedy="run ntm up as root, or let systemd give it that right: ntm service; "
                "without any right: ntm up --model proxy",
            )
        self.avoid = real_networks(self._devices, self.servers(), ())
        self._wanted = self._state.choices.accept_dns
        if self._wanted:
            await self._claim()
        await self._stack.enter_async_context(self._tasks)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Gives everything back."""
        await self.detach()

    @property
    def protect(self) -> Protect:
        """Marks the agent's own sockets, so that the hook lets them pass."""
        return self._names.protect

    async def look_around(self, towards: IPv4Address | None) -> Networks:
        """Return the real networks here now, also those that the way to a server shows."""
        routers = () if towards is None else await first_routers(towards, protect=self.protect)
        return real_networks(self._devices, self.servers(), routers)

    async def attach(self, session: Session, registered: Registered) -> None:
        """Hooks the node into the machine, or follows its new addresses; raises Remedy."""
        if self._tun is None:
            self._tun = tun = await self._stack.enter_async_context(Tun())
            self._devices.add(tun.index)
            self._stack.callback(self._devices.discard, tun.index)
            session.loops.on_open = _logged(self._route_new)
            session.loops.on_path = _logged(self._route)
            session.on_readdressed = self._readdress
        await self._tun.set_addresses((registered.virtual_ipv4, registered.virtual_ipv6))
        for peer in self._state.peers.values():
            self._route_new((peer.ipv4, peer.ipv6))
        if not self.attached:
            # Last: what comes out of the device finds the addresses, and its answers the routes.
            with as_others():
                session.engine.attach_tun(self._tun.fd, offload=self._tun.offload)
            self._stack.callback(session.engine.detach_tun)
            decide_first()
            self._stack.callback(self._wait_turn)
        if self._named is None and self._claimed:
            await self._hook_names(session, self._tun)
        if self._beyond is None:
            self._lead(session, self._tun)
        self.follow_choices()
        self.attached = True

    async def detach(self) -> None:
        """Gives the machine its network back; a second time does nothing."""
        self.attached = False
        self._tun = self._named = self._beyond = None
        self._claimed = False
        self._hook, self._hook_detail = "off", "not registered yet"
        await self._stack.aclose()

    def troubles(self) -> list[str]:
        """What keeps the machine from being fully hooked."""
        missing = self.attached and self._wanted and self._hook == "off"
        found = [f"applications cannot look up nodes: {self._hook_detail}"] if missing else []
        return found + (self._routes.troubles() if self._routes is not None else [])

    def follow_choices(self) -> None:
        """Leads to the networks beyond and behind that the choices name; raises SystemRefused."""
        if self._beyond is not None:
            self._beyond.apply()

    def _lead(self, session: Session, tun: Tun) -> None:
        routes = NetworkRoutes(tun.name, tun.index)
        self._stack.callback(routes.close)
        self._routes = routes

        def meet(fqdn: str) -> None:
            self._tasks.start(self._meet(session, fqdn), "meet a node that leads to networks")

        self._beyond = NetworksBeyond(session.engine, self._state, meet, routes.set)

    async def _meet(self, session: Session, fqdn: str) -> None:
        outcome = await session.names.resolve(fqdn)
        if isinstance(outcome, NameResolved) and fqdn in self._state.peers:
            _logged(self.follow_choices)()
        else:
            _LOG.warning("a node that should lead to networks is not reached")
            await asyncio.sleep(MEET_AGAIN_S)
            await self._meet(session, fqdn)

    def expose(self, port: int) -> None:
        """Raises Remedy: peers reach every port of a machine of this type."""
        raise Remedy(
            f"port {port} needs no offer: peers reach every port that listens on this machine",
            remedy="let the service listen on all addresses, or on the virtual ones (ntm status)",
        )

    def conceal(self, port: int) -> None:
        """Raises Remedy."""
        self.expose(port)

    def dns(self) -> DnsView:
        """The state of the DNS hook."""
        stub = self._names.stub if self._named is not None else None
        return DnsView(
            hook=self._hook,
            detail=self._hook_detail if self._wanted else "accept-dns=no",
            stub=", ".join(map(str, stub.endpoints)) if stub else None,
            upstreams=tuple(map(str, self.servers())),
            zones=stub.zones.known if stub else (),
            counters=dict(stub.counters) if stub else {},
        )

    def _wait_turn(self) -> None:
        """Another identity that is attached still has something to decide first."""
        if len(self._devices) <= 1:
            wait_turn()

    async def _claim(self) -> None:
        try:
            await self._names.claim()
        except HookUnavailable as error:
            _LOG.warning("no DNS hook", reason=error.problem)
            self._hook_detail = str(error)
        else:
            self._stack.push_async_callback(self._names.release)
            self._claimed = True

    async def _hook_names(self, session: Session, tun: Tun) -> None:
        named = Named(self._state, tun.index, lambda fqdn: self._resolve(session, fqdn))
        try:
            await self._names.join(named)
        except (HookUnavailable, OSError) as error:
            # The node works all the same: peers are reached by their virtual addresses.
            self._hook_detail = str(error)
            _LOG.error("no DNS hook", error=str(error))
            return
        self._stack.push_async_callback(self._names.leave, named)
        self._named = named
        if (hook := self._names.hook) is not None:
            self._hook, self._hook_detail = hook.kind, hook.detail

    async def _resolve(self, session: Session, fqdn: str) -> Answer | Refused:
        session.note_hooked(fqdn, answered=False)
        outcome = await session.names.resolve(fqdn)
        session.note_hooked(fqdn, answered=True)
        if not isinstance(outcome, NameResolved):
            return Refused()
        # The application sends as soon as it has the answer: the route must stand.
        self._route_new((outcome.ipv4, outcome.ipv6))
        return Answer(outcome.ipv4, outcome.ipv6)

    def _readdress(self, before: tuple[Host, Host], now: tuple[Host, Host]) -> None:
        """A peer stepped aside: leave its old addresses to the real network."""
        if self._tun is not None:
            for host in set(before) - set(now):
                self._tun.routes.drop(host)
            _logged(self._route_new)(now)
            _logged(self.follow_choices)()

    def _route_new(self, hosts: tuple[Host, Host]) -> None:
        """Route a peer that is perhaps not routed yet, as small as any path allows."""
        if self._tun is not None:
            for host in hosts:
                if host not in self._tun.routes:
                    self._tun.routes.set_peer(host, LEAST_MTU)

    def _route(self, hosts: tuple[Host, Host], mtu: int) -> None:
        """Route a peer whose path carries inner packets of mtu bytes."""
        if self._tun is not None:
            for host in hosts:
                self._tun.routes.set_peer(host, mtu)


def _logged(change: Callable[P, None]) -> Callable[P, None]:
    """Return the change for a caller that cannot help it when the kernel refuses."""

    def changed(*args: P.args, **keywords: P.kwargs) -> None:
        try:
            change(*args, **keywords)
        except SystemRefused as error:
            _LOG.error("no route to a peer", error=str(error))

    return changed


def system_models() -> Callable[[State], SystemModel]:
    """Return what makes the models of one agent's identities: a device each, names in common."""
    names, devices = MachineNames(), set[int]()
    return lambda state: SystemModel(state, names, devices)


def may_administer_network() -> bool:
    """Whether this process has CAP_NET_ADMIN."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_NET_ADMIN & 1)
    return False
