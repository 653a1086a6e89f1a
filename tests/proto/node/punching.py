"""Two ends behind the simulator's NATs, with the search for a direct path and nothing else.

What they tell each other through the relay arrives at once; packets take a one-way delay.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import count

from ntmobile.proto.node.optimisation import Offer, Optimisation, PathFound
from ntmobile.proto.oracle import NatKind
from ntmobile.sim.entropy import SeededEntropy
from ntmobile.sim.nat import Nat, NatBehaviour
from ntmobile.sim.packet import Packet, Transport
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint

SERVERS = (Endpoint("192.0.2.1", 4330), Endpoint("192.0.2.2", 4330))
ONE_WAY_NS = SECOND // 100
OUTSIDE = (IPv4Address("203.0.113.7"), IPv4Address("203.0.113.8"))
INSIDE = Endpoint("192.168.1.2", 40000)


@dataclass
class End:
    """One end: its search, behind its NATs, the innermost first."""

    number: int
    nats: list[Nat]
    machine: Optimisation
    mapped: Endpoint = INSIDE
    measured: int = 0
    probes: int = 0
    found: PathFound | None = None
    got_in: int = 0
    """Probes and answers of the peer that came in."""

    def newest_port(self, now: Instant) -> int:
        """Which port a mapping gets that is made now, from a fresh socket."""
        self.measured += 1
        seen = self.out(SERVERS[0], now, Endpoint(INSIDE.host, INSIDE.port + 97 * self.measured))
        return 0 if seen is None else seen.port

    def out(self, to: Endpoint, now: Instant, source: Endpoint = INSIDE) -> Endpoint | None:
        """Send from the socket; returns the source that the outside sees."""
        packet: Packet | None = Packet(Transport.UDP, source, to, b"")
        for nat in self.nats:
            packet = nat.outbound(packet, now) if packet is not None else None
        return None if packet is None else packet.source

    def admits(self, source: Endpoint, to: Endpoint, now: Instant) -> bool:
        """Whether a packet from outside reaches the socket."""
        packet: Packet | None = Packet(Transport.UDP, source, to, b"")
        for nat in reversed(self.nats):
            if packet is None or packet.destination.host != nat.address:
                return False
            packet = nat.inbound(packet, now)
        return packet is not None and packet.destination == INSIDE


@dataclass
class Game:
    """Both ends and the packets between them."""

    kinds: tuple[NatKind | None, NatKind | None]
    """What the ends believe of their NATs."""
    behaviours: tuple[list[NatBehaviour], list[NatBehaviour]]
    seed: str = ""
    loses: Callable[[int], bool] = lambda number: False
    """Whether the packet of that number is lost."""
    now: Instant = field(default_factory=lambda: Instant(0))

    def __post_init__(self) -> None:
        self.numbers = count()
        self.queue: list[tuple[Instant, int, Callable[[], None]]] = []
        self.ends = tuple(self._end(number) for number in (0, 1))

    def play(self, seconds: float = 4.0) -> "Game":
        """Let both search for so long, from the moment they know each other's offers."""
        for end, kind in zip(self.ends, self.kinds, strict=True):
            end.machine.begin(Offer((end.mapped,), kind), self.now)
        self._run(Instant(self.now + round(seconds * SECOND)))
        return self

    @property
    def direct(self) -> bool:
        """Both ends know a path that works both ways."""
        return all(end.found is not None for end in self.ends)

    def _end(self, number: int) -> End:
        entropy = SeededEntropy(f"{self.seed} {number}")
        inner = [IPv4Address(f"100.64.{number}.{n + 1}") for n in range(3)]
        behaviours = self.behaviours[number]
        nats = [
            Nat(
                OUTSIDE[number] if n == len(behaviours) - 1 else inner[n],
                behaviour,
                entropy.fork(f"nat {n}"),
            )
            for n, behaviour in enumerate(behaviours)
        ]
        made = End(number, nats, Optimisation(entropy))
        seen = [made.out(server, self.now) for server in SERVERS]
        assert seen[0] is not None
        made.mapped = seen[0]
        return made

    def _run(self, until: Instant) -> None:
        while True:
            for end in self.ends:
                self._drain(end)
            timeouts = [(t.at, end) for end in self.ends if (t := end.machine.poll_timeout())]
            due = min((at for at, _ in timeouts), default=until)
            if self.queue and self.queue[0][0] <= due:
                at, _, act = heapq.heappop(self.queue)
                self.now = max(self.now, at)
                act()
                continue
            if due >= until:
                return
            self.now = max(self.now, due)
            for at, end in timeouts:
                if at <= self.now:
                    end.machine.handle_timeout(self.now)
                    following = end.machine.poll_timeout()
                    assert following is None or following.at > self.now

    def _exchange(self, end: End) -> None:
        """Measure and tell what the search wants, through the relay that takes no time."""
        peer = self.ends[1 - end.number]
        if end.machine.wants_port:
            end.machine.renew(end.newest_port(self.now), self.now)
        while (offer := end.machine.poll_offer()) is not None:
            peer.machine.handle_offer(offer, self.now)
            self._exchange(peer)

    def _drain(self, end: End) -> None:
        self._exchange(end)
        while (probe := end.machine.poll_probe()) is not None:
            end.probes += 1
            self._post(end, probe.destination, probe.number, answer=False)
        while (found := end.machine.poll_event()) is not None:
            end.found = found

    def _post(self, end: End, to: Endpoint, number: int, *, answer: bool) -> None:
        source, peer = end.out(to, self.now), self.ends[1 - end.number]
        packet = next(self.numbers)
        if source is None or to.host != peer.mapped.host or self.loses(packet):
            return

        def arrive() -> None:
            if not peer.admits(source, to, self.now):
                return
            peer.got_in += 1
            if answer:
                peer.machine.handle_answer(number, source, self.now)
            else:
                self._post(peer, source, number, answer=True)
                peer.machine.handle_probe(source, self.now)

        heapq.heappush(self.queue, (Instant(self.now + ONE_WAY_NS), packet, arrive))
