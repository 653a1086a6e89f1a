"""Looks for a direct path between two ends whose tunnel goes through RS.

Both ends tell each other, inside the tunnel, where they may be reached and how their NATs behave;
then both probe at once, so that each opens its NAT for the other.

States::

    Waiting --both offers are here, the oracle says it is worth it--> Probing
    Probing --a probe was answered--> Settling --a tenth of a second later--> Found
    Probing --three seconds later--> Resting --later each time--> Probing
    any --begin: the network changed--> Waiting

A probe is a Path Challenge under the tunnel's keys, its answer the Path Response; who is probed
answers to where the probe came from, and probes back there. Where no path is likely, none is sent.

Source: RFC 8445 for the idea, not for the procedure. Ours: docs/protocol.md section 7.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import assert_never

from ntmobile.proto.io import Entropy, Timeout
from ntmobile.proto.nat import Behaviour
from ntmobile.proto.oracle import WINDOW, NatKind, Verdict, Way, oracle
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint, Host
from ntmobile.wire.message import MAX_CANDIDATES

_MS = SECOND // 1000
ROUNDS = tuple(at * _MS for at in (0, 50, 150, 350, 750, 1500, 2250))
"""When all targets are probed, from the beginning of an attempt."""
ATTEMPT_NS = 3 * SECOND
SETTLE_NS = 100 * _MS
"""A slower way that answers first does not win."""
MOST_LEARNED = 8
FIRST_REST_NS = 30 * SECOND
LONGEST_REST_NS = 3600 * SECOND
FIRST_PORT = 1024
PORTS = 65536 - FIRST_PORT


@dataclass(frozen=True, slots=True)
class Offer:
    """What one end tells the other."""

    endpoints: tuple[Endpoint, ...]
    """Where it may be reached, mapped ones first."""
    nat: NatKind | None = None
    """How what is before it behaves; None while it does not know."""
    newest_port: int = 0
    """The outer port of the newest mapping of its socket: where prediction begins."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Send a Path Challenge of this number there, outside of the path."""

    number: int
    destination: Endpoint


@dataclass(frozen=True, slots=True)
class PathFound:
    """Capsules sent there arrive, and the peer's come back."""

    remote: Endpoint
    hears: Endpoint
    """Where the peer's answers come from: another port, where its NAT maps each way anew."""
    rtt_ns: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    """One of the offers is missing."""


@dataclass(frozen=True, slots=True)
class _Probing:
    """Targets are probed in rounds."""

    began: Instant
    round: int


@dataclass(frozen=True, slots=True)
class _Settling:
    """A path is there; a better one may answer."""

    until: Instant


@dataclass(frozen=True, slots=True)
class _Found:
    """The best path was told."""

    path: PathFound


@dataclass(frozen=True, slots=True)
class _Resting:
    """Nothing was found; until is None where nothing ever will be on these networks."""

    until: Instant | None


_State = _Waiting | _Probing | _Settling | _Found | _Resting


@dataclass(slots=True)
class _Sent:
    destination: Endpoint
    at: Instant


@dataclass(slots=True)
class _Attempt:
    """What came out of the probes of one attempt."""

    sent: dict[int, _Sent] = field(default_factory=dict)
    learned: list[Endpoint] = field(default_factory=list)
    """Where the peer's probes came from."""
    found: list[PathFound] = field(default_factory=list)


class Optimisation:
    """One end's search for one tunnel. Call the verbs, then drain poll_probe and poll_event."""

    def __init__(self, entropy: Entropy, *, leads: bool = True) -> None:
        """Waits for the offers of both ends. The one that leads chooses, the other only when it
        hears nothing of a choice."""
        self._entropy = entropy
        self._settle_ns = SETTLE_NS if leads else 6 * SETTLE_NS
        self._own: Offer | None = None
        self._peer: Offer | None = None
        self._state: _State = _Waiting()
        self._attempt = _Attempt()
        self._failures = 0
        self._probes: deque[Probe] = deque()
        self._events: deque[PathFound] = deque()
        self.spent = 0
        """Probes sent in this attempt."""

    @property
    def is_on(self) -> bool:
        """Whether this end searches at all."""
        return self._own is not None

    @property
    def verdict(self) -> Verdict | None:
        """What the oracle says; None while it does not know both NATs."""
        own, peer = self._own, self._peer
        if own is None or peer is None or own.nat is None or peer.nat is None:
            return None
        return oracle(own.nat, peer.nat)

    def begin(self, own: Offer, now: Instant) -> None:
        """Search from here: the tunnel is new, or the own network changed."""
        self._own, self._failures = own, 0
        self._start(now)

    def handle_offer(self, peer: Offer, now: Instant) -> None:
        """Take what the peer tells; what it told before is void."""
        if peer == self._peer:
            return
        self._peer, self._failures = peer, 0
        self._start(now)

    def handle_probe(self, source: Endpoint, now: Instant) -> None:
        """The peer's probe came in from there; the caller answers it, this end probes back."""
        known = self._own is None or self._peer is None
        if known or source in self._attempt.learned or len(self._attempt.learned) >= MOST_LEARNED:
            return
        self._attempt.learned.append(source)
        if isinstance(self._state, _Probing | _Settling):
            self._send(source, now)

    def handle_answer(self, number: int, source: Endpoint, now: Instant) -> None:
        """A probe was answered, from source."""
        sent = self._attempt.sent.get(number)
        if sent is None:
            return
        path = PathFound(sent.destination, source, now - sent.at)
        self._attempt.found.append(path)
        if isinstance(self._state, _Probing):
            self._state = _Settling(Instant(now + self._settle_ns))

    def stop(self) -> None:
        """The path is direct: no probe until the next `begin` or `fail`."""
        if not isinstance(self._state, _Found):
            self._state = _Resting(None)
        self._probes.clear()

    def fail(self, now: Instant) -> None:
        """The path that was found does not carry: rest, and search again."""
        if self._own is not None and self._peer is not None:
            self._rest(now)

    def handle_timeout(self, now: Instant) -> None:
        """Probe again, choose, rest, or try anew."""
        match self._state:
            case _Probing(began, number) if number < len(ROUNDS) and now >= began + ROUNDS[number]:
                self._probe_all(now)
                self._state = _Probing(began, number + 1)
            case _Probing(began) if now >= began + ATTEMPT_NS:
                self._rest(now)
            case _Settling(until) if now >= until:
                best = min(self._attempt.found, key=_rank)
                self._state = _Found(best)
                self._events.append(best)
            case _Resting(until) if until is not None and now >= until:
                self._start(now)
            case _:
                pass

    def poll_probe(self) -> Probe | None:
        """Next probe to send."""
        return self._probes.popleft() if self._probes else None

    def poll_event(self) -> PathFound | None:
        """The path to take."""
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        match self._state:
            case _Probing(began, number):
                after = ROUNDS[number] if number < len(ROUNDS) else ATTEMPT_NS
                return Timeout(Instant(began + after), "probes")
            case _Settling(until):
                return Timeout(until, "best path")
            case _Resting(until) if until is not None:
                return Timeout(until, "search for a direct path")
            case _Waiting() | _Found() | _Resting():
                return None
            case _:
                assert_never(self._state)

    def _start(self, now: Instant) -> None:
        self._attempt = _Attempt()
        self._probes.clear()
        self.spent = 0
        if self._own is None or self._peer is None:
            self._state = _Waiting()
            return
        verdict = self.verdict
        if verdict is not None and verdict.way not in (Way.KNOWN, Way.PREDICTED):
            self._state = _Resting(None)
            return
        self._state = _Probing(now, 0)

    def _rest(self, now: Instant) -> None:
        rest = min(FIRST_REST_NS << min(self._failures, 8), LONGEST_REST_NS)
        self._failures += 1
        # Both ends began together and shall again: no chance in it.
        self._state = _Resting(Instant(now + rest))

    def _probe_all(self, now: Instant) -> None:
        for target in dict.fromkeys((*self._targets(), *self._attempt.learned)):
            self._send(target, now)

    def _targets(self) -> tuple[Endpoint, ...]:
        """What is probed in each round, always in this order: each may count a port on."""
        assert self._own is not None
        assert self._peer is not None
        verdict = self.verdict
        if verdict is None or verdict.way is Way.KNOWN:
            return self._peer.endpoints
        predicted = _predicted(self._peer)
        if verdict.in_step:
            return predicted
        return (*self._peer.endpoints, *predicted)

    def _send(self, destination: Endpoint, now: Instant) -> None:
        number = self._entropy.getrandbits(62)
        self._attempt.sent[number] = _Sent(destination, now)
        self.spent += 1
        self._probes.append(Probe(number, destination))


def _predicted(peer: Offer) -> tuple[Endpoint, ...]:
    """The next ports of a NAT that counts, at the address that it was seen with."""
    nat = peer.nat
    if nat is None or not nat.counts or nat.mapping is Behaviour.ENDPOINT_INDEPENDENT:
        return ()
    if not peer.endpoints or not peer.newest_port:
        return ()
    host, base = peer.endpoints[0].host, peer.newest_port - FIRST_PORT
    ports = (FIRST_PORT + (base + step) % PORTS for step in range(1, WINDOW + 1))
    return tuple(Endpoint(host, port) for port in ports)


def _rank(path: PathFound) -> tuple[bool, int]:
    """The same way back comes first, then the shorter one."""
    return path.hears != path.remote, path.rtt_ns


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a tunnel must know of its node to search."""

    own: Callable[[], tuple[Endpoint, ...]] = lambda: ()
    """Where the node may be reached now; none where nothing may be told."""
    is_virtual: Callable[[Host], bool] = lambda host: False
    """Whether an address leads into a tunnel: a path through a tunnel would be a ring."""

    def offered(self, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
        """Return what may be told or probed: no more than 16, nothing that cannot be an uplink."""
        kept = [each for each in dict.fromkeys(endpoints) if self.may_be_probed(each)]
        return tuple(kept[:MAX_CANDIDATES])

    def may_be_probed(self, endpoint: Endpoint) -> bool:
        """Whether an address can be an uplink's."""
        host = endpoint.host
        special = host.is_loopback or host.is_multicast or host.is_unspecified or host.is_link_local
        return endpoint.port > 0 and not special and not self.is_virtual(host)
