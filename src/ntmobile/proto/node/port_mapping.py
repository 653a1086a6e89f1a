"""Keeps one UDP port of this host mapped at the router, by whichever protocol the router knows.

States::

    Off --start--> Asking(PCP) --denied--> Asking(NAT-PMP) --denied--> Asking(UPnP) --> Denied
    Asking --granted--> Held --half of the lifetime, or the router restarted--> Held
    Held --not renewed in its lifetime--> Asking(PCP)
    Denied --after an hour--> Asking(PCP)
    any --stop--> Releasing, when held --> Off

What a router says is bounded: a lifetime of a second makes no timer spin, one of a year is not
believed, and an address or port of 0 is no grant. Source: RFC 6886, RFC 6887, WANIPConnection:1.
"""

from collections import deque
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import assert_never

from ntmobile.proto.io import Entropy, Failed, Timeout, Transmit, random_bytes
from ntmobile.proto.node.port_mapping_udp import (
    NOWHERE,
    Denied,
    Granted,
    MappingProtocol,
    NatPmp,
    Outcome,
    Pcp,
    UdpAsker,
)
from ntmobile.proto.node.port_mapping_upnp import RouterRequest, UpnpAsker
from ntmobile.time import SECOND, Instant
from ntmobile.wire import pcp, upnp
from ntmobile.wire.endpoint import Endpoint

LIFETIME_S = 1200
"""Asked for. A machine that crashes leaves its mapping for that long."""
SHORTEST_S = 60
LONGEST_S = 86400
RENEW_AGAIN_NS = 30 * SECOND
RESTART_NS = 3 * SECOND
"""A router that restarts more often than this is asked no faster."""
RETRY_NS = 3600 * SECOND
ALL = tuple(MappingProtocol)
PRIVATE = tuple(
    IPv4Network(each) for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
)
"""Source: RFC 1918, RFC 6598."""


@dataclass(frozen=True, slots=True)
class PortMapped:
    """The router has this port for us; sent again when it changes."""

    protocol: MappingProtocol
    external: Endpoint

    @property
    def behind_another_nat(self) -> bool:
        """Whether the router itself has a private address: the mapping does not reach outside."""
        return any(self.external.host in network for network in PRIVATE)


@dataclass(frozen=True, slots=True)
class PortUnmapped:
    """No port is mapped (any more)."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Off:
    """Nothing is wanted."""


@dataclass(frozen=True, slots=True)
class _Asking:
    """One protocol after the other; the index is into those that may be tried."""

    turn: int
    denials: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Held:
    """A port is mapped; renewing while the asker is busy."""

    mapped: PortMapped
    expires: Instant
    renew_at: Instant
    renewed: Instant


@dataclass(frozen=True, slots=True)
class _Denied:
    """No protocol gave a port."""

    retry_at: Instant


@dataclass(frozen=True, slots=True)
class _Releasing:
    """The router is told that the port is not needed any more."""

    protocol: MappingProtocol


_State = _Off | _Asking | _Held | _Denied | _Releasing


class PortMapping:
    """Sans-I/O: datagrams to the router's port 5351, and requests to the driver for UPnP."""

    def __init__(
        self,
        gateway: IPv4Address,
        own: IPv4Address,
        port: int,
        entropy: Entropy,
        *,
        protocols: tuple[MappingProtocol, ...] = ALL,
    ) -> None:
        """Maps UDP port of the own address; protocols are tried in this order."""
        self._wish = Endpoint(NOWHERE, port)
        self._udp: dict[MappingProtocol, UdpAsker] = {
            MappingProtocol.PCP: UdpAsker(
                gateway, Pcp(own, port, random_bytes(entropy, pcp.NONCE_SIZE))
            ),
            MappingProtocol.NAT_PMP: UdpAsker(gateway, NatPmp(port)),
        }
        self._upnp = UpnpAsker(own, port, entropy)
        self._order = protocols
        self._state: _State = _Off()
        self._events: deque[PortMapped | PortUnmapped] = deque()

    @property
    def mapped(self) -> PortMapped | None:
        """What is mapped now."""
        return self._state.mapped if isinstance(self._state, _Held) else None

    def start(self, now: Instant) -> None:
        """Ask for the port; nothing when that is done already."""
        if isinstance(self._state, _Off | _Denied | _Releasing):
            self._begin(now)

    def stop(self, now: Instant) -> None:
        """Give the port back, where one is held; PortUnmapped says when that is done."""
        match self._state:
            case _Held(mapped):
                self._state = _Releasing(mapped.protocol)
                wish = Endpoint(NOWHERE, mapped.external.port)
                self._asker(mapped.protocol).ask(0, wish, now)
            case _Off() | _Releasing():
                pass
            case _Asking() | _Denied():
                self._state = _Off()
                self._events.append(PortUnmapped("not wanted any more"))
        self._go_on(now)

    def handle_datagram(self, source: Endpoint, data: bytes, now: Instant) -> None:
        """Take what came to the socket that asks; what is not the router's is dropped."""
        for asker in self._current():
            asker.handle_datagram(source, data, now)
        self._go_on(now)

    def handle_announcement(self, source: Endpoint, data: bytes, now: Instant) -> None:
        """Take what came to port 5350: a router tells all hosts that it restarted."""
        for asker in self._current():
            asker.handle_announcement(source, data, now)
        self._go_on(now)

    def handle_reply(
        self, id: int, reply: upnp.Service | bytes | Denied | Failed, now: Instant
    ) -> None:
        """Take the outcome of a request of poll_request."""
        self._upnp.handle_reply(id, reply)
        self._go_on(now)

    def renew(self, now: Instant) -> None:
        """Renew at once: the NAT seems to have restarted. No more often than RESTART_NS."""
        held = self._state
        if not isinstance(held, _Held):
            return
        if now - held.renewed >= RESTART_NS:
            self._renew(held, now)
        else:
            soon = min(held.renew_at, Instant(held.renewed + RESTART_NS))
            self._state = _Held(held.mapped, held.expires, soon, held.renewed)

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        for asker in self._current():
            asker.handle_timeout(now)
        match self._state:
            case _Held(mapped, expires) if now >= expires:
                self._events.append(PortUnmapped(f"the router does not renew by {mapped.protocol}"))
                self._begin(now)
            case _Held(renew_at=due) as held if now >= due:
                self._renew(held, now)
            case _Denied(retry_at) if now >= retry_at:
                self._begin(now)
            case _:
                pass
        self._go_on(now)

    def poll_transmit(self) -> Transmit | None:
        """Next datagram to the router."""
        for asker in self._udp.values():
            if (transmit := asker.poll_transmit()) is not None:
                return transmit
        return None

    def poll_request(self) -> RouterRequest | None:
        """Next request to the driver."""
        return self._upnp.poll_request()

    def poll_event(self) -> PortMapped | PortUnmapped | None:
        """Next thing that happened."""
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        timeouts = [asker.poll_timeout() for asker in self._current()]
        match self._state:
            case _Held(_, expires, renew_at):
                timeouts.append(Timeout(min(expires, renew_at), "port mapping renewal"))
            case _Denied(retry_at):
                timeouts.append(Timeout(retry_at, "port mapping retry"))
            case _:
                pass
        return min((each for each in timeouts if each is not None), default=None)

    def _asker(self, protocol: MappingProtocol) -> UdpAsker | UpnpAsker:
        return self._upnp if protocol is MappingProtocol.UPNP else self._udp[protocol]

    def _busy(self) -> MappingProtocol | None:
        match self._state:
            case _Asking(turn):
                return self._order[turn]
            case _Held(mapped):
                return mapped.protocol
            case _Releasing(protocol):
                return protocol
            case _Off() | _Denied():
                return None
            case _:
                assert_never(self._state)

    def _current(self) -> list[UdpAsker]:
        busy = self._busy()
        return [asker for protocol, asker in self._udp.items() if protocol is busy]

    def _begin(self, now: Instant) -> None:
        self._state = _Asking(0)
        self._asker(self._order[0]).ask(LIFETIME_S, self._wish, now)

    def _renew(self, held: _Held, now: Instant) -> None:
        again = Instant(now + RENEW_AGAIN_NS)
        self._state = _Held(held.mapped, held.expires, again, now)
        wish = held.mapped.external
        if not isinstance(wish.host, IPv4Address):
            wish = self._wish
        self._asker(held.mapped.protocol).ask(LIFETIME_S, wish, now)

    def _go_on(self, now: Instant) -> None:
        """Take what became of the questions; one that is denied may lead to the next."""
        while (busy := self._busy()) is not None:
            asker = self._asker(busy)
            outcome = asker.poll_outcome()
            if outcome is not None:
                self._take(busy, outcome, now)
                continue
            if isinstance(asker, UdpAsker) and asker.poll_restarted():
                self.renew(now)
            return

    def _take(self, protocol: MappingProtocol, outcome: Outcome, now: Instant) -> None:
        match self._state, outcome:
            case _Releasing(), _:
                self._state = _Off()
                self._events.append(PortUnmapped("given back"))
            case _Asking() | _Held(), Granted(external, lifetime_s) if _is_sane(outcome):
                self._hold(PortMapped(protocol, external), lifetime_s, now)
            case _Asking(turn, denials), _:
                self._try_next(turn + 1, (*denials, _why(outcome)), now)
            case _:
                # A renewal that failed is tried again until the mapping is over.
                pass

    def _hold(self, mapped: PortMapped, lifetime_s: int, now: Instant) -> None:
        before = self.mapped
        lifetime_ns = min(max(lifetime_s, SHORTEST_S), LONGEST_S) * SECOND
        expires, renew_at = Instant(now + lifetime_ns), Instant(now + lifetime_ns // 2)
        self._state = _Held(mapped, expires, renew_at, now)
        if mapped != before:
            self._events.append(mapped)

    def _try_next(self, turn: int, denials: tuple[str, ...], now: Instant) -> None:
        if turn < len(self._order):
            self._state = _Asking(turn, denials)
            self._asker(self._order[turn]).ask(LIFETIME_S, self._wish, now)
        else:
            self._state = _Denied(Instant(now + RETRY_NS))
            self._events.append(PortUnmapped("; ".join(denials)))


def _is_sane(granted: Granted) -> bool:
    host, port = granted.external.host, granted.external.port
    usable = not (host.is_unspecified or host.is_loopback or host.is_multicast)
    return isinstance(host, IPv4Address) and usable and port > 0 and granted.lifetime_s > 0


def _why(outcome: Outcome) -> str:
    return outcome.reason if isinstance(outcome, Denied) else "the router grants nothing usable"
