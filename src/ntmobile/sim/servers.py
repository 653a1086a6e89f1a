"""The servers of a domain as processes: what their drivers do, minus real sockets and SQL."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ntmobile.keys.certificates import Credential
from ntmobile.keys.node_certificates import LIFETIME, Anchor, authority_of, issue, judge_folded
from ntmobile.proto.account.account import Account, Vouching
from ntmobile.proto.coordinator.coordinator import Coordinator
from ntmobile.proto.coordinator.policy import Policy
from ntmobile.proto.coordinator.settings import Audit, CoordinatorSettings, NodeStored, StoredNode
from ntmobile.proto.io import (
    AuthoritiesFound,
    Call,
    Failed,
    FindAuthorities,
    FindCoordinator,
    ForeignCoordinator,
    LoginVerified,
    NotificationServer,
    RelayServer,
    Transmit,
    VerifyLogin,
    WakeUp,
)
from ntmobile.proto.notification.notification import NotificationRole
from ntmobile.proto.relay.memory import Record, standing
from ntmobile.proto.relay.relay import Bind, ForgetPath, RelayRole, Unbind
from ntmobile.sim.directory import DNS_PORT, HTTPS_PORT, Directory, Resolver, reachable
from ntmobile.sim.exchange import DNS, Answer, Service
from ntmobile.sim.host import SimHost
from ntmobile.sim.internet import EPOCH_S, Internet
from ntmobile.sim.packet import Transport
from ntmobile.sim.push import PushService
from ntmobile.sim.recorder import Recorder
from ntmobile.sim.server import Server
from ntmobile.sim.web import Signer
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Kind
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.hint import Hint
from ntmobile.wire.identity import Authentication
from ntmobile.wire.login import LoginRefusal, LoginRefused, LoginRequest
from ntmobile.wire.registration import Reason

KNOCK_PORT = 4399
"""Where an RS knocks from: no node's own port ever sends there."""
CAPSULE_INDEX = slice(4, 8)
"""Where a capsule carries the receiver index."""


@dataclass
class Accounts:
    """What an AS keeps in SQL: it survives a restart."""

    domain: str
    passwords: dict[str, str] = field(default_factory=dict)
    authorities: dict[str, str] = field(default_factory=dict)
    """Pre-authorised keys, and whose they are."""
    enrolled: dict[str, bytes] = field(default_factory=dict)
    """Device key of each FQDN."""
    revoked: set[str] = field(default_factory=set)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ca: Credential | None = None
    """The domain's own; without it nobody gets a certificate."""
    trusted: tuple[bytes, ...] = ()
    """Further CAs, in DER, whose certificates let nodes in."""
    certificate_s: int = round(LIFETIME.total_seconds())
    issued: int = 0
    """How many certificates there were: their serial numbers."""

    @property
    def cas(self) -> tuple[bytes, ...]:
        """The CAs of the domain's nodes, in DER."""
        own = () if self.ca is None else (authority_of(self.ca.certificate),)
        return (*own, *self.trusted)

    def verify(self, login: LoginRequest, wall_s: float) -> LoginVerified | LoginRefusal:
        """Judge the proofs of a login; the first good one enrols the device key."""
        fqdn = f"{login.name}.{login.user}.{self.domain}"
        if fqdn in self.revoked:
            return LoginRefusal(LoginRefused.REVOKED)
        device = login.identity.device
        if self.enrolled.get(fqdn) != device and not self._proves(login):
            if not login.identity.certificate:
                return LoginRefusal(LoginRefused.CREDENTIALS)
            anchors = [Anchor(der, self.domain) for der in self.cas]
            fault = judge_folded(login.identity.certificate, fqdn, device, anchors, wall_s)
            if fault is not None:
                return LoginRefusal(LoginRefused(fault.value))
        self.enrolled[fqdn] = device
        groups = self.groups.get(login.user, ())
        if self.ca is None:
            return LoginVerified(fqdn, groups)
        self.issued += 1
        lifetime = timedelta(seconds=self.certificate_s)
        certificate = issue(
            self.ca, fqdn, device, serial=self.issued, now_s=int(wall_s), lifetime=lifetime
        )
        return LoginVerified(fqdn, groups, certificate, self.certificate_s)

    def _proves(self, login: LoginRequest) -> bool:
        if login.authority is not None:
            return self.authorities.get(login.authority) == login.user
        expected = self.passwords.get(login.user)
        return expected is not None and login.password == expected


class AccountServer(Server):
    """An AS. Source: paper, Fig. 2."""

    machine: Account

    def __init__(
        self,
        internet: Internet,
        recorder: Recorder,
        host: SimHost,
        directory: Directory,
        signer: Signer,
        accounts: Accounts,
        domain_key: bytes,
        lifetime_s: int,
        authentication: Authentication = Authentication.DEVICE_KEY,
    ) -> None:
        """Serves the accounts; Kntmdc lives lifetime_s."""
        super().__init__(internet, recorder, host, directory, signer)
        self.accounts = accounts
        domain = directory.domain(signer.domain)
        assert domain is not None
        self._coordinator = domain.coordinator
        self._endpoints = domain.endpoints
        self.machine = Account(
            signer.domain,
            domain_key,
            domain.coordinator,
            domain.endpoints,
            self.entropy.fork("machine"),
            lifetime_s,
            Vouching(accounts.cas, authentication),
        )

    def _poll_transmit(self) -> Transmit | None:
        return None

    def _handle_datagram(
        self, source: Endpoint, data: bytes, _interface: int, now: Instant
    ) -> None:
        self.refused["an AS takes no datagrams"] += 1

    def _drain_more(self) -> bool:
        request = self.machine.poll_request()
        if isinstance(request, VerifyLogin):
            assert isinstance(request.message, LoginRequest)
            wall_s = EPOCH_S + (self.now + self.skew_ns) / SECOND
            verdict = self.accounts.verify(request.message, wall_s)
            self.internet.calendar.after(0, lambda: self.reply(request.id, verdict))
        elif isinstance(request, Call):
            to = reachable(self.host, self._endpoints, HTTPS_PORT)
            self.ask(request, to, self.signer.domain, self._coordinator)
        elif isinstance(request, FindAuthorities):
            self._find_authorities(request)
        return request is not None or super()._drain_more()

    def _find_authorities(self, request: FindAuthorities) -> None:
        """Ask the other domain's DC what its domain key states. Stands for runtime.domains."""
        domain = self.directory.domain(request.domain)
        if domain is None:
            failed = Failed(Reason.UNKNOWN_NAME, request.domain)
            self.internet.calendar.after(0, lambda: self.reply(request.id, failed))
            return

        def stated(body: bytes | None) -> None:
            known = domain is not None and body == domain.key
            found = AuthoritiesFound(domain.authorities if known and domain is not None else ())
            self.reply(request.id, found)

        to = reachable(self.host, domain.endpoints, HTTPS_PORT)
        self.https.ask(to, b"GET /.well-known/ntm", stated)

    def _handle_reply(self, id: int, reply: Any, now: Instant) -> None:  # noqa: ANN401
        self.machine.handle_reply(id, reply, now)


@dataclass
class Registrations:
    """What a DC keeps in SQL: it survives a restart."""

    nodes: dict[str, StoredNode] = field(default_factory=dict)
    audit: list[Audit] = field(default_factory=list)


class CoordinatorServer(Server):
    """A DC, with the DNS service of its zone and a resolver of its own."""

    machine: Coordinator

    def __init__(
        self,
        internet: Internet,
        recorder: Recorder,
        host: SimHost,
        directory: Directory,
        signer: Signer,
        settings: CoordinatorSettings,
        policy: Policy,
        registrations: Registrations,
        push: PushService,
    ) -> None:
        """Starts from what is registered."""
        super().__init__(internet, recorder, host, directory, signer)
        self.registrations = registrations
        self.push = push
        self._own_servers = {relay.name: relay.endpoints for relay in settings.relays}
        self._own_servers |= {each.name: each.endpoints for each in settings.notifiers}
        self._zone = Service(host, DNS_PORT, self._name, transport=Transport.UDP, handshake=DNS)
        self.resolver = Resolver(internet, recorder, host, directory, self.https)
        stored = registrations.nodes.values()
        entropy = self.entropy.fork("machine")
        self.machine = Coordinator(settings, policy, entropy, tuple(stored), self.now)
        self.call(lambda _: None)

    def kill(self) -> None:
        """Die; the zone goes silent too."""
        super().kill()
        self.resolver.close()
        self._zone.close()

    def _name(self, _question: bytes, _source: Endpoint, answer: Answer) -> None:
        answer(self.host.name.encode())

    def _serve(self, data: bytes, source: Endpoint, answer: Answer) -> None:
        if data == b"GET /.well-known/ntm":
            domain = self.directory.domain(self.signer.domain)
            answer(domain.key if domain is not None else b"")
        else:
            super()._serve(data, source, answer)

    def _poll_transmit(self) -> Transmit | None:
        return self.machine.poll_transmit()

    def _handle_datagram(
        self, source: Endpoint, data: bytes, _interface: int, now: Instant
    ) -> None:
        self.machine.handle_datagram(source, data, now)

    def _handle_reply(self, id: int, reply: Any, now: Instant) -> None:  # noqa: ANN401
        self.machine.handle_reply(id, reply, now)

    def _handle_event(self, event: Any) -> None:  # noqa: ANN401
        if isinstance(event, NodeStored):
            self.registrations.nodes[event.node.fqdn] = event.node
        elif isinstance(event, Audit):
            self.registrations.audit.append(event)

    def _drain_more(self) -> bool:
        request = self.machine.poll_request()
        if isinstance(request, FindCoordinator):
            asked = request
            self.internet.calendar.after(
                0, lambda: self.resolver.find(asked.fqdn, lambda found: self.reply(asked.id, found))
            )
        elif isinstance(request, Call):
            self._call(request)
        elif isinstance(request, WakeUp):
            wake_up = request
            self.push.send(wake_up.token, lambda outcome: self.reply(wake_up.id, outcome))
        return request is not None or super()._drain_more()

    def _call(self, request: Call) -> None:
        target = request.target
        if isinstance(target, RelayServer | NotificationServer):
            to = reachable(self.host, self._own_servers[target.name], HTTPS_PORT)
            self.ask(request, to, self.signer.domain, target.name)
        elif isinstance(target, ForeignCoordinator):
            domain = self.directory.domain(target.domain)
            if domain is None:
                failed = Failed(Reason.DOMAIN_UNREACHABLE, target.domain)
                self.internet.calendar.after(0, lambda: self.reply(request.id, failed))
                return
            to = reachable(self.host, domain.endpoints, HTTPS_PORT)
            self.ask(request, to, domain.name, domain.coordinator)
        else:
            raise AssertionError(f"a DC never calls {target}")


class NotificationHolder(Server):
    """An NS: its machine, and the connections that nodes hold."""

    machine: NotificationRole

    def __init__(
        self,
        internet: Internet,
        recorder: Recorder,
        host: SimHost,
        directory: Directory,
        signer: Signer,
    ) -> None:
        """Starts without nodes."""
        super().__init__(internet, recorder, host, directory, signer)
        self.machine = NotificationRole(signer.domain, self.entropy.fork("machine"))
        self.streams = self._open_streams(self.machine, self.port)

    def kill(self, *, silently: bool = False) -> None:
        """Die; the kernel resets the connections, unless the whole machine is gone."""
        super().kill()
        self.streams.close(silently=silently)

    def _poll_transmit(self) -> Transmit | None:
        return self.machine.poll_transmit()

    def _handle_datagram(
        self, source: Endpoint, data: bytes, _interface: int, now: Instant
    ) -> None:
        self.machine.handle_datagram(source, data, now)

    def _drain_more(self) -> bool:
        command = self.machine.poll_stream()
        if command is None:
            return super()._drain_more()
        self._command_stream(self.streams, command, 0)
        return True


@dataclass(frozen=True, slots=True)
class _Binding:
    path: bytes
    destination: Endpoint


class RelayForwarder(Server):
    """An RS: its machine, and a loop that forwards capsules as they are.

    `forwarded` counts capsules; what is not bound is answered by a hint and counted in `refused`.
    """

    machine: RelayRole
    other_port = KNOCK_PORT

    def __init__(
        self,
        internet: Internet,
        recorder: Recorder,
        host: SimHost,
        directory: Directory,
        signer: Signer,
        records: list[Record],
    ) -> None:
        """Goes on with the records of its last run, and adds to them: they are its disk."""
        super().__init__(internet, recorder, host, directory, signer)
        self.records = records
        self.forwarded = 0
        self._bindings: dict[tuple[Endpoint, int], _Binding] = {}
        self._busy: dict[bytes, Instant] = {}
        self.machine = RelayRole(signer.domain, self.entropy.fork("machine"), self._idle_ns)
        host.listen(Transport.UDP, KNOCK_PORT, self._receive_at_other)
        self.call(lambda now: self.machine.restore(standing(records), now))

    def kill(self) -> None:
        """Die; the second port closes too."""
        super().kill()
        self.host.close(Transport.UDP, KNOCK_PORT)

    def _poll_transmit(self) -> Transmit | None:
        return self.machine.poll_transmit()

    def _handle_datagram(
        self, source: Endpoint, data: bytes, _interface: int, now: Instant
    ) -> None:
        if data[:1] != bytes((Kind.CAPSULE,)):
            self.machine.handle_datagram(source, data, now)
            return
        index = int.from_bytes(data[CAPSULE_INDEX])
        binding = self._bindings.get((source, index))
        if binding is None:
            self.refused["not bound"] += 1
            self.host.send(Transport.UDP, self.port, source, Hint.index(index).encode())
            return
        self.forwarded += 1
        self._busy[binding.path] = now
        self.host.send(Transport.UDP, self.port, binding.destination, data)

    def _drain_more(self) -> bool:
        if (knock := self.machine.poll_knock()) is not None:
            self.host.send(Transport.UDP, KNOCK_PORT, knock.destination, knock.payload)
            return True
        if (record := self.machine.poll_record()) is not None:
            self.records.append(record)
            return True
        command = self.machine.poll_command()
        match command:
            case Bind(path, source, index, destination):
                self._bindings[source, index] = _Binding(path, destination)
            case Unbind(source, index):
                self._bindings.pop((source, index), None)
            case ForgetPath(path):
                kept = {k: b for k, b in self._bindings.items() if b.path != path}
                self._bindings = kept
            case None:
                return super()._drain_more()
        return True

    def _idle_ns(self, path: bytes) -> int | None:
        busy = self._busy.get(path)
        return None if busy is None else self.now - busy
