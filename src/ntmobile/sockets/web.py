"""httpx over a node: clients whose URLs name nodes.

    async with ntmobile.Node.open(state) as node:
        async with httpx.AsyncClient(transport=HttpTransport(node)) as client:
            await client.get("http://pc.bob.ntm.example.net/")

`BlockingHttpTransport` is the same for httpx.Client, over `ntmobile.blocking`.
"""

import asyncio
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

from ntmobile.sockets.blocking import BlockingNode, NodeSocket
from ntmobile.sockets.blocking_tls import SecureSocket
from ntmobile.sockets.node import Node

SocketOptions = Iterable[Any] | None


class HttpTransport(httpx.AsyncHTTPTransport):
    """For httpx.AsyncClient(transport=...); TLS and HTTP/2 as in httpx."""

    def __init__(
        self, node: Node, *, verify: ssl.SSLContext | bool = True, http2: bool = False
    ) -> None:
        """Connections are kept open and used again, as httpx does."""
        super().__init__(verify=verify, http2=http2)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_context(verify), http2=http2, network_backend=_Backend(node)
        )


class BlockingHttpTransport(httpx.HTTPTransport):
    """For httpx.Client(transport=...)."""

    def __init__(
        self, node: BlockingNode, *, verify: ssl.SSLContext | bool = True, http2: bool = False
    ) -> None:
        """Connections are kept open and used again, as httpx does."""
        super().__init__(verify=verify, http2=http2)
        self._pool = httpcore.ConnectionPool(
            ssl_context=_context(verify), http2=http2, network_backend=_BlockingBackend(node)
        )


def _context(verify: ssl.SSLContext | bool) -> ssl.SSLContext:
    return verify if isinstance(verify, ssl.SSLContext) else httpx.create_ssl_context(verify)


@contextmanager
def _as_httpcore(late: type[Exception], failed: type[Exception]) -> Iterator[None]:
    """Errors as httpcore's own backends raise them."""
    try:
        yield
    except TimeoutError as error:
        raise late(str(error)) from error
    except (OSError, EOFError) as error:
        raise failed(str(error)) from error


class _Backend(httpcore.AsyncNetworkBackend):
    def __init__(self, node: Node) -> None:
        self._node = node

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: SocketOptions = None,
    ) -> httpcore.AsyncNetworkStream:
        with _as_httpcore(httpcore.ConnectTimeout, httpcore.ConnectError):
            async with asyncio.timeout(timeout):
                return _Stream(*await self._node.open_connection(host, port))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        with _as_httpcore(httpcore.ReadTimeout, httpcore.ReadError):
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        with _as_httpcore(httpcore.WriteTimeout, httpcore.WriteError):
            async with asyncio.timeout(timeout):
                self._writer.write(buffer)
                await self._writer.drain()

    async def aclose(self) -> None:
        self._writer.close()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        with _as_httpcore(httpcore.ConnectTimeout, httpcore.ConnectError):
            async with asyncio.timeout(timeout):
                await self._writer.start_tls(ssl_context, server_hostname=server_hostname)
        return self

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return self._writer.get_extra_info(names.get(info, info))


class _BlockingBackend(httpcore.NetworkBackend):
    def __init__(self, node: BlockingNode) -> None:
        self._node = node

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: SocketOptions = None,
    ) -> httpcore.NetworkStream:
        with _as_httpcore(httpcore.ConnectTimeout, httpcore.ConnectError):
            return _BlockingStream(self._node.create_connection((host, port), timeout))


class _BlockingStream(httpcore.NetworkStream):
    def __init__(self, connection: NodeSocket | SecureSocket) -> None:
        self._connection = connection

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _as_httpcore(httpcore.ReadTimeout, httpcore.ReadError):
            self._connection.settimeout(timeout)
            return self._connection.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with _as_httpcore(httpcore.WriteTimeout, httpcore.WriteError):
            self._connection.settimeout(timeout)
            self._connection.sendall(buffer)

    def close(self) -> None:
        self._connection.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        assert isinstance(self._connection, NodeSocket), "httpcore asks once"
        with _as_httpcore(httpcore.ConnectTimeout, httpcore.ConnectError):
            self._connection.settimeout(timeout)
            return _BlockingStream(self._connection.start_tls(ssl_context, server_hostname))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401
        if info == "ssl_object":
            return getattr(self._connection, "ssl_object", None)
        places = {
            "client_addr": self._connection.getsockname,
            "server_addr": self._connection.getpeername,
        }
        return places[info]() if info in places else None
