"""HTTP proxies: how a network that lets nobody out directly is left by CONNECT.

Source: RFC 9110, sections 9.3.6 and 11.7.
"""

import asyncio
import base64
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import h11

from ntmobile.errors import NTMobileError
from ntmobile.runtime.protection import Protect, unprotected

DEFAULT_PORT = 3128
MAX_ANSWER = 16 * 1024
VARIABLES = ("https_proxy", "HTTPS_PROXY")


class ProxyError(NTMobileError):
    """The proxy let nothing through."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy and who it shall take us for."""

    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> "Proxy":
        """Parse http://[USER:PASSWORD@]HOST[:PORT]; raises ValueError, without the password."""
        parts = urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError("a proxy is http://HOST:PORT or http://USER:PASSWORD@HOST:PORT")
        user = None if parts.username is None else unquote(parts.username)
        password = None if parts.password is None else unquote(parts.password)
        return cls(parts.hostname, parts.port or DEFAULT_PORT, user, password)

    def __str__(self) -> str:
        """Without the password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def proxy_of_environment(variables: Mapping[str, str] | None = None) -> Proxy | None:
    """Return the proxy of HTTPS_PROXY, None without one or when it cannot be understood."""
    found = os.environ if variables is None else variables
    for name in VARIABLES:
        if value := found.get(name):
            try:
                return Proxy.parse(value)
            except ValueError:
                return None
    return None


async def connect_through(
    proxy: Proxy, host: str, port: int, *, protect: Protect = unprotected
) -> socket.socket:
    """Return a TCP socket that leads to host and port; raises ProxyError or OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, address = found[0]
    raw = socket.socket(family, kind, protocol)
    try:
        raw.setblocking(False)
        protect(raw.fileno())
        await loop.sock_connect(raw, address)
        await loop.sock_sendall(raw, _request(proxy, host, port))
        status = await _status(raw)
    except BaseException:
        raw.close()
        raise
    if not 200 <= status < 300:
        raw.close()
        raise ProxyError(_explain(proxy, host, port, status))
    return raw


def _request(proxy: Proxy, host: str, port: int) -> bytes:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    headers = [("Host", target)]
    if proxy.user is not None:
        said = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode()
        headers.append(("Proxy-Authorization", f"Basic {said}"))
    client = h11.Connection(h11.CLIENT)
    asked = client.send(h11.Request(method="CONNECT", target=target, headers=headers))
    assert asked is not None
    return asked


async def _status(raw: socket.socket) -> int:
    """Read the answer's head and not a byte of what follows; the server waits for us anyway."""
    loop = asyncio.get_running_loop()
    head = b""
    while b"\r\n\r\n" not in head:
        data = await loop.sock_recv(raw, 1024)
        head += data
        if not data or len(head) > MAX_ANSWER:
            raise ProxyError("the proxy does not speak HTTP")
    try:
        return int(head.split(None, 2)[1])
    except (IndexError, ValueError):
        raise ProxyError("the proxy does not speak HTTP") from None


def _explain(proxy: Proxy, host: str, port: int, status: int) -> str:
    match status:
        case 407 if proxy.user is None:
            return (
                f"the proxy {proxy} wants a user and a password: put them into HTTPS_PROXY, "
                "or ntm set proxy=http://USER:PASSWORD@HOST:PORT"
            )
        case 407:
            return (
                f"the proxy {proxy} does not take the user or the password: correct them in "
                "HTTPS_PROXY, or ntm set proxy=http://USER:PASSWORD@HOST:PORT"
            )
        case 403:
            return f"the proxy {proxy} forbids connections to {host}{_said(port)}: ask who runs it"
        case _:
            return f"the proxy {proxy} does not reach {host}{_said(port)} (it answered {status})"


def _said(port: int) -> str:
    """Name the port where it is why: many proxies let nobody to another one than 443."""
    return "" if port == 443 else f", port {port}"
