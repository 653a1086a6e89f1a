"""Somebody on the internet who records datagrams and sends them again, mangled, and garbage.

A recording is a file of tcpdump on all interfaces (SLL2, 20 bytes before the IP header); UDP over
IPv4 is what is looked at. `python attacker.py HOST PORT SECONDS RATE TEMPLATE...` floods a port
with datagrams that begin like the templates (hex), and prints how many it sent.
"""

import random
import socket
import ssl
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from ntmobile.lab.namespace import Namespace

FILE_HEADER, PACKET_HEADER, COOKED = 24, 16, 20
LINKTYPE_SLL2 = 276
ETHERTYPE_IPV4 = 0x0800
UDP_SEGMENT = 103
BATCH = 50
"""Datagrams that one call hands to the kernel (UDP_SEGMENT): sending must cost little."""
TAIL = 16
PATIENCE_S = 1.0

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Datagram:
    """One UDP datagram over IPv4."""

    source: Address
    destination: Address
    payload: bytes


def datagrams(recording: Path) -> Iterator[Datagram]:
    """Return each datagram once, in the order in which it was first seen."""
    data = recording.read_bytes()
    assert struct.unpack_from("<I", data, 20)[0] == LINKTYPE_SLL2
    at, seen = FILE_HEADER, set[Datagram]()
    while at < len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        packet = data[at + PACKET_HEADER : at + PACKET_HEADER + length]
        at += PACKET_HEADER + length
        datagram = _udp(packet)
        if datagram is not None and datagram not in seen:
            seen.add(datagram)
            yield datagram


def _udp(packet: bytes) -> Datagram | None:
    inner = packet[COOKED:]
    if struct.unpack_from("!H", packet)[0] != ETHERTYPE_IPV4 or inner[9] != socket.IPPROTO_UDP:
        return None
    source, destination = (str(IPv4Address(inner[at : at + 4])) for at in (12, 16))
    head = 4 * (inner[0] & 15)
    ports = struct.unpack_from("!HH", inner, head)
    payload = inner[head + 8 : struct.unpack_from("!H", inner, 2)[0]]
    return Datagram((source, ports[0]), (destination, ports[1]), payload)


def forge(datagram: Datagram) -> bytes:
    """Return the IPv4 packet of a datagram, whoever really sends it."""
    ports = (datagram.source[1], datagram.destination[1])
    body = struct.pack("!HHHH", *ports, 8 + len(datagram.payload), 0) + datagram.payload
    hosts = (IPv4Address(end[0]).packed for end in (datagram.source, datagram.destination))
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, 17, 0, *hosts) + body


class Attacker:
    """A machine of the lab that belongs to nobody."""

    def __init__(self, machine: Namespace, seed: str) -> None:
        """The same seed does the same."""
        self.machine = machine
        self._random = random.Random(seed)

    def replay(self, recorded: list[Datagram]) -> None:
        """Send datagrams again: in the name of who sent them, and in one's own."""
        with self.machine.socket(kind=socket.SOCK_RAW, protocol=socket.IPPROTO_RAW) as raw:
            for datagram in recorded:
                raw.sendto(forge(datagram), (datagram.destination[0], 0))
        with self.machine.socket() as own:
            for datagram in recorded:
                own.sendto(datagram.payload, datagram.destination)

    def mangle(self, recorded: list[Datagram]) -> None:
        """Send datagrams with a bit flipped, cut and lengthened, in their senders' names."""
        with self.machine.socket(kind=socket.SOCK_RAW, protocol=socket.IPPROTO_RAW) as raw:
            for datagram in recorded:
                for payload in self._mangled(datagram.payload):
                    forged = Datagram(datagram.source, datagram.destination, payload)
                    raw.sendto(forge(forged), (datagram.destination[0], 0))

    def throw(self, target: Address, count: int) -> None:
        """Send garbage to a UDP port, each kind of first byte among it."""
        with self.machine.socket() as own:
            for number in range(count):
                noise = self._random.randbytes(self._random.randrange(1, 1400))
                own.sendto(bytes((number % 256,)) + noise, target)

    def throw_at_listener(self, target: Address, count: int) -> None:
        """Connect to a TCP port, send garbage, and go away without listening."""
        for _ in range(count):
            with self.machine.socket(kind=socket.SOCK_STREAM) as own, suppress(OSError):
                own.settimeout(PATIENCE_S)
                own.connect(target)
                own.sendall(self._random.randbytes(self._random.randrange(1, 4000)))

    def throw_at_web(self, target: Address, path: str, body: bytes) -> int:
        """POST something over TLS; returns the HTTP status, 0 for a closed connection."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/msgpack\r\n"
        request = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
        with self.machine.socket(kind=socket.SOCK_STREAM) as own:
            own.settimeout(PATIENCE_S * 10)
            own.connect(target)
            with context.wrap_socket(own) as secure:
                secure.sendall(request)
                answer = secure.recv(4096)
        return int(answer.split()[1]) if answer else 0

    def noise(self, size: int) -> bytes:
        """Return that many random bytes."""
        return self._random.randbytes(size)

    def _mangled(self, payload: bytes) -> Iterator[bytes]:
        place = self._random.randrange(8 * len(payload))
        flipped = int.from_bytes(payload) ^ (1 << place)
        yield flipped.to_bytes(len(payload))
        yield payload[: self._random.randrange(len(payload))]
        yield payload + b"\0"


def flood(target: Address, seconds: float, rate: int, templates: list[bytes]) -> int:
    """Send datagrams at an even rate; returns how many."""
    sent, began = 0, time.perf_counter()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        while (passed := time.perf_counter() - began) < seconds:
            if sent > rate * passed:
                time.sleep(BATCH / rate / 4)
                continue
            template = templates[sent // BATCH % len(templates)]
            own.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, len(template))
            heads = template[:-TAIL]
            batch = b"".join(heads + random.randbytes(TAIL) for _ in range(BATCH))
            own.sendto(batch, target)
            sent += BATCH
    return sent


def main(host: str, port: str, seconds: str, rate: str, *templates: str) -> None:
    """Flood as the command line says."""
    print(flood((host, int(port)), float(seconds), int(rate), [*map(bytes.fromhex, templates)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
