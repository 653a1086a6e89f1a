"""The log of `ntm serve`: one line an event on stderr, that never fails the server."""

import logging
import sys
from contextlib import suppress

import structlog


class _Stderr:
    """stderr whose write cannot raise: it may be a file on a full disk, or a closed pipe."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def log_to_stderr(level: int) -> None:
    """Send this process's log to stderr from that level of `logging` on."""
    person = sys.stderr.isatty()
    render = (
        structlog.dev.ConsoleRenderer()
        if person
        else structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])
    )
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            _one_line,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(_Stderr()),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=_Stderr())


def _one_line(
    logger: object, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {key: _flat(value) for key, value in event.items()}


def _flat(value: object) -> object:
    return value.replace("\n", " | ") if isinstance(value, str) else value
