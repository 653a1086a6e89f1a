"""An HTTP proxy: CONNECT, and requests with a whole URL. Source: RFC 9110, section 9.3.6; RFC 9112.

A request with a whole URL is passed on with `Connection: close`, so that each has a connection of
its own: the next may be for another host.
"""

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

from ntmobile.errors import Remedy
from ntmobile.sockets.proxy.dialing import Dialer
from ntmobile.sockets.proxy.pump import pump

MOST_HEAD = 1 << 16
ASK_S = 30.0
ENDS = b"\r\n\r\n"
HOP_BY_HOP = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"proxy-authorization"})


@dataclass(frozen=True)
class Request:
    """Where a request goes, and what is sent there first."""

    host: str
    port: int
    head: bytes
    """Empty for CONNECT."""


def parse(head: bytes) -> Request:
    """Parse the head of a request, its empty line included; raises ValueError."""
    first, *fields = head.removesuffix(ENDS).split(b"\r\n")
    method, target, version = first.split(b" ")
    text = target.decode("ascii")
    if method == b"CONNECT":
        host, port = _place(f"//{text}", 443)
        return Request(host, port, b"")
    if not text.lower().startswith("http://"):
        raise ValueError("a proxy is asked with CONNECT, or with a whole http URL")
    host, port = _place(text, 80)
    parts = urlsplit(text)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    kept = [field for field in fields if field.split(b":")[0].strip().lower() not in HOP_BY_HOP]
    lines = [b" ".join((method, path.encode("ascii"), version)), *kept, b"Connection: close"]
    return Request(host, port, b"\r\n".join(lines) + ENDS)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dialer: Dialer) -> None:
    """Serve one connection of an application."""
    try:
        async with asyncio.timeout(ASK_S):
            request = parse(await reader.readuntil(ENDS))
    except (ValueError, asyncio.LimitOverrunError):
        return _answer(writer, b"400 Bad Request", "this is a proxy for HTTP")
    except (OSError, EOFError):
        return writer.close()
    try:
        there = await dialer.dial(request.host, request.port)
    except OSError as error:
        return _answer(writer, b"502 Bad Gateway", _why(request, error))
    if request.head:
        there[1].write(request.head)
    else:
        writer.write(b"HTTP/1.1 200 Connection established" + ENDS)
    await pump((reader, writer), there)


def _why(request: Request, error: OSError) -> str:
    if isinstance(error, Remedy):
        return f"{error.problem}\nnext: {error.remedy}"
    return f"{request.host}:{request.port}: {error.strerror or 'timed out'}"


def _answer(writer: asyncio.StreamWriter, status: bytes, text: str) -> None:
    body = f"{text}\n".encode()
    fields = b"Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    length = b"Content-Length: %d" % len(body)
    writer.write(b"HTTP/1.1 " + status + b"\r\n" + fields + length + ENDS + body)
    writer.close()


def _place(url: str, default: int) -> tuple[str, int]:
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("no host")
    return parts.hostname, parts.port or default
