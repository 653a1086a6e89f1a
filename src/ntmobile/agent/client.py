"""The agent as `ntm` sees it: a blocking client of the control socket."""

import os
import socket
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from ntmobile.agent.places import socket_path
from ntmobile.agent.requests import (
    AnyRequest,
    Done,
    Item,
    Said,
    Trouble,
    Wake,
    decode_answer,
    encode_line,
)
from ntmobile.errors import Remedy

V = TypeVar("V")


class AgentNotRunning(Remedy):
    """Nobody answers at the control socket."""

    def __init__(self, directory: Path) -> None:
        """Names the state directory whose agent is missing."""
        super().__init__(f"no agent is running on {directory}", remedy="start it: ntm up")


class AgentGone(Remedy):
    """The agent ended in the middle of an answer."""

    def __init__(self, directory: Path) -> None:
        """Names the state directory whose agent ended."""
        super().__init__(
            f"the agent on {directory} ended while it was asked", remedy="ntm up; ntm bugreport"
        )


def wake(directory: Path) -> None:
    """Tell a node that its push message arrived; returns when its DC has answered.

    Raises AgentNotRunning, AgentGone, or the agent's Remedy.
    """
    Client(directory).ask(Wake(), msgspec.Raw)


class Client:
    """Asks the agent of one state directory; a connection for each request."""

    def __init__(self, directory: Path) -> None:
        """Connects only when asked something."""
        self._directory = directory

    def ask(
        self, request: AnyRequest, kind: type[V], *, said: Callable[[str], None] | None = None
    ) -> V:
        """Return the result; raises AgentNotRunning, AgentGone, or the agent's Remedy."""
        for answer in self.stream(request):
            if isinstance(answer, Done):
                return msgspec.json.decode(answer.value, type=kind)
            if isinstance(answer, Said) and said is not None:
                said(answer.text)
        raise AgentGone(self._directory)

    def stream(self, request: AnyRequest) -> Generator[Said | Item | Done, None, None]:
        """Yield the answer as it comes; closing the iterator ends what was asked."""
        with self._connect() as connection, connection.makefile("rb") as lines:
            # Who is refused is told before he has asked, and then the agent's end is closed.
            with suppress(BrokenPipeError):
                connection.sendall(encode_line(request))
            for line in lines:
                answer = decode_answer(line)
                if isinstance(answer, Trouble):
                    raise Remedy(answer.problem, remedy=answer.remedy)
                yield answer
                if isinstance(answer, Done):
                    return
        raise AgentGone(self._directory)

    def is_running(self) -> bool:
        """Whether somebody listens."""
        try:
            self._connect().close()
        except AgentNotRunning:
            return False
        return True

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            descriptor = os.open(self._directory, os.O_PATH | os.O_CLOEXEC)
            try:
                connection.connect(socket_path(self._directory, descriptor))
            finally:
                os.close(descriptor)
        except PermissionError as error:
            connection.close()
            raise Remedy(
                f"you may not reach the agent on {self._directory}",
                remedy="run the command as root, or let yourself in: sudo ntm set operator=$USER",
            ) from error
        except OSError:
            connection.close()
            raise AgentNotRunning(self._directory) from None
        return connection
