"""The agent's control socket: who may use it, one request per connection, answers as they come.

The socket is in the state directory. Without an operator nobody but the agent's own user and root
can reach it (directory 0700, socket 0600). With one, directory and socket let others through, and
the peer's user id (SO_PEERCRED) decides. The operator may ask all but what `is_reserved`.
"""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from pathlib import Path

import structlog

from ntmobile.agent.places import SOCKET, socket_path
from ntmobile.agent.requests import (
    MAX_LINE,
    Answer,
    AnyRequest,
    Set,
    Trouble,
    decode_request,
    encode_line,
)
from ntmobile.errors import NTMobileError, Remedy

MAX_CONNECTIONS = 64
FIRST_LINE_S = 10.0
PAUSE_S = 0.5
_UCRED = struct.Struct("3i")
RESERVED = frozenset({"operator", "routes", "advertise-routes"})
"""Settings that only root and the agent's own user change."""
_LOG = structlog.get_logger(__name__)

Operations = Callable[[AnyRequest], AsyncGenerator[Answer, None]]


class ControlSocket:
    """Serves the control socket of one state directory; start, then stop."""

    def __init__(self, directory: Path, operations: Operations) -> None:
        """Every request goes to operations; a raised Remedy becomes a Trouble."""
        self._directory = directory
        self._operations = operations
        self._operator: int | None = None
        self._listener: socket.socket | None = None
        self._resume: asyncio.TimerHandle | None = None
        self._open: dict[asyncio.Task[None], socket.socket] = {}

    def start(self, operator: int | None = None) -> None:
        """Listens; the caller holds the directory's lock, so a socket there is a leftover."""
        path = self._directory / SOCKET
        path.unlink(missing_ok=True)
        self._listener = _listen(self._directory)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)
        self.admit(operator)

    def admit(self, operator: int | None) -> None:
        """Lets this user id in besides the agent's own user and root; None shuts it out."""
        self._operator = operator
        open_to_others = operator is not None
        (self._directory / SOCKET).chmod(0o666 if open_to_others else 0o600)
        self._directory.chmod(0o711 if open_to_others else 0o700)

    async def stop(self) -> None:
        """Ends what is being answered, closes and removes the socket."""
        if self._listener is None:
            return
        asyncio.get_running_loop().remove_reader(self._listener)
        if self._resume is not None:
            self._resume.cancel()
        self._listener.close()
        self._listener = None
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await asyncio.sleep(0)  # closed transports let go of their sockets a turn later
        (self._directory / SOCKET).unlink(missing_ok=True)

    def _accept(self) -> None:
        # Accepted here and not by asyncio's server: that one has a connection of its own for some
        # turns of the loop before anybody could close it.
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            _LOG.warning("control connection not accepted", error=str(error))
            self._pause()
            return
        connection.setblocking(False)
        work = asyncio.get_running_loop().create_task(self._serve(connection))
        self._open[work] = connection
        work.add_done_callback(self._finished)

    def _pause(self) -> None:
        """Out of descriptors: the connection still waits, and asking at once would spin."""
        assert self._listener is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener)
        self._resume = loop.call_later(PAUSE_S, loop.add_reader, self._listener, self._accept)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._open.pop(task).close()
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("control connection failed", exc_info=error)

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=MAX_LINE)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, TimeoutError):
            return
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (refusal := self._refusal(writer)) is not None:
            await _write(writer, refusal)
            return
        async with asyncio.timeout(FIRST_LINE_S):
            try:
                request = decode_request(await reader.readline())
            except ValueError as error:
                await _write(writer, Trouble(f"not a request: {error}"))
                return
        if is_reserved(request) and not self._is_owner(writer):
            await _write(
                writer,
                Trouble(
                    "an operator may not name operators, nor route networks", "as root: ntm set"
                ),
            )
            return
        await _unless_gone(self._answer(request, writer), reader)

    def _refusal(self, writer: asyncio.StreamWriter) -> Trouble | None:
        if len(self._open) > MAX_CONNECTIONS:
            return Trouble("the agent answers too many requests at once", "try again")
        uid = peer_user(writer.get_extra_info("socket"))
        if self._is_owner(writer) or uid == self._operator:
            return None
        return Trouble(
            "you may not control this agent",
            "run the command as root, or let yourself in: sudo ntm set operator=$USER",
        )

    def _is_owner(self, writer: asyncio.StreamWriter) -> bool:
        return peer_user(writer.get_extra_info("socket")) in (0, os.geteuid())

    async def _answer(self, request: AnyRequest, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):  # nobody is left to be told
            if (trouble := await self._carry_out(request, writer)) is not None:
                await _write(writer, trouble)

    async def _carry_out(self, request: AnyRequest, writer: asyncio.StreamWriter) -> Trouble | None:
        try:
            async with aclosing(self._operations(request)) as answers:
                async for answer in answers:
                    await _write(writer, answer)
        except Remedy as error:
            return Trouble(error.problem, error.remedy)
        except NTMobileError as error:
            return Trouble(str(error))
        except ConnectionError:
            raise
        except Exception:
            _LOG.exception("request failed", request=type(request).__name__)
            return Trouble("the agent failed to answer; its log says why", "ntm bugreport")
        return None


def is_reserved(request: AnyRequest) -> bool:
    """Whether only root and the agent's own user may ask that."""
    return isinstance(request, Set) and not RESERVED.isdisjoint(request.changes)


def peer_user(connection: socket.socket) -> int:
    """Return the user id of the process at the other end, as the kernel knows it."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _, uid, _ = _UCRED.unpack(data)
    return int(uid)


def _listen(directory: Path) -> socket.socket:
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        listener.bind(socket_path(directory, descriptor))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(umask)
        os.close(descriptor)
    listener.listen(MAX_CONNECTIONS)
    listener.setblocking(False)
    return listener


async def _unless_gone(work: Coroutine[None, None, None], reader: asyncio.StreamReader) -> None:
    """Do the work; when the client closes its end first, cancel it."""
    async with asyncio.TaskGroup() as group:
        working, gone = group.create_task(work), group.create_task(_end_of(reader))
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        gone.cancel()


async def _end_of(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        while await reader.read(4096):
            continue


async def _write(writer: asyncio.StreamWriter, answer: Answer) -> None:
    writer.write(encode_line(answer))
    await writer.drain()
