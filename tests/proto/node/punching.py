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
OWN_PORTS = 10000
"""The first of the search's own sockets, by their numbers; seven apart: no two collide at a NAT."""


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
    opened: int = 0
    """Sockets of the search's own so far."""

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

    def inside(self, socket: int) -> Endpoint:
        """Where a socket of the search's own is bound; 0: the node's."""
        assert not socket or socket in self.machine.sockets or self.found is not None
        return Endpoint(INSIDE.host, OWN_PORTS + 7 * socket) if socket else INSIDE

    def admits(self, source: Endpoint, to: Endpoint, now: Instant) -> int | None:
        """Which socket a packet from outside reaches; None: it is stopped."""
        packet: Packet | None = Packet(Transport.UDP, source, to, b"")
        for nat in reversed(self.nats):
            if packet is None or packet.destination.host != nat.address:
                return None
            packet = nat.inbound(packet, now)
        if packet is None:
            return None
        inside = packet.destination
        if inside == INSIDE:
            return 0
        socket, rest = divmod(inside.port - OWN_PORTS, 7)
        return socket if not rest and socket in self.machine.sockets else None


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

    def play(self, seconds: float = 4.0, used_s: int = 0) -> "Game":
        """Let both search for so long, from the moment they know each other's offers.

        used_s: data pass for so long after that, while no path is found.
        """
        for end, kind in zip(self.ends, self.kinds, strict=True):
            end.machine.begin(Offer((end.mapped,), kind), self.now)
        self._run(Instant(self.now + round(seconds * SECOND)))
        for _ in range(used_s):
            if self.direct:
                break
            for end in self.ends:
                end.machine.note_use(self.now)
            self._run(Instant(self.now + SECOND))
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
                self.now = until
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
        while (sockets := end.machine.poll_sockets()) is not None:
            end.opened += len(sockets)
        while (probe := end.machine.poll_probe()) is not None:
            end.probes += 1
            self._post(end, probe.destination, probe.number, probe.socket, answer=False)
        while (found := end.machine.poll_event()) is not None:
            end.found = found

    def _post(self, end: End, to: Endpoint, number: int, socket: int, *, answer: bool) -> None:
        source, peer = end.out(to, self.now, end.inside(socket)), self.ends[1 - end.number]
        packet = next(self.numbers)
        if source is None or to.host != peer.mapped.host or self.loses(packet):
            return

        def arrive() -> None:
            reached = peer.admits(source, to, self.now)
            if reached is None:
                return
            peer.got_in += 1
            if answer:
                peer.machine.handle_answer(number, source, self.now)
            else:
                self._post(peer, source, number, reached, answer=True)
                peer.machine.handle_probe(source, self.now, reached)

        heapq.heappush(self.queue, (Instant(self.now + ONE_WAY_NS), packet, arrive))
