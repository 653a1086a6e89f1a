"""What happened at this node, bounded: sequences, handovers, keys. For `ntm` and bug reports."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ntmobile.keys.table import KeyRecord
from ntmobile.proto.node.events import HandoverDone, Step, TunnelEstablished
from ntmobile.time import Instant

MOST_STEPS = 4096
MOST_TRACES = 256
MOST_STEPS_OF_A_TRACE = 256
MOST_HANDOVERS = 1024
MOST_KEY_RECORDS = 1024


@dataclass(frozen=True, slots=True)
class Trace:
    """How the newest tunnel to a peer was built."""

    fqdn: str
    at: Instant
    """When it stood."""
    steps: tuple[Step, ...]


class History:
    """Remembers the newest of everything; the oldest falls out."""

    def __init__(self, own: str) -> None:
        """Own is the node's FQDN, the `here` of its steps."""
        self._own = own
        self._steps: deque[Step] = deque(maxlen=MOST_STEPS)
        self._traces: OrderedDict[str, Trace] = OrderedDict()
        self._handovers: deque[HandoverDone] = deque(maxlen=MOST_HANDOVERS)
        self._last_handover: dict[str, HandoverDone] = {}
        self._keys: deque[KeyRecord] = deque(maxlen=MOST_KEY_RECORDS)

    @property
    def handovers(self) -> Sequence[HandoverDone]:
        """Oldest first."""
        return tuple(self._handovers)

    @property
    def key_records(self) -> Sequence[KeyRecord]:
        """Oldest first."""
        return tuple(self._keys)

    @property
    def steps(self) -> Sequence[Step]:
        """Oldest first."""
        return tuple(self._steps)

    def last_handover(self, fqdn: str) -> HandoverDone | None:
        """The newest move of the tunnel to a peer."""
        return self._last_handover.get(fqdn)

    def trace(self, fqdn: str) -> Trace | None:
        """How the newest tunnel to a peer was built."""
        return self._traces.get(fqdn)

    def add_step(self, step: Step) -> None:
        """A message was sent or came."""
        self._steps.append(step)

    def add_handover(self, handover: HandoverDone) -> None:
        """A tunnel moved."""
        self._handovers.append(handover)
        self._last_handover[handover.fqdn] = handover
        if len(self._last_handover) > MOST_HANDOVERS:
            del self._last_handover[next(iter(self._last_handover))]

    def add_key_records(self, records: Iterable[KeyRecord]) -> None:
        """Keys were made, owned or erased."""
        self._keys.extend(records)

    def add_tunnel(self, event: TunnelEstablished, now: Instant, others: Iterable[str]) -> None:
        """A tunnel stands: what led to it becomes its trace; steps with other peers do not."""
        began, foreign = now - event.elapsed_ns, frozenset(others) - {event.fqdn}
        led = [
            step
            for step in self._steps
            if step.at >= began and not {step.here, step.there} & foreign
        ]
        self._traces.pop(event.fqdn, None)
        self._traces[event.fqdn] = Trace(event.fqdn, now, tuple(led[-MOST_STEPS_OF_A_TRACE:]))
        if len(self._traces) > MOST_TRACES:
            self._traces.popitem(last=False)
