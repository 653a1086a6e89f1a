"""What the parts of a coordinator share: settings, nodes, keys and the queues to the driver."""

from collections import deque
from typing import Protocol

from ntmobile.keys.table import CommonKey, Keyring, Party
from ntmobile.proto.conversation import Challenger, Conversation
from ntmobile.proto.coordinator.policy import Policy, Subject
from ntmobile.proto.coordinator.registry import Node, Registry
from ntmobile.proto.coordinator.settings import (
    Audit,
    CoordinatorSettings,
    NodeStored,
    WakeUpFailed,
)
from ntmobile.proto.coordinator.tags import NodeTag
from ntmobile.proto.coordinator.waking import Waking
from ntmobile.proto.io import Entropy, Reply, Request, Transmit
from ntmobile.proto.journal import Journal, Step
from ntmobile.time import Instant
from ntmobile.wire.datagram import Sender, Signal
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import Reason, Refusal

MAX_PARTNERS = 65_536
"""Names whose partners are remembered; a foreign domain may invent as many as it likes."""

CUT_OFF_TRIES = 3
CUT_OFF_RETRY_NS = 200_000_000
"""A node whose NS is silent may still be reached by UDP, and answers at once then. Two negotiations
of MN one after the other are over before it answers the application's query (2 s), so that the name
is refused with the reason.
"""

Event = NodeStored | Audit | WakeUpFailed | Step
"""What a coordinator tells its driver."""


class Carrier(Protocol):
    """Brings datagrams to nodes that hold a connection to an NS."""

    def through(self, node: Node, now: Instant) -> Endpoint | None:
        """Where that NS is; None where there is none."""
        ...

    def stands_for(self, destination: Endpoint) -> bool:
        """Whether what goes there is for a node behind an NS."""
        ...

    def notify(self, node: Node, payload: bytes, now: Instant) -> None:
        """Have it bring the node these bytes."""
        ...


class Common:
    """One per coordinator."""

    carrier: Carrier
    """Set by the coordinator once it is made."""

    def __init__(self, settings: CoordinatorSettings, policy: Policy, entropy: Entropy) -> None:
        """Starts without nodes."""
        self.settings = settings
        self.policy = policy
        self.entropy = entropy
        self.registry = Registry(settings.domain, settings.ipv4_pool)
        self.keyring = Keyring(Party.DC)
        self.journal = Journal("DC")
        self.challenger = Challenger(entropy)
        self.rejected = self.journal.rejected
        self.transmits: deque[Transmit] = deque()
        self.requests: deque[Request] = deque()
        self.replies: deque[Reply] = deque()
        self.events: deque[Event] = deque()
        self.busy: dict[str, Node] = {}
        """By name, nodes with requests of ours open: only these are looked at when time passes."""
        self.partners: dict[str, set[str]] = {}
        """With whom each of our nodes was directed to talk: told when one is revoked."""
        self._ids = 0
        self.waking = Waking(self.journal, self.next_id)

    def next_id(self) -> int:
        """Return a new id for a request to the driver."""
        self._ids += 1
        return self._ids

    def converse_with_node(self, key: CommonKey, fqdn: str) -> Conversation[NodeTag]:
        """Open the conversation with one of our nodes."""
        return Conversation(
            key,
            Sender.DC,
            self.challenger,
            self.entropy,
            self.journal,
            lambda *_: fqdn,
        )

    def ask_node(self, node: Node, message: Signal, tag: NodeTag, now: Instant) -> None:
        """Send a request to one of our nodes, wherever it was last seen; one that sleeps is woken.

        Source: paper, Fig. 6 ("by UDP, NS or push").
        """
        if node.is_asleep(now, self.settings.registration_s):
            return self.waking.keep(node, message, tag, now)
        places = self.places(node, now)
        if self.is_cut_off(node, now):
            node.conversation.ask(
                message,
                places,
                now,
                tag,
                tries=CUT_OFF_TRIES,
                first_retry_ns=CUT_OFF_RETRY_NS,
                longest_retry_ns=CUT_OFF_RETRY_NS,
            )
        else:
            node.conversation.ask(message, places, now, tag)
        self.busy[node.fqdn] = node
        return self.drain(node, now)

    def is_cut_off(self, node: Node, now: Instant) -> bool:
        """Whether the NS that holds the node is silent, and only an old UDP mapping is left."""
        return node.stored.is_held and self.carrier.through(node, now) is None

    def silence(self, node: Node, now: Instant) -> Refusal | None:
        """Return what the silence of a node means to MN, where more is known than that."""
        return Refusal(Reason.NOTIFICATION_SILENT) if self.is_cut_off(node, now) else None

    def places(self, node: Node, now: Instant) -> tuple[Endpoint, ...]:
        """Where to send what is for a node: its NS stands among them with its own address."""
        through = self.carrier.through(node, now)
        if through is None:
            return node.sources(now)
        if node.is_awake(now):
            return (*node.sources(now), through)
        return (through, *node.sources(now))

    def drain(
        self, node: Node, now: Instant, conversation: Conversation[NodeTag] | None = None
    ) -> None:
        """Hand on what the node's conversation wants sent: to the driver, or to its NS."""
        speaking = node.conversation if conversation is None else conversation
        while (transmit := speaking.poll_transmit()) is not None:
            if self.carrier.stands_for(transmit.destination):
                self.carrier.notify(node, transmit.payload, now)
            else:
                self.transmits.append(transmit)

    def judge(
        self, mn: Subject, cn: Subject, now: Instant, *, exists: bool = True
    ) -> Reason | None:
        """Ask policy, and write the verdict down: nobody is allowed what does not exist."""
        reason = self.policy.refuses(mn, cn)
        written = reason if reason is not None or exists else Reason.UNKNOWN_NAME
        self.events.append(Audit(now, mn.fqdn, cn.fqdn, written is None, written))
        return reason

    def remember_partners(self, ours: str, theirs: str) -> None:
        """Note that two were directed to talk; those heard of longest ago are forgotten."""
        for one, other in ((ours, theirs), (theirs, ours)):
            self.partners[one] = held = self.partners.pop(one, set())
            held.add(other)
        while len(self.partners) > MAX_PARTNERS:
            oldest = next(iter(self.partners))
            for partner in self.partners.pop(oldest):
                self.partners.get(partner, set()).discard(oldest)


def hides(reason: Reason) -> Reason:
    """What a stranger is told: refused and unknown look the same."""
    if reason in (Reason.NOT_ALLOWED, Reason.REVOKED):
        return Reason.UNKNOWN_NAME
    return reason
