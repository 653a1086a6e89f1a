"""TCP connections by the hundred thousand: accepted, read and written with next to nothing kept.

asyncio's own streams cost a transport, a protocol and buffers for each connection, some 10 KiB that
an idle one never uses. Here a connection is its file descriptor in an epoll set of our own, which
the event loop watches as one descriptor. A buffer exists only while the other end does not read.
Ours: docs/protocol.md section 9.
"""

import asyncio
import errno
import os
import resource
import select
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from ntmobile.runtime.listener import listening_socket
from ntmobile.wire.endpoint import Endpoint

NR_OPEN = Path("/proc/sys/fs/nr_open")
BACKLOG = 4096
READ_SIZE = 4096
MOST_AT_ONCE = 1024
MOST_PENDING = 16 * 1024
"""Bytes that wait for one connection; a node that does not read them is gone."""
AGAIN_S = 1.0
"""After the system had no descriptor or memory for one more connection."""
USER_TIMEOUT_MS = 30_000
"""What was written and is not acknowledged for that long breaks the connection (RFC 5482)."""
_WOULD_BLOCK = (errno.EAGAIN, errno.EWOULDBLOCK)


class Acceptor:
    """Accepts connections on several endpoints and names each by a number that is reused.

    Counters: accepted, refused (by the system), lost (not read in time).
    """

    def __init__(
        self,
        opened: Callable[[int, Endpoint], None],
        received: Callable[[int, bytes], None],
        closed: Callable[[int], None],
    ) -> None:
        """Must be made inside the event loop; the callbacks may call `write` and `end`."""
        self._opened = opened
        self._received = received
        self._closed = closed
        self._epoll = select.epoll()
        self._listeners: dict[int, socket.socket] = {}
        self._streams: set[int] = set()
        self._pending: dict[int, bytearray] = {}
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None
        self.counters: Counter[str] = Counter()
        self._loop.add_reader(self._epoll.fileno(), self._ready)

    def __len__(self) -> int:
        return len(self._streams)

    def listen(self, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
        """Open TCP ports and return them (port 0 becomes a free one); raises OSError."""
        opened = []
        for endpoint in endpoints:
            listening = listening_socket(endpoint)
            listening.setblocking(False)
            listening.listen(BACKLOG)
            self._listeners[listening.fileno()] = listening
            self._epoll.register(listening.fileno(), select.EPOLLIN)
            opened.append(Endpoint(endpoint.host, listening.getsockname()[1]))
        return tuple(opened)

    def write(self, stream: int, data: bytes) -> None:
        """Send bytes; a connection that takes no more is closed, and its user told."""
        if stream not in self._streams:
            return
        pending = self._pending.get(stream)
        sent = 0
        if pending is None:
            try:
                sent = os.write(stream, data)
            except OSError as error:
                if error.errno not in _WOULD_BLOCK:
                    self._loop.call_soon(self._lose, stream)
                    return
        if sent == len(data):
            return
        if pending is None:
            pending = self._pending[stream] = bytearray()
            self._epoll.modify(stream, select.EPOLLIN | select.EPOLLOUT)
        pending += data[sent:]
        if len(pending) > MOST_PENDING:
            self.counters["lost"] += 1
            self._loop.call_soon(self._lose, stream)

    def end(self, stream: int) -> None:
        """Close a connection; its user hears no more of it."""
        if stream in self._streams:
            self._forget(stream)

    def close(self) -> None:
        """Close everything."""
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._epoll.fileno())
        for stream in list(self._streams):
            self._forget(stream)
        for listening in self._listeners.values():
            listening.close()
        self._listeners.clear()
        self._epoll.close()

    def _ready(self) -> None:
        for descriptor, mask in self._epoll.poll(0, MOST_AT_ONCE):
            if descriptor in self._listeners:
                self._accept(self._listeners[descriptor])
            elif descriptor in self._streams:
                if mask & select.EPOLLOUT:
                    self._flush(descriptor)
                if descriptor in self._streams and mask & ~select.EPOLLOUT:
                    self._read(descriptor)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(MOST_AT_ONCE):
            try:
                connection, address = listening.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._rest()
                if error.errno in _WOULD_BLOCK or self._again is not None:
                    return
                continue  # this one was gone before we took it
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
            stream = connection.detach()
            self._streams.add(stream)
            self._epoll.register(stream, select.EPOLLIN)
            self.counters["accepted"] += 1
            self._opened(stream, Endpoint(address[0].partition("%")[0], address[1]))

    def _rest(self) -> None:
        """No descriptor is left: let the queue of the kernel wait instead of spinning."""
        self.counters["refused"] += 1
        for descriptor in self._listeners:
            self._epoll.modify(descriptor, 0)
        self._again = self._loop.call_later(AGAIN_S, self._resume)

    def _resume(self) -> None:
        self._again = None
        for descriptor in self._listeners:
            self._epoll.modify(descriptor, select.EPOLLIN)

    def _read(self, stream: int) -> None:
        try:
            data = os.read(stream, READ_SIZE)
        except OSError as error:
            if error.errno in _WOULD_BLOCK:
                return
            data = b""
        if data:
            self._received(stream, data)
        else:
            self._lose(stream)

    def _flush(self, stream: int) -> None:
        pending = self._pending[stream]
        try:
            sent = os.write(stream, pending)
        except OSError as error:
            if error.errno not in _WOULD_BLOCK:
                self._lose(stream)
            return
        del pending[:sent]
        if not pending:
            del self._pending[stream]
            self._epoll.modify(stream, select.EPOLLIN)

    def _lose(self, stream: int) -> None:
        if stream in self._streams:
            # First of all, so that the number is not reused while the user still knows it.
            self._closed(stream)
        if stream in self._streams:
            self._forget(stream)

    def _forget(self, stream: int) -> None:
        self._streams.discard(stream)
        self._pending.pop(stream, None)
        # A descriptor that is closed leaves the epoll set by itself.
        os.close(stream)


def allow_descriptors() -> int:
    """Let this process open as many descriptors as it may; returns how many.

    Root may have as many as the kernel gives anybody.
    """
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (int(NR_OPEN.read_text()), allowed):
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            return most
    return allowed
