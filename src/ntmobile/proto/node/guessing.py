"""Finds a random port by a birthday: one end opens many mappings, the other tries many ports.

The end whose NAT gives every destination another port, at random, opens sockets of its own and
sends a probe from each to the one address where the peer is known: so many ports of its NAT are
open for that address. The peer tries random ports there until a probe gets in, and is answered
from the socket that it came to, which is the path's from then on.

That is a thousand datagrams, and a NAT full of mappings for half a minute. So a tunnel guesses only
once it has carried data through RS for a while, rests for minutes after each guess, and a node
makes one guess at a time. Ours: docs/protocol.md section 7.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ntmobile.proto.io import Entropy
from ntmobile.proto.oracle import Budget
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint, Host

MAPPINGS = Budget().mappings
TRIES = Budget().probes - MAPPINGS
BURST = 8
BURST_NS = 32_000_000
"""250 probes a second: what a small router handles beside other traffic."""
HEAD_START_NS = 1_200_000_000
"""All mappings are open by then."""
LINGER_NS = SECOND
"""For the last answer."""
OPEN_NS = 10 * SECOND
"""How long the mappings wait for a seeker that is slow."""
MOST_NS = 30 * SECOND
"""A seeker whose timers come very late gives up."""
REPEAT_NS = 250_000_000
USED_NS = 10 * SECOND
"""Who needs the relay for moments only is not guessed for."""
PAUSE_NS = 5 * SECOND
"""Data that come further apart are no use of that kind."""
FIRST_REST_NS = 120 * SECOND
"""From the beginning of one guess to the next; twice as long each time."""
LONGEST_REST_NS = 3600 * SECOND
LEAST_REST_NS = 60 * SECOND
"""Though the network changed: the mappings of the last guess may live yet."""
SLACK_NS = 5 * SECOND
"""The peer's clock of rests is as much ahead at most."""
TURN_NS = 30 * SECOND
FIRST_PORT = 1024
PORTS = 65536 - FIRST_PORT


@dataclass(frozen=True, slots=True)
class Shot:
    """One probe: to there, from that socket of the tunnel's own, or the node's port (0)."""

    destination: Endpoint
    socket: int


class Guess:
    """One attempt of one end, paced. Fire what is `due`, until it `ends`."""

    def __init__(
        self, shots: Iterable[Shot], sockets: range, begins: Instant, ends: Instant
    ) -> None:
        """sockets are those that it needs, opened before the first shot."""
        self.sockets = sockets
        self.ends = ends
        self.next_at = begins
        self._shots = tuple(shots)
        self._fired = 0
        self._repeated_at = begins

    def due(self, now: Instant) -> tuple[Shot, ...]:
        """Return what to send now; a timer that comes late makes no larger burst."""
        if now < self.next_at:
            return ()
        shots = self._shots[self._fired : self._fired + BURST]
        self._fired += len(shots)
        over = self._fired == len(self._shots)
        if over and shots and not self.sockets:
            self.ends = Instant(now + LINGER_NS)
        self.next_at = min(self.ends, Instant(now + (REPEAT_NS if over else BURST_NS)))
        return shots

    def repeats(self, now: Instant) -> bool:
        """Whether to probe again now where probes of the peer came from."""
        if now - self._repeated_at < REPEAT_NS:
            return False
        self._repeated_at = now
        return True


def opening(target: Endpoint, first: int, now: Instant) -> Guess:
    """Open mappings towards the peer's known address, from sockets numbered from `first` on."""
    sockets = range(first, first + MAPPINGS)
    shots = (Shot(target, socket) for socket in sockets)
    return Guess(shots, sockets, now, Instant(now + OPEN_NS))


def seeking(host: Host, entropy: Entropy, now: Instant) -> Guess:
    """Try different ports at random, at the address of the peer's NAT."""
    ports: dict[int, None] = {}
    while len(ports) < TRIES:
        ports[FIRST_PORT + entropy.randrange(PORTS)] = None
    begins = Instant(now + HEAD_START_NS)
    shots = (Shot(Endpoint(host, port), 0) for port in ports)
    return Guess(shots, range(0), begins, Instant(now + MOST_NS))


class Turns:
    """All tunnels of one node take turns: its NAT's table is one."""

    def __init__(self) -> None:
        """It is anybody's turn."""
        self._free_at = Instant(0)

    def is_free(self, now: Instant) -> bool:
        """Whether nobody guesses."""
        return now >= self._free_at

    def take(self, now: Instant) -> None:
        """Somebody guesses now."""
        self._free_at = Instant(now + TURN_NS)

    def release(self) -> None:
        """Nothing came of it."""
        self._free_at = Instant(0)


class Occasion:
    """When one tunnel may guess."""

    def __init__(self, turns: Turns) -> None:
        """At once, when it was used for long enough."""
        self._turns = turns
        self._guesses = 0
        self._began: Instant | None = None
        self._after = self._before = self._ask_after = Instant(0)
        self._used: tuple[Instant, Instant] | None = None
        """Since when data pass without a pause, and when they last did."""

    def note_use(self, now: Instant) -> bool:
        """Data pass through RS; whether that and the last guess are long enough ago."""
        since, last = self._used or (now, now)
        self._used = (since if now - last <= PAUSE_NS else now, now)
        if now - self._used[0] < USED_NS or not self._turns.is_free(now):
            return False
        return now >= max(self._after, self._ask_after)

    def consents(self, now: Instant) -> bool:
        """Whether to join in a guess that the peer begins."""
        return now + SLACK_NS >= self._after and self._turns.is_free(now)

    def take(self, now: Instant) -> None:
        """A guess begins."""
        self._turns.take(now)
        rest = min(FIRST_REST_NS << min(self._guesses, 8), LONGEST_REST_NS)
        self._before, self._began, self._after = self._after, now, Instant(now + rest)
        self._guesses += 1

    def refuse(self, now: Instant) -> None:
        """The peer did not agree, so none began: it may ask before this end does again."""
        self._turns.release()
        self._after, self._ask_after = self._before, Instant(now + TURN_NS)
        self._guesses -= 1

    def renew(self) -> None:
        """The network of an end is another one."""
        self._guesses = 0
        if self._began is not None:
            self._after = min(self._after, Instant(self._began + LEAST_REST_NS))
