"""A simulated node: the node's machine, the plane, links, and applications on virtual addresses."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from typing import Any, TypeVar

from ntmobile.errors import DecodeError
from ntmobile.keys.identity import Identity
from ntmobile.proto.io import Call, Failed, Transmit, random_bytes
from ntmobile.proto.journal import paper_name
from ntmobile.proto.node.credentials import Certificates
from ntmobile.proto.node.events import (
    AuthoritiesPinned,
    Event,
    LocalAddress,
    LoggedIn,
    NatWanted,
    NewestPortWanted,
    PeerPinned,
    RoundTripsWanted,
)
from ntmobile.proto.node.finding import Finding, Point
from ntmobile.proto.node.node import Node
from ntmobile.proto.node.round_trips import Measured
from ntmobile.proto.node.settings import NodeSettings, Pin
from ntmobile.proto.node.trust import TrustSettings
from ntmobile.sim.directory import HTTPS_PORT, reachable
from ntmobile.sim.entropy import SeededEntropy
from ntmobile.sim.examination import discovery, newest_port, round_trips
from ntmobile.sim.exchange import Client
from ntmobile.sim.host import SimHost
from ntmobile.sim.inner import Inner
from ntmobile.sim.internet import EPOCH_S, Internet
from ntmobile.sim.organisation import Organisation
from ntmobile.sim.packet import Transport
from ntmobile.sim.plane import Plane
from ntmobile.sim.process import Process
from ntmobile.sim.recorder import Recorder
from ntmobile.sim.web import post, read_answer
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Kind
from ntmobile.wire.endpoint import Endpoint, Host
from ntmobile.wire.identity import Authentication
from ntmobile.wire.registration import KeepAliveChoice, Reason

FIRST_NODE_PORT = 40_000
FIRST_OWN_PORT, OWN_PORTS = 10_000, 20_000
UNDERLAY_OVERHEAD = {4: 28, 6: 48}
CAPSULE = bytes((Kind.CAPSULE,))

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Received:
    """A datagram that an application got."""

    at: Instant
    peer: str
    """Whose tunnel it came through."""
    source: Host
    """The peer's virtual address as this node sees it."""
    source_port: int
    data: bytes


Application = Callable[[Received], None]


@dataclass
class StateDirectory:
    """What a node keeps on disk; a copy of it is a clone."""

    user: str
    name: str
    identity: Identity
    starts: int = 0
    pins: dict[str, PeerPinned] = field(default_factory=dict)
    certificates: Certificates = field(default_factory=Certificates)
    authorities: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    """The CAs of each domain as they were first stated, in DER."""

    @classmethod
    def new(cls, user: str, name: str, entropy: SeededEntropy) -> "StateDirectory":
        """Make the keys of a new node."""
        identity = Identity.of(random_bytes(entropy, 32), random_bytes(entropy, 32))
        return cls(user, name, identity)


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What a scenario may choose of NodeSettings."""

    relay_only: bool = False
    optimise: bool = True
    aes: bool = True
    idle_s: int = 600
    mapping_age_s: int | None = None
    keepalive: KeepAliveChoice = KeepAliveChoice.UDP
    avoid: tuple[IPv4Network | IPv6Network, ...] = ()
    trusted: tuple[bytes, ...] = ()
    """CAs that the person gave, in DER."""
    asked: Authentication = Authentication.DEVICE_KEY
    clock_off_s: float = 0
    """How far the machine's clock is ahead."""


class _OwnPorts:
    """Ports of a node's host that tunnels have of their own, besides the node's."""

    def __init__(self, node: "SimNode", entropy: SeededEntropy) -> None:
        self._node = node
        self._entropy = entropy
        self._open: set[int] = set()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, receive: Callable[[Endpoint, bytes, int], None]) -> int:
        """Satisfies plane.Ports."""
        node, start = self._node, FIRST_OWN_PORT + self._entropy.randrange(OWN_PORTS)
        port = node.host.free_port(Transport.UDP, start)

        def take(source: Endpoint, data: bytes, interface: int) -> None:
            with node.recorder.arriving(data):
                node.call(lambda _: receive(source, data, interface))

        node.host.listen(Transport.UDP, port, take)
        self._open.add(port)
        return port

    def close(self, port: int) -> None:
        """Satisfies plane.Ports."""
        self._open.discard(port)
        self._node.host.close(Transport.UDP, port)

    def close_all(self) -> None:
        """The process is dead."""
        for port in tuple(self._open):
            self.close(port)

    def send(self, port: int, destination: Endpoint, capsule: bytes, interface: int) -> bool:
        """Satisfies plane.Ports."""
        node = self._node
        node.recorder.departed(node.host.name, capsule, node.now, "capsule")
        return node.host.send(Transport.UDP, port, destination, capsule, interface)


class SimNode(Process):
    """A node on a host of its own. `events` keeps everything the machine told."""

    machine: Node

    def __init__(
        self,
        internet: Internet,
        recorder: Recorder,
        host: SimHost,
        organisation: Organisation,
        state: StateDirectory,
        options: NodeOptions,
    ) -> None:
        """Starts the machine with the links the host has; nobody is logged in yet."""
        entropy = internet.entropy.fork(f"node {host.name} {internet.now}")
        super().__init__(internet, recorder, host, FIRST_NODE_PORT + entropy.randrange(20_000))
        self.organisation = organisation
        self.state = state
        self.options = options
        self.events: list[Event] = []
        self.refused: Counter[Host] = Counter()
        self._entropy = entropy
        self._https = Client(host, internet.calendar, entropy.fork("https"))
        self._applications: dict[int, Application] = {}
        self.ports = _OwnPorts(self, entropy.fork("ports"))
        self.plane = Plane(self._send_capsule, self, lambda: internet.now, self.ports)
        self.machine = self._new_machine()
        self.streams = self._open_streams(self.machine)
        self.report_links()

    @property
    def fqdn(self) -> str:
        """The node's permanent name."""
        return f"{self.state.name}.{self.state.user}.{self.organisation.domain}"

    def kill(self) -> None:
        """Die; what is in the state directory stays."""
        super().kill()
        self.ports.close_all()
        self._https.close()
        self.streams.close()

    def log_in(self, password: str | None = None, authority: str | None = None) -> None:
        """Begin a login; neither means with the enrolled device key."""
        self.call(lambda now: self.machine.login(now, password=password, authority=authority))

    def resolve(self, fqdn: str) -> int:
        """Begin to resolve a name as the DNS hook does; the answer is an event of this number."""
        return self.call(lambda now: self.machine.resolve(fqdn, now))

    def wake(self) -> None:
        """Its wake-up arrives: the app calls the node."""
        if self.alive:
            self.call(self.machine.wake)

    def report_links(self) -> None:
        """Tell the machine the addresses the host has now, as netlink would."""
        links = tuple(self._links())
        self.call(lambda now: self.machine.handle_links(links, now))

    def events_of(self, kind: type[E]) -> list[E]:
        """Return the events of one type, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]

    def address_of(self, peer: "SimNode") -> Host:
        """Return a peer's virtual IPv6 address as this node sees it; KeyError if never met."""
        return self.state.pins[peer.fqdn].ipv6

    def listen(self, port: int, application: Application) -> None:
        """Put an application behind a UDP port of the virtual addresses."""
        self._applications[port] = application

    def send(self, to: Host, port: int, data: bytes, source_port: int = 0) -> None:
        """Send an application's datagram to a virtual address."""
        self.plane.send(to, Inner(to.version, source_port, port, data))

    def handle_control(
        self,
        index: int,
        epoch: int,
        source: Endpoint,
        interface: int,
        payload: bytes,
        socket: int = 0,
    ) -> None:
        """Satisfies plane.Upward."""
        self.call(
            lambda now: self.machine.handle_control(
                index, epoch, source, interface, payload, now, socket
            )
        )

    def handle_moved(self, index: int, source: Endpoint, interface: int, socket: int = 0) -> None:
        """Satisfies plane.Upward."""
        self.call(lambda now: self.machine.handle_moved(index, source, interface, now, socket))

    def handle_signal(self, source: Endpoint, data: bytes, interface: int) -> None:
        """Satisfies plane.Upward; the port has called into the machine already."""
        self.machine.handle_datagram(source, data, self.now, interface=interface)

    def handle_wanted(self, address: Host) -> None:
        """Satisfies plane.Upward."""
        self.call(lambda now: self.machine.handle_wanted(address, now))

    def handle_woken(self, index: int) -> None:
        """Satisfies plane.Upward."""
        # A little later, as what the loops' threads signal is: not amid what the machine commands.
        self.internet.calendar.after(0, lambda: self._wake(index))

    def deliver(self, peer: str, source: Host, inner: Inner) -> None:
        """Satisfies plane.Upward."""
        application = self._applications.get(inner.port)
        if application is not None:
            application(Received(self.now, peer, source, inner.source_port, inner.data))

    def refuse(self, address: Host) -> None:
        """Satisfies plane.Upward: applications see the address as unreachable."""
        self.refused[address] += 1

    def _wake(self, index: int) -> None:
        if self.alive:
            self.call(lambda now: self.machine.handle_woken(index, now))

    def _new_machine(self) -> Node:
        self.state.starts += 1
        settings = NodeSettings(
            self.state.user,
            self.state.name,
            self.organisation.domain,
            random_bytes(self._entropy, 16),
            self.state.starts,
            self.options.keepalive,
            self._device_token(),
            relay_only=self.options.relay_only,
            optimise=self.options.optimise,
            aes=self.options.aes,
            idle_s=self.options.idle_s,
            mapping_age_s=self.options.mapping_age_s,
            avoid=self.options.avoid,
        )
        pins = [
            Pin(p.fqdn, p.device, p.ipv4, p.ipv6, p.certified) for p in self.state.pins.values()
        ]
        options = self.options
        return Node(
            settings,
            self.state.identity,
            self.plane,
            self._entropy.fork("machine"),
            pins,
            certificates=self.state.certificates,
            trust=TrustSettings(self.state.authorities, options.trusted, options.asked),
            wall=lambda instant: EPOCH_S + instant / SECOND + options.clock_off_s,
        )

    def _device_token(self) -> str | None:
        """Ask the push service for a token, as a phone's app does. Source: paper, Fig. 3."""
        if self.options.keepalive is not KeepAliveChoice.PUSH:
            return None
        token = f"token of {self.fqdn}"
        self.organisation.push.subscribe(token, self.wake)
        return token

    def _links(self) -> list[LocalAddress]:
        preferred = {v: self.host.source_for(v) for v in (4, 6)}
        return [
            LocalAddress(
                Endpoint(address, self.port),
                interface.number,
                interface.network.quality.mtu,
                preferred[address.version] == (interface, address),
            )
            for interface in self.host.interfaces.values()
            for address in interface.addresses
        ]

    def _send_capsule(self, destination: Endpoint, capsule: bytes, interface: int) -> bool:
        self.recorder.departed(self.host.name, capsule, self.now, "capsule")
        return self.host.send(Transport.UDP, self.port, destination, capsule, interface)

    def _handle_datagram(self, source: Endpoint, data: bytes, interface: int, now: Instant) -> None:
        if data[:1] == CAPSULE:
            self.plane.receive(source, data, interface)
        else:
            self.machine.handle_datagram(source, data, now, interface=interface)

    def _transmit(self, transmit: Transmit) -> None:
        port = self.plane.two_ports.sending(transmit.destination)
        if port is None:
            return super()._transmit(transmit)
        self.recorder.departed(self.host.name, transmit.payload, self.now)
        to, payload = transmit.destination, transmit.payload
        self.host.send(Transport.UDP, port, to, payload, transmit.interface)
        return None

    def _poll_transmit(self) -> Transmit | None:
        return self.machine.poll_transmit()

    def _drain_more(self) -> bool:
        command = self.machine.poll_command()
        if command is not None:
            self.plane.execute(command)
            return True
        stream = self.machine.poll_stream()
        if stream is not None:
            self._command_stream(self.streams, stream, self._entropy.getrandbits(64))
            return True
        request = self.machine.poll_request()
        if request is not None:
            assert isinstance(request, Call)
            self._ask(request)
            return True
        return False

    def _handle_event(self, event: Any) -> None:  # noqa: ANN401
        self.events.append(event)
        match event:
            case PeerPinned():
                self.state.pins[event.fqdn] = event
            case AuthoritiesPinned(domain, authorities):
                self.state.authorities[domain] = authorities
            case LoggedIn(certificate=certificate) if certificate:
                self.state.certificates = replace(self.state.certificates, issued=certificate)
            case NatWanted(servers):
                self._examine(servers)
            case NewestPortWanted(server):
                newest_port(self.internet, self.host, server, self._take_newest_port)
            case RoundTripsWanted(number, servers):
                take = partial(self._take_round_trips, number)
                round_trips(self.internet, self.host, servers, take)

    def _examine(self, servers: tuple[Endpoint, ...]) -> None:
        if self.host.source_for(4) is None:
            return self._take_finding(None)
        points = [Point(str(server), server) for server in servers]
        discovery(self.internet, self.host, points, self._take_finding, self._take_finding)

    def _take_finding(self, finding: Finding | None) -> None:
        if self.alive:
            self.call(lambda now: self.machine.handle_finding(finding, now))

    def _take_newest_port(self, port: int) -> None:
        if self.alive:
            self.call(lambda now: self.machine.handle_newest_port(port, now))

    def _take_round_trips(self, number: int, measured: Measured) -> None:
        if self.alive:
            self.call(lambda now: self.machine.handle_round_trips(number, measured, now))

    def _ask(self, request: Call) -> None:
        body = post(request.message, random_bytes(self._entropy, 16), self.now)
        self.recorder.departed(self.host.name, body, self.now, "HTTPS")

        def done(data: bytes | None) -> None:
            if self.alive:
                reply = self._read(data)
                self.call(lambda now: self.machine.handle_reply(request.id, reply, now))

        to = reachable(self.host, self.organisation.account_endpoints, HTTPS_PORT)
        self._https.ask(to, body, done)

    def _read(self, data: bytes | None) -> Any:  # noqa: ANN401
        if data is None:
            return Failed(Reason.DOMAIN_UNREACHABLE, "the AS is silent")
        try:
            message = read_answer(data)
        except DecodeError as error:
            return Failed(Reason.NOT_ALLOWED, str(error))
        self.recorder.arrived(self.host.name, data, self.now, paper_name(type(message)))
        return message
