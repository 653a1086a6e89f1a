"""One end of the conformance suite; run as a program on a machine of the lab.

``end.py sockets`` uses the machine's own sockets: the system type, the VpnService type.
``end.py node STATE`` is a node itself: the framework built-in type.

It serves on the ports below. Each line of its standard input is a question, a JSON array of its
number, a verb and its arguments; a line of its standard output is an answer, a JSON array of that
number and an object. A further question ends the work on the one before it.
"""

import asyncio
import hashlib
import json
import socket
import struct
import sys
import traceback
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, Protocol

import ntmobile

SOURCE, SINK, RESET, FLOOD, ECHO, CLOSED = 7001, 7002, 7003, 7004, 7005, 7999
PIECE = 1 << 16
STALL_S = 0.5
"""A writer that got no further for so long is held back."""
AGAIN_S = 0.5
"""A datagram that is not echoed by then is sent again."""
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Say = Callable[[dict[str, Any]], None]
Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Shapes(Protocol):
    """What both kinds of ends can do."""

    async def connect(self, host: str, port: int, family: int) -> Streams:
        """As asyncio.open_connection."""

    async def serve(self, handle: Handle, port: int) -> None:
        """As asyncio.start_server."""

    async def bind(self, protocol: asyncio.DatagramProtocol, port: int) -> None:
        """Take a UDP port in both families."""

    async def associate(
        self, protocol: asyncio.DatagramProtocol, host: str, port: int, family: int
    ) -> asyncio.DatagramTransport:
        """Return a UDP socket that is connected."""

    async def look_up(self, host: str, family: int) -> list[str]:
        """Return the addresses of a name."""


class Sockets:
    """The machine's own."""

    async def connect(self, host: str, port: int, family: int) -> Streams:
        return await asyncio.open_connection(host, port, family=FAMILIES[family])

    async def serve(self, handle: Handle, port: int) -> None:
        await asyncio.start_server(handle, None, port)

    async def bind(self, protocol: asyncio.DatagramProtocol, port: int) -> None:
        loop = asyncio.get_running_loop()
        made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(("::", port))
        await loop.create_datagram_endpoint(lambda: protocol, sock=made)

    async def associate(
        self, protocol: asyncio.DatagramProtocol, host: str, port: int, family: int
    ) -> asyncio.DatagramTransport:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: protocol, remote_addr=(host, port), family=FAMILIES[family]
        )
        return transport

    async def look_up(self, host: str, family: int) -> list[str]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, 0, family=FAMILIES[family], type=socket.SOCK_STREAM)
        return [str(each[4][0]) for each in found]


class Inside:
    """Those of a node in this process."""

    def __init__(self, node: ntmobile.Node) -> None:
        self._node = node
        self._kept: list[object] = []

    async def connect(self, host: str, port: int, family: int) -> Streams:
        return await self._node.open_connection(host, port, family=FAMILIES[family])

    async def serve(self, handle: Handle, port: int) -> None:
        self._kept.append(await self._node.start_server(handle, port=port))

    async def bind(self, protocol: asyncio.DatagramProtocol, port: int) -> None:
        made = await self._node.create_datagram_endpoint(lambda: protocol, local_port=port)
        self._kept.append(made)

    async def associate(
        self, protocol: asyncio.DatagramProtocol, host: str, port: int, family: int
    ) -> asyncio.DatagramTransport:
        transport, _ = await self._node.create_datagram_endpoint(
            lambda: protocol, remote=(host, port), family=FAMILIES[family]
        )
        return transport

    async def look_up(self, host: str, family: int) -> list[str]:
        found = await self._node.getaddrinfo(
            host, 0, family=FAMILIES[family], type=socket.SOCK_STREAM
        )
        return [each[4][0] for each in found]


def piece(number: int) -> bytes:
    """Return a part of the stream that everybody sends, unlike all others."""
    return hashlib.shake_128(number.to_bytes(4)).digest(PIECE)


def expected(amount: int) -> str:
    """Return the SHA-256 of so many bytes of that stream, whole pieces."""
    digest = hashlib.sha256()
    for number in range(amount // PIECE):
        digest.update(piece(number))
    return digest.hexdigest()


async def send(writer: asyncio.StreamWriter, amount: int, pace_s: float = 0.0) -> None:
    """Send the stream, and wait pace_s after each piece."""
    for number in range(amount // PIECE):
        writer.write(piece(number))
        await writer.drain()
        if pace_s:
            await asyncio.sleep(pace_s)


async def take(reader: asyncio.StreamReader, tell: Callable[[int], None]) -> tuple[int, str]:
    """Read to the end; returns how much it was and its SHA-256. tell is told how much so far."""
    size, digest = 0, hashlib.sha256()
    while part := await reader.read(PIECE):
        size += len(part)
        digest.update(part)
        tell(size)
    return size, digest.hexdigest()


class Echo(asyncio.DatagramProtocol):
    """Sends back what comes."""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(data, addr)


class Heard(asyncio.DatagramProtocol):
    """Keeps what comes, errors too."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | Exception] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.queue.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        self.queue.put_nowait(exc)


class Flood:
    """What was sent to somebody who does not read."""

    def __init__(self) -> None:
        self.sent = 0
        self.begun = asyncio.Event()


class End:
    """Services, and verbs by the names of its methods."""

    def __init__(self, shapes: Shapes, say: Say) -> None:
        self._shapes = shapes
        self._say = say
        self._floods: defaultdict[int, Flood] = defaultdict(Flood)
        self._held: Streams | None = None

    async def serve(self) -> None:
        """Begin all services."""
        services = {SOURCE: self._source, SINK: self._sink, RESET: self._reset, FLOOD: self._flood}
        for port, handle in services.items():
            await self._shapes.serve(handle, port)
        await self._shapes.bind(Echo(), ECHO)

    async def download(self, host: str, family: int, amount: int, pace_s: float) -> dict[str, Any]:
        """Fetch so much; says when a quarter is here."""
        reader, writer = await self._shapes.connect(host, SOURCE, family)
        writer.write(f"{amount} {pace_s}\n".encode())
        quarter = [amount // 4]

        def tell(size: int) -> None:
            if quarter and size >= quarter[0]:
                quarter.clear()
                self._say({"quarter": size})

        size, digest = await take(reader, tell)
        writer.close()
        return {"bytes": size, "sha256": digest}

    async def upload(self, host: str, family: int, amount: int) -> dict[str, Any]:
        """Send so much, end the sending half, and return what the peer says then."""
        reader, writer = await self._shapes.connect(host, SINK, family)
        await send(writer, amount)
        writer.write_eof()
        answer = json.loads(await reader.read())
        writer.close()
        return dict(answer)

    async def reset(self, host: str, family: int) -> dict[str, Any]:
        """Return how a connection ends that the peer breaks off."""
        reader, writer = await self._shapes.connect(host, RESET, family)
        writer.write(b"now\n")
        try:
            ended = await reader.read()
        except OSError as error:
            return {"error": type(error).__name__}
        return {"error": None, "read": len(ended)}

    async def refused(self, host: str, family: int) -> dict[str, Any]:
        """Return what connecting to a port fails with on which nobody listens."""
        try:
            await self._shapes.connect(host, CLOSED, family)
        except OSError as error:
            return {"error": type(error).__name__}
        return {"error": None}

    async def echo(self, host: str, family: int, sizes: list[int]) -> dict[str, Any]:
        """Return how many datagrams came back as they were sent."""
        heard = Heard()
        transport = await self._shapes.associate(heard, host, ECHO, family)
        right = 0
        for number, size in enumerate(sizes):
            sent = piece(number)[:size]
            right += await echoed(transport, heard, sent)
        transport.close()
        return {"right": right}

    async def unheard(self, host: str, family: int) -> dict[str, Any]:
        """Return what a datagram to a port comes to that nobody has."""
        heard = Heard()
        transport = await self._shapes.associate(heard, host, CLOSED, family)
        got = await told(transport, heard)
        transport.close()
        return {"error": type(got).__name__}

    async def look_up(self, host: str, family: int) -> dict[str, Any]:
        """Return a name's addresses."""
        try:
            return {"found": await self._shapes.look_up(host, family)}
        except OSError:
            return {"found": []}

    async def hold(self, host: str, family: int, flood: int) -> dict[str, Any]:
        """Connect to who sends without end, and do not read; `flood` is a number of its own."""
        if self._held is not None:
            self._held[1].transport.abort()
        self._held = await self._shapes.connect(host, FLOOD, family)
        self._held[1].write(f"{flood}\n".encode())
        return {}

    async def stalled(self, flood: int) -> dict[str, Any]:
        """Return how much that flood had sent when it got no further."""
        to = self._floods[flood]
        await to.begun.wait()
        before = -1
        while before != to.sent:
            before = to.sent
            await asyncio.sleep(STALL_S)
        return {"bytes": before}

    async def read_on(self, pieces: int) -> dict[str, Any]:
        """Read so many pieces of the flood, and break it off."""
        assert self._held is not None
        reader, writer = self._held
        digest = hashlib.sha256()
        for _ in range(pieces):
            digest.update(await reader.readexactly(PIECE))
        writer.transport.abort()
        return {"sha256": digest.hexdigest()}

    async def _source(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        amount, pace_s = (await reader.readline()).split()
        await send(writer, int(amount), float(pace_s))
        writer.close()

    async def _sink(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size, digest = await take(reader, lambda _: None)
        writer.write(json.dumps({"bytes": size, "sha256": digest}).encode())
        writer.close()

    async def _reset(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if (system := writer.get_extra_info("socket")) is not None:
            # Otherwise the kernel ends in peace what has nothing left to say.
            system.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def _flood(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            to = self._floods[int(await reader.readline())]
            for number in count():
                writer.write(piece(number))
                await writer.drain()
                to.sent += PIECE
                to.begun.set()


async def echoed(transport: asyncio.DatagramTransport, heard: Heard, sent: bytes) -> bool:
    """Send a datagram until it comes back, as an application does that uses UDP."""
    while True:
        transport.sendto(sent)
        with suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_S):
                while (got := await heard.queue.get()) != sent:
                    if isinstance(got, Exception):
                        return False
                return True


async def told(transport: asyncio.DatagramTransport, heard: Heard) -> bytes | Exception:
    """Send a datagram until something comes of it."""
    while True:
        transport.sendto(b"anybody?")
        with suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_S):
                return await heard.queue.get()


class Obeying:
    """Does what it is asked, one thing at a time: the last."""

    def __init__(self, shapes: Shapes) -> None:
        self.end = End(shapes, self._say)
        self._number = 0
        self._work: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Serve, and say so."""
        await self.end.serve()
        self._say({"ready": True})

    async def ask(self, line: bytes) -> None:
        """Begin to do what a line says."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
        self._number, verb, *arguments = json.loads(line)
        work = self._do(getattr(self.end, verb)(*arguments))
        self._work = asyncio.get_running_loop().create_task(work)

    async def _do(self, work: Awaitable[dict[str, Any]]) -> None:
        try:
            answer = await work
        except Exception:
            answer = {"failed": traceback.format_exc()}
        self._say(answer)

    def _say(self, answer: dict[str, Any]) -> None:
        print(json.dumps([self._number, answer]), flush=True)


@asynccontextmanager
async def shapes() -> AsyncIterator[Shapes]:
    """What the command line says."""
    if sys.argv[1] == "sockets":
        yield Sockets()
        return
    async with ntmobile.Node.open(sys.argv[2]) as node:
        yield Inside(node)


async def main() -> None:
    """Serve and obey until the input ends."""
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    async with shapes() as made:
        obeying = Obeying(made)
        await obeying.begin()
        while line := await commands.readline():
            await obeying.ask(line)


if __name__ == "__main__":
    asyncio.run(main())
