"""One agent per state directory."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from ntmobile.agent.files import unusable
from ntmobile.errors import Remedy


class AgentLock:
    """Held while an agent runs on a state directory; the kernel frees it when the agent dies."""

    def __init__(self, directory: Path) -> None:
        """Takes the lock; raises Remedy when another agent holds it, or it cannot be made."""
        self._descriptor = _open(directory / "agent.lock")
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 20, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise Remedy(
                f"an agent (process {holder or 'unknown'}) already runs on {directory}",
                remedy="ntm status",
            ) from None
        self._note_holder()

    def release(self) -> None:
        """Lets another agent start; a second time does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _note_holder(self) -> None:
        # Only for the message above: a full disk must not keep the agent from starting.
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            return


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unusable(path.parent, error) from None
