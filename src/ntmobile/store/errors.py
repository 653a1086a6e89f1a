"""The one error of a store that does not work, and what it says."""

import sqlite3

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ntmobile.errors import NTMobileError

_LOCKED = "another program keeps the database locked", "end that program, or try again"
_RIGHTS = "run it as the user that owns the database and its directory"
_DAMAGED = "the database is damaged", "put a backup in its place; nothing needs a restart"
_FULL = "the disk is full", "make room; nothing needs a restart"
_REASONS = {
    "SQLITE_FULL": _FULL,
    # The file that readers and writers share could not grow.
    "SQLITE_IOERR_SHMSIZE": _FULL,
    "SQLITE_IOERR": ("the disk does not answer", "check the disk (dmesg), then try again"),
    "SQLITE_BUSY": _LOCKED,
    "SQLITE_LOCKED": _LOCKED,
    "SQLITE_CANTOPEN": ("the database cannot be opened", _RIGHTS),
    "SQLITE_READONLY": ("the database is read-only", _RIGHTS),
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_NOTADB": _DAMAGED,
}
"""What is wrong and what to do, by SQLite's primary result code."""


class StoreUnavailable(NTMobileError):
    """The store cannot be read or written now; it heals by itself when the cause is gone."""

    def __init__(self, reason: str, *, remedy: str) -> None:
        """The reason and what to do next, one sentence for people each."""
        super().__init__(f"the store is unavailable: {reason}")
        self.reason = reason
        self.remedy = remedy


class FileLost(OSError):
    """Where the database was is nothing now, or a file without content."""


def unavailable(error: Exception) -> StoreUnavailable:
    """Return what to tell people of an error of the database."""
    reason, remedy = _explained(error)
    return StoreUnavailable(reason, remedy=remedy)


def _explained(error: Exception) -> tuple[str, str]:
    cause = _cause(error)
    name = _sqlite_name(cause)
    for code, explained in _REASONS.items():
        if name == code or name.startswith(code + "_"):
            return explained
    if isinstance(cause, FileLost):
        return str(cause), "put it back, or a backup in its place; nothing needs a restart"
    if isinstance(cause, TimeoutError | PoolTimeout):
        return "the database does not answer", "see that its server runs, then try again"
    if isinstance(cause, PermissionError):
        return f"the database cannot be reached: {cause.strerror}", _RIGHTS
    if isinstance(cause, OSError) and cause.strerror:
        return (
            f"the database cannot be reached: {cause.strerror}",
            "see that it runs where url under [store] says, then try again",
        )
    return str(cause) or type(cause).__name__, "see what url under [store] names, then try again"


def is_full(error: Exception) -> bool:
    """Whether the disk had no room, and nothing else is wrong."""
    return _sqlite_name(_cause(error)) == "SQLITE_FULL"


def _cause(error: Exception) -> BaseException | None:
    return error.orig if isinstance(error, DBAPIError) else error


def _sqlite_name(error: BaseException | None) -> str:
    while error is not None:
        if isinstance(error, sqlite3.Error):
            return getattr(error, "sqlite_errorname", "")
        error = error.__cause__
    return ""
