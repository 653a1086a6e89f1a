"""What the push services have in common: tokens, devices that listen, and failures on demand."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import Enum

import msgspec

from ntmobile.lab.push.http2 import Response

JSON = "application/json"


class TokenState(Enum):
    """What a service knows of a token."""

    UNKNOWN = "unknown"
    GOOD = "good"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Fault:
    """An answer that a service gives instead of its own."""

    status: int
    reason: str = ""
    retry_after: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Those of the answer."""
        return {} if self.retry_after is None else {"retry-after": self.retry_after}


@dataclass(frozen=True, slots=True)
class Pushed:
    """A message that a service took."""

    token: str
    headers: Mapping[str, str]
    body: bytes


class Vendor:
    """The devices of one push service."""

    def __init__(self) -> None:
        """No device is known."""
        self._gone: set[str] = set()
        self._devices: dict[str, asyncio.Queue[Pushed]] = {}
        self.pushed: list[Pushed] = []
        """Every message taken."""
        self.faults: deque[Fault] = deque()
        """What the next requests get; then the service works again."""
        self.counters: Counter[str] = Counter()
        """Answers by status and reason: "200", "410 Unregistered"."""

    def add(self, token: str) -> None:
        """A device got this token."""
        self._devices[token] = asyncio.Queue()

    def expire(self, token: str) -> None:
        """The app was removed from the device."""
        self._devices.pop(token, None)
        self._gone.add(token)

    def state(self, token: str) -> TokenState:
        """What becomes of messages to it."""
        if token in self._gone:
            return TokenState.GONE
        return TokenState.GOOD if token in self._devices else TokenState.UNKNOWN

    def deliver(self, pushed: Pushed) -> None:
        """Take a message for a device that is known."""
        self.pushed.append(pushed)
        self._devices[pushed.token].put_nowait(pushed)

    async def messages(self, token: str) -> AsyncIterator[Pushed]:
        """What comes for a device, waiting messages first."""
        while (device := self._devices.get(token)) is not None:
            yield await device.get()

    def fault(self) -> Fault | None:
        """The failure that the next request is to meet."""
        return self.faults.popleft() if self.faults else None

    def count(self, status: int, reason: str = "") -> None:
        """Count an answer."""
        self.counters[f"{status} {reason}".strip()] += 1


def json_response(status: int, value: object, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer in JSON."""
    return Response(status, {"content-type": JSON, **(headers or {})}, msgspec.json.encode(value))
