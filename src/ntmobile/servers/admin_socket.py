"""How `ntm admin` talks to a running `ntm serve`.

A Unix socket in the servers' directory, which only the directory's owner may use. On the line
`reload` the server reads settings, policy and store again and answers `done`, or `failed: ` and
why; on `witness` it answers what it lately sent and got (proto.testimony), as JSON.
Each process of a domain has its own socket, named by its roles.
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
"""Bytes of an answer to `reload`."""
LONGEST_WITNESS = 16 << 20

Reload = Callable[[], Awaitable[None]]
"""Reads everything again; raises NTMobileError when something is wrong, keeping the old."""


class AdminSocket:
    """The server's end; `start`, then `stop`."""

    def __init__(
        self,
        directory: Path,
        roles: Iterable[str],
        reload: Reload,
        witness: Callable[[], bytes] = lambda: b'{"steps":[]}',
    ) -> None:
        """Roles are those of this process; witness gives JSON of what they saw."""
        self._name = f"admin-{'-'.join(sorted(roles))}.sock"
        self._directory = directory
        self._reload = reload
        self._witness = witness
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
                match await reader.readline():
                    case b"reload\n":
                        writer.write(await self._answer())
                    case b"witness\n":
                        writer.write(self._witness())
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
    answers = [answer.decode(errors="replace") for answer in _ask(directory, b"reload\n", LONGEST)]
    failures = tuple(each.removeprefix("failed: ") for each in answers if each != "done")
    return Told(len(answers) - len(failures), failures)


def witnesses(directory: Path) -> tuple[bytes, ...]:
    """Return the JSON of what each running server of the directory saw; blocks.

    One that does not answer is left out.
    """
    answers = _ask(directory, b"witness\n", LONGEST_WITNESS)
    return tuple(each for each in answers if not each.startswith(b"failed: "))


def _ask(directory: Path, line: bytes, longest: int) -> list[bytes]:
    asked = (_ask_one(path, line, longest) for path in sorted(directory.glob("admin-*.sock")))
    return [answer for answer in asked if answer]


def _ask_one(path: Path, line: bytes, longest: int) -> bytes | None:
    """The answer, None when nobody listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE_S)
        try:
            with _short(path.parent) as directory:
                client.connect(str(directory / path.name))
            client.sendall(line)
            answer = _read(client, longest)
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        except OSError as error:
            return f"failed: {path} does not answer: {error.strerror or error}".encode()
    return answer or f"failed: {path} was closed without an answer".encode()


def _read(client: socket.socket, longest: int) -> bytes:
    answer = b""
    while len(answer) < longest and (part := client.recv(min(longest, 1 << 16))):
        answer += part
    return answer


@contextmanager
def _short(directory: Path) -> Iterator[Path]:
    """The directory by a name that fits a socket's address, which has 107 bytes."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
