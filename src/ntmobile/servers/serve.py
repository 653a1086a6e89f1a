"""All roles of one process of `ntm serve`: opened, checked, reloaded and closed together.

What roles need (store, own domain, judge of foreign domains, HTTPS) is opened first, then they.
The same directory, or copies of it on several machines, may be served by several processes, each
with roles of its own. AS and DC share the store; an RS alone opens none.
Ours: docs/protocol.md section 10.
"""

import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from types import MappingProxyType

import dns.rrset
import msgspec
import structlog

from ntmobile.errors import NTMobileError, Remedy
from ntmobile.keys.certificates import needs_renewal
from ntmobile.proto.coordinator.policy import Policy
from ntmobile.proto.io import Entropy, random_bytes
from ntmobile.proto.testimony import Witness
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.dnssec import Validator
from ntmobile.runtime.domains import Domains, Refused
from ntmobile.runtime.listener import Listener
from ntmobile.runtime.resolver import Resolver, SystemServers
from ntmobile.runtime.signed import Verifier
from ntmobile.runtime.tasks import Tasks
from ntmobile.runtime.websocket_server import Doors
from ntmobile.servers.account import AccountServer
from ntmobile.servers.admin import current_policy
from ntmobile.servers.admin_socket import AdminSocket
from ntmobile.servers.authority import NodeAuthority
from ntmobile.servers.binding import explaining, is_local, local_endpoints, loopback, reachable
from ntmobile.servers.book import NoBook, StoreBook
from ntmobile.servers.calls import Calls
from ntmobile.servers.config import Role, ServerConfig
from ntmobile.servers.coordinator import CoordinatorServer
from ntmobile.servers.counting import count_all
from ntmobile.servers.dns import Responder
from ntmobile.servers.dns_server import DnsServer
from ntmobile.servers.dns_zone import Zone, read_extra
from ntmobile.servers.files import ServerDirectory
from ntmobile.servers.home import STATEFUL, at_home, partner_elsewhere
from ntmobile.servers.http import Front
from ntmobile.servers.keeper import Keeper
from ntmobile.servers.logins import Logins
from ntmobile.servers.lone_directory import command_of, site_of
from ntmobile.servers.metrics import Metrics
from ntmobile.servers.notification import NotificationServer
from ntmobile.servers.own import OwnDomain
from ntmobile.servers.push import Push
from ntmobile.servers.relay import RelayServer
from ntmobile.servers.relay_memory import RelayMemory
from ntmobile.servers.self_check import check_dns, check_https, check_stun
from ntmobile.servers.steps import seen
from ntmobile.servers.taker import Taker
from ntmobile.store import Counter, Store, StoreUnavailable
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.login import Neighbour
from ntmobile.wire.web import DC_PATH, RS_PATH

log = structlog.get_logger()

DNS_PORT = 53
GENERATION_S = 5.0
"""Changes come by the admin socket at once; this catches those made on another machine."""
UPKEEP_S = 3600.0
NEIGHBOURS_S = 600.0
MOST_NEIGHBOURS = 64


class Servers:
    """One process's roles. `start`, then any `reload`, then `close`."""

    def __init__(
        self,
        directory: ServerDirectory,
        roles: Sequence[Role] | None,
        *,
        entropy: Entropy,
        clock: Clock,
        named: Mapping[Role, str] = MappingProxyType({}),
        resolvers: Callable[[], Sequence[Endpoint]] | None = None,
    ) -> None:
        """Roles None are those at home here, named has the labels of RS and NS where they are
        several.

        Resolvers None are those of server.toml. Raises Remedy when the directory or its settings
        are wrong.
        """
        self.directory = directory
        self._entropy = entropy
        self._clock = clock
        settings = directory.config()
        if directory.is_alone:
            alone = site_of(directory, settings)
            roles, named = _only(alone.role, roles), {alone.role: alone.label}
        self.sites = {site.role: site for site in at_home(settings, roles, named, is_local)}
        """The servers of this process."""
        self._renew(settings)
        self.own = OwnDomain.read(directory, settings)
        self._resolvers = resolvers or _resolvers(settings)
        self._takers: dict[Role, Taker] = {}
        self._named_takers: dict[str, Taker] = {}
        self._store: Store | None = None
        self._book: StoreBook | None = None
        self._stack = AsyncExitStack()
        self._generation = 0
        self._policy: Policy | None = None
        self.https: tuple[Endpoint, ...] = ()
        self.metrics = Metrics()
        self.push: Push | None = None
        self.coordinator: CoordinatorServer | None = None
        self.account: AccountServer | None = None
        self.relay: RelayServer | None = None
        self.notifier: NotificationServer | None = None
        self.dns: DnsServer | None = None

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles of this process."""
        return tuple(self.sites)

    async def start(self) -> None:
        """Open everything; raises Remedy or StoreUnavailable, with nothing left open."""
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise

    async def check(self) -> None:
        """Ask every role for an answer; raises Remedy when one gives none."""
        for endpoint in self.https:
            await check_https(self.own, self.own.name, reachable(endpoint))
        for site in self.sites.values():
            if site.udp is not None:
                hosts = (each.host for each in site.signalling())
                for endpoint in local_endpoints(hosts, site.udp):
                    await check_stun(reachable(endpoint), self._entropy)
        if self.dns is not None:
            for endpoint in self._dns_endpoints():
                await check_dns(self.own.name, reachable(endpoint))

    async def reload(self) -> None:
        """Read settings, policy, certificate and store again.

        Raises NTMobileError when something is wrong; all of the old stays then.
        """
        settings = _unmoved(self._settings, self.directory.config())
        policy_file = self.directory.policy() if self.account is not None else None
        policy = await self._current_policy()
        own = OwnDomain.read(self.directory, settings)
        zone = self._zone(own) if self.dns is not None else None
        pushers = self.push.prepare(self.directory, settings) if self.push is not None else None
        try:
            self._listener.reload()
        except (OSError, ssl.SSLError) as error:
            files = " and ".join(map(str, self.directory.tls_files(settings)))
            raise Remedy(
                f"the certificate cannot be used: {error}", remedy=f"look at {files}"
            ) from None
        self.own = own
        if self.push is not None and pushers is not None:
            await self.push.exchange(pushers)
        if self._book is not None:
            self._book.mode = settings.federation.mode
        self._domains.forget()
        if self.dns is not None and zone is not None:
            self.dns.responder.zone = zone
        if self.account is not None and policy_file is not None:
            self.account.logins.set_policy(policy_file)
            self.account.set_authority(self._authority(settings))
        if self.coordinator is not None and policy is not None:
            self.coordinator.set_settings(settings)
            self.coordinator.set_policy(policy)
            await self._drop_registrations(policy)
        self._policy = policy
        self._tasks.start(self._meet_neighbours(), "neighbours")
        log.info("reloaded", federation=settings.federation.mode)

    def witness(self) -> bytes:
        """Return what the roles of this process lately sent and got, as JSON of a Witness."""
        servers = (self.account, self.coordinator, self.notifier, self.relay)
        steps = seen((server.steps for server in servers if server is not None), self._clock)
        return msgspec.json.encode(Witness(steps, domain=self.own.name))

    async def close(self) -> None:
        """Close everything, the last opened first."""
        await self._stack.aclose()

    @property
    def _settings(self) -> ServerConfig:
        return self.own.settings

    async def _start(self) -> None:
        if STATEFUL & set(self.roles):
            await self._open_store()
        self._tasks = await self._stack.enter_async_context(Tasks())
        self._make_domains()
        if Role.RS in self.roles:
            self._start_relay()
        if Role.NS in self.roles:
            self._start_notifier()
        if self._store is not None:
            await self._start_stateful(self._store)
        await self._listen()
        await self._start_admin()
        self._tasks.repeat(self._keep_up, UPKEEP_S)

    async def _open_store(self) -> None:
        url = self.directory.store_url(self._settings)
        partner = partner_elsewhere(self._settings, self.sites.values(), is_local)
        if partner is not None and url.startswith("sqlite"):
            needs = "one database of AS and DC: PostgreSQL, in [store] url"
            log.warning("AS and DC do not share a database", elsewhere=partner.label, needs=needs)
        self._store = await Store.open(url)
        self._stack.push_async_callback(self._store.close)
        self._generation = await self._store.settings.get(Counter.GENERATION)
        self._policy = await self._current_policy()
        self._book = StoreBook(self._store, self._clock, self._settings.federation.mode)

    async def _start_stateful(self, store: Store) -> None:
        signer = self.own.signer(self._entropy)
        own, named = (lambda: self.own), self._named_takers
        self._calls = Calls(own, self._domains, signer, self._clock, named)
        if Role.DC in self.roles:
            await self._start_coordinator(store)
            await self._start_dns()
        if Role.AS in self.roles:
            self._start_account(store)
            self._tasks.start(self._meet_neighbours(), "neighbours")
            self._tasks.repeat(self._meet_neighbours, NEIGHBOURS_S)
        self._tasks.repeat(self._watch_generation, GENERATION_S)

    def _make_domains(self) -> None:
        resolver = Resolver(self._resolvers, self._clock)
        book = self._book or NoBook()
        # RS and NS alone deal with no foreign domain, and its directory need not have the file.
        anchors = {} if self._book is None else self.directory.trust_anchors(self._settings)
        validator = Validator(resolver, anchors, self._clock)
        self._domains = Domains(self.own.domain(), resolver, validator, book, self._clock)

    def _serve(self, role: Role, taker: Taker) -> None:
        """Requests to that server of ours go to it."""
        self._takers[role] = taker
        self._named_takers[self._settings.host_of(self.sites[role])] = taker

    async def _listen(self) -> None:
        self.front = Front(
            takers=self._takers,
            verifier=Verifier(self.own.name, self._domains.key_of),
            statement=lambda: self.own.statement(int(self._clock.wall())),
            certificates=lambda: (self.own.certificate,),
            clock=self._clock,
        )
        certificate, key = self.directory.tls_files(self._settings)
        self.doors = self._open_doors()
        self._listener = Listener(self.front.application, certificate, key, self.doors)
        self._stack.push_async_callback(self._listener.close)
        for port in dict.fromkeys(site.https for site in self.sites.values()):
            sites = [site for site in self.sites.values() if site.https == port]
            addresses = [address for site in sites for address in site.addresses]
            with explaining(f"TCP port {port}", f"{sites[0].heading} https"):
                self.https += await self._listener.listen(local_endpoints(addresses, port))

    def _open_doors(self) -> Doors:
        """Datagrams that come in WebSockets go to the UDP ports of the roles here."""
        doors = Doors()
        if (site := self.sites.get(Role.DC)) is not None and site.udp is not None:
            doors.lead(DC_PATH, loopback(site.addresses, site.udp))
        if (site := self.sites.get(Role.RS)) is not None and site.udp is not None:
            hosts = (each.host for each in site.signalling())
            doors.lead(RS_PATH, loopback(hosts, site.udp))
        return doors

    async def _start_coordinator(self, store: Store) -> None:
        assert self._policy is not None
        keeper = Keeper(store, self._clock, self._tasks)
        self._stack.push_async_callback(keeper.close)
        self.keeper = keeper
        stored = [node for node in await keeper.restore() if node.fqdn not in self._policy.revoked]
        self.push = Push(self.directory, self._settings, self._clock, self._entropy)
        self._stack.push_async_callback(self.push.close)
        with explaining(f"UDP port {self._settings.dc.udp}", "[dc] udp"):
            self.coordinator = CoordinatorServer(
                self._settings,
                self.own.public,
                self._policy,
                stored,
                self._calls,
                self.push,
                keeper,
                entropy=self._entropy,
                clock=self._clock,
                tasks=self._tasks,
            )
        self._stack.callback(self.coordinator.close)
        self._serve(Role.DC, self.coordinator.take)
        log.info("DC started", domain=self.own.name, restored=len(stored))

    async def _start_dns(self) -> None:
        responder = Responder(self._zone(self.own), random_bytes(self._entropy, 32))
        self.dns = DnsServer(responder, self._clock, self._tasks)
        self._stack.callback(self.dns.close)
        with explaining(f"the DNS port {self._settings.dns.port}", "[dns] port"):
            await self.dns.listen(self._dns_endpoints())

    def _dns_endpoints(self) -> tuple[Endpoint, ...]:
        addresses = self._settings.site(Role.DC).addresses
        return local_endpoints(addresses, self._settings.dns.port)

    def _start_relay(self) -> None:
        site = self.sites[Role.RS]
        with explaining(f"UDP port {site.udp}", f"{site.heading} udp"):
            self.relay = RelayServer(
                self.own.name,
                site,
                RelayMemory(self.directory.paths_file(site.label), self._clock),
                entropy=self._entropy,
                clock=self._clock,
                tasks=self._tasks,
            )
        self._stack.callback(self.relay.close)
        self._serve(Role.RS, self.relay.take)

    def _start_notifier(self) -> None:
        site = self.sites[Role.NS]
        with explaining(f"port {site.udp}, TCP and UDP", f"{site.heading} port"):
            self.notifier = NotificationServer(
                self.own.name,
                site,
                entropy=self._entropy,
                clock=self._clock,
                tasks=self._tasks,
                alone=self.roles == (Role.NS,),
            )
        self._stack.callback(self.notifier.close)
        self._serve(Role.NS, self.notifier.take)

    def _start_account(self, store: Store) -> None:
        authority = self._authority(self._settings)
        logins = Logins(self.own.name, store, self.directory.policy(), self._clock, authority)
        self.account = AccountServer(
            self.own,
            logins,
            self._calls,
            entropy=self._entropy,
            clock=self._clock,
            tasks=self._tasks,
        )
        self._stack.callback(self.account.close)
        self._serve(Role.AS, self.account.take)

    async def _meet_neighbours(self) -> None:
        """Learn the CAs of the domains that are listed, before a node needs them."""
        if self.account is None or self._policy is None:
            return
        found = []
        for name in sorted(self._policy.listed)[:MOST_NEIGHBOURS]:
            with suppress(Refused, StoreUnavailable):
                domain = await self._domains.judge(name)
                if domain.authorities:
                    found.append(Neighbour(name, domain.authorities))
        self.account.set_neighbours(tuple(found))

    def _authority(self, settings: ServerConfig) -> NodeAuthority:
        return NodeAuthority.read(self.directory, settings, self._entropy, self._clock)

    async def _start_admin(self) -> None:
        admin = AdminSocket(self.directory.path, map(str, self.roles), self.reload, self.witness)
        try:
            await admin.start()
        except OSError as error:
            log.error("ntm admin cannot reach this process at once", why=error.strerror)
        else:
            self._stack.push_async_callback(admin.stop)
        self._stack.callback(self.metrics.close)
        count_all(self, self.metrics)
        where = self._settings.server.metrics
        if where is not None:
            with explaining(f"the metrics port {where}", "[server] metrics"):
                self.metrics.serve(where)

    def _zone(self, own: OwnDomain) -> Zone:
        extra: tuple[dns.rrset.RRset, ...] = ()
        if own.settings.server.whole_zone and self.directory.zone_file.exists():
            extra = read_extra(self.directory.zone_file.read_text(), own.name)
        signer = self.directory.zone_signer(own.name)
        if signer is None:
            log.warning("the zone is not signed: there is no zone.key", domain=own.name)
        return Zone(own.services(int(self._clock.wall())), extra, signer)

    async def _current_policy(self) -> Policy | None:
        return None if self._store is None else await current_policy(self.directory, self._store)

    async def _drop_registrations(self, policy: Policy) -> None:
        before = frozenset() if self._policy is None else self._policy.revoked
        assert self._store is not None
        with suppress(StoreUnavailable):
            for fqdn in policy.revoked - before:
                await self._store.registrations.remove(fqdn)

    async def _watch_generation(self) -> None:
        assert self._store is not None
        with suppress(StoreUnavailable):
            generation = await self._store.settings.get(Counter.GENERATION)
            if generation != self._generation:
                self._generation = generation
                await self._reload_or_tell()

    async def _keep_up(self) -> None:
        if self._store is not None:
            with suppress(StoreUnavailable):
                await self._store.sweep(self._clock.wall())
        if self._renew(self._settings):
            await self._reload_or_tell()

    async def _reload_or_tell(self) -> None:
        try:
            await self.reload()
        except NTMobileError as error:
            log.error("not reloaded; the old settings stay", why=str(error))

    def _warn_of_expiry(self, settings: ServerConfig) -> None:
        """An RS or NS alone cannot renew its certificate."""
        if needs_renewal(self.directory.tls_certificate(settings), (), int(self._clock.wall())):
            role = next(iter(self.sites))
            remedy = f"{command_of(role)}, where the domain's directory is, makes this one anew"
            log.warning(f"the certificate of this {role.name} is due", next=remedy)

    def _renew(self, settings: ServerConfig) -> bool:
        if self.directory.is_alone:
            self._warn_of_expiry(settings)
            return False
        serial = self._entropy.getrandbits(158) | 1
        try:
            now_s = int(self._clock.wall())
            here = map(settings.host_of, self.sites.values())
            names = tuple(dict.fromkeys((*settings.names, *here)))
            return self.directory.renew(settings, names, serial=serial, now_s=now_s)
        except OSError as error:
            log.error("the certificate is due and cannot be written", why=error.strerror)
            return False


def _only(role: Role, roles: Sequence[Role] | None) -> tuple[Role, ...]:
    if roles is not None and tuple(roles) != (role,):
        raise Remedy(
            f"this directory is of an {role.name} alone: it has neither the domain's key nor its "
            "database",
            remedy="run the other servers from the directory that ntm server init made",
        )
    return (role,)


def _resolvers(settings: ServerConfig) -> Callable[[], Sequence[Endpoint]]:
    address = settings.server.resolver
    return SystemServers() if address is None else lambda: (Endpoint(address, DNS_PORT),)


def _unmoved(old: ServerConfig, new: ServerConfig) -> ServerConfig:
    """The new settings with what only a restart can change as it was, saying so."""
    fixed = ("server", "as_", "dc", "ns", "rs", "dns", "store")
    moved = [name for name in fixed if getattr(old, name) != getattr(new, name)]
    if not moved:
        return new
    sections = ", ".join(f"[{name.rstrip('_')}]" for name in moved)
    log.warning("changed settings wait for a restart of ntm serve", sections=sections)
    return replace(new, **{name: getattr(old, name) for name in moved})
