"""The operating system's part on Linux: what a phone's VPN service does, for a node without rights.

``python -m ntmobile.vpn.linux SOCKET [--user UID] [--lockdown]``, run by root, makes a TUN device,
sets it up as the node says, hands its descriptor over, and marks the node's own sockets, which a
routing rule keeps out of the device. It prints `ready`, serves one node after the other, and gives
everything back at its end. With --lockdown nothing but the node's own sockets leaves past the
device, as with "block connections without VPN" on Android.
"""

import argparse
import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ntmobile._core import open_tun
from ntmobile.agent.links import OWN_TUN_PREFIX, Links
from ntmobile.agent.links_netlink import read_routes
from ntmobile.proto.node.events import LocalAddress
from ntmobile.runtime.protection import marking
from ntmobile.runtime.resolver import RESOLV_CONF, system_servers
from ntmobile.vpn.configuration import Configuration, Network
from ntmobile.vpn.messages import LONGEST, Message, configuration_of, decode, encode, of_network
from ntmobile.wire.endpoint import Host

MARK = 0x6E74
"""SO_MARK of the node's own sockets."""
TABLE = 28276
"""The routing table of all other packets."""
PRIORITY = 5170
"""Of the rule that says so: before the main table."""
_IP = {4: "-4", 6: "-6"}


class Device:
    """The TUN device, and what leads packets into it."""

    def __init__(self, *, lockdown: bool) -> None:
        """Makes it; raises OSError without the right to."""
        self.descriptor, self.name, _ = open_tun(f"{OWN_TUN_PREFIX}%d", offload=False)
        self._lockdown = lockdown
        self._before: Configuration | None = None
        self._resolv_conf = Path(RESOLV_CONF).read_text(encoding="utf-8")

    def configure(self, wanted: Configuration) -> None:
        """Sets it up; raises subprocess.CalledProcessError."""
        before = self._before or Configuration((), (), (), ())
        run(f"link set {self.name} mtu {wanted.mtu} up")
        for host in set(before.addresses) - set(wanted.addresses):
            run(f"addr del {_whole(host)} dev {self.name}")
        for host in wanted.addresses:
            run(f"addr replace {_whole(host)} dev {self.name}{_nodad(host)}")
        for net in set(before.routes) - set(wanted.routes):
            run(f"{_IP[net.version]} route del {net} dev {self.name} table {TABLE}")
        for net in wanted.routes:
            run(f"{_IP[net.version]} route replace {net} dev {self.name} table {TABLE}")
        if self._before is None:
            self._lead()
        lines = [f"search {' '.join(wanted.search)}", *(f"nameserver {h}" for h in wanted.dns)]
        Path(RESOLV_CONF).write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._before = wanted

    def close(self) -> None:
        """Gives everything back."""
        if self._before is not None:
            Path(RESOLV_CONF).write_text(self._resolv_conf, encoding="utf-8")
            for family in _IP.values():
                with suppress(subprocess.CalledProcessError):
                    run(f"{family} rule del priority {PRIORITY}")
                    run(f"{family} route flush table {TABLE}")
        os.close(self.descriptor)

    def _lead(self) -> None:
        for family in _IP.values():
            run(f"{family} rule add not fwmark {MARK} lookup {TABLE} priority {PRIORITY}")
            if self._lockdown:
                run(f"{family} route replace unreachable default table {TABLE} metric 9999")


@dataclass
class Peer:
    """A connection of the node's."""

    channel: socket.socket
    control: bool = False
    has_device: bool = False


@dataclass
class Service:
    """Answers the node, and tells it where the machine is."""

    device: Device
    servers: tuple[Host, ...]
    peers: list[Peer] = field(default_factory=list)
    network: Network | None = None

    def accept(self, listener: socket.socket) -> None:
        """Take a connection."""
        channel, _ = listener.accept()
        peer = Peer(channel)
        self.peers.append(peer)
        asyncio.get_running_loop().add_reader(channel, self.read, peer)

    def read(self, peer: Peer) -> None:
        """Do what the node asks."""
        packet, descriptors, _, _ = socket.recv_fds(peer.channel, LONGEST, 1)
        if not packet:
            self.drop(peer)
            return
        given: list[int] = []
        message: Message = {}
        try:
            message = decode(packet)
            given = self.obey(peer, message, descriptors)
        except (ValueError, KeyError, TypeError, OSError, subprocess.SubprocessError) as error:
            answer: Message = {"ok": False, "why": str(error)}
        else:
            answer = {"ok": True}
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        with suppress(OSError):
            socket.send_fds(peer.channel, [encode(answer)], given)
            if message.get("hello") == "control":
                peer.channel.send(encode(of_network(self.network)))

    def obey(self, peer: Peer, message: Message, descriptors: list[int]) -> list[int]:
        """Do one request; returns the descriptors of its answer."""
        match message:
            case {"hello": purpose}:
                peer.control = purpose == "control"
            case {"protect": True}:
                [descriptor] = descriptors
                marking(MARK)(descriptor)
            case {"configure": _}:
                self.device.configure(configuration_of(message))
                if not peer.has_device:
                    peer.has_device = True
                    return [self.device.descriptor]
            case _:
                raise ValueError("unknown request")
        return []

    def drop(self, peer: Peer) -> None:
        """The node closed a connection."""
        asyncio.get_running_loop().remove_reader(peer.channel)
        peer.channel.close()
        self.peers.remove(peer)

    def handle_links(self, addresses: tuple[LocalAddress, ...]) -> None:
        """The machine is elsewhere."""
        self.network = network_at(addresses, self.servers)
        for peer in self.peers:
            if peer.control:
                with suppress(OSError):
                    peer.channel.send(encode(of_network(self.network)))


def network_at(addresses: tuple[LocalAddress, ...], dns: tuple[Host, ...]) -> Network | None:
    """Return the network of the preferred uplink; None without any."""
    if not addresses:
        return None
    best = addresses[0]
    hosts = tuple(a.endpoint.host for a in addresses if a.interface == best.interface)
    routes = tuple(r.destination for r in read_routes() if r.interface == best.interface)
    return Network(hosts, dns, routes, best.mtu, best.interface)


async def serve(place: Path, user: int, *, lockdown: bool) -> None:
    """Serve until SIGTERM."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    servers = tuple(server.host for server in system_servers())
    with ExitStack() as stack:
        device = Device(lockdown=lockdown)
        stack.callback(device.close)
        service = Service(device, servers)
        listener = stack.enter_context(_listening(place, user))
        async with Links(service.handle_links, 0):
            loop.add_reader(listener, service.accept, listener)
            print("ready", flush=True)
            await ended.wait()
        loop.remove_reader(listener)
        for peer in tuple(service.peers):
            service.drop(peer)


@contextmanager
def _listening(place: Path, user: int) -> Iterator[socket.socket]:
    place.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(place))
        place.chmod(0o600)
        os.chown(place, user, -1)
        listener.listen()
        yield listener
    place.unlink(missing_ok=True)


def run(words: str) -> None:
    """Run an `ip` command; raises subprocess.CalledProcessError."""
    subprocess.run(["ip", *words.split()], check=True, stdout=subprocess.DEVNULL)


def _whole(host: Host) -> str:
    return f"{host}/{host.max_prefixlen}"


def _nodad(host: Host) -> str:
    return " nodad" if host.version == 6 else ""


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m ntmobile.vpn.linux")
    parser.add_argument("place", type=Path, help="the Unix socket to listen on")
    parser.add_argument("--user", type=int, default=0, help="who may use it, a number")
    parser.add_argument("--lockdown", action="store_true", help="nothing leaves past the device")
    chosen = parser.parse_args()
    asyncio.run(serve(chosen.place, chosen.user, lockdown=chosen.lockdown))


if __name__ == "__main__":
    main()
