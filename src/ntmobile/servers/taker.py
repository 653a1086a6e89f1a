"""What a role of this process is to those who ask it over HTTPS."""

from collections.abc import Awaitable, Callable

from ntmobile.proto.io import Caller
from ntmobile.wire.message import Message

Taker = Callable[[Caller, Message], Awaitable[Message]]
"""Takes a request and returns the answer; raises Overloaded."""
