"""Looks for a direct path between two ends whose tunnel goes through RS.

Both ends tell each other, inside the tunnel, where they may be reached and how their NATs behave;
then both probe at once, so that each opens its NAT for the other. Offers are numbered by attempt:
an end probes when both have told the same one, and who hears of a later one tells anew.

States::

    Waiting --both offers of one attempt are here, the oracle says it is worth it--> Probing
    Waiting --the port where prediction begins is not known--> Measuring --renew--> Waiting
    Waiting --and only a port guessed at random would do, both agree to guess--> Guessing
    Probing, Guessing --a probe was answered--> Settling --a tenth of a second later--> Found
    Probing --three seconds later--> Resting --later each time: the next attempt--> Waiting
    Guessing --all tries were in vain--> Resting --used on, minutes later: the next guess--> Waiting
    any --begin: the network changed--> Waiting

A probe is a Path Challenge under the tunnel's keys, its answer the Path Response; who is probed
answers to where the probe came from, and probes back there. Where no path is likely, none is sent:
the oracle judges IPv4, while IPv6 and the addresses behind one NAT are tried in any case.

Source: RFC 8445 for the idea, not for the procedure. Ours: docs/protocol.md section 7.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import assert_never

from ntmobile.proto.io import Entropy, Timeout
from ntmobile.proto.node.events import OTHER_PORT
from ntmobile.proto.node.guessing import Guess, Occasion, Shot, Turns, opening, seeking
from ntmobile.proto.oracle import WINDOW, NatKind, Verdict, Way, oracle
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.nat import Behaviour

_MS = SECOND // 1000
ROUNDS = tuple(at * _MS for at in (0, 50, 150, 350, 750, 1500, 2250))
"""When all targets are probed, from the beginning of an attempt."""
IN_STEP_ROUNDS = 3
"""Until then both ends have begun, and what gets in by chance makes neither count on too early."""
ATTEMPT_NS = 3 * SECOND
SETTLE_NS = 100 * _MS
"""A slower way that answers first does not win."""
MEASURING_NS = 2 * SECOND
MOST_LEARNED = 8
MOST_PROBES = 1024
"""In half a minute, whatever the peer tells."""
FIRST_REST_NS = 30 * SECOND
LONGEST_REST_NS = 3600 * SECOND
GOOD_NS = 60 * SECOND
"""A path that was direct for so long and fails is sought again at once, as if never before: going
and coming, it makes no more than two changes in that time."""
FIRST_PORT = 1024
PORTS = 65536 - FIRST_PORT


@dataclass(frozen=True, slots=True)
class Offer:
    """What one end tells the other."""

    endpoints: tuple[Endpoint, ...]
    """Where it may be reached, the best first."""
    nat: NatKind | None = None
    """How what is before it behaves in IPv4; None while it does not know."""
    newest_port: int = 0
    """The outer port of its NAT's newest mapping, where prediction begins; 0: not measured."""
    attempt: int = 0
    guess: bool = False
    """Whether this attempt may guess; it does if both ends say so."""

    @property
    def is_predictable(self) -> bool:
        """Whether the next port of its NAT can be foretold, and has to be."""
        nat = self.nat
        return nat is not None and nat.counts and nat.mapping is not Behaviour.ENDPOINT_INDEPENDENT

    @property
    def hosts(self) -> set[object]:
        """Its IPv4 addresses."""
        return {endpoint.host for endpoint in self.endpoints if endpoint.version == 4}


@dataclass(frozen=True, slots=True)
class Probe:
    """Send a Path Challenge of this number there, outside of the path."""

    number: int
    destination: Endpoint
    socket: int = 0
    """One of the tunnel's own; 0: the node's port."""
    is_guess: bool = False
    """One of many: not worth a line in the journal."""


@dataclass(frozen=True, slots=True)
class PathFound:
    """Capsules sent there arrive, and the peer's come back."""

    remote: Endpoint
    hears: Endpoint
    """Where the peer's answers come from: another port, where its NAT maps each way anew."""
    rtt_ns: int
    socket: int = 0
    """The own one that it leads through."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """The peer's offer of this attempt is missing, or this end does not search."""


@dataclass(frozen=True, slots=True)
class _Measuring:
    """The own NAT's newest port is being found out; given up then."""

    until: Instant


@dataclass(frozen=True, slots=True)
class _Probing:
    """Targets are probed in rounds."""

    began: Instant
    round: int


@dataclass(frozen=True, slots=True)
class _Guessing:
    """Mappings are opened for the peer, or ports tried at random."""

    guess: Guess


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


_State = _Waiting | _Measuring | _Probing | _Guessing | _Settling | _Found | _Resting


@dataclass(slots=True)
class _Sent:
    destination: Endpoint
    at: Instant
    socket: int


@dataclass(slots=True)
class _Attempt:
    """What came out of the probes of one attempt."""

    sent: dict[int, _Sent] = field(default_factory=dict)
    learned: list[Shot] = field(default_factory=list)
    """Where the peer's probes came from, and what they came to."""
    found: list[PathFound] = field(default_factory=list)


class Optimisation:
    """One end's search for one tunnel. Call the verbs, then drain what poll_* has to say.

    Where `wants_port` is true the NAT's newest port is measured, and `renew` called with it.
    """

    def __init__(self, entropy: Entropy, *, leads: bool = True, turns: Turns | None = None) -> None:
        """Waits for the offers of both ends. The one that leads chooses, the other only when it
        hears nothing of a choice. Turns are those of the node's tunnels, to guess."""
        self._entropy = entropy
        self._settle_ns = SETTLE_NS if leads else 6 * SETTLE_NS
        self._own: Offer | None = None
        self._peer: Offer | None = None
        self._earlier = 0
        """The port where the prediction began before: that mapping may live yet, as may one that
        was made while the first path was sought."""
        self._inside: tuple[Endpoint, ...] = ()
        self._state: _State = _Waiting()
        self._attempt = _Attempt()
        self._failures = 0
        self._occasion = Occasion(Turns() if turns is None else turns)
        self._numbered = 0
        """Sockets of the tunnel's own that were asked for so far."""
        self._wanted: deque[range] = deque()
        self._direct_since: Instant | None = None
        self._is_stale = False
        """The own network is another; what this end told of itself was true of the one before."""
        self._window = (Instant(0), 0)
        self._offers: deque[Offer] = deque()
        self._probes: deque[Probe] = deque()
        self._events: deque[PathFound] = deque()
        self.spent = 0
        """Probes sent in this attempt."""

    @property
    def is_on(self) -> bool:
        """Whether this end searches at all."""
        return self._own is not None

    @property
    def wants_port(self) -> bool:
        """Whether the own NAT's newest port must be measured, now."""
        return isinstance(self._state, _Measuring)

    @property
    def sockets(self) -> Iterable[int]:
        """Which of the tunnel's own sockets it needs."""
        match self._state:
            case _Guessing(guess):
                return guess.sockets
            case _Settling():
                found, learned = self._attempt.found, self._attempt.learned
                return (*(path.socket for path in found), *(shot.socket for shot in learned))
            case _:
                return ()

    @property
    def verdict(self) -> Verdict | None:
        """What the oracle says of IPv4; None while it does not know both NATs."""
        own, peer = self._own, self._peer
        if own is None or peer is None or own.nat is None or peer.nat is None:
            return None
        return oracle(own.nat, peer.nat, same_nat=self._share_a_nat())

    def begin(self, own: Offer, now: Instant) -> None:
        """Search from here: the tunnel is new, or the own network, or what is known of it."""
        before, attempt = self._own, 0 if self._own is None else self._own.attempt
        if before is None or (before.hosts, before.nat) != (own.hosts, own.nat):
            self._occasion.renew()
        self._own, self._failures = replace(own, attempt=attempt, newest_port=0), 0
        self._is_stale = False
        self._begin_attempt(now)

    def meet(self, inside: tuple[Endpoint, ...]) -> None:
        """Where the DC says the peer is inside its network: probed if that is this one too."""
        self._inside = inside

    def note_use(self, now: Instant) -> None:
        """The tunnel carries data through RS: after a while that is worth a guess."""
        verdict = self.verdict
        if verdict is None or verdict.way is not Way.GUESSED:
            return
        if self._occasion.note_use(now) and isinstance(self._state, _Resting):
            self._tell(0, now, guess=True)

    def renew(self, newest_port: int, now: Instant) -> None:
        """The own NAT's newest port was measured; 0: in vain."""
        if not isinstance(self._state, _Measuring):
            return
        if newest_port:
            self._tell(newest_port, now)
        else:
            self._rest(now)

    def handle_offer(self, peer: Offer, now: Instant) -> None:
        """Take what the peer tells; what it told before is void, and older than that is late."""
        before, own = self._peer, self._own
        if before is not None and (peer == before or peer.attempt < before.attempt):
            return
        self._peer = peer
        self._earlier = 0 if before is None else before.newest_port
        if before is None or (before.endpoints, before.nat) != (peer.endpoints, peer.nat):
            self._failures = 0
        if before is None or (before.hosts, before.nat) != (peer.hosts, peer.nat):
            self._occasion.renew()
        if self._is_stale:
            return
        if own is not None and peer.attempt > own.attempt:
            self._begin_attempt(now)
        elif own is not None and peer.attempt == own.attempt:
            self._start(now)

    def handle_probe(self, source: Endpoint, now: Instant, socket: int = 0) -> None:
        """The peer's probe came in from there, to a socket of the tunnel's own or the node's port.

        The caller answers it, this end probes back.
        """
        way, learned = Shot(source, socket), self._attempt.learned
        # What the peer sends to the port that is being left says nothing of the other.
        unknown = self._own is None or self._peer is None or socket == OTHER_PORT
        if unknown or way in learned or len(learned) >= MOST_LEARNED:
            return
        learned.append(way)
        if isinstance(self._state, _Probing | _Guessing | _Settling):
            self._send(way, now)

    def handle_answer(self, number: int, source: Endpoint, now: Instant) -> None:
        """A probe was answered, from source."""
        sent = self._attempt.sent.get(number)
        if sent is None:
            return
        path = PathFound(sent.destination, source, now - sent.at, sent.socket)
        self._attempt.found.append(path)
        if isinstance(self._state, _Probing | _Guessing):
            self._state = _Settling(Instant(now + self._settle_ns))

    def stop(self, now: Instant) -> None:
        """The path is direct: no probe until the next `begin`, `fail`, `lose` or `leave`."""
        self._direct_since = now
        if not isinstance(self._state, _Found):
            self._state = _Resting(None)
        self._probes.clear()

    def fail(self, now: Instant) -> None:
        """The path that was found does not carry: rest, and search again."""
        if self._own is not None and self._peer is not None:
            self._rest(now)

    def lose(self, now: Instant) -> None:
        """The path was direct, and is no more: search again, at once if it was good for long."""
        since, self._direct_since = self._direct_since, None
        if since is None or now - since < GOOD_NS or self._is_stale:
            self.fail(now)
        elif self._own is not None and self._peer is not None:
            self._failures = 0
            self._begin_attempt(now)

    def leave(self, now: Instant) -> None:
        """This end is in another network: rest until `begin` tells what that is like."""
        self._is_stale = True
        self.fail(now)

    def handle_timeout(self, now: Instant) -> None:
        """Probe again, choose, rest, or try anew."""
        match self._state:
            case _Probing(began, number) if number < len(ROUNDS) and now >= began + ROUNDS[number]:
                self._probe_all(number, now)
                self._state = _Probing(began, number + 1)
            case _Probing(began) if now >= began + ATTEMPT_NS:
                self._rest(now)
            case _Guessing(guess):
                self._guess_on(guess, now)
            case _Settling(until) if now >= until:
                best = min(self._attempt.found, key=_rank)
                self._state = _Found(best)
                self._events.append(best)
            case _Measuring(until) if now >= until:
                self._rest(now)
            case _Resting(until) if until is not None and now >= until:
                self._is_stale = False
                self._begin_attempt(now)
            case _:
                pass

    def poll_offer(self) -> Offer | None:
        """What to tell the peer; a newer one takes the place of those before."""
        return self._offers.popleft() if self._offers else None

    def poll_sockets(self) -> range | None:
        """Next sockets of the tunnel's own to open, by their numbers."""
        return self._wanted.popleft() if self._wanted else None

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
            case _Guessing(guess):
                return Timeout(guess.next_at, "guesses")
            case _Settling(until):
                return Timeout(until, "best path")
            case _Measuring(until):
                return Timeout(until, "newest port")
            case _Resting(until) if until is not None:
                return Timeout(until, "search for a direct path")
            case _Waiting() | _Found() | _Resting():
                return None
            case _:
                assert_never(self._state)

    def _begin_attempt(self, now: Instant) -> None:
        """Tell the peer anew, for an attempt of both ends at once."""
        assert self._own is not None
        verdict = self.verdict
        predicts = verdict is not None and verdict.way is Way.PREDICTED
        if predicts and self._own.is_predictable:
            self._state = _Measuring(Instant(now + MEASURING_NS))
        else:
            self._tell(0, now, guess=self._joins_a_guess(now))

    def _joins_a_guess(self, now: Instant) -> bool:
        own, peer, verdict = self._own, self._peer, self.verdict
        if own is None or peer is None or not peer.guess or peer.attempt <= own.attempt:
            return False
        guessed = verdict is not None and verdict.way is Way.GUESSED
        return guessed and self._occasion.consents(now)

    def _tell(self, newest_port: int, now: Instant, *, guess: bool = False) -> None:
        assert self._own is not None
        heard = 0 if self._peer is None else self._peer.attempt
        attempt = heard if heard > self._own.attempt else self._own.attempt + 1
        if guess:
            self._occasion.take(now)
        self._own = replace(self._own, attempt=attempt, newest_port=newest_port, guess=guess)
        self._offers.clear()
        self._offers.append(self._own)
        self._start(now)

    def _start(self, now: Instant) -> None:
        self._attempt = _Attempt()
        self._probes.clear()
        self.spent = 0
        own, peer, verdict = self._own, self._peer, self.verdict
        if own and peer and own.attempt == peer.attempt and own.guess and not peer.guess:
            self._occasion.refuse(now)
            self._own = own = replace(own, guess=False)
        if own is None or peer is None or own.attempt != peer.attempt:
            self._state = _Waiting()
        elif verdict is not None and verdict.way is Way.PREDICTED and not _is_measured(own):
            self._begin_attempt(now)
        elif verdict is not None and verdict.way is Way.PREDICTED and not _is_measured(peer):
            self._state = _Waiting()
        elif own.guess and peer.guess:
            self._state = _Guessing(self._guess(own, peer, now))
        elif self._targets():
            self._state = _Probing(now, 0)
        else:
            self._state = _Resting(None)

    def _guess(self, own: Offer, peer: Offer, now: Instant) -> Guess:
        """The end whose mapping is known seeks, the other opens mappings for it."""
        target = next(each for each in peer.endpoints if each.version == 4)
        if own.nat is not None and own.nat.mapping is Behaviour.ENDPOINT_INDEPENDENT:
            return seeking(target.host, self._entropy, now)
        guess = opening(target, self._numbered + 1, now)
        self._numbered += len(guess.sockets)
        self._wanted.append(guess.sockets)
        return guess

    def _guess_on(self, guess: Guess, now: Instant) -> None:
        if now >= guess.ends:
            self._state = _Resting(None)
            return
        for shot in guess.due(now):
            self._send(shot, now, is_guess=True)
        if guess.repeats(now):
            for way in self._attempt.learned:
                self._send(way, now)

    def _rest(self, now: Instant) -> None:
        rest = min(FIRST_REST_NS << min(self._failures, 8), LONGEST_REST_NS)
        self._failures += 1
        # Both ends began together and shall again: no chance in it.
        self._state = _Resting(Instant(now + rest))

    def _probe_all(self, number: int, now: Instant) -> None:
        known = (Shot(target, 0) for target in self._targets(number))
        for way in dict.fromkeys((*known, *self._attempt.learned)):
            self._send(way, now)

    def _targets(self, number: int = 0) -> tuple[Endpoint, ...]:
        """What is probed in each round, always in this order: each may count a port on."""
        assert self._peer is not None
        verdict, told = self.verdict, self._peer.endpoints
        beside = tuple(each for each in told if each.version == 6)
        if self._share_a_nat() and not self._failures:
            beside = (*self._inside, *beside)
        if verdict is None or verdict.way is Way.KNOWN:
            return (*told, *(each for each in beside if each not in told))
        if verdict.way is not Way.PREDICTED:
            return beside
        predicted = _predicted(self._peer, self._peer.newest_port)
        again = _predicted(self._peer, self._earlier or _mapped_port(self._peer))
        if verdict.in_step and number < IN_STEP_ROUNDS:
            return (*predicted, *beside)
        if verdict.in_step:
            further = _predicted(self._peer, self._peer.newest_port, WINDOW)
            return (*predicted, *again, *further, *beside)
        return (*told, *predicted, *again, *(each for each in beside if each not in told))

    def _share_a_nat(self) -> bool:
        """Whether both ends are seen at one IPv4 address."""
        own, peer = self._own, self._peer
        return own is not None and peer is not None and bool(own.hosts & peer.hosts)

    def _send(self, way: Shot, now: Instant, *, is_guess: bool = False) -> None:
        since, sent = self._window
        if now - since >= FIRST_REST_NS:
            since, sent = now, 0
        self._window = since, sent + 1
        if sent >= MOST_PROBES:
            return
        number = self._entropy.getrandbits(62)
        self._attempt.sent[number] = _Sent(way.destination, now, way.socket)
        self.spent += 1
        self._probes.append(Probe(number, way.destination, way.socket, is_guess))


def _is_measured(offer: Offer) -> bool:
    return bool(offer.newest_port) or not offer.is_predictable


def _mapped_port(peer: Offer) -> int:
    return next((each.port for each in peer.endpoints if each.version == 4), 0)


def _predicted(peer: Offer, newest_port: int, skipped: int = 0) -> tuple[Endpoint, ...]:
    """The next ports of a NAT that counts, at the address that it was seen with."""
    host = next((each.host for each in peer.endpoints if each.version == 4), None)
    if host is None or not peer.is_predictable or not newest_port:
        return ()
    base = newest_port + skipped - FIRST_PORT
    ports = (FIRST_PORT + (base + step) % PORTS for step in range(1, WINDOW + 1))
    return tuple(Endpoint(host, port) for port in ports)


def _rank(path: PathFound) -> tuple[bool, int]:
    """The same way back comes first, then the shorter one."""
    return path.hears != path.remote, path.rtt_ns
