"""One DNS question to one server: UDP, then TCP when the answer was cut (RFC 7766)."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator

import dns.exception
import dns.flags
import dns.message

from ntmobile.runtime.protection import Protect, unprotected
from ntmobile.runtime.socket_address import socket_address
from ntmobile.wire.endpoint import Endpoint

UDP_SIZE = 1232
"""Largest answer that never fragments (DNS flag day 2020)."""
_LENGTH = struct.Struct("!H")


async def ask(
    server: Endpoint,
    query: dns.message.Message,
    *,
    timeout_s: float,
    protect: Protect = unprotected,
) -> dns.message.Message:
    """Return the server's answer to the query; raises OSError (TimeoutError included).

    protect is given each socket.
    """
    async with asyncio.timeout(timeout_s):
        answer = await _ask_udp(server, query, protect)
        if answer.flags & dns.flags.TC:
            answer = await _ask_tcp(server, query, protect)
        return answer


async def _ask_udp(
    server: Endpoint, query: dns.message.Message, protect: Protect
) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    with _connecting(server, socket.SOCK_DGRAM, protect) as connected:
        await loop.sock_connect(connected, socket_address(server))
        await loop.sock_sendall(connected, query.to_wire())
        while True:
            answer = _parse(await loop.sock_recv(connected, 0xFFFF))
            # Anything else is late or forged; the right one may still come.
            if answer is not None and query.is_response(answer):
                return answer


async def _ask_tcp(
    server: Endpoint, query: dns.message.Message, protect: Protect
) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    wire = query.to_wire()
    with _connecting(server, socket.SOCK_STREAM, protect) as connected:
        await loop.sock_connect(connected, socket_address(server))
        await loop.sock_sendall(connected, _LENGTH.pack(len(wire)) + wire)
        [size] = _LENGTH.unpack(await _read(connected, _LENGTH.size))
        answer = _parse(await _read(connected, size))
    if answer is None or not query.is_response(answer):
        raise ConnectionError(f"{server} answered something else")
    return answer


@contextlib.contextmanager
def _connecting(
    server: Endpoint, kind: socket.SocketKind, protect: Protect
) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if server.version == 6 else socket.AF_INET
    with socket.socket(family, kind) as opened:
        opened.setblocking(False)
        protect(opened.fileno())
        yield opened


async def _read(connected: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        part = await loop.sock_recv(connected, size - len(data))
        if not part:
            raise ConnectionError("the DNS server closed the connection")
        data += part
    return data


def _parse(wire: bytes) -> dns.message.Message | None:
    try:
        return dns.message.from_wire(wire)
    except (dns.exception.DNSException, ValueError):
        return None
