"""HTTPS requests that wait for a machine's reply."""

import asyncio
from collections.abc import Callable

from ntmobile.errors import NTMobileError
from ntmobile.proto.io import Reply
from ntmobile.wire.message import Message

PATIENCE_S = 20.0
"""A login waits for Argon2, the store and the DC."""
MAX_WAITING = 4096


class Overloaded(NTMobileError):
    """Too many requests wait, or the machine did not answer in time."""


class Requests:
    """Gives each request an id and hands its reply to whoever waits for it."""

    def __init__(self) -> None:
        """Nothing waits."""
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._waiting)

    async def ask(self, put: Callable[[int], None]) -> Message:
        """Call put with a new id and return the reply of that id; raises Overloaded."""
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded("too many requests wait")
        self._last += 1
        id = self._last
        self._waiting[id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(PATIENCE_S):
                put(id)
                return await self._waiting[id]
        except TimeoutError:
            raise Overloaded(f"no answer within {PATIENCE_S:.0f} s") from None
        finally:
            del self._waiting[id]

    def answer(self, reply: Reply) -> None:
        """Where an outlet of poll_reply delivers to; a reply nobody waits for is dropped."""
        waiting = self._waiting.get(reply.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply.message)
