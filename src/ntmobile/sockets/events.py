"""Brings the events of a stack to who waits for them, in the event loop's thread."""

import asyncio
from collections.abc import Callable

import structlog

from ntmobile._core import Stack

READABLE, WRITABLE, ENDED = 1, 2, 4
CLOSED = 8
"""Not the stack's: the whole node closes."""
_LOG = structlog.get_logger(__name__)


class Events:
    """One stack's events; each number has one handler."""

    def __init__(self, stack: Stack, loop: asyncio.AbstractEventLoop) -> None:
        """Listens at once, until `close`."""
        self.stack = stack
        self.loop = loop
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._happened: dict[int, int] = {}
        loop.add_reader(stack.fileno(), self._dispatch)

    def __len__(self) -> int:
        return len(self._handlers)

    def subscribe(self, number: int, handler: Callable[[int], None]) -> None:
        """Call handler with what happens, and with what happened to the handler before it."""
        self._handlers[number] = handler
        if number in self._happened:
            self.loop.call_soon(self._tell, number, self._happened[number])

    def forget(self, number: int) -> None:
        """Nobody waits for this number any more."""
        self._handlers.pop(number, None)
        self._happened.pop(number, None)

    def close(self) -> None:
        """Tells all that it is over; the stack stays its owner's."""
        self.loop.remove_reader(self.stack.fileno())
        for number in tuple(self._handlers):
            self._tell(number, CLOSED)
        self._handlers.clear()

    def _dispatch(self) -> None:
        for number, what in self.stack.drain():
            if number in self._handlers:
                self._happened[number] = self._happened.get(number, 0) | what
                self._tell(number, what)

    def _tell(self, number: int, what: int) -> None:
        handler = self._handlers.get(number)
        if handler is None:
            return
        try:
            handler(what)
        except Exception:
            # It must not cost the events of all others.
            _LOG.exception("event failed")
