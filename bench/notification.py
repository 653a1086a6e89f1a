"""Memory of an NS for each idle connection that it holds: the process and the kernel apart.

    python bench/notification.py [--connections 20000]

The NS is the real one, in a process of its own, with nodes that register over real TCP under keys
that a DC handed over by real datagrams. What is printed: resident memory of the NS process before
and after, divided by the connections; and the growth of the kernel's slab and TCP memory, of which
half is the NS's, as both ends of each connection are on this machine.
"""

import argparse
import asyncio
import json
import logging
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

import structlog

from ntmobile.keys.channel import Channel
from ntmobile.keys.table import Kdcns, Kntmns
from ntmobile.proto.conversation import Answered, Challenger, Conversation
from ntmobile.proto.io import Caller
from ntmobile.proto.journal import Journal
from ntmobile.runtime.acceptor import allow_descriptors
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.tasks import Tasks
from ntmobile.servers.config import Role, Site
from ntmobile.servers.notification import NotificationServer
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Envelope, Header, Sender
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.federation import KeySharing, SharedKey
from ntmobile.wire.notification import NotificationDirection, NotificationRegistration
from ntmobile.wire.registration import NtmAck
from ntmobile.wire.stream import frame, split

DOMAIN = "bench.example.org"
HOST = Endpoint("127.0.0.1", 0).host
PORT = 44340
LIFETIME_S = 86_400
AT_ONCE = 200
A_SOURCE = 20_000
"""Connections from one address: fewer than there are ephemeral ports."""
GOAL_KIB = 16
CLOCK = Clock()


def kdcns() -> Kdcns:
    """The key of this run, at both ends."""
    return Kdcns(b"\x07" * 32, b"\x07" * 8, Instant(LIFETIME_S * SECOND * 10**6))


def kntmns(number: int) -> Kntmns:
    """The key of the node of that number."""
    return Kntmns(number.to_bytes(32), number.to_bytes(8), Instant(LIFETIME_S * SECOND * 10**6))


def fqdn(number: int) -> str:
    """Its name."""
    return f"node{number}.user{number % 997}.{DOMAIN}"


async def serve() -> None:
    """The NS: ready when it prints, until standard input ends."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    async with Tasks() as tasks:
        site = Site(Role.NS, "ns", (HOST,), 443, PORT)
        server = NotificationServer(DOMAIN, site, entropy=Random(1), clock=Clock(), tasks=tasks)
        key = kdcns()
        sharing = KeySharing(SharedKey.KDCNS, key.identifier, key.secret, LIFETIME_S, DOMAIN)
        await server.take(Caller(DOMAIN, "127.0.0.1"), sharing)
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        while command := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
            print(json.dumps({"held": server.machine.held, "command": command}), flush=True)
        server.close()


@dataclass(frozen=True)
class Memory:
    """Bytes in use at one moment."""

    process: int
    slab: int
    tcp: int

    @classmethod
    def of(cls, pid: int) -> "Memory":
        """Read them from /proc."""
        status = Path(f"/proc/{pid}/status").read_text()
        resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        info = dict(
            line.split(":") for line in Path("/proc/meminfo").read_text().splitlines() if line
        )
        stat = Path("/proc/net/sockstat").read_text().splitlines()
        tcp = next(line for line in stat if line.startswith("TCP:")).split()
        pages = int(tcp[tcp.index("mem") + 1])
        return cls(
            int(resident.split()[1]) * 1024,
            int(info["Slab"].split()[0]) * 1024,
            pages * os.sysconf("SC_PAGESIZE"),
        )


class Director:
    """The DC: hands over keys by datagrams, a few at once."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((str(HOST), PORT))
        self._socket.settimeout(0.2)
        entropy = Random(2)
        self._conversation: Conversation[int] = Conversation(
            kdcns(), Sender.DC, Challenger(entropy), entropy, Journal("DC"), lambda *_: "NS"
        )

    def direct(self, numbers: range) -> None:
        """Let those nodes in; returns when NS has acknowledged them all."""
        open_ = set(numbers)
        place = Endpoint(HOST, PORT)
        for number in numbers:
            key = kntmns(number)
            message = NotificationDirection(fqdn(number), key.identifier, key.secret, LIFETIME_S)
            self._conversation.ask(message, (place,), _now(), number, tries=100)
        while open_:
            while (transmit := self._conversation.poll_transmit()) is not None:
                self._socket.send(transmit.payload)
            try:
                data = self._socket.recv(2048)
            except TimeoutError:
                self._conversation.handle_timeout(_now())
                continue
            heard = self._conversation.handle_datagram(Header.decode(data), place, data, _now())
            if isinstance(heard, Answered):
                assert isinstance(heard.message, NtmAck), heard
                open_.discard(heard.tag)


def connect(numbers: range) -> list[socket.socket]:
    """Let those nodes register; returns when NS has acknowledged them all."""
    held = []
    for number in numbers:
        made = socket.socket()
        made.bind((f"127.0.1.{1 + number // A_SOURCE}", 0))
        made.connect((str(HOST), PORT))
        channel = Channel(kntmns(number), Sender.NODE, Sender.NS, number.to_bytes(8))
        message = NotificationRegistration(fqdn(number), 1, 3600)
        made.sendall(frame(channel.seal(Envelope(number, b"", message).encode())))
        held.append((made, channel))
    for made, channel in held:
        found: list[bytes] = []
        rest = b""
        while not found:
            found, rest = split(rest + made.recv(2048))
        envelope = Envelope.decode(channel.open(Header.decode(found[0]), found[0]))
        assert isinstance(envelope.message, NtmAck), envelope
    return [made for made, _ in held]


async def measure(count: int) -> None:
    """Start an NS, fill it, print the figures."""
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        "--serve",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdout is not None
    assert server.stdin is not None
    await server.stdout.readline()
    connections: list[socket.socket] = []
    director = Director()
    warm = min(1000, count)
    began = _now()
    for first in range(0, count, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, count))
        director.direct(numbers)
        connections += connect(numbers)
        if first + AT_ONCE == warm:
            before = Memory.of(server.pid)
    after = Memory.of(server.pid)
    server.stdin.write(b"held\n")
    held = json.loads(await server.stdout.readline())["held"]
    report(count - warm, held, before, after, (_now() - began) / SECOND)
    server.stdin.close()
    await server.wait()


def report(count: int, held: int, before: Memory, after: Memory, took_s: float) -> None:
    """Print a table; the first thousand are left out, as they warm the allocator."""
    process = (after.process - before.process) / count
    kernel = (after.slab - before.slab + after.tcp - before.tcp) / count / 2
    print(f"NS holds {held} idle connections in one process ({took_s:.0f} s to set up)")
    print(f"  process  {process / 1024:6.2f} KiB each   (goal: at most {GOAL_KIB})")
    print(f"  kernel   {kernel / 1024:6.2f} KiB each   (half of the growth: both ends are here)")
    print(f"  process in all {after.process / 2**20:.0f} MiB")
    print(
        json.dumps(
            {
                "held": held,
                "process_bytes_each": round(process),
                "kernel_bytes_each": round(kernel),
                "goal_bytes_each": GOAL_KIB * 1024,
            }
        )
    )
    if process > GOAL_KIB * 1024:
        sys.exit("more than the goal")


def _now() -> Instant:
    return CLOCK.now()


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--connections", type=int, default=20_000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments, _ = parser.parse_known_args()
    most = allow_descriptors()
    if arguments.serve:
        asyncio.run(serve())
        return
    count = min(arguments.connections, most - 1000)
    if count < arguments.connections:
        print(f"only {count}: this system allows {most} descriptors a process")
    asyncio.run(measure(count))


if __name__ == "__main__":
    main()
