"""How `ntm admin` tells a running `ntm serve` that something changed.

A Unix socket in the servers' directory, which only the directory's owner may use: the client sends
the line `reload`; the server reads settings, policy and store again and answers `done`, or
`failed: ` and why. Each process of a domain has its own socket, named by its roles.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ntmobile.errors import NTMobileError

PATIENCE_S = 5.0
LONGEST = 4096
"""Bytes of an answer."""

Reload = Callable[[], Awaitable[None]]
"""Reads everything again; raises NTMobileError when something is wrong, keeping the old."""


class AdminSocket:
    """The server's end; `start`, then `stop`."""

    def __init__(self, directory: Path, roles: Iterable[str], reload: Reload) -> None:
        """Roles are those of this process."""
        self._name = f"admin-{'-'.join(sorted(roles))}.sock"
        self._directory = directory
        self._reload = reload
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; takes the place of a socket that a killed process left. Raises OSError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _short(self._directory) as directory:
            (directory / self._name).unlink(missing_ok=True)
            before = os.umask(0o177)
            try:
                listener.bind(str(directory / self._name))
            finally:
                os.umask(before)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener)

    async def stop(self) -> None:
        """Close and remove the socket."""
        if self._server is not None:
            self._server.close()
            with suppress(OSError):
                (self._directory / self._name).unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                if await reader.readline() == b"reload\n":
                    writer.write(await self._answer())
                    await writer.drain()
        except (OSError, ValueError, TimeoutError):
            pass  # The client went away or speaks something else: nobody to tell.
        finally:
            writer.close()

    async def _answer(self) -> bytes:
        try:
            await self._reload()
        except NTMobileError as error:
            return f"failed: {error}".encode()[:LONGEST]
        return b"done"


@dataclass(frozen=True, slots=True)
class Told:
    """What the running servers said."""

    servers: int
    """How many took the change."""
    failures: tuple[str, ...]


def tell(directory: Path) -> Told:
    """Let every running server of the directory reload; blocks until they did."""
    answers = [each for each in map(_tell_one, sorted(directory.glob("admin-*.sock"))) if each]
    failures = tuple(each.removeprefix("failed: ") for each in answers if each != "done")
    return Told(len(answers) - len(failures), failures)


def _tell_one(path: Path) -> str | None:
    """The answer, None when nobody listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE_S)
        try:
            with _short(path.parent) as directory:
                client.connect(str(directory / path.name))
            client.sendall(b"reload\n")
            answer = _read(client)
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        except OSError as error:
            return f"failed: {path} does not answer: {error.strerror or error}"
    return answer or f"failed: {path} was closed without an answer"


def _read(client: socket.socket) -> str:
    answer = b""
    while len(answer) < LONGEST and (part := client.recv(LONGEST)):
        answer += part
    return answer.decode(errors="replace")


@contextmanager
def _short(directory: Path) -> Iterator[Path]:
    """The directory by a name that fits a socket's address, which has 107 bytes."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
