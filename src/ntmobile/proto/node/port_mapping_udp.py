"""Asks a router for a port by PCP or NAT-PMP: one exchange at a time, over UDP to the gateway.

Source: RFC 6887, sections 8, 11 and 15; RFC 6886, section 3. The retry times are ours.
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Protocol

from ntmobile.errors import DecodeError
from ntmobile.proto.io import Timeout, Transmit
from ntmobile.time import SECOND, Instant
from ntmobile.wire import natpmp, pcp
from ntmobile.wire.endpoint import Endpoint

TRIES = 3
FIRST_RETRY_NS = SECOND // 5
"""Doubles with every try: a router is near or not there. Silence is known after 1.4 s."""
NOWHERE = IPv4Address(0)


class MappingProtocol(StrEnum):
    """How a router is asked for a port."""

    PCP = "PCP"
    NAT_PMP = "NAT-PMP"
    UPNP = "UPnP"


@dataclass(frozen=True, slots=True)
class Granted:
    """The router gives this port for so long; a lifetime of 0 confirms that it was given back."""

    external: Endpoint
    lifetime_s: int


@dataclass(frozen=True, slots=True)
class Denied:
    """The router does not give a port, or is no router that does."""

    reason: str


Outcome = Granted | Denied


class Epoch:
    """A router's clock since it lost its mappings last. Source: RFC 6887, section 8.5."""

    def __init__(self) -> None:
        """Not heard yet."""
        self._last: tuple[int, Instant] | None = None

    def take(self, epoch_s: int, now: Instant) -> bool:
        """Whether the router lost its mappings since it was last heard."""
        last, self._last = self._last, (epoch_s, now)
        if last is None:
            return False
        server = epoch_s - last[0]
        client = (now - last[1]) // SECOND
        if server < -1:
            return True
        return client + 2 < server - server // 16 or server + 2 < client - client // 16


class Dialect(Protocol):
    """One protocol's messages."""

    protocol: MappingProtocol

    def requests(self, lifetime_s: int, wish: Endpoint) -> tuple[bytes, ...]:
        """Return the datagrams that ask; begins a new exchange."""
        ...

    def read(self, data: bytes) -> tuple[int, Outcome | None]:
        """Return the router's epoch and what it says, None while more must come.

        Raises DecodeError for what is not its answer.
        """
        ...


class Pcp:
    """PCP MAP for one port of this host."""

    protocol = MappingProtocol.PCP

    def __init__(self, own: IPv4Address, port: int, nonce: bytes) -> None:
        """The nonce owns the mapping; NONCE_SIZE random bytes."""
        self._own = own
        self._port = port
        self._nonce = nonce

    def requests(self, lifetime_s: int, wish: Endpoint) -> tuple[bytes, ...]:
        """Return the one request."""
        request = pcp.MapRequest(lifetime_s, self._own, self._nonce, self._port, wish)
        return (request.encode(),)

    def read(self, data: bytes) -> tuple[int, Outcome | None]:
        """Read an answer, or an announcement (which only tells the epoch)."""
        if data[:1] == bytes((natpmp.VERSION,)):
            refusal = natpmp.decode_response(data)
            if refusal.result != natpmp.UNSUPPORTED_VERSION:
                raise DecodeError("NAT-PMP")
            return refusal.epoch_s, Denied("the router has no PCP")
        response = pcp.Response.decode(data)
        body = response.body
        if body is None:
            return response.epoch_s, None
        if response.result != pcp.Result.SUCCESS:
            return response.epoch_s, Denied(_result_text(response.result))
        if body.nonce != self._nonce or body.internal_port != self._port:
            raise DecodeError("another host's mapping")
        return response.epoch_s, Granted(body.external, response.lifetime_s)


class NatPmp:
    """NAT-PMP for one port of this host: the address and the port are asked for separately."""

    protocol = MappingProtocol.NAT_PMP

    def __init__(self, port: int) -> None:
        """The router knows the host by its source address."""
        self._port = port
        self._address: IPv4Address | None = None
        self._mapped: natpmp.MapResponse | None = None

    def requests(self, lifetime_s: int, wish: Endpoint) -> tuple[bytes, ...]:
        """Return both requests."""
        self._address = self._mapped = None
        external = wish.port if lifetime_s else 0
        request = natpmp.MapRequest(self._port, external, lifetime_s)
        return (natpmp.ADDRESS_REQUEST, request.encode())

    def read(self, data: bytes) -> tuple[int, Outcome | None]:
        """Read one of the two answers."""
        match natpmp.decode_response(data):
            case natpmp.Refusal(result, epoch):
                return epoch, Denied(f"the router refuses NAT-PMP (result {result})")
            case natpmp.ExternalAddress(_, epoch, address):
                self._address = address
            case natpmp.MapResponse(_, epoch, port) as mapped:
                if port != self._port:
                    raise DecodeError("another port's mapping")
                self._mapped = mapped
        if self._address is None or self._mapped is None:
            return epoch, None
        external = Endpoint(self._address, self._mapped.external_port)
        return epoch, Granted(external, self._mapped.lifetime_s)


class UdpAsker:
    """Asks one router in one protocol; the outcome of each `ask` is polled once."""

    def __init__(self, gateway: IPv4Address, dialect: Dialect) -> None:
        """Only what comes from the gateway's own port counts."""
        self.protocol = dialect.protocol
        self._router = Endpoint(gateway, pcp.PORT)
        self._dialect = dialect
        self._epoch = Epoch()
        self._asked: tuple[int, Endpoint] | None = None
        self._tries = 0
        self._due = Instant(0)
        self._transmits: deque[Transmit] = deque()
        self._outcome: Outcome | None = None
        self._restarted = False

    def ask(self, lifetime_s: int, wish: Endpoint, now: Instant) -> None:
        """Ask for a port, or give it back (lifetime 0); forgets what was asked before."""
        self._asked, self._tries, self._outcome = (lifetime_s, wish), 0, None
        self._try(now)

    def handle_datagram(self, source: Endpoint, data: bytes, now: Instant) -> bool:
        """Take a datagram; False when it is not the router's, or makes no sense."""
        if source != self._router:
            return False
        return self._read(data, now, answer=True)

    def handle_announcement(self, source: Endpoint, data: bytes, now: Instant) -> bool:
        """Take what the router tells all hosts; False when it is not the router's."""
        if source.host != self._router.host:
            return False
        return self._read(data, now, answer=False)

    def handle_timeout(self, now: Instant) -> None:
        """Ask again, or give up."""
        if self._asked is None or now < self._due:
            return
        if self._tries < TRIES:
            self._try(now)
        else:
            self._asked = None
            self._outcome = Denied(f"the router does not answer {self.protocol}")

    def poll_transmit(self) -> Transmit | None:
        """Next datagram to the router."""
        return self._transmits.popleft() if self._transmits else None

    def poll_outcome(self) -> Outcome | None:
        """What became of the last `ask`, once."""
        outcome, self._outcome = self._outcome, None
        return outcome

    def poll_restarted(self) -> bool:
        """Whether the router lost its mappings since this was last asked."""
        restarted, self._restarted = self._restarted, False
        return restarted

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        return None if self._asked is None else Timeout(self._due, f"{self.protocol} request")

    def _read(self, data: bytes, now: Instant, *, answer: bool) -> bool:
        try:
            epoch, outcome = self._dialect.read(data)
        except DecodeError:
            return False
        self._restarted |= self._epoch.take(epoch, now)
        if answer and outcome is not None and self._asked is not None:
            self._asked, self._outcome = None, outcome
        return True

    def _try(self, now: Instant) -> None:
        assert self._asked is not None
        self._due = Instant(now + (FIRST_RETRY_NS << self._tries))
        self._tries += 1
        for payload in self._dialect.requests(*self._asked):
            self._transmits.append(Transmit(self._router, payload))


def _result_text(result: int) -> str:
    names = {each.value: each.name for each in pcp.Result}
    return f"the router refuses PCP ({names.get(result, f'result {result}')})"
