"""The one error of a store that does not work, and what it says."""

import sqlite3

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ntmobile.errors import NTMobileError

_REASONS = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_IOERR": "the disk does not answer",
    "SQLITE_BUSY": "another program keeps the database locked",
    "SQLITE_LOCKED": "another program keeps the database locked",
    "SQLITE_CANTOPEN": "the database cannot be opened",
    "SQLITE_READONLY": "the database is read-only",
    "SQLITE_CORRUPT": "the database is damaged",
    "SQLITE_NOTADB": "the database is damaged",
}
"""By SQLite's primary result code."""


class StoreUnavailable(NTMobileError):
    """The store cannot be read or written now; it heals by itself when the cause is gone."""

    def __init__(self, reason: str) -> None:
        """The reason is one sentence for people."""
        super().__init__(f"the store is unavailable: {reason}")
        self.reason = reason


def reason_of(error: Exception) -> str:
    """Return what to tell people of an error of the database."""
    cause = _cause(error)
    name = _sqlite_name(cause)
    for code, reason in _REASONS.items():
        if name == code or name.startswith(code + "_"):
            return reason
    if isinstance(cause, TimeoutError | PoolTimeout):
        return "the database does not answer"
    if isinstance(cause, OSError) and cause.strerror:
        return f"the database cannot be reached: {cause.strerror}"
    return str(cause) or type(cause).__name__


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
