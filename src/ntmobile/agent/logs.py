"""The agent's log: lines of key=value in a file of bounded size, beside the state.

Addresses and user names appear at DEBUG only, keys never.
"""

import logging
import os
import sys
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

import structlog

from ntmobile.agent.places import LOG, log_directory

MAX_BYTES = 1 << 20
KEPT = 1
"""Older files beside the newest."""


def log_to_file(directory: Path, *, debug: bool) -> None:
    """Send everything logged to DIR/agent.log; a disk that refuses costs the line only."""
    logging.raiseExceptions = False
    handler = _PrivateFiles(
        directory / LOG, maxBytes=MAX_BYTES, backupCount=KEPT, encoding="utf-8", delay=True
    )
    _configure(handler, debug=debug)


class _PrivateFiles(RotatingFileHandler):
    """Makes each file readable by its owner only: an operator's directory lets others through."""

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.baseFilename, flags, 0o600)
        return open(descriptor, "a", encoding="utf-8")


def log_to_stderr(*, debug: bool) -> None:
    """Send everything logged to standard error (`ntm up --foreground`)."""
    _configure(logging.StreamHandler(sys.stderr), debug=debug)


def newest_lines(directory: Path, count: int) -> list[str]:
    """Return the end of the log, for a bug report."""
    try:
        text = (log_directory(directory) / LOG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.splitlines()[-count:]


def _configure(handler: logging.Handler, *, debug: bool) -> None:
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(
        handlers=[handler], level=logging.DEBUG if debug else logging.INFO, force=True
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
