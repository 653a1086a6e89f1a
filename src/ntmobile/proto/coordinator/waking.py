"""Wakes nodes that keep nothing alive, and keeps what is for them until they contact their DC.

Of one node::

    (asleep) --something for it--> Waking --it contacts the DC--> (awake): what is kept goes out
                                     '--refused by the push service, or 10 s--> refused, named

Source: paper, Push; paper, Figs. 3, 4 and 6. Ours: what is kept and for how long, docs/protocol.md
section 9.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ntmobile.proto.coordinator.registry import Node
from ntmobile.proto.coordinator.settings import NodeStored, WakeUpFailed
from ntmobile.proto.coordinator.tags import NodeTag
from ntmobile.proto.io import Failed, Timeout, WakeUp
from ntmobile.proto.journal import Journal
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Signal
from ntmobile.wire.registration import NtmAck, Reason

PATIENCE_NS = 10 * SECOND
"""MN's DC gives a negotiation up after 15 s: the reason must be there before."""
MAX_KEPT = 64
"""Messages for one sleeping node: as many negotiations as one node may have open."""
MAX_WAKING = 65_536
WAKE_UP_FAILURES = {Reason.PUSH_DOWN, Reason.PUSH_REFUSED, Reason.TOKEN_GONE}


@dataclass(frozen=True, slots=True)
class Kept:
    """One message that waits for the node."""

    message: Signal
    tag: NodeTag
    until: Instant


@dataclass(slots=True)
class Sleeper:
    """A node that is being woken."""

    call: int
    kept: list[Kept] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class NotDelivered:
    """A message for a node came to nothing."""

    tag: NodeTag
    reason: Reason


class Waking:
    """All nodes that are being woken. Drain `poll_wake_up`, `poll_outcome` and `poll_event`."""

    def __init__(self, journal: Journal, next_id: Callable[[], int]) -> None:
        """next_id gives the numbers of requests to the driver."""
        self._journal = journal
        self._next_id = next_id
        self._sleepers: dict[str, Sleeper] = {}
        self._calls: dict[int, str] = {}
        self._wake_ups: deque[WakeUp] = deque()
        self._outcomes: deque[NotDelivered] = deque()
        self._events: deque[NodeStored | WakeUpFailed] = deque()

    def keep(self, node: Node, message: Signal, tag: NodeTag, now: Instant) -> None:
        """Keep a message for a sleeping node, and have the node woken."""
        token = node.stored.push_token
        if token is None:
            return self._outcomes.append(NotDelivered(tag, Reason.TOKEN_GONE))
        sleeper = self._sleepers.get(node.fqdn)
        if sleeper is None:
            if len(self._sleepers) >= MAX_WAKING:
                return self._outcomes.append(NotDelivered(tag, Reason.BUSY))
            sleeper = self._wake(node.fqdn, token, now)
        if len(sleeper.kept) >= MAX_KEPT:
            return self._outcomes.append(NotDelivered(tag, Reason.BUSY))
        return sleeper.kept.append(Kept(message, tag, Instant(now + PATIENCE_NS)))

    def release(self, fqdn: str) -> list[Kept]:
        """The node is awake: return what was kept for it, oldest first."""
        sleeper = self._sleepers.pop(fqdn, None)
        return [] if sleeper is None else sleeper.kept

    def handle_reply(self, id: int, reply: object, node: Node | None, now: Instant) -> None:
        """Take the push service's word; node is whom `whose` named, if it still is there."""
        fqdn = self._calls.pop(id)
        if isinstance(reply, NtmAck):
            return
        reason, detail = Reason.PUSH_DOWN, ""
        if isinstance(reply, Failed):
            detail = reply.detail
            reason = reply.reason if reply.reason in WAKE_UP_FAILURES else reason
        self._events.append(WakeUpFailed(now, fqdn, reason, detail))
        if reason is Reason.TOKEN_GONE and node is not None:
            node.stored = replace(node.stored, gone_token=node.stored.device_token)
            node.untold = True
            self._events.append(NodeStored(node.stored))
        sleeper = self._sleepers.get(fqdn)
        if sleeper is not None and sleeper.call == id:
            del self._sleepers[fqdn]
            self._outcomes.extend(NotDelivered(kept.tag, reason) for kept in sleeper.kept)

    def whose(self, id: int) -> str | None:
        """Return whose wake-up a request to the driver was; None when it was none."""
        return self._calls.get(id)

    def handle_timeout(self, now: Instant) -> None:
        """Give up what was kept for long enough."""
        for fqdn, sleeper in list(self._sleepers.items()):
            late = [kept for kept in sleeper.kept if now >= kept.until]
            sleeper.kept = [kept for kept in sleeper.kept if now < kept.until]
            self._outcomes.extend(NotDelivered(kept.tag, Reason.NOT_WOKEN) for kept in late)
            if not sleeper.kept:
                del self._sleepers[fqdn]
                self._events.append(WakeUpFailed(now, fqdn, Reason.NOT_WOKEN, ""))

    def poll_wake_up(self) -> WakeUp | None:
        """Next wake-up to send."""
        return self._wake_ups.popleft() if self._wake_ups else None

    def poll_outcome(self) -> NotDelivered | None:
        """Next message that came to nothing."""
        return self._outcomes.popleft() if self._outcomes else None

    def poll_event(self) -> NodeStored | WakeUpFailed | None:
        """Next thing that happened."""
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        times = [kept.until for sleeper in self._sleepers.values() for kept in sleeper.kept]
        return Timeout(min(times), "node not woken") if times else None

    def _wake(self, fqdn: str, token: str, now: Instant) -> Sleeper:
        call = self._next_id()
        wake_up = WakeUp(call, fqdn, token)
        self._calls[call] = fqdn
        self._wake_ups.append(wake_up)
        self._journal.note(now, wake_up, "push", sent=True)
        sleeper = Sleeper(call)
        self._sleepers[fqdn] = sleeper
        return sleeper
