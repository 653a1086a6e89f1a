"""A network: everything on it can reach everything else on it, and the rest by its gateways."""

from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from ntmobile.errors import StateError
from ntmobile.sim.calendar import Calendar
from ntmobile.sim.entropy import SeededEntropy
from ntmobile.sim.packet import HOP_LIMIT, Packet
from ntmobile.sim.quality import PERFECT, Quality
from ntmobile.wire.endpoint import Host

Prefix = IPv4Network | IPv6Network


class Drop(StrEnum):
    """Why a packet went no further."""

    LOST = "lost"
    TOO_BIG = "too big"
    NO_ROUTE = "no route"
    CUT = "cut"
    HOPS = "too many hops"
    FILTERED = "filtered"
    BLOCKED = "blocked"
    NO_PORT = "nobody listens"
    DOWN = "down"


class Attachment(Protocol):
    """What sits on a network: a host's interface or one side of a gateway."""

    @property
    def place(self) -> str:
        """Name of the host or gateway, for cuts and traces."""
        ...

    def receive(self, packet: Packet, network: "Network") -> None:
        """Take a packet that the network carried here."""
        ...


Tap = Callable[[Packet], None]


class Network:
    """One broadcast domain, or, as `internet`, the whole core with one crossing delay.

    `drops` counts what vanished here; `taps` see every packet that enters, as an eavesdropper
    would; `cuts` holds pairs of places that cannot reach each other; what `dislikes` is true of
    vanishes, as in a middlebox.
    """

    def __init__(
        self,
        name: str,
        calendar: Calendar,
        entropy: SeededEntropy,
        *,
        prefixes: tuple[Prefix, ...],
        quality: Quality = PERFECT,
    ) -> None:
        """Hands out addresses of the prefixes, one prefix a family."""
        self.name = name
        self.calendar = calendar
        self.quality = quality
        self.prefixes = prefixes
        self.default: Attachment | None = None
        """Takes what is for elsewhere: the gateway."""
        self.drops: Counter[Drop] = Counter()
        self.taps: list[Tap] = []
        self.cuts: set[frozenset[str]] = set()
        self.dislikes: Callable[[Packet], bool] = lambda _: False
        self.entropy = entropy
        self._attachments: dict[Host, Attachment] = {}
        self._routes: list[tuple[Prefix, Attachment]] = []
        self._free: dict[int, Iterator[Host]] = {p.version: _hosts(p) for p in prefixes}

    def allot(self, version: int) -> Host | None:
        """Return an address never given before, or None when the family is not spoken here."""
        free = self._free.get(version)
        return next(free) if free is not None else None

    def attach(self, attachment: Attachment, address: Host) -> None:
        """Let it answer for an address; raises StateError when the address is taken."""
        if address in self._attachments:
            raise StateError(f"{address} is taken on {self.name}")
        self._attachments[address] = attachment

    def detach(self, address: Host) -> None:
        """Free the address; what is on its way to it is lost."""
        self._attachments.pop(address, None)

    def route(self, prefix: Prefix, attachment: Attachment) -> None:
        """Send what is for a prefix to that gateway."""
        self._routes.append((prefix, attachment))

    def carry(self, packet: Packet, sender: str) -> None:
        """Take a packet from the place that sends it and bring it to the next."""
        for tap in self.taps:
            tap(packet)
        reason = self._obstacle(packet, sender)
        if reason is not None:
            self.drops[reason] += 1
            return
        fates = self.quality.fates(self.entropy)
        self.drops[Drop.LOST] += not fates
        for delay_ns in fates:
            self.calendar.after(delay_ns, lambda: self._arrive(packet.hop()))

    def cut(self, one: str, other: str) -> None:
        """Let two places on this network (names of hosts or gateways) not reach each other."""
        self.cuts.add(frozenset((one, other)))

    def mend(self, one: str, other: str) -> None:
        """Undo a cut."""
        self.cuts.discard(frozenset((one, other)))

    def _obstacle(self, packet: Packet, sender: str) -> Drop | None:
        following = self._next(packet.destination.host)
        if following is None:
            return Drop.NO_ROUTE
        if frozenset((sender, following.place)) in self.cuts:
            return Drop.CUT
        if packet.hops >= HOP_LIMIT:
            return Drop.HOPS
        if self.dislikes(packet):
            return Drop.FILTERED
        return Drop.TOO_BIG if packet.size > self.quality.mtu else None

    def _arrive(self, packet: Packet) -> None:
        following = self._next(packet.destination.host)
        if following is None:
            self.drops[Drop.NO_ROUTE] += 1
        else:
            following.receive(packet, self)

    def _next(self, host: Host) -> Attachment | None:
        attached = self._attachments.get(host)
        if attached is not None:
            return attached
        for prefix, gateway in self._routes:
            if host in prefix:
                return gateway
        on_link = any(host in prefix for prefix in self.prefixes)
        return None if on_link else self.default


def _hosts(prefix: Prefix) -> Iterator[Host]:
    """Addresses from the second on: the first is the gateway's."""
    for number in range(2, min(prefix.num_addresses - 1, 1 << 24)):
        yield prefix[number]
