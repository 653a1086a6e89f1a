"""One end of what bench/framework.py measures: a server, or a client that does as it is told.

python bench/framework_end.py framework SIDE PEER    the framework type, over a tunnel of fixed keys
python bench/framework_end.py plain SIDE HOST        the same program over the system's own sockets
Side b serves; side a reads commands of its standard input, one a line, and answers each with a
line of JSON. Both end with their standard input.
"""

import asyncio
import json
import os
import resource
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

from tunnel_end import INDEX, IPV4, IPV6, KEYS

from ntmobile._core import Engine, Stack
from ntmobile.sockets.connecting import connect
from ntmobile.sockets.events import Events
from ntmobile.sockets.server import Server
from ntmobile.wire.endpoint import Endpoint

SERVICE = 5001
PORT = 4330
MTU = 1420
BACKLOG = 256
PIECE = bytes(1 << 18)
AT_ONCE = 100
SETTLED_S = 3
SINK, ECHO = b"s", b"e"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Open = Callable[[], Awaitable[Streams]]


class Framework:
    """An engine and a stack, as a node has them, and no servers."""

    def __init__(self, side: str, peer: str) -> None:
        other = "b" if side == "a" else "a"
        index, own, far = (
            INDEX[side],
            *((packed(IPV4[each]), packed(IPV6[each])) for each in (side, other)),
        )
        self.engine, self.stack = Engine(port=PORT), Stack(index)
        self.engine.open_tunnel(
            index, own_ipv4=own[0], own_ipv6=own[1], peer_ipv4=far[0], peer_ipv6=far[1]
        )
        self.engine.install_keys(index, 0, "aes-256-gcm", KEYS[side], KEYS[other], INDEX[other])
        self.engine.set_path(index, packed(peer), PORT, mtu=MTU)
        self.engine.activate_keys(index, 0)
        self.stack.set_addresses(*own)
        for host in far:
            self.stack.set_mtu(host, MTU)
        self.engine.attach_stack(self.stack)
        self.events = Events(self.stack, asyncio.get_running_loop())
        self.there = Endpoint.of(far[0], SERVICE)

    async def serve(self) -> None:
        def make() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(), answer)

        self.server = Server(self.events, make, lambda _: None, port=SERVICE, backlog=BACKLOG)

    async def open(self) -> Streams:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        stream = await connect(self.events, self.there, protocol, fqdn=None)
        return reader, asyncio.StreamWriter(stream, protocol, reader, asyncio.get_running_loop())

    def count(self) -> int:
        return self.stack.count()


class Plain:
    """The system's own sockets."""

    def __init__(self, side: str, peer: str) -> None:
        self.peer = peer

    async def serve(self) -> None:
        self.server = await asyncio.start_server(answer, None, SERVICE, backlog=BACKLOG)

    async def open(self) -> Streams:
        return await asyncio.open_connection(self.peer, SERVICE)

    def count(self) -> int:
        return 0


def packed(address: str) -> bytes:
    return ip_address(address).packed


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection: count what comes and say so at its end, or echo it."""
    kind = await reader.read(1)
    if kind == SINK:
        writer.write(json.dumps(await sink(reader)).encode())
    elif kind == ECHO:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def sink(reader: asyncio.StreamReader) -> dict[str, float]:
    begun, count = time.perf_counter(), 0
    while data := await reader.read(1 << 20):
        count += len(data)
    return {"bytes": count, "seconds": time.perf_counter() - begun}


class Client:
    """Does what it is told; each method is a command, with a number."""

    def __init__(self, open_: Open, count: Callable[[], int]) -> None:
        self._open = open_
        self._count = count
        self._idle: list[Streams] = []

    async def stream(self, seconds: float) -> object:
        """Send for so long; what the receiver counted."""
        reader, writer = await self._open()
        writer.write(SINK)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            writer.write(PIECE)
            await writer.drain()
        writer.write_eof()
        told = json.loads(await reader.read())
        writer.close()
        return told

    async def idle(self, count: int) -> object:
        """Open so many connections, each proven by an echo, and keep them."""
        self._idle += await self._each(count, self._one)
        return self._usage()

    async def drop(self, _: int) -> object:
        """Close the idle ones."""
        for reader, writer in self._idle:
            writer.write_eof()
            await reader.read()
            writer.close()
        self._idle.clear()
        await self._settled()
        return self._usage()

    async def churn(self, count: int) -> object:
        """Open so many, one batch after the other, and close each after an echo."""
        begun = time.perf_counter()
        for begin in range(0, count, AT_ONCE):
            await self._each(min(AT_ONCE, count - begin), self._short)
        seconds = time.perf_counter() - begun
        await self._settled()
        return self._usage() | {"seconds": seconds}

    async def busy(self, count: int) -> object:
        """Echo 16 KiB over so many connections at the same time."""
        begun = time.perf_counter()
        streams = await self._each(count, self._one)
        opened = time.perf_counter() - begun
        right = await asyncio.gather(*(exchange(*each) for each in streams))
        seconds = time.perf_counter() - begun
        for _, writer in streams:
            writer.close()
        await self._settled()
        return self._usage() | {"opened_s": opened, "seconds": seconds, "right": sum(right)}

    async def usage(self, _: int) -> object:
        """What this process holds."""
        return self._usage()

    async def settled(self, _: int) -> object:
        """The same, once what the peer has left is over here too."""
        for _ in range(SETTLED_S * 100):
            if self._count() == 0:
                break
            await asyncio.sleep(0.01)
        return self._usage()

    def _usage(self) -> dict[str, float]:
        return {
            "connections": self._count(),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "resident_mib": resident_kib() / 1024,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }

    async def _each(self, count: int, work: Callable[[], Awaitable[Streams]]) -> list[Streams]:
        done: list[Streams] = []
        for begin in range(0, count, AT_ONCE):
            batch = (work() for _ in range(min(AT_ONCE, count - begin)))
            done += await asyncio.gather(*batch)
        return done

    async def _one(self) -> Streams:
        reader, writer = await self._open()
        writer.write(ECHO + b"?")
        assert await reader.readexactly(1) == b"?"
        return reader, writer

    async def _short(self) -> Streams:
        reader, writer = await self._one()
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        return reader, writer

    async def _settled(self) -> None:
        while self._count():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    said = secrets.token_bytes(1 << 14)
    writer.write(said)
    writer.write_eof()
    return await reader.read() == said


def resident_kib() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


async def main(kind: str, side: str, peer: str) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    end = {"framework": Framework, "plain": Plain}[kind](side, peer)
    loop = asyncio.get_running_loop()
    if side == "b":
        await end.serve()
    client = Client(end.open, end.count)
    print("ready", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command, number = line.split()
        print(json.dumps(await getattr(client, command)(int(number))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
