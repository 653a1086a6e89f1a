"""One node from `ntm up` to `ntm down`: its machine, its packet loops and what they need around.

`Session` opens the packet loops, watches the uplinks and runs the node's machine; `SystemModel`
then hooks the machine into this computer. Whatever fails to open closes what was open before.
"""

import asyncio
from collections.abc import Callable, Container, Iterable
from contextlib import AsyncExitStack
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec
import structlog

from ntmobile._core import Engine
from ntmobile.agent.account_server import AccountServer
from ntmobile.agent.bell import Bell
from ntmobile.agent.detours import Detours, only_ipv6, with_ipv4
from ntmobile.agent.engine import PacketLoops
from ntmobile.agent.examination import Examination
from ntmobile.agent.handovers import Handovers, handover_view
from ntmobile.agent.history import History
from ntmobile.agent.keepalive import Tuner, first_choice
from ntmobile.agent.links import Links
from ntmobile.agent.names import NameQueries
from ntmobile.agent.port_mapper import PortMapper
from ntmobile.agent.processor import has_aes
from ntmobile.agent.records import (
    Choices,
    KeepAlive,
    SavedAccount,
    SavedPeer,
    VirtualAddresses,
)
from ntmobile.agent.sleep import Sleep
from ntmobile.agent.state import State
from ntmobile.agent.surveyor import Surveyor
from ntmobile.agent.webs import Webs
from ntmobile.keys.node_certificates import trusted_authorities
from ntmobile.proto.io import (
    Call,
    Entropy,
    Failed,
    StreamCommand,
    StreamData,
    StreamEnd,
    StreamOpen,
    random_bytes,
)
from ntmobile.proto.journal import Step, paper_name
from ntmobile.proto.node.credentials import Certificates
from ntmobile.proto.node.events import (
    AuthoritiesPinned,
    Event,
    HandoverDone,
    LocalAddress,
    LoggedIn,
    LoginFailed,
    NameRefused,
    NameResolved,
    NatWanted,
    NewestPortWanted,
    PeerPinned,
    PeerRefused,
    Pong,
    ReachedBy,
    Registered,
    RegistrationLost,
    RoundTripsWanted,
    ServersTold,
    SetPath,
    TunnelClosed,
    TunnelEstablished,
)
from ntmobile.proto.node.finding import Finding
from ntmobile.proto.node.node import Node
from ntmobile.proto.node.round_trips import Measured
from ntmobile.proto.node.settings import NodeSettings, Pin
from ntmobile.proto.node.trust import TrustSettings
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.connector import Connector
from ntmobile.runtime.driver import Driver, Outlet
from ntmobile.runtime.https import Place, Way
from ntmobile.runtime.nat64 import find_prefix
from ntmobile.runtime.priority import as_others
from ntmobile.runtime.protection import Protect
from ntmobile.runtime.resolver import Resolver
from ntmobile.runtime.tasks import Tasks
from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint, Host
from ntmobile.wire.login import AuthorityRequest, LoginAnswer, LoginRequest, NonceRequest
from ntmobile.wire.registration import (
    KeepAliveChoice,
    Reason,
    RegistrationResponse,
    RelayPlace,
)

INSTANCE_SIZE = 16
SHRINK_S = 30.0
ANSWER = paper_name(RegistrationResponse)
MOST_PONGS = 256
MOST_REFUSALS = 16
_LOG = structlog.get_logger(__name__)


class Model(Protocol):
    """What an implementation model says before the node starts."""

    @property
    def protect(self) -> Protect:
        """Given every socket of the node, so that the DNS hook and the tunnel let it pass."""
        ...

    @property
    def avoid(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Real networks here that virtual addresses must not hide."""
        ...

    async def look_around(
        self, towards: IPv4Address | None
    ) -> tuple[IPv4Network | IPv6Network, ...]:
        """The same now, and what the way to a server shows."""
        ...


class Uplinks(Protocol):
    """What tells the addresses of this machine's uplinks from its start to its end."""

    @property
    def addresses(self) -> tuple[LocalAddress, ...]:
        """What was last reported."""
        ...

    async def __aenter__(self) -> Self:
        """Reports once, and from now on at every change; raises OSError."""
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Reports no more."""
        ...


Watch = Callable[[Callable[[tuple[LocalAddress, ...]], None], int], Uplinks]
"""Given where to report, and the node's UDP port."""


class Session:
    """A running node; enter it, then `login`."""

    def __init__(
        self,
        state: State,
        account: SavedAccount,
        resolver: Resolver,
        entropy: Entropy,
        model: Model,
        watch: Watch = Links,
    ) -> None:
        """Entering it opens what the node needs; watch tells where this machine is."""
        self.account = account
        self.relay_only = state.choices.relay_only
        self.accept_dns = state.choices.accept_dns
        self.map_port = state.choices.map_port
        self.changed = Bell()
        self.history = History()
        self.handovers: Handovers
        """Those of earlier runs too."""
        self.login_failure: LoginFailed | None = None
        """Of the newest login, until one succeeds."""
        self.logged_in = False
        """Since the newest login began."""
        self.registered: Registered | None = None
        """The newest registration that changed something."""
        self.answers = 0
        """Registration Responses that came so far."""
        self.coordinator_endpoints = state.servers.coordinator_endpoints
        self.clock = Clock()
        self.relays: tuple[RelayPlace, ...] | None = None
        """The domain's RS as the DC told them last; None while it has not."""
        self.pongs: dict[tuple[str, int], Pong] = {}
        self._state = state
        self._pings = 0
        self._looking: asyncio.Task[None] | None = None
        self.on_readdressed: Callable[[tuple[Host, Host], tuple[Host, Host]], None] = (
            lambda before, now: None
        )
        """Called when a peer gets other virtual addresses here."""
        self._locals: dict[str, Endpoint | None] = {}
        self._entropy = entropy
        self._model = model
        self._watch = watch
        self._resolver = resolver
        self._tasks = Tasks()
        self._sleep = Sleep(self.clock.slept_ns)
        self._stack = AsyncExitStack()
        self.refusals: dict[str, Reason] = {}
        """Peers that were not believed lately, and why; until they are."""
        self.detours = Detours()
        way = Way(model.protect, lambda: state.choices.http_proxy, self.detours.translate)
        self._way = way
        self.account_server = AccountServer(account, resolver, _LastPlace(state, account), way=way)
        self.on_registered: Callable[[Registered], None] = lambda _: None
        """Called at every registration that changed something."""
        self.taken: Container[Host] = ()
        """The virtual addresses that other identities of this machine have, now."""
        self.on_addresses: Callable[[], None] = lambda: None
        """Called when this node, or a peer of it, got virtual addresses here."""
        self._real = model.avoid

    async def __aenter__(self) -> Self:
        """Opens everything; raises OSError."""
        async with AsyncExitStack() as stack:
            with as_others():
                self.engine = Engine()
            stack.callback(self.engine.close)
            for descriptor in self.engine.sockets():
                self._model.protect(descriptor)
            await stack.enter_async_context(self._tasks)
            self.handovers = Handovers(self._state.directory, self._tasks.start)
            stack.push_async_callback(self.handovers.close)
            self.loops = PacketLoops(
                self.engine, self.clock, self.detours, protect=self._model.protect
            )
            self.node = self._make_node()
            self.webs = Webs(
                self.engine.port, self._way, self.detours, self._handle_web, self._tasks
            )
            stack.callback(self.webs.close)
            self.connector = self._make_connector()
            stack.callback(self.connector.close)
            self.driver = self._make_driver()
            stack.callback(self.driver.close)
            self.tuner = Tuner(
                self.account.keepalive, self.examination(), self._choose, self._tasks
            )
            self.surveyor = Surveyor(
                self.examination(),
                lambda: frozenset(each.endpoint.host for each in self.links.addresses),
                self._take_finding,
                self._take_newest_port,
                self._take_round_trips,
                self._tasks,
            )
            self.names = NameQueries(
                lambda fqdn: self.driver.do(lambda now: self.node.resolve(fqdn, now))
            )
            loop = asyncio.get_running_loop()
            loop.add_reader(self.engine.fileno(), self._receive)
            stack.callback(loop.remove_reader, self.engine.fileno())
            self.driver.start()
            self._tasks.repeat(self._shrink, SHRINK_S)
            self.port_mapper = PortMapper(
                self.engine.port,
                self.clock,
                self._entropy,
                self._tasks,
                protect=self._model.protect,
                tell=self._take_opened,
            )
            stack.push_async_callback(self.port_mapper.close)
            self.links: Uplinks = await stack.enter_async_context(
                self._watch(self._handle_links, self.engine.port)
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Tells the peers and the DC, then closes everything."""
        try:
            self.driver.do(self.node.leave)
        finally:
            await self._stack.aclose()

    def login(self, password: str | None, authority: str | None) -> None:
        """Begins a login; its outcome is LoggedIn or a login_failure."""
        self.login_failure = None
        self.logged_in = False
        self.driver.do(lambda now: self.node.login(now, password=password, authority=authority))

    async def ask_relays(self, patience_s: float) -> tuple[RelayPlace, ...]:
        """Ask the DC for the domain's RS; what was known before when it does not answer."""
        before, self.relays = self.relays, None
        try:
            if self.driver.do(self.node.ask_servers):
                async with asyncio.timeout(patience_s):
                    await self.changed.until(lambda: self.relays is not None)
        except TimeoutError:
            pass
        self.relays = self.relays or before
        return self.relays or ()

    def examination(self) -> Examination:
        """Return what examines the network from sockets like the node's."""
        return Examination(self.clock, self._entropy, protect=self._model.protect)

    async def set_map_port(self, wanted: bool) -> None:
        """Ask the router for the port from now, or give it back."""
        if wanted == self.map_port:
            return
        self.map_port = wanted
        if wanted:
            self._follow_router(self.links.addresses)
        else:
            await self.port_mapper.close()

    async def reach(self, account: SavedAccount) -> None:
        """Be reached as this account says from now; all else of it is as before."""
        self.account = msgspec.structs.replace(
            self.account, keepalive=account.keepalive, device_token=account.device_token
        )
        self._state.keep_account(self.account)
        choice, token = first_choice(account.keepalive), account.device_token
        self.driver.do(lambda now: self.node.choose(choice, token, now))
        self.tuner.set_choice(account.keepalive, self.coordinators_here())
        if choice is KeepAliveChoice.PUSH:
            await self.port_mapper.close()
        else:
            self._follow_router(self.links.addresses)

    def _follow_router(self, addresses: tuple[LocalAddress, ...]) -> None:
        # A node that sleeps keeps nothing alive, at its router neither.
        sleeps = self.account.keepalive is KeepAlive.PUSH
        if self.map_port and not self.relay_only and not sleeps:
            self.port_mapper.follow(addresses)

    def next_ping(self) -> int:
        """Return a sequence number that no other `ntm ping` uses."""
        self._pings += 1
        return self._pings

    def _make_node(self) -> Node:
        account, state = self.account, self._state
        settings = NodeSettings(
            user=account.user,
            name=account.name,
            domain=account.domain,
            instance=random_bytes(self._entropy, INSTANCE_SIZE),
            started=state.next_start(int(self.clock.wall())),
            keepalive=first_choice(account.keepalive),
            device_token=account.device_token,
            relay_only=self.relay_only,
            optimise=state.choices.seek_direct,
            mapping_age_s=state.choices.mapping_age_s,
            aes=has_aes(),
            avoid=self._real,
            taken=self.taken,
        )
        pins = [
            Pin(fqdn, peer.device, peer.ipv4, peer.ipv6, peer.certified)
            for fqdn, peer in state.peers.items()
        ]
        kept, choices = state.certificates, state.choices
        given = trusted_authorities(choices.trusted_ca)
        return Node(
            settings,
            state.identity,
            self.loops,
            self._entropy,
            pins,
            certificates=Certificates(kept.issued, kept.given),
            trust=TrustSettings(kept.authorities, given, choices.authentication),
            wall=self.clock.wall_of,
        )

    def set_trust(self, choices: Choices) -> None:
        """Believe and ask what the person chose, from now."""
        given = trusted_authorities(choices.trusted_ca)
        self.node.set_trust(given, choices.authentication)

    def forget(self, name: str) -> None:
        """Forget what is pinned of a peer or a domain; its tunnel closes."""
        self.driver.do(lambda now: self.node.forget(name, now))

    def _make_driver(self) -> Driver:
        node = self.node
        outlets: tuple[Outlet[Any], ...] = (
            Outlet(node.poll_command, self.loops.carry_out),
            Outlet(node.poll_web, self.webs.carry_out),
            Outlet(node.poll_transmit, self.loops.transmit),
            Outlet(node.poll_stream, self._command_stream),
            Outlet(node.poll_event, self._handle_event),
            Outlet(node.poll_request, self._start),
            Outlet(node.keyring.poll_record, self.history.add_key_record),
        )
        return Driver(node, outlets, clock=self.clock, tasks=self._tasks)

    def _make_connector(self) -> Connector:
        node = self.node
        return Connector(
            lambda stream, there: self.driver.do(
                lambda now: node.handle_stream_opened(stream, there, now)
            ),
            lambda stream, data: self.driver.do(lambda now: node.handle_stream(stream, data, now)),
            lambda stream: self.driver.do(lambda now: node.handle_stream_closed(stream, now)),
            self._tasks.start,
            way=self._way,
        )

    def _command_stream(self, command: StreamCommand) -> None:
        match command:
            case StreamOpen(stream, destination, name):
                self.connector.open(stream, destination, name)
            case StreamData(stream, data):
                self.connector.write(stream, data)
            case StreamEnd(stream):
                self.connector.end(stream)

    def _choose(self, choice: KeepAliveChoice, interval_s: int) -> None:
        self.driver.do(lambda now: self.node.reach.choose(choice, interval_s, now))
        self.driver.do(self.node.wake)

    def _take_finding(self, finding: Finding | None) -> None:
        self.driver.do(lambda now: self.node.handle_finding(finding, now))

    def _take_opened(self, external: Endpoint | None) -> None:
        """The router lets others in there, or no more: the DC is told at once."""
        if self.node.whereabouts.show_opened(external) and self.logged_in:
            self.driver.do(self.node.wake)

    def _take_newest_port(self, port: int) -> None:
        self.driver.do(lambda now: self.node.handle_newest_port(port, now))

    def _take_round_trips(self, number: int, measured: Measured) -> None:
        self.driver.do(lambda now: self.node.handle_round_trips(number, measured, now))

    def coordinators_here(self) -> tuple[Endpoint, ...]:
        """Where the DC answers this node, one address a family."""
        families = {mapped.version for mapped in self.node.view().mapped}
        known = {each.version: each for each in reversed(self.coordinator_endpoints)}
        return tuple(each for family, each in sorted(known.items()) if family in families)

    def _network_here(self) -> frozenset[tuple[int | None, Host]]:
        """What tells networks apart: own addresses by interface, and those that the DC sees."""
        own = {(each.interface, each.endpoint.host) for each in self.links.addresses}
        return frozenset(own | {(None, each.host) for each in self.node.view().mapped})

    def _start(self, call: Call) -> None:
        self.driver.perform(self._perform, self.node.handle_reply)(call)

    async def _perform(self, call: Call) -> LoginAnswer | Failed:
        assert isinstance(call.message, NonceRequest | LoginRequest | AuthorityRequest)
        return await self.account_server.ask(call.message)

    def _receive(self) -> None:
        self.driver.do(lambda now: self.loops.deliver(self.node, now))

    async def _shrink(self) -> None:
        self.loops.shrink_silent()
        self._sleep.is_recent(self.clock.now())

    def _handle_links(self, addresses: tuple[LocalAddress, ...]) -> None:
        self._follow_router(addresses)
        if not only_ipv6(addresses):
            self.detours.prefix = None
        self._take_links(addresses)
        _LOG.info("uplinks changed", addresses=len(addresses))
        self._look_around()

    def _take_links(self, addresses: tuple[LocalAddress, ...]) -> None:
        if self.detours.prefix is not None:
            addresses = with_ipv4(addresses)
        self.driver.do(lambda now: self.node.handle_links(addresses, now))

    def _handle_web(self, remote: Endpoint, stands: bool) -> None:
        self.driver.do(lambda now: self.node.handle_web(remote, now, stands=stands))
        self.changed.ring()

    def _look_around(self) -> None:
        """Find out in the background what real networks are here."""
        if self._looking is not None:
            self._looking.cancel()
        self._looking = self._tasks.start(self._avoid(), "real networks")

    async def _avoid(self) -> None:
        if only_ipv6(self.links.addresses):
            self.detours.prefix = await find_prefix(
                self._resolver.servers(), protect=self._model.protect
            )
            self._take_links(self.links.addresses)
        known = (*self.coordinator_endpoints, *self._state.servers.account_endpoints)
        hosts = (self.detours.translate(each).host for each in known)
        towards = next((host for host in hosts if isinstance(host, IPv4Address)), None)
        self._real = await self._model.look_around(towards)
        self.give_way()

    def give_way(self) -> None:
        """Have virtual addresses step aside for real networks, and for other identities here."""
        self.driver.do(lambda now: self.node.avoid(self._real, now))

    def _handle_event(self, event: Event) -> None:
        match event:
            case LoggedIn():
                self._keep_login(event)
                self._look_around()
            case LoginFailed():
                self.login_failure = event
                _LOG.warning("login failed", code=event.code, again=event.retry_at is not None)
            case Registered():
                self._keep_registration(event)
                self.tuner.handle_network(self._network_here(), self.coordinators_here())
            case ReachedBy(keepalive, server, problem):
                _LOG.info("reached by", keepalive=keepalive, server=server, problem=problem or "")
            case RegistrationLost(reason):
                _LOG.warning("registration lost", reason=str(reason))
            case NameResolved() | NameRefused():
                self.names.settle(event)
            case PeerPinned():
                self._keep_peer(event)
            case AuthoritiesPinned(domain, authorities):
                self._state.keep_authorities(domain, authorities)
                _LOG.info("CAs of a domain pinned", domain=domain, number=len(authorities))
            case PeerRefused(fqdn, reason):
                self._keep_refusal(fqdn, reason)
            case TunnelEstablished():
                self.refusals.pop(event.fqdn, None)
                self.history.add_tunnel(event, self.clock.now())
                self._locals.setdefault(event.fqdn, self.local(event.fqdn, event.remote))
                _LOG.info("tunnel established", relayed=event.relayed, ms=event.elapsed_ns // 10**6)
            case HandoverDone():
                self._keep_handover(event)
                _LOG.info("handover done", outage_ms=event.outage_ns // 10**6)
            case TunnelClosed(fqdn, reason):
                self._locals.pop(fqdn, None)
                _LOG.info("tunnel closed", reason=str(reason))
            case Pong(fqdn, sequence):
                self._keep_pong(fqdn, sequence, event)
            case ServersTold(relays):
                self.relays = relays
            case NatWanted() | NewestPortWanted() | RoundTripsWanted():
                self.surveyor.handle(event)
            case Step():
                self.answers += event.message == ANSWER and not event.sent
                self.history.add_step(event)
        self.changed.ring()

    def note_hooked(self, fqdn: str, *, answered: bool) -> None:
        """An application asked for a name, or is about to have its answer."""
        now = self.clock.now()
        self.history.add_hooked(self.account.fqdn, fqdn, now, answered=answered)

    def local(self, fqdn: str, remote: Endpoint) -> Endpoint | None:
        """Return the own address that a tunnel's capsules leave from, as far as it can be told."""
        local = local_of(self.loops.path(fqdn), remote, self.links.addresses)
        port = self.loops.own_port(fqdn)
        return local if local is None or port is None else Endpoint(local.host, port)

    def _keep_handover(self, event: HandoverDone) -> None:
        before, now = self._locals.get(event.fqdn), self.local(event.fqdn, event.new)
        self._locals[event.fqdn] = now
        slept = self._sleep.is_recent(event.at)
        resent = self.loops.resent(event.fqdn, Instant(event.at - event.outage_ns))
        self.handovers.add(handover_view(event, before, now, self.clock, resent, slept=slept))

    def _keep_refusal(self, fqdn: str, reason: Reason) -> None:
        _LOG.warning("peer refused", reason=str(reason))
        self.refusals.pop(fqdn, None)
        self.refusals[fqdn] = reason
        if len(self.refusals) > MOST_REFUSALS:
            del self.refusals[next(iter(self.refusals))]

    def _keep_login(self, event: LoggedIn) -> None:
        self.login_failure = None
        if event.certificate:
            self._state.keep_issued(event.certificate)
        self.logged_in = True
        if not self.account.enrolled:
            self.account = msgspec.structs.replace(self.account, enrolled=True)
        self._state.keep_account(self.account)
        self.coordinator_endpoints = event.coordinator_endpoints
        self._state.keep_servers(
            msgspec.structs.replace(
                self._state.servers,
                coordinator=event.coordinator,
                coordinator_endpoints=event.coordinator_endpoints,
                domain_key=event.domain_key,
            )
        )

    def _keep_registration(self, event: Registered) -> None:
        self.registered = event
        # Another mapped address: the NAT may have restarted, and lost what it was asked for.
        self.port_mapper.renew()
        self._state.keep_addresses(VirtualAddresses(event.virtual_ipv4, event.virtual_ipv6))
        self.on_addresses()
        self.on_registered(event)

    def _keep_pong(self, fqdn: str, sequence: int, pong: Pong) -> None:
        self.pongs[fqdn, sequence] = pong
        if len(self.pongs) > MOST_PONGS:
            # Those came after their `ntm ping` had given up.
            del self.pongs[next(iter(self.pongs))]

    def _keep_peer(self, event: PeerPinned) -> None:
        seen_s = int(self.clock.wall())
        before = self._state.peers.get(event.fqdn)
        self._state.keep_peer(
            event.fqdn,
            SavedPeer(event.device, event.ipv4, event.ipv6, seen_s, event.certified),
        )
        self.on_addresses()
        if before is not None and (before.ipv4, before.ipv6) != (event.ipv4, event.ipv6):
            self.on_readdressed((before.ipv4, before.ipv6), (event.ipv4, event.ipv6))


class _LastPlace:
    """The last good account server, in the state directory."""

    def __init__(self, state: State, account: SavedAccount) -> None:
        self._state = state
        self._fqdn = account.fqdn

    def recall(self) -> Place | None:
        last = self._state.servers
        if last.account_server is None or not last.account_endpoints:
            return None
        return Place(last.account_server, last.account_endpoints)

    def keep(self, place: Place) -> None:
        self._state.keep_servers(
            msgspec.structs.replace(
                self._state.servers,
                account_server=place.name,
                account_endpoints=place.endpoints,
            )
        )

    def domain_key(self) -> bytes | None:
        account = self._state.account
        known = account is not None and account.enrolled and account.fqdn == self._fqdn
        return self._state.servers.domain_key if known else None


def local_of(
    path: SetPath | None, remote: Endpoint, addresses: Iterable[LocalAddress]
) -> Endpoint | None:
    """Return which of the addresses a path uses: one of its uplink, the preferred one first."""
    same = [each for each in addresses if each.endpoint.version == remote.version]
    if path is not None and path.interface:
        same = [each for each in same if each.interface == path.interface]
    best = sorted(same, key=lambda each: not each.preferred)
    return best[0].endpoint if best else None
