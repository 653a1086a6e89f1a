"""Between the node's machine and the Rust packet loops: commands in, signals and counters out.

The machine speaks of addresses and Instants, the loops of bytes and ages; nothing is decided here.
"""

import socket
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, Protocol, assert_never

import structlog
from msgspec.structs import astuple

from ntmobile._core import Control, Datagram, Engine, Moved, RekeyDue, SendFailed, Wanted, Woken
from ntmobile.agent.detours import Detours
from ntmobile.agent.traffic import DataTraffic
from ntmobile.proto.io import Transmit
from ntmobile.proto.node.events import (
    OTHER_PORT,
    ActivateKeys,
    ChangePort,
    ClearPath,
    CloseSockets,
    CloseTunnel,
    Command,
    InstallKeys,
    OpenSockets,
    OpenTunnel,
    RefuseAddress,
    Resend,
    RetireKeys,
    SendControl,
    SetPath,
    Traffic,
)
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.protection import Protect, unprotected
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint, Host
from ntmobile.wire.stun import is_stun
from ntmobile.wire.tunnel import ReceiveState

SILENT_NS = 30 * SECOND
"""Far more than a round trip: nothing sent before will be asked for again."""
MOST_RESENDS = 1024
"""Remembered for `ntm handovers`."""
_LOG = structlog.get_logger(__name__)

Signal = Datagram | Control | Moved | Wanted | Woken | RekeyDue | SendFailed


class Receiver(Protocol):
    """The part of the node's machine that takes what the packet loops signal."""

    def handle_datagram(
        self, source: Endpoint, data: bytes, now: Instant, *, interface: int = 0
    ) -> None:
        """A datagram that is not a capsule."""
        ...

    def handle_control(
        self,
        index: int,
        epoch: int,
        source: Endpoint,
        interface: int,
        payload: bytes,
        now: Instant,
        socket: int = 0,
    ) -> None:
        """An authentic control capsule."""
        ...

    def handle_moved(
        self, index: int, source: Endpoint, interface: int, now: Instant, socket: int = 0
    ) -> None:
        """A capsule came from off the path."""
        ...

    def handle_wanted(self, address: Host, now: Instant) -> None:
        """A packet waits for a tunnel to this virtual address."""
        ...

    def handle_woken(self, index: int, now: Instant) -> None:
        """A packet left after none had for a second."""
        ...

    def handle_rekey_due(self, index: int, now: Instant) -> None:
        """An epoch is nearly used up."""
        ...


class PacketLoops:
    """One engine; also the node's Observations of it."""

    def __init__(
        self, engine: Engine, clock: Clock, detours: Detours, *, protect: Protect = unprotected
    ) -> None:
        """The engine stays its owner's, who closes it; protect is given each further socket."""
        self._protect = protect
        self._engine = engine
        self._detours = detours
        detours.on_change = self._handle_detour
        self._clock = clock
        self.counters: Counter[str] = Counter()
        self.on_open: Callable[[tuple[Host, Host]], None] = lambda hosts: None
        """Called with a peer's virtual addresses before anything from it can arrive: the answers
        to it must find their route, or they leave by the default route, readable by all."""
        self.on_path: Callable[[tuple[Host, Host], int], None] = lambda hosts, mtu: None
        """Called with a peer's virtual addresses and the largest inner packet of its path."""
        self._open: dict[int, OpenTunnel] = {}
        self._traffic: dict[int, DataTraffic] = {}
        self._paths: dict[str, SetPath] = {}
        self._ports: dict[int, dict[int, int]] = {}
        """By a tunnel's index, of its own sockets by their numbers."""
        self._resent: deque[tuple[Instant, str, int]] = deque(maxlen=MOST_RESENDS)
        self._spare_sends = False
        """The engine's second port is the node's port now."""
        self._spare_port: int | None = None
        self._spare_fails = False
        """There is no second port, and both numbers are the first one's."""

    def peers(self) -> list[Host]:
        """The virtual addresses that tunnels are open to."""
        return [host for each in self._open.values() for host in (each.peer_ipv4, each.peer_ipv6)]

    def path(self, fqdn: str) -> SetPath | None:
        """Where the newest tunnel to a peer sends its capsules."""
        return self._paths.get(fqdn)

    def own_port(self, fqdn: str) -> int | None:
        """Return the port that capsules to a peer leave from, where it is not the node's own."""
        path = self._paths.get(fqdn)
        if path is None:
            return None
        if self._numbered(path.socket) == OTHER_PORT and path.remote.version == 4:
            return self._spare_port
        return self._ports.get(path.index, {}).get(path.socket)

    def resent(self, fqdn: str, since: Instant) -> int:
        """Return how many capsules were sent again to a peer since then."""
        return sum(sent for at, to, sent in self._resent if to == fqdn and at >= since)

    def receive_state(self, index: int) -> tuple[ReceiveState, ...]:
        """What arrived, newest epoch first; nothing where no tunnel is open."""
        if index not in self._open:
            return ()
        state = self._engine.receive_state(index)
        return () if state is None else (ReceiveState(*state),)

    def traffic(self, index: int) -> Traffic:
        """Application data of the tunnel; none where no tunnel is open."""
        if index not in self._open:
            return Traffic(0, 0, None, None)
        now = self._clock.now()
        return self._traffic[index].observe(self._engine.statistics(index), now)

    def shrink_silent(self) -> None:
        """Give back what tunnels keep for resending, where nothing was sent for a while."""
        for index in self._open:
            age_ns = self._engine.statistics(index).last_tx_ns
            if age_ns is not None and age_ns > SILENT_NS:
                self._engine.shrink(index)

    def transmit(self, transmit: Transmit) -> None:
        """Send a signalling datagram; a refusal comes back as a signal."""
        payload = transmit.payload
        # STUN asks whether UDP passes.
        asks_udp = is_stun(payload)
        way = self._detours.translate if asks_udp else self._detours.outward
        destination = way(transmit.destination)
        self._engine.send(
            destination.host.packed,
            destination.port,
            transmit.payload,
            transmit.interface,
            self._numbered(0),
        )

    def carry_out(self, command: Command) -> None:
        """Do one command of the machine."""
        engine = self._engine
        match command:
            case OpenTunnel():
                self._open_tunnel(command)
            case InstallKeys():
                self._install(command)
            case ActivateKeys(index, epoch):
                engine.activate_keys(index, epoch)
            case RetireKeys(index, epoch):
                engine.retire_keys(index, epoch)
            case SetPath(index, mtu=mtu):
                self._set_path(command)
                peer = self._open[index]
                self._paths[peer.fqdn] = command
                self.on_path((peer.peer_ipv4, peer.peer_ipv6), mtu)
            case ClearPath(index):
                engine.clear_path(index)
                self._paths.pop(self._open[index].fqdn, None)
            case SendControl():
                self._send_control(command)
            case OpenSockets():
                self._open_sockets(command)
            case CloseSockets(index, keep):
                engine.close_sockets(index, keep)
                ports = self._ports.pop(index, {})
                self._ports[index] = {number: ports[number] for number in keep if number in ports}
            case ChangePort():
                self._change_port()
            case Resend(index, told):
                sent = engine.resend(index, *map(astuple, told))
                self.counters["resent"] += sent
                self._resent.append((self._clock.now(), self._open[index].fqdn, sent))
            case CloseTunnel(index):
                engine.close_tunnel(index)
                self._forget(index)
            case RefuseAddress(address):
                engine.refuse(address.packed)
            case _:
                assert_never(command)

    def deliver(self, receiver: Receiver, now: Instant) -> None:
        """Hand over some of what waits; a signal that fails costs only itself.

        Never all of it: a flood must leave the event loop time for the rest.
        """
        for signal in self._engine.drain():
            try:
                self._deliver(signal, receiver, now)
            except Exception:
                self.counters["bugs"] += 1
                _LOG.exception("signal failed", signal=type(signal).__name__)

    def _deliver(self, signal: Signal, receiver: Receiver, now: Instant) -> None:
        match signal:
            case Datagram():
                source, interface = self._origin(signal)
                receiver.handle_datagram(source, signal.payload, now, interface=interface)
            case Control():
                if (traffic := self._traffic.get(signal.index)) is not None:
                    traffic.heard_control(len(signal.payload))
                receiver.handle_control(
                    signal.index,
                    signal.epoch,
                    *self._origin(signal),
                    signal.payload,
                    now,
                    self._came_to(signal),
                )
            case Moved():
                socket = self._came_to(signal)
                receiver.handle_moved(signal.index, *self._origin(signal), now, socket)
            case Wanted():
                receiver.handle_wanted(Endpoint.of(signal.destination, 0).host, now)
            case Woken():
                receiver.handle_woken(signal.index, now)
            case RekeyDue():
                receiver.handle_rekey_due(signal.index, now)
            case SendFailed():
                # The machine's own timers notice; this is for `ntm bugreport`.
                self.counters[f"send_failed_errno_{signal.errno}"] += 1

    def _origin(self, signal: Datagram | Control | Moved) -> tuple[Endpoint, int]:
        source = Endpoint.of(signal.source_host, signal.source_port)
        return self._detours.inward(source, signal.interface)

    def _set_path(self, path: SetPath) -> None:
        to = self._detours.outward(path.remote)
        self._engine.set_path(
            path.index,
            to.host.packed,
            to.port,
            path.interface,
            mtu=path.mtu,
            hold=path.hold,
            socket=self._numbered(path.socket),
        )

    def _numbered(self, socket: int) -> int:
        """Return the engine's number of what the machine calls so, and the other way round."""
        if self._spare_fails and socket == OTHER_PORT:
            return 0
        swaps = self._spare_sends and socket in (0, OTHER_PORT)
        return OTHER_PORT - socket if swaps else socket

    def _came_to(self, signal: Control | Moved) -> int:
        # There is one port of IPv6.
        ipv4 = Endpoint.of(signal.source_host, 0).version == 4
        return self._numbered(signal.socket) if ipv4 else signal.socket

    def _change_port(self) -> None:
        try:
            descriptor = self._engine.open_spare()
            self._protect(descriptor)
            self._spare_port = _port_of(descriptor)
        except OSError as error:
            # The DC sees the node where it was, and the machine leaves it at that.
            self._spare_fails = not self._spare_sends
            _LOG.warning("no second port", why=str(error))
            return
        self._spare_sends, self._spare_fails = not self._spare_sends, False
        for fqdn, path in self._paths.items():
            if path.remote.version == 4 and path.socket in (0, OTHER_PORT):
                self._paths[fqdn] = replace(path, socket=OTHER_PORT - path.socket)

    def _handle_detour(self, remote: Endpoint) -> None:
        for path in self._paths.values():
            if path.remote == remote:
                self._set_path(path)

    def _open_tunnel(self, command: OpenTunnel) -> None:
        self.on_open((command.peer_ipv4, command.peer_ipv6))
        self._engine.open_tunnel(
            command.index,
            own_ipv4=command.own_ipv4.packed,
            own_ipv6=command.own_ipv6.packed,
            peer_ipv4=command.peer_ipv4.packed,
            peer_ipv6=command.peer_ipv6.packed,
        )
        self._open[command.index] = command
        self._traffic[command.index] = DataTraffic()

    def _open_sockets(self, command: OpenSockets) -> None:
        ports = self._ports.setdefault(command.index, {})
        try:
            opened = self._engine.open_sockets(command.index, command.first, command.count)
            for number, descriptor in enumerate(opened, command.first):
                self._protect(descriptor)
                ports[number] = _port_of(descriptor)
        except OSError as error:
            # One that is not protected would send into the device.
            self._engine.close_sockets(command.index, ())
            _LOG.warning("no sockets of a tunnel's own", why=str(error))

    def _forget(self, index: int) -> None:
        fqdn = self._open.pop(index).fqdn
        del self._traffic[index]
        self._ports.pop(index, None)
        path = self._paths.get(fqdn)
        if path is not None and path.index == index:
            del self._paths[fqdn]

    def _install(self, command: InstallKeys) -> None:
        self._engine.install_keys(
            command.index,
            command.epoch,
            _cipher(command.cipher),
            command.send_key,
            command.receive_key,
            command.remote_index,
        )

    def _send_control(self, command: SendControl) -> None:
        wanted = command.destination
        there = None if wanted is None else self._detours.outward(wanted)
        sent = self._engine.send_control(
            command.index,
            command.payload,
            host=there.host.packed if there else None,
            port=there.port if there else None,
            interface=command.interface,
            socket=self._numbered(command.socket),
        )
        self.counters["controls_sent" if sent else "controls_not_sent"] += 1
        if sent:
            self._traffic[command.index].sent_control(len(command.payload))


def _cipher(name: str) -> Literal["aes-256-gcm", "chacha20-poly1305"]:
    assert name in ("aes-256-gcm", "chacha20-poly1305"), name
    return "aes-256-gcm" if name == "aes-256-gcm" else "chacha20-poly1305"


def _port_of(descriptor: int) -> int:
    """Return the port of a socket that stays the engine's."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        port: int = borrowed.getsockname()[1]
    finally:
        borrowed.detach()
    return port
