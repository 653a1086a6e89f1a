"""Whether UDP passes where the node is, and the WebSocket to the DC where it does not.

States::

    Datagrams --the DC is silent for a while--> Opening (UDP is tried on)
    Opening   --the WebSocket stands--> Web; --it is refused--> Refused; --UDP answered--> Datagrams
    Refused   --after 5 s, doubling to a minute--> Opening; --UDP answered--> Datagrams
    Web       --a STUN answer came by UDP--> Datagrams; --the WebSocket broke--> Refused

Ours: docs/protocol.md section 3.
"""

from collections import deque
from dataclasses import dataclass
from typing import assert_never

from ntmobile.errors import DecodeError
from ntmobile.proto.io import Entropy, Timeout, Transmit, random_bytes
from ntmobile.proto.node.events import CloseWeb, OpenWeb, WebCommand
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.stun import TRANSACTION_SIZE, BindingRequest, BindingResponse
from ntmobile.wire.web import WebPlace

PATIENCE_NS = 3 * SECOND // 2
"""In a network where UDP was never seen to pass: three tries, and a Challenge, of a long way."""
BLOCKED_BEFORE_NS = SECOND // 2
"""The network before this one let no UDP pass."""
PASSED_BEFORE_NS = 6 * SECOND
"""UDP did pass here: more likely the DC restarts, and not all its nodes shall come by TLS then."""
FIRST_AGAIN_NS = 5 * SECOND
LONGEST_AGAIN_NS = 60 * SECOND
SPREAD_NS = SECOND
"""Of the first try after a WebSocket broke."""
FIRST_PROBE_NS = SECOND
"""After the WebSocket stands; doubles. A DC that was merely restarting is found at once."""
LONGEST_PROBE_NS = 60 * SECOND
PROBES_KEPT = 8


@dataclass(frozen=True, slots=True)
class Datagrams:
    """UDP passes, or is being tried."""

    give_up_at: Instant | None = None


@dataclass(frozen=True, slots=True)
class Opening:
    """A WebSocket is on its way; whoever answers first wins."""

    tries: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Neither UDP nor a WebSocket gets through."""

    again_at: Instant
    tries: int


@dataclass(frozen=True, slots=True)
class Web:
    """All goes by WebSocket; UDP is asked now and then."""

    probe_at: Instant
    wait_ns: int


@dataclass(frozen=True, slots=True)
class Switched:
    """From now all goes by WebSocket, or by UDP again."""

    web: Endpoint | None
    """The DC's endpoint that the WebSocket leads to; None for UDP."""


class Fallback:
    """One node's choice between UDP and WebSocket; told what it cannot see itself."""

    def __init__(self, entropy: Entropy) -> None:
        """Knows no DC yet, and so does nothing."""
        self._entropy = entropy
        self._state: Datagrams | Opening | Refused | Web = Datagrams()
        self._coordinators: tuple[Endpoint, ...] = ()
        self._place: WebPlace | None = None
        self._remote: Endpoint | None = None
        self._passed = False
        """UDP was seen to pass in this network."""
        self._patience_ns = PATIENCE_NS
        self._wait_ns = FIRST_PROBE_NS
        self._breaks = 0
        """How often a WebSocket broke before it was worth its while."""
        self._probes: deque[bytes] = deque(maxlen=PROBES_KEPT)
        self._commands: deque[WebCommand] = deque()
        self._transmits: deque[Transmit] = deque()
        self._events: deque[Switched] = deque()

    @property
    def is_web(self) -> bool:
        """Whether UDP is blocked here and a WebSocket stands in for it."""
        return isinstance(self._state, Web)

    @property
    def is_refused(self) -> bool:
        """Whether neither UDP nor a WebSocket gets through."""
        match self._state:
            case Refused(_, tries) | Opening(tries):
                return tries > 0
            case _:
                return False

    def begin(self, place: WebPlace, coordinators: tuple[Endpoint, ...]) -> None:
        """The DC to reach: its HTTPS, and those of its UDP addresses whose family there is."""
        self._place, self._coordinators = place, coordinators

    def move(self, coordinators: tuple[Endpoint, ...]) -> None:
        """Another network: forget what was true of the one before."""
        was_web = self.is_web
        self._patience_ns = BLOCKED_BEFORE_NS if was_web else PATIENCE_NS
        self._passed, self._wait_ns = False, FIRST_PROBE_NS
        self.stop()
        self._coordinators = coordinators

    def stop(self) -> None:
        """Close what is open."""
        if self.is_web:
            self._events.append(Switched(None))
        self._close()
        self._state = Datagrams()

    def follow(self, silent_since: Instant | None, *, standing: bool) -> None:
        """Since when the DC leaves a registration unanswered; whether one stands."""
        answered = silent_since is None and standing
        match self._state:
            case Datagrams(waited):
                self._passed |= answered and waited is not None
                self._state = Datagrams(self._give_up_at(silent_since))
            case Opening() | Refused() if answered:
                self._passed = True
                self._close()
                self._state = Datagrams()
            case _:
                pass

    def handle_web(self, remote: Endpoint, *, stands: bool, now: Instant) -> bool:
        """The WebSocket stands, or is no more; False when it is not the DC's."""
        if remote != self._remote:
            return False
        match self._state:
            case Opening() if stands:
                self._state = Web(Instant(now + self._wait_ns), self._wait_ns)
                self._events.append(Switched(remote))
            case Opening(tries):
                self._wait(tries + 1, now)
            case Web() if not stands:
                # At once after a long stay; one that breaks as soon as it stands waits its turn.
                self._events.append(Switched(None))
                self._wait(self._breaks, now)
                self._breaks += 1
            case _:
                pass
        return True

    def handle_stun(self, data: bytes, now: Instant) -> None:
        """Take what may be the answer to one of our probes: then UDP passes again."""
        try:
            answer = BindingResponse.decode(data)
        except DecodeError:
            return
        if isinstance(self._state, Web) and answer.transaction in self._probes:
            # Where small datagrams pass and others do not, this must not go to and fro.
            self._wait_ns = min(2 * self._state.wait_ns, LONGEST_PROBE_NS)
            self._close()
            self._state = Datagrams()
            self._events.append(Switched(None))

    def handle_timeout(self, now: Instant) -> None:
        """Give UDP up; try the WebSocket again; ask for UDP."""
        match self._state:
            case Datagrams(give_up_at) if give_up_at is not None and now >= give_up_at:
                self._open(0)
            case Refused(again_at, tries) if now >= again_at:
                self._open(tries)
            case Web(probe_at, wait_ns) if now >= probe_at:
                self._probe()
                self._breaks = 0
                wait_ns = min(2 * wait_ns, LONGEST_PROBE_NS)
                self._state = Web(Instant(now + wait_ns), wait_ns)
            case _:
                pass

    def poll_command(self) -> WebCommand | None:
        """Next command to the driver."""
        return self._commands.popleft() if self._commands else None

    def poll_transmit(self) -> Transmit | None:
        """Next STUN request; it must leave by UDP."""
        return self._transmits.popleft() if self._transmits else None

    def poll_event(self) -> Switched | None:
        """Next change."""
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        match self._state:
            case Datagrams(None) | Opening():
                return None
            case Datagrams(give_up_at):
                assert give_up_at is not None
                return Timeout(give_up_at, "UDP given up")
            case Refused(again_at):
                return Timeout(again_at, "WebSocket again")
            case Web(probe_at):
                return Timeout(probe_at, "UDP asked for")
            case _:
                assert_never(self._state)

    def _give_up_at(self, silent_since: Instant | None) -> Instant | None:
        if silent_since is None or self._place is None or not self._coordinators:
            return None
        if not self._passed:
            return Instant(silent_since + self._patience_ns)
        known = self._state.give_up_at if isinstance(self._state, Datagrams) else None
        spread_ns = self._entropy.randrange(PASSED_BEFORE_NS)
        return known or Instant(silent_since + PASSED_BEFORE_NS + spread_ns)

    def _open(self, tries: int) -> None:
        assert self._place is not None
        self._remote = self._coordinators[0]
        self._commands.append(OpenWeb(self._remote, self._place, relay=False))
        self._state = Opening(tries)

    def _wait(self, tries: int, now: Instant) -> None:
        self._close()
        wait_ns = min(FIRST_AGAIN_NS << min(tries - 1, 8), LONGEST_AGAIN_NS) if tries else 0
        # Spread: when a DC restarts, the WebSockets of all its nodes break at the same time.
        spread_ns = self._entropy.randrange(wait_ns // 2 or SPREAD_NS)
        self._state = Refused(Instant(now + wait_ns + spread_ns), tries)

    def _close(self) -> None:
        if self._remote is not None:
            self._commands.append(CloseWeb(self._remote))
            self._remote = None
        self._probes.clear()

    def _probe(self) -> None:
        transaction = random_bytes(self._entropy, TRANSACTION_SIZE)
        self._probes.append(transaction)
        request = BindingRequest(transaction).encode()
        self._transmits.extend(Transmit(place, request) for place in self._coordinators)
