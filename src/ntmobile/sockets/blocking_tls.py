"""TLS inside a blocking connection, for code that speaks it anyway: the tunnel is encrypted."""

import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from ntmobile.sockets.blocking import Address, NodeSocket

R = TypeVar("R")
PIECE = 1 << 16


class SecureSocket:
    """A NodeSocket in TLS; for one thread at a time."""

    def __init__(
        self, connection: "NodeSocket", context: ssl.SSLContext, server_hostname: str | None
    ) -> None:
        """Shakes hands as a client; raises ssl.SSLError, OSError, and closes the connection."""
        self._connection = connection
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl_object = context.wrap_bio(
            self._arrived, self._leaving, server_hostname=server_hostname
        )
        self.fqdn = connection.fqdn
        """The peer's authenticated name."""
        try:
            self._do(self.ssl_object.do_handshake)
        except BaseException:
            connection.close()
            raise

    def settimeout(self, seconds: float | None) -> None:
        """As socket.settimeout; counts for each wait for the peer."""
        self._connection.settimeout(seconds)

    def recv(self, bufsize: int) -> bytes:
        """As socket.recv: b"" at the end; TimeoutError, ssl.SSLError."""
        try:
            return self._do(lambda: self.ssl_object.read(bufsize))
        except ssl.SSLZeroReturnError:
            return b""

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """As socket.sendall."""
        left = memoryview(data).cast("B")
        while left:
            left = left[self._do(partial(self.ssl_object.write, left[:PIECE])) :]

    def getpeername(self) -> "Address":
        """The peer's virtual address and port."""
        return self._connection.getpeername()

    def getsockname(self) -> "Address":
        """This node's virtual address and the port."""
        return self._connection.getsockname()

    def close(self) -> None:
        """What was sent still arrives; the end of TLS is said, and not waited for."""
        # It would wait for the peer's word; or TLS, or the connection, is over already.
        with suppress(OSError, ValueError):
            self.ssl_object.unwrap()
        with suppress(OSError):
            self._flush()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _do(self, work: Callable[[], R]) -> R:
        while True:
            try:
                result = work()
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if self._leaving.pending:
            self._connection.sendall(self._leaving.read())

    def _feed(self) -> None:
        data = self._connection.recv(PIECE)
        if data:
            self._arrived.write(data)
        else:
            self._arrived.write_eof()
