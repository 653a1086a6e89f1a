"""What happened at this node, bounded: sequences and keys. For `ntm` and bug reports."""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ntmobile.keys.table import KeyRecord
from ntmobile.proto.journal import Step
from ntmobile.proto.node.events import TunnelEstablished
from ntmobile.proto.sequence import MOST_STEPS as MOST_STEPS_OF_A_TRACE
from ntmobile.proto.sequence import of_negotiation, standing
from ntmobile.time import SECOND, Instant

ASKING_NS = 15 * SECOND
"""Longest time between the question to the DC and the beginning of a negotiation."""
MOST_STEPS = 4096
MOST_TRACES = 256
MOST_LOGIN_STEPS = 512
MOST_HOOKED = 256
APPLICATION = "application"
MOST_KEY_RECORDS = 1024


@dataclass(frozen=True, slots=True)
class Trace:
    """How the newest tunnel to a peer was built, or how this node came to stand itself."""

    fqdn: str
    at: Instant
    """When it stood."""
    steps: tuple[Step, ...]


class History:
    """Remembers the newest of everything; the oldest falls out."""

    def __init__(self) -> None:
        """Nothing happened yet."""
        self._steps: deque[Step] = deque(maxlen=MOST_STEPS)
        self._login: list[Step] = []
        """The first steps since the newest login began: it stays when keep-alives have come."""
        self._hooked: deque[Step] = deque(maxlen=MOST_HOOKED)
        self._traces: OrderedDict[str, Trace] = OrderedDict()
        self._keys: deque[KeyRecord] = deque(maxlen=MOST_KEY_RECORDS)

    @property
    def key_records(self) -> Sequence[KeyRecord]:
        """Oldest first."""
        return tuple(self._keys)

    @property
    def steps(self) -> Sequence[Step]:
        """Oldest first."""
        return tuple(self._steps)

    def standing(self, own: str) -> Trace:
        """The newest login of this node and the registration that followed."""
        steps = tuple(standing(self._login, own))
        return Trace(own, steps[-1].at if steps else Instant(0), steps)

    def trace(self, fqdn: str) -> Trace | None:
        """How the newest tunnel to a peer was built, with the query that began it."""
        trace = self._traces.get(fqdn)
        if trace is None or not trace.steps:
            return trace
        hooked = _around([step for step in self._hooked if fqdn in step.names], trace)
        steps = sorted((*hooked, *trace.steps), key=lambda step: step.at)
        return replace(trace, steps=tuple(steps))

    def add_hooked(self, own: str, fqdn: str, at: Instant, *, answered: bool) -> None:
        """An application asked for a name, or has its answer. Source: paper, Fig. 5."""
        message = "DNS Answer" if answered else "DNS Query"
        self._hooked.append(Step(at, message, own, APPLICATION, answered, names=(fqdn,)))

    def add_step(self, step: Step) -> None:
        """A message was sent or came."""
        self._steps.append(step)
        if step.message == "Nonce Request":
            self._login.clear()
        if len(self._login) < MOST_LOGIN_STEPS:
            self._login.append(step)

    def add_key_record(self, record: KeyRecord) -> None:
        """A key was made, owned or erased."""
        self._keys.append(record)

    def add_tunnel(self, event: TunnelEstablished, now: Instant) -> None:
        """A tunnel stands: what led to it becomes its trace."""
        recent = [step for step in self._steps if step.at >= now - event.elapsed_ns - ASKING_NS]
        led = _of_negotiation(recent, event.fqdn)
        self._traces.pop(event.fqdn, None)
        self._traces[event.fqdn] = Trace(event.fqdn, now, tuple(led[-MOST_STEPS_OF_A_TRACE:]))
        if len(self._traces) > MOST_TRACES:
            self._traces.popitem(last=False)


def _around(hooked: Sequence[Step], trace: Trace) -> list[Step]:
    """The first query that waited for a tunnel, and the first answer it got."""
    began = trace.steps[0].at
    queries = [s for s in hooked if not s.sent and began - ASKING_NS <= s.at <= began]
    answers = [s for s in hooked if s.sent and began <= s.at <= began + ASKING_NS]
    return queries[:1] + answers[:1] if queries else []


def _of_negotiation(steps: Sequence[Step], fqdn: str) -> list[Step]:
    """Pick the newest negotiation with a peer, and the bare acknowledgements in between."""
    newest = next((step.detail for step in reversed(steps) if _agrees(step, fqdn)), None)
    return of_negotiation(steps, newest) if newest else []


def _agrees(step: Step, fqdn: str) -> bool:
    return step.there in (fqdn, "RS") and step.message in ("Tunnel Request", "Tunnel Response")
