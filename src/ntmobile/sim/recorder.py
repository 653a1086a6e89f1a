"""Writes down a run: who sent what to whom, and what became of every key."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ntmobile.keys.table import KeyAct, KeyRecord, Keyring
from ntmobile.proto.journal import Step
from ntmobile.time import Instant

TAIL = 30


@dataclass(frozen=True, slots=True)
class Arrow:
    """One message that arrived and was understood."""

    sent: Instant
    arrived: Instant
    message: str
    """The paper's name."""
    sender: str
    """Names of hosts."""
    receiver: str
    over: str
    """UDP, capsule, HTTPS or DNS."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class KeyLine:
    """What happened to a key, and on which host."""

    host: str
    record: KeyRecord


class Recorder:
    """The notes of one run.

    A datagram is known again by its bytes: sealed ones never repeat, so a message's arrival finds
    who sent it last and when, also where RS passed it on as it was.
    """

    def __init__(self) -> None:
        """Knows nothing yet."""
        self.arrows: list[Arrow] = []
        self.keys: list[KeyLine] = []
        self.steps: list[tuple[str, Step]] = []
        self._departures: dict[bytes, tuple[str, Instant, str]] = {}
        self._arriving: tuple[str, Instant, str] | None = None

    def departed(self, host: str, payload: bytes, now: Instant, over: str = "UDP") -> None:
        """A host sends these bytes."""
        self._departures[payload] = (host, now, over)

    @contextmanager
    def arriving(self, payload: bytes) -> Iterator[None]:
        """What is understood inside came in these bytes."""
        self._arriving = self._departures.get(payload)
        try:
            yield
        finally:
            self._arriving = None

    def take_step(self, host: str, event: object) -> bool:
        """Note a machine's Step; False for any other event."""
        if not isinstance(event, Step):
            return False
        self.steps.append((host, event))
        if not event.sent and self._arriving is not None:
            sender, sent, over = self._arriving
            arrow = Arrow(sent, event.at, event.message, sender, host, over, event.detail)
            self.arrows.append(arrow)
        return True

    def arrived(self, host: str, payload: bytes, now: Instant, message: str) -> None:
        """These bytes came over a connection and are that message."""
        if payload in self._departures:
            sender, sent, over = self._departures[payload]
            self.arrows.append(Arrow(sent, now, message, sender, host, over))

    def take_call(
        self, message: str, sender: str, receiver: str, sent: Instant, arrived: Instant, over: str
    ) -> None:
        """Note a message whose journey is known."""
        self.arrows.append(Arrow(sent, arrived, message, sender, receiver, over))

    def take_keys(self, host: str, keyring: Keyring) -> None:
        """Note what the participant's keyring has to report."""
        while (record := keyring.poll_record()) is not None:
            self.keys.append(KeyLine(host, record))

    def since(self, start: Instant) -> list[Arrow]:
        """Return the arrows of messages sent at start or later, by arrival."""
        return sorted((a for a in self.arrows if a.sent >= start), key=lambda a: a.arrived)

    def of_key(self, name: str, *acts: KeyAct) -> list[KeyLine]:
        """Return what happened to the keys of that Table 1 name, all acts unless told."""
        lines = (line for line in self.keys if line.record.key == name)
        return [line for line in lines if not acts or line.record.act in acts]

    def tail(self) -> str:
        """Return the last steps as text, for what is said when a run fails."""
        return "\n".join(_steps_as_text(self.steps[-TAIL:]))


def _steps_as_text(steps: Iterable[tuple[str, Step]]) -> Iterator[str]:
    for host, step in steps:
        way = "->" if step.sent else "<-"
        yield f"{step.at / 1e9:12.6f} {host} {way} {step.there}: {step.message} {step.detail[:16]}"
