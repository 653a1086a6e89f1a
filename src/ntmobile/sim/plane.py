"""The packet loops of a simulated node: real capsules of the Rust core, all else virtual.

Carries out the commands of proto.node and answers its observations. Unlike the threads of the real
loops it does each thing at the instant it is asked. Source: paper, Capsule.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, Protocol, assert_never, cast

from msgspec.structs import astuple

from ntmobile._core import CapsuleError, Capsules
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
from ntmobile.sim.inner import Inner
from ntmobile.sim.two_ports import TwoPorts
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Kind
from ntmobile.wire.endpoint import Endpoint, Host
from ntmobile.wire.tunnel import ReceiveState

_CipherName = Literal["aes-256-gcm", "chacha20-poly1305"]
WAITING_PACKETS = 64
WAITING_NS = 30 * SECOND
HELD_CAPSULES = 3000
"""What fits the log of the real loops."""
WANTED_AGAIN_NS = SECOND
CAPSULE_INDEX = slice(4, 8)
CAPSULE_COUNTER = slice(8, 16)


class Upward(Protocol):
    """Where the plane reports to: the node's process."""

    def handle_control(
        self,
        index: int,
        epoch: int,
        source: Endpoint,
        interface: int,
        payload: bytes,
        socket: int = 0,
    ) -> None:
        """A control capsule was opened."""
        ...

    def handle_moved(self, index: int, source: Endpoint, interface: int, socket: int = 0) -> None:
        """The newest capsule came from another source than the path's."""
        ...

    def handle_signal(self, source: Endpoint, data: bytes, interface: int) -> None:
        """A datagram that is no capsule came to the node's second port."""
        ...

    def handle_wanted(self, address: Host) -> None:
        """A packet to an address without a tunnel waits."""
        ...

    def handle_woken(self, index: int) -> None:
        """A packet left after none had for a second."""
        ...

    def deliver(self, peer: str, source: Host, inner: Inner) -> None:
        """An application's datagram arrived."""
        ...

    def refuse(self, address: Host) -> None:
        """What waits for an address is answered as unreachable."""
        ...


class Ports(Protocol):
    """Where a tunnel's own sockets are opened: the node's host."""

    def open(self, receive: Callable[[Endpoint, bytes, int], None]) -> int:
        """Have capsules to a fresh port brought there; returns its number."""
        ...

    def close(self, port: int) -> None:
        """Nothing is received there from now."""
        ...

    def send(self, port: int, destination: Endpoint, capsule: bytes, interface: int) -> bool:
        """Send from it."""
        ...


@dataclass(slots=True)
class _Tunnel:
    index: int
    fqdn: str
    peer: dict[int, IPv4Address | IPv6Address]
    capsules: Capsules
    path: SetPath | None = None
    is_away: bool = False
    """The path is the last one; there is none now."""
    held: list[bytes] = field(default_factory=list)
    """Capsules that are sealed, and wait for a path that carries."""
    active: bool = False
    tx_bytes: int = 0
    rx_bytes: int = 0
    last_tx: Instant | None = None
    last_rx: Instant | None = None
    highest: tuple[int, int] = (-1, -1)
    waiting: deque[Inner] = field(default_factory=lambda: deque(maxlen=WAITING_PACKETS))
    sockets: dict[int, int] = field(default_factory=dict)
    """Its own, by their numbers: the port of each."""


class Plane:
    """Tunnels by index, and what waits for those that do not exist yet.

    `drops` counts by reason what was not delivered; nothing from the network raises.
    """

    def __init__(
        self,
        send: Callable[[Endpoint, bytes, int], bool],
        upward: Upward,
        clock: Callable[[], Instant],
        ports: Ports | None = None,
    ) -> None:
        """Sends by send(destination, capsule, interface); without ports no tunnel has its own."""
        self._ports = ports
        self.drops: Counter[str] = Counter()
        self._send = send
        self._upward = upward
        self._clock = clock
        self._tunnels: dict[int, _Tunnel] = {}
        self._waiting: dict[Host, deque[tuple[Instant, Inner]]] = {}
        self._asked: dict[Host, Instant] = {}
        self.two_ports = TwoPorts()

    def __len__(self) -> int:
        return len(self._tunnels)

    def execute(self, command: Command) -> None:
        """Carry out one command of the machine; one for a tunnel that is gone does nothing."""
        match command:
            case OpenTunnel():
                self._open(command)
            case RefuseAddress(address):
                self._waiting.pop(address, None)
                self._upward.refuse(address)
            case ChangePort():
                self._change_port()
            case CloseTunnel(index):
                if (closed := self._tunnels.pop(index, None)) is not None:
                    self._close_sockets(closed, ())
            case _:
                tunnel = self._tunnels.get(command.index)
                if tunnel is not None:
                    self._execute_for(tunnel, command)

    def receive_state(self, index: int) -> tuple[ReceiveState, ...]:
        """Satisfies Observations."""
        tunnel = self._tunnels.get(index)
        state = None if tunnel is None else tunnel.capsules.receive_state()
        return () if state is None else (ReceiveState(*state),)

    def traffic(self, index: int) -> Traffic:
        """Satisfies Observations."""
        tunnel = self._tunnels.get(index)
        if tunnel is None:
            return Traffic(0, 0, None, None)
        return Traffic(tunnel.tx_bytes, tunnel.rx_bytes, tunnel.last_tx, tunnel.last_rx)

    def send(self, destination: Host, inner: Inner) -> None:
        """Take an application's datagram; it waits where there is no tunnel yet."""
        tunnel = next((t for t in self._tunnels.values() if destination in t.peer.values()), None)
        if tunnel is None:
            self._wait(destination, inner)
        else:
            self._send_inner(tunnel, inner)

    def receive(
        self,
        source: Endpoint,
        capsule: bytes,
        interface: int,
        owner: int | None = None,
        own: int | None = None,
    ) -> None:
        """Take a capsule from the network, perhaps from a socket of the owner's own.

        Without the number of a socket it came to the node's first port.
        """
        own = self.two_ports.number(source, spare=False) if own is None else own
        index = int.from_bytes(capsule[CAPSULE_INDEX])
        tunnel = self._tunnels.get(index)
        if tunnel is None or owner not in (None, index):
            self.drops["stranger"] += 1
            return
        try:
            control, epoch, content = tunnel.capsules.open(capsule)
        except CapsuleError as error:
            self.drops[str(error)] += 1
            return
        tunnel.last_rx = self._clock()
        if self._is_newest(tunnel, capsule) and self._came_elsewhere(tunnel, source, own):
            self._upward.handle_moved(index, source, interface, own)
        if control:
            self._upward.handle_control(index, epoch, source, interface, content, own)
        else:
            self._deliver(tunnel, content)

    def _open(self, command: OpenTunnel) -> None:
        peer: dict[int, IPv4Address | IPv6Address]
        peer = {4: command.peer_ipv4, 6: command.peer_ipv6}
        tunnel = _Tunnel(command.index, command.fqdn, peer, Capsules(command.index))
        self._tunnels[command.index] = tunnel
        for address in peer.values():
            self._asked.pop(address, None)
            for at, inner in self._waiting.pop(address, ()):
                if self._clock() - at <= WAITING_NS:
                    tunnel.waiting.append(inner)

    def _execute_for(
        self,
        tunnel: _Tunnel,
        command: InstallKeys
        | ActivateKeys
        | RetireKeys
        | SetPath
        | ClearPath
        | SendControl
        | OpenSockets
        | CloseSockets
        | Resend,
    ) -> None:
        match command:
            case InstallKeys(_, epoch, cipher, send_key, receive_key, remote_index):
                name = cast("_CipherName", cipher)
                tunnel.capsules.install(epoch, name, send_key, receive_key, remote_index)
            case ActivateKeys(_, epoch):
                tunnel.capsules.activate(epoch)
                tunnel.active = True
                self._flush(tunnel)
            case RetireKeys(_, epoch):
                tunnel.capsules.retire(epoch)
            case SetPath():
                tunnel.path, tunnel.is_away = command, False
                self._let_go(tunnel)
                self._flush(tunnel)
            case ClearPath():
                tunnel.is_away = True
            case SendControl():
                self._send_control(tunnel, command)
            case OpenSockets():
                self._open_sockets(tunnel, command)
            case CloseSockets(_, keep):
                self._close_sockets(tunnel, keep)
            case Resend(_, told):
                self._resend(tunnel, told)
            case _:
                assert_never(command)

    def _change_port(self) -> None:
        if self._ports is None:
            return
        spare = self.two_ports.spare
        self.two_ports.change(self._ports.open(self._receive_at_spare) if spare is None else spare)
        for tunnel in self._tunnels.values():
            path = tunnel.path
            if path is not None and path.remote.version == 4 and path.socket in (0, OTHER_PORT):
                tunnel.path = replace(path, socket=OTHER_PORT - path.socket)

    def _receive_at_spare(self, source: Endpoint, data: bytes, interface: int) -> None:
        if data[:1] == bytes((Kind.CAPSULE,)):
            self.receive(source, data, interface, own=self.two_ports.number(source, spare=True))
        else:
            self._upward.handle_signal(source, data, interface)

    def _open_sockets(self, tunnel: _Tunnel, command: OpenSockets) -> None:
        for number in range(command.first, command.first + command.count):
            if self._ports is not None:
                receive = partial(self.receive, owner=command.index, own=number)
                tunnel.sockets[number] = self._ports.open(receive)

    def _close_sockets(self, tunnel: _Tunnel, keep: tuple[int, ...]) -> None:
        for number in tunnel.sockets.keys() - set(keep):
            port = tunnel.sockets.pop(number)
            if self._ports is not None:
                self._ports.close(port)

    def _send_by(
        self, tunnel: _Tunnel, socket: int, destination: Endpoint, capsule: bytes, interface: int
    ) -> None:
        is_node_port = socket in (0, OTHER_PORT)
        port = tunnel.sockets.get(socket)
        if is_node_port:
            port = self.two_ports.sending(destination, socket)
        if is_node_port and port is None:
            self._send(destination, capsule, interface)
        elif port is None or self._ports is None:
            self.drops["no socket"] += 1
        else:
            self._ports.send(port, destination, capsule, interface)

    def _send_along(self, tunnel: _Tunnel, path: SetPath, capsule: bytes) -> None:
        self._send_by(tunnel, path.socket, path.remote, capsule, path.interface)

    def _send_control(self, tunnel: _Tunnel, command: SendControl) -> None:
        if not tunnel.active:
            self.drops["control without keys"] += 1
            return
        capsule = tunnel.capsules.seal(command.payload, control=True)
        if (there := command.destination) is not None:
            self._send_by(tunnel, command.socket, there, capsule, command.interface)
        elif tunnel.path is not None and not tunnel.is_away:
            self._send_along(tunnel, tunnel.path, capsule)

    def _resend(self, tunnel: _Tunnel, told: tuple[ReceiveState, ...]) -> None:
        if tunnel.path is None or tunnel.is_away:
            return
        missing = tunnel.capsules.missing(*map(astuple, told))
        tunnel.path = replace(tunnel.path, hold=False)
        for capsule in (*missing, *(each for each in tunnel.held if each not in set(missing))):
            self._send_along(tunnel, tunnel.path, capsule)
        tunnel.held.clear()

    def _let_go(self, tunnel: _Tunnel) -> None:
        """Send what was held, if it may leave now."""
        if tunnel.path is None or tunnel.path.hold:
            return
        for capsule in tunnel.held:
            self._send_along(tunnel, tunnel.path, capsule)
        tunnel.held.clear()

    def _send_inner(self, tunnel: _Tunnel, inner: Inner) -> None:
        if not tunnel.active or tunnel.path is None:
            tunnel.waiting.append(inner)
        elif inner.size > tunnel.path.mtu:
            self.drops["too big"] += 1
        else:
            capsule = tunnel.capsules.seal(inner.encode())
            tunnel.tx_bytes += len(inner.data)
            before, tunnel.last_tx = tunnel.last_tx, self._clock()
            if tunnel.is_away or tunnel.path.hold:
                tunnel.held.append(capsule)
                del tunnel.held[:-HELD_CAPSULES]
            else:
                self._send_along(tunnel, tunnel.path, capsule)
            if before is None or tunnel.last_tx - before >= SECOND:
                self._upward.handle_woken(tunnel.index)

    def _flush(self, tunnel: _Tunnel) -> None:
        for _ in range(len(tunnel.waiting) if tunnel.active and tunnel.path else 0):
            self._send_inner(tunnel, tunnel.waiting.popleft())

    def _wait(self, destination: Host, inner: Inner) -> None:
        now = self._clock()
        queue = self._waiting.setdefault(destination, deque(maxlen=WAITING_PACKETS))
        queue.append((now, inner))
        if now >= self._asked.get(destination, Instant(0)):
            self._asked[destination] = Instant(now + WANTED_AGAIN_NS)
            self._upward.handle_wanted(destination)

    def _deliver(self, tunnel: _Tunnel, content: bytes) -> None:
        inner = Inner.decode(content)
        tunnel.rx_bytes += len(inner.data)
        self._upward.deliver(tunnel.fqdn, tunnel.peer[inner.version], inner)

    def _is_newest(self, tunnel: _Tunnel, capsule: bytes) -> bool:
        state = tunnel.capsules.receive_state()
        counter = int.from_bytes(capsule[CAPSULE_COUNTER])
        place = (state[0], counter) if state is not None else (-1, -1)
        newest = state is not None and counter == state[1] and place != tunnel.highest
        if newest:
            tunnel.highest = place
        return newest

    def _came_elsewhere(self, tunnel: _Tunnel, source: Endpoint, own: int) -> bool:
        path = tunnel.path
        return path is not None and (path.remote, path.socket) != (source, own)
