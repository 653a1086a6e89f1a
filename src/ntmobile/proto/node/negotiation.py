"""One end of one negotiation, from Route Direction to agreed keys.

States::

    send:   Requesting --Tunnel Response--> Agreed
    await:  Awaiting   --Tunnel Request---> Agreed (answered)
            either     --silence, refusal--> Failed

The end that awaits behind a NAT opens it towards RS with Hole Punching. Afterwards the negotiation
stays, to answer a repeated Tunnel Request and to show RS a new address (section 8).
Source: paper, Figs. 6 and 7.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ntmobile.keys.identity import Identity
from ntmobile.keys.table import Keyring, Ktmp, Ktun
from ntmobile.proto.conversation import (
    FIRST_RETRY_NS,
    Answered,
    Asked,
    Challenger,
    Conversation,
)
from ntmobile.proto.io import Entropy, Timeout, Transmit
from ntmobile.proto.journal import Journal
from ntmobile.proto.node.handshake import Handshake, HandshakeError, Secrets, Terms
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Header, Sender
from ntmobile.wire.direction import Action, Role, RouteDirection
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import NtmAck, Reason, Refusal
from ntmobile.wire.tunnel import NO_HANDSHAKE, HolePunching, TunnelRequest, TunnelResponse

DIRECT_TRIES = 2
DIRECT_FIRST_RETRY_NS = 150_000_000
"""Two tries in about 400 ms; then RS. Docs/protocol.md section 7."""
AWAIT_DIRECT_NS = 800_000_000
"""How long MN waits for a direct Tunnel Request before it asks for RS."""
AWAIT_RELAY_NS = 8 * SECOND
RELAY_LONGEST_RETRY_NS = 400_000_000
RELAY_TRIES = 20
"""About ten seconds. An RS that is back after a restart hears of its ends within half a second."""
SILENT_RELAY_NS = 2 * SECOND
"""Nothing came from RS: where the DC has no other, the peer's DC may."""
LATE_PATIENCE_NS = SECOND // 2
"""For the answer of a peer that may have begun long ago, and given up."""
UNDIRECTED_NS = SECOND
"""RS is there and still does not know Ktun: it may have been told before it restarted."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """Kmncn stands at this end."""

    negotiation: bytes
    epoch: int
    secrets: Secrets
    remote_index: int
    remote: Endpoint
    relayed: bool
    sent_request: bool
    """This end sent the Tunnel Request, so the peer has proven itself already."""
    relay_ns: int | None = None
    """From the first datagram to RS until it asked for a proof, where it did."""


@dataclass(frozen=True, slots=True)
class NegotiationFailed:
    """No keys; relay_next where asking for RS may help."""

    negotiation: bytes
    reason: Reason
    relay_next: bool


@dataclass(frozen=True, slots=True)
class Punched:
    """RS knows the present address of this end."""

    negotiation: bytes
    relay: Endpoint
    """Where RS answered: capsules from this end are bound there, and to no other family."""


@dataclass(frozen=True, slots=True)
class LedIn:
    """RS wants a proof of this end's address, and carries to the peer from there meanwhile."""

    negotiation: bytes
    relay: Endpoint


@dataclass(frozen=True, slots=True)
class Forgotten:
    """RS was shown where this end is and does not know Ktun: it has restarted, or given it up."""

    negotiation: bytes


@dataclass(frozen=True, slots=True)
class Undirected:
    """RS is silent, or knows nothing of this negotiation: another is to be tried beside it."""

    negotiation: bytes


@dataclass(frozen=True, slots=True)
class _Punch:
    """Tag of a Hole Punching."""


@dataclass(frozen=True, slots=True)
class _Request:
    """Tag of a Tunnel Request."""


Outcome = Agreed | NegotiationFailed | Punched | LedIn | Forgotten | Undirected


@dataclass(frozen=True, slots=True)
class Parts:
    """What a negotiation takes from its node."""

    fqdn: str
    identity: Identity
    keyring: Keyring
    challenger: Challenger
    entropy: Entropy
    journal: Journal
    usable: Callable[[tuple[Endpoint, ...]], tuple[Endpoint, ...]]
    """Those addresses whose family this node has."""


class EpochNumbers(Protocol):
    """Which number the new epoch gets: `Tunnel` is one."""

    def propose_epoch(self, now: Instant) -> int:
        """Return the number to propose in a Tunnel Request."""
        ...

    def accept_epoch(self, proposed: int, remote_index: int, now: Instant) -> int:
        """Return the number to answer a Tunnel Request with."""
        ...


class Negotiation:
    """Everything under one Ktun."""

    def __init__(
        self,
        parts: Parts,
        route: RouteDirection,
        index: int,
        numbers: EpochNumbers,
        terms: Terms,
        now: Instant,
    ) -> None:
        """index is this end's receiver index; numbers gives the epoch its number."""
        self.route = route
        self.began = now
        self._parts = parts
        self._index = index
        self._numbers = numbers
        self._terms = terms
        self._sequence = 0
        expires = Instant(now + route.valid_s * SECOND)
        self._ktun = parts.keyring.own(Ktun(route.ktun, route.ktun_identifier, expires), now)
        self._ktmp = parts.keyring.own(Ktmp(route.ktmp, route.negotiation[:8], expires), now)
        self._handshake = Handshake(
            terms,
            self._ktmp.secret,
            route.role,
            parts.identity,
            route.peer.identity,
            parts.entropy,
        )
        self._conversation: Conversation[_Punch | _Request] = Conversation(
            self._ktun,
            Sender.MN if route.role is Role.MN else Sender.CN,
            parts.challenger,
            parts.entropy,
            parts.journal,
            self._name,
            fresh=True,
        )
        self._outcomes: deque[Outcome] = deque()
        self._punched: Endpoint | None = None
        self._punching = False
        self._shown_at: Instant | None = None
        self._relay_ns: int | None = None
        self._undirected_since: Instant | None = None
        self._doubt_at: Instant | None = None
        self._is_late = False
        self.is_doubtful = False
        """RS may never be told of it: it is under way still, and no reason not to try another."""
        self._over = False
        self._told_differently = False
        """The peer's Noise message came under our Ktun and did not fit what we were told."""
        self._give_up_at: Instant | None = None
        self._begin(now)

    @property
    def identifier(self) -> bytes:
        """The name of Ktun: datagrams that bear it are this negotiation's."""
        return self._ktun.identifier

    @property
    def is_open(self) -> bool:
        """Whether it is still under way."""
        return not self._over

    @property
    def is_punching(self) -> bool:
        """Whether RS is being shown where this end is."""
        return self._punching

    @property
    def relay(self) -> tuple[Endpoint, ...]:
        """RS of this negotiation, one address a family; empty when it is direct."""
        return self.route.relay

    def hurry(self, now: Instant) -> None:
        """It was long in coming: where the peer does not answer soon, another is tried beside."""
        if self.route.relay:
            self._is_late, self._doubt_at = True, Instant(now + LATE_PATIENCE_NS)

    def punch(self, now: Instant) -> None:
        """Show RS where this end is now. Source: paper, Fig. 7; on a move, ours."""
        relay = self._parts.usable(self.route.relay)
        if relay:
            self._sequence += 1
            self._punching, self._shown_at = True, now
            message = HolePunching(self.route.role, self._sequence, self._index)
            self._conversation.ask(
                message,
                relay,
                now,
                _Punch(),
                tries=RELAY_TRIES,
                first_retry_ns=DIRECT_FIRST_RETRY_NS,
                longest_retry_ns=RELAY_LONGEST_RETRY_NS,
                at_once=True,
            )

    def handle_datagram(
        self, header: Header, source: Endpoint, data: bytes, now: Instant, interface: int
    ) -> None:
        """Take a datagram under Ktun."""
        if source in self.route.relay and not self._is_late:
            self._doubt_at = None
        heard = self._conversation.handle_datagram(header, source, data, now, interface=interface)
        while (challenged := self._conversation.poll_challenged()) is not None:
            if challenged[1] in self.route.relay and self._shown_at is not None:
                self._relay_ns, self._shown_at = now - self._shown_at, None
            if isinstance(challenged[0], _Punch):
                self._outcomes.append(LedIn(self.route.negotiation, challenged[1]))
        match heard:
            case Asked(_, TunnelRequest() as request):
                self._handle_request(heard, request, now)
            case Answered(_Request(), TunnelResponse() as response):
                self._handle_response(response, heard.source, now)
            case Answered(_Punch(), NtmAck()):
                self._punching = False
                self._punched = heard.source
                self._outcomes.append(Punched(self.route.negotiation, heard.source))
            case Answered(_, Refusal(reason)):
                self._fail(reason, relay_next=False)
            case _:
                pass

    def handle_hint(self, source: Endpoint, now: Instant) -> None:
        """A hint: the sender does not know Ktun. It hears of it when we do, or a little later."""
        if source not in self.route.relay:
            return
        if not self._over:
            since = self._undirected_since = self._undirected_since or now
            if now - since >= UNDIRECTED_NS:
                self._doubt()
        elif self._punching:
            self._punching = False
            self._conversation.abandon()
            self._outcomes.append(Forgotten(self.route.negotiation))

    def handle_timeout(self, now: Instant) -> None:
        """Ask again; give up."""
        self._conversation.handle_timeout(now)
        while (lost := self._conversation.poll_unanswered()) is not None:
            self._punching = self._punching and not isinstance(lost.tag, _Punch)
            if isinstance(lost.tag, _Request) or not self._over:
                self._fail(Reason.TIMED_OUT, relay_next=not self.route.relay)
        if self._doubt_at is not None and now >= self._doubt_at:
            self._doubt_at = None
            self._doubt()
        if self._give_up_at is not None and now >= self._give_up_at:
            if self._told_differently:
                self._fail(Reason.TOLD_DIFFERENTLY, relay_next=False)
            self._fail(Reason.TIMED_OUT, relay_next=not self.route.relay)

    def close(self, now: Instant) -> None:
        """Erase the keys; the negotiation is of no more use."""
        self._over = True
        self._parts.keyring.erase(self._ktmp, now)
        self._parts.keyring.erase(self._ktun, now)

    def poll_transmit(self) -> Transmit | None:
        """Next datagram to send, oldest first."""
        return self._conversation.poll_transmit()

    def poll_outcome(self) -> Outcome | None:
        """Next outcome."""
        return self._outcomes.popleft() if self._outcomes else None

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        timeouts = [self._conversation.poll_timeout()]
        if self._give_up_at is not None:
            timeouts.append(Timeout(self._give_up_at, "Tunnel Request awaited"))
        if self._doubt_at is not None and not self._over:
            timeouts.append(Timeout(self._doubt_at, "RS is silent"))
        return min((timeout for timeout in timeouts if timeout is not None), default=None)

    def _doubt(self) -> None:
        if not (self._over or self.is_doubtful):
            self.is_doubtful = True
            self._outcomes.append(Undirected(self.route.negotiation))

    def _begin(self, now: Instant) -> None:
        relay = self._parts.usable(self.route.relay)
        if relay and not self.route.targets:
            self._doubt_at = Instant(now + SILENT_RELAY_NS)
        if self.route.action is Action.AWAIT:
            patience = AWAIT_RELAY_NS if self.route.relay else AWAIT_DIRECT_NS
            self._give_up_at = Instant(now + patience)
            self.punch(now)
            return
        targets = self._parts.usable(self.route.targets) + relay
        if not targets:
            self._fail(Reason.NO_COMMON_PATH, relay_next=not self.route.relay)
            return
        self._sequence += 1
        self._shown_at = now
        request = TunnelRequest(
            self.route.negotiation,
            self.route.role,
            self._sequence,
            self._index,
            self._numbers.propose_epoch(now),
            self._handshake.write(),
        )
        self._conversation.ask(
            request,
            targets,
            now,
            _Request(),
            tries=RELAY_TRIES if relay else DIRECT_TRIES,
            first_retry_ns=FIRST_RETRY_NS if relay else DIRECT_FIRST_RETRY_NS,
            longest_retry_ns=RELAY_LONGEST_RETRY_NS,
            at_once=True,
        )

    def _handle_request(self, asked: Asked, request: TunnelRequest, now: Instant) -> None:
        """The peer's first Noise message. Source: paper, Figs. 6 and 7."""
        if (
            self._over
            or self.route.action is not Action.AWAIT
            or request.negotiation != self.route.negotiation
            or request.role is self.route.role
        ):
            return
        try:
            self._handshake.read(request.noise)
        except HandshakeError:
            # Only who holds Ktun gets here: the sender, or a server that lied to one of us.
            self._told_differently = True
            self._respond(asked, request.epoch, NO_HANDSHAKE, now)
            return
        epoch = self._numbers.accept_epoch(request.epoch, request.index, now)
        self._respond(asked, epoch, self._handshake.write(), now)
        self._agree(epoch, request.index, asked.source, now)

    def _respond(self, asked: Asked, epoch: int, noise: bytes, now: Instant) -> None:
        self._sequence += 1
        route = self.route
        response = TunnelResponse(
            route.negotiation, route.role, self._sequence, self._index, epoch, noise
        )
        self._conversation.answer(asked, response, now)

    def _handle_response(self, response: TunnelResponse, source: Endpoint, now: Instant) -> None:
        if self._over or response.negotiation != self.route.negotiation:
            return
        try:
            self._handshake.read(response.noise)
        except HandshakeError:
            self._fail(Reason.TOLD_DIFFERENTLY, relay_next=False)
            return
        self._agree(response.epoch, response.index, source, now)

    def _agree(self, epoch: int, remote_index: int, source: Endpoint, now: Instant) -> None:
        self._over = True
        self._give_up_at = None
        self._parts.keyring.erase(self._ktmp, now)
        relayed = source in self.route.relay
        self._outcomes.append(
            Agreed(
                self.route.negotiation,
                epoch,
                self._handshake.finish(),
                remote_index,
                (self._punched or source) if relayed else source,
                relayed,
                self.route.action is Action.SEND,
                self._relay_ns,
            )
        )

    def _fail(self, reason: Reason, *, relay_next: bool) -> None:
        self._give_up_at = None
        if not self._over:
            self._over = True
            self._outcomes.append(NegotiationFailed(self.route.negotiation, reason, relay_next))

    def _name(self, endpoint: Endpoint, sender: Sender | None) -> str:
        if endpoint in self.route.relay:
            return "RS"
        return self.route.peer.fqdn
