"""SOCKS version 5: CONNECT and UDP ASSOCIATE, without a password. Source: RFC 1928."""

import asyncio
import errno
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ntmobile.sockets.proxy.dialing import Dialer, errno_of
from ntmobile.sockets.proxy.pump import pump
from ntmobile.sockets.proxy.udp import Association

VERSION = 5
NO_PASSWORD, NONE_ACCEPTABLE = 0, 0xFF
CONNECT, UDP_ASSOCIATE = 1, 3
IPV4, NAME, IPV6 = 1, 3, 4
SUCCEEDED, FAILED, NOT_ALLOWED, UNREACHABLE, REFUSED, NO_COMMAND, NO_FAMILY = 0, 1, 2, 4, 5, 7, 8
REPLIES = {
    errno.EACCES: NOT_ALLOWED,
    errno.ECONNREFUSED: REFUSED,
    errno.EHOSTUNREACH: UNREACHABLE,
    errno.ENETUNREACH: 3,
    errno.ETIMEDOUT: UNREACHABLE,
}
ASK_S = 30.0
"""Who connects and asks nothing is cut."""


class Unsupported(Exception):
    """The request is not one that this proxy serves."""

    def __init__(self, reply: int) -> None:
        """Reply is the code that says so."""
        super().__init__(reply)
        self.reply = reply


@dataclass(frozen=True)
class Request:
    """What the application asks for."""

    command: int
    host: str
    port: int


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dialer: Dialer) -> None:
    """Serve one connection of an application."""
    try:
        async with asyncio.timeout(ASK_S):
            await _greet(reader, writer)
            request = await read_request(reader)
    except (OSError, EOFError, ValueError):
        return writer.close()
    except Unsupported as error:
        return await _refuse(writer, error.reply)
    if request.command == CONNECT:
        await _connect(reader, writer, dialer, request)
    else:
        await _associate(reader, writer, dialer)


async def read_request(reader: asyncio.StreamReader) -> Request:
    """Read a request; raises Unsupported, ValueError, EOFError."""
    version, command, _, kind = await reader.readexactly(4)
    if version != VERSION:
        raise ValueError(f"SOCKS version {version}")
    match kind:
        case 1:
            host = str(IPv4Address(await reader.readexactly(4)))
        case 3:
            [length] = await reader.readexactly(1)
            host = (await reader.readexactly(length)).decode("ascii")
        case 4:
            host = str(IPv6Address(await reader.readexactly(16)))
        case _:
            raise Unsupported(NO_FAMILY)
    [port] = struct.unpack("!H", await reader.readexactly(2))
    if command not in (CONNECT, UDP_ASSOCIATE):
        raise Unsupported(NO_COMMAND)
    return Request(command, host, port)


def reply(code: int, host: str = "0.0.0.0", port: int = 0) -> bytes:
    """Return an answer; host is an IPv4 address."""
    place = IPv4Address(host).packed + struct.pack("!H", port)
    return bytes([VERSION, code, 0, IPV4]) + place


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    version, count = await reader.readexactly(2)
    methods = await reader.readexactly(count)
    if version != VERSION or NO_PASSWORD not in methods:
        writer.write(bytes([VERSION, NONE_ACCEPTABLE]))
        raise ValueError("no method without a password, or another version")
    writer.write(bytes([VERSION, NO_PASSWORD]))
    await writer.drain()


async def _connect(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dialer: Dialer, request: Request
) -> None:
    try:
        there = await dialer.dial(request.host, request.port)
    except OSError as error:
        return await _refuse(writer, REPLIES.get(errno_of(error), FAILED))
    writer.write(reply(SUCCEEDED))
    await pump((reader, writer), there)


async def _associate(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dialer: Dialer
) -> None:
    """Relay datagrams for as long as the connection that asked stands."""
    async with Association(dialer, writer.get_extra_info("sockname")[0]) as association:
        writer.write(reply(SUCCEEDED, *association.place))
        try:
            while await reader.read(1 << 10):
                pass
        except OSError:
            pass
    writer.close()


async def _refuse(writer: asyncio.StreamWriter, code: int) -> None:
    writer.write(reply(code))
    writer.close()
