"""Network namespaces and a resolver, for what the agent does to the operating system."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest
from dns.message import Message, QueryMessage
from pyroute2 import netns
from tests.ports import free_ports

from ntmobile.wire.endpoint import Endpoint

PREFIX = "ntmt-"
NUMBERS = count()
SOA = "SOA dc.ntm.example.net. root.ntm.example.net. 1 3600 600 86400 300"


class Namespace:
    """A network namespace with its loopback up."""

    def __init__(self) -> None:
        self.name = f"{PREFIX}{os.getpid()}-{next(NUMBERS)}"
        command("ip", "netns", "add", self.name)
        self.ip("link set lo up")

    def ip(self, arguments: str) -> str:
        return command("ip", "-n", self.name, *arguments.split())

    def run(self, *arguments: str, check: bool = True) -> str:
        return command("ip", "netns", "exec", self.name, *arguments, check=check)

    def popen(self, *arguments: str, **options: object) -> "subprocess.Popen[str]":
        line = ("ip", "netns", "exec", self.name, *arguments)
        return subprocess.Popen(line, text=True, **options)  # type: ignore[call-overload, no-any-return]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and what it opens, is inside."""
        with open("/proc/thread-self/ns/net") as home:
            netns.setns(self.name)
            try:
                yield
            finally:
                netns.setns(home.fileno())

    async def output(self, *arguments: str) -> str:
        """Of a program that needs this event loop to run meanwhile."""
        line = ("ip", "netns", "exec", self.name, *arguments)
        process = await asyncio.create_subprocess_exec(*line, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        return out.decode()

    @contextmanager
    def resolv_conf(self, text: str) -> Iterator[Path]:
        """What programs run in the namespace see as /etc/resolv.conf."""
        directory = Path("/etc/netns", self.name)
        directory.mkdir(parents=True)
        try:
            (directory / "resolv.conf").write_text(text)
            yield directory / "resolv.conf"
        finally:
            shutil.rmtree(directory)

    def remove(self) -> None:
        command("ip", "netns", "del", self.name, check=False)


class Resolver:
    """An ordinary recursive resolver with a few records, on UDP and TCP, where it is opened."""

    def __init__(self) -> None:
        self.records: dict[str, str] = {}
        self.seen: list[bytes] = []
        self.sent: list[bytes] = []
        self.failing = False
        self.over_tcp = 0
        self.flags_over_udp = 0
        self._zones = {"."}
        self._closing: list[Callable[[], None]] = []

    def zone(self, name: str, *, ntm: bool) -> None:
        self._zones.add(name)
        if ntm:
            self.records[f"_ntm._udp.{name}"] = f"SRV 0 0 4330 dc.{name}"

    def names(self) -> list[str]:
        return [dns.message.from_wire(wire).question[0].name.to_text() for wire in self.seen]

    async def open(self, address: str = "127.0.0.1", port: int = 0) -> Endpoint:
        loop = asyncio.get_running_loop()
        port = port or free_ports(1)[0]
        transport, _ = await loop.create_datagram_endpoint(
            lambda: Port(self._answer_udp), local_addr=(address, port)
        )
        self._closing += [transport.close]
        server = await asyncio.start_server(self._serve, address, port)
        self._closing += [server.close]
        return Endpoint(address, port)

    def close(self) -> None:
        for close in self._closing:
            close()

    def _answer_udp(self, wire: bytes) -> bytes:
        answer = bytearray(self.answer(wire))
        answer[2:4] = (int.from_bytes(answer[2:4]) | self.flags_over_udp).to_bytes(2)
        return bytes(answer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        self.over_tcp += 1
        answer = self.answer(wire)
        writer.write(len(answer).to_bytes(2) + answer)
        writer.close()

    def answer(self, wire: bytes) -> bytes:
        self.seen.append(wire)
        query = dns.message.from_wire(wire)
        response = dns.message.make_response(query)
        if self.failing:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif isinstance(query, QueryMessage):
            self._fill(response, query.question[0].name.to_text())
        self.sent.append(response.to_wire())
        return self.sent[-1]

    def _fill(self, response: Message, name: str) -> None:
        record = self.records.get(name.lower())
        if record is not None:
            kind, value = record.split(" ", 1)
            response.answer.append(dns.rrset.from_text(name, 600, "IN", kind, value))
            return
        zone = max((z for z in self._zones if name.endswith(z)), key=len)
        response.set_rcode(dns.rcode.NXDOMAIN)
        response.authority.append(dns.rrset.from_text(zone, 600, "IN", *SOA.split(" ", 1)))


class Port(asyncio.DatagramProtocol):
    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(self._answer(data), addr)


def command(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=180, check=False)
    assert not check or done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


def sweep() -> None:
    """Removes what a killed run left."""
    for path in Path("/run/netns").glob(f"{PREFIX}*"):
        if not Path("/proc", path.name.split("-")[1]).exists():
            command("ip", "netns", "del", path.name, check=False)
            shutil.rmtree(Path("/etc/netns", path.name), ignore_errors=True)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A namespace that the test runs outside of."""
    if os.geteuid() != 0:
        pytest.skip("needs root to make a network namespace")
    sweep()
    made = Namespace()
    yield made
    made.remove()


@pytest.fixture
def inside(namespace: Namespace) -> Iterator[Namespace]:
    """A namespace that the test's thread runs inside of."""
    with namespace.entered():
        yield namespace


@pytest.fixture
async def resolver() -> AsyncIterator[Resolver]:
    """A resolver that the test opens where it wants."""
    made = Resolver()
    yield made
    made.close()
