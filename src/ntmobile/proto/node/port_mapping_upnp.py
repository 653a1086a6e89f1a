"""Asks a router for a port by UPnP; finding it and HTTP are requests to the driver.

Ask: FindRouter, once; GetExternalIPAddress; AddPortMapping, again without lease where the router
knows only permanent ones, with another port where it is taken. Give back: DeletePortMapping.
Source: WANIPConnection:1, sections 2.4.16 to 2.4.18.
"""

from collections import deque
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address

from ntmobile.errors import DecodeError
from ntmobile.proto.io import Entropy, Failed, Timeout
from ntmobile.proto.node.port_mapping_udp import Denied, Granted, MappingProtocol, Outcome
from ntmobile.time import Instant
from ntmobile.wire import upnp
from ntmobile.wire.endpoint import Endpoint

MOST_PORTS = 3
"""Tried when the router says that one is taken."""
FIRST_PORT = 1024
DESCRIPTION = "NTMobile"


@dataclass(frozen=True, slots=True)
class FindRouter:
    """Search for an Internet gateway; answered by an upnp.Service or a Denied."""

    id: int


@dataclass(frozen=True, slots=True)
class CallRouter:
    """POST this; answered by the body, of whatever HTTP status, or a Denied."""

    id: int
    request: upnp.SoapRequest


RouterRequest = FindRouter | CallRouter


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What `ask` is about."""

    lifetime_s: int
    port: int
    lease_s: int
    ports_tried: int = 1


@dataclass(frozen=True, slots=True)
class _Open:
    """The one request that is under way."""

    id: int
    action: str


class UpnpAsker:
    """Asks one router; the same face as UdpAsker, with requests instead of datagrams."""

    protocol = MappingProtocol.UPNP

    def __init__(self, own: IPv4Address, port: int, entropy: Entropy) -> None:
        """Maps to that address and UDP port of this host."""
        self._own = own
        self._port = port
        self._entropy = entropy
        self._service: upnp.Service | None = None
        self._address: IPv4Address | None = None
        self._wanted: _Wanted | None = None
        self._open: _Open | None = None
        self._ids = 0
        self._requests: deque[RouterRequest] = deque()
        self._outcome: Outcome | None = None

    def ask(self, lifetime_s: int, wish: Endpoint, now: Instant) -> None:
        """Ask for a port, or give it back (lifetime 0); forgets what was asked before."""
        self._wanted = _Wanted(lifetime_s, wish.port or self._port, lifetime_s)
        self._outcome = self._address = None
        self._go_on()

    def handle_reply(self, id: int, reply: upnp.Service | bytes | Denied | Failed) -> None:
        """Take the outcome of a request of poll_request."""
        if self._open is None or self._open.id != id:
            return
        action, self._open = self._open.action, None
        match reply:
            case Denied():
                self._settle(reply)
            case Failed(detail=detail):
                self._settle(Denied(detail))
            case upnp.Service():
                self._service = reply
                self._go_on()
            case bytes():
                self._read(action, reply)

    def poll_request(self) -> RouterRequest | None:
        """Next request to the driver."""
        return self._requests.popleft() if self._requests else None

    def poll_outcome(self) -> Outcome | None:
        """What became of the last `ask`, once."""
        outcome, self._outcome = self._outcome, None
        return outcome

    def poll_timeout(self) -> Timeout | None:
        """Never: the driver answers every request in bounded time."""
        return None

    def _go_on(self) -> None:
        wanted = self._wanted
        assert wanted is not None
        if self._service is None:
            request = FindRouter(self._next("search"))
            self._requests.append(request)
        elif not wanted.lifetime_s:
            self._call("DeletePortMapping", self._mapping(wanted))
        elif self._address is None:
            self._call("GetExternalIPAddress", {})
        else:
            arguments = self._mapping(wanted) | {
                "NewInternalPort": str(self._port),
                "NewInternalClient": str(self._own),
                "NewEnabled": "1",
                "NewPortMappingDescription": DESCRIPTION,
                "NewLeaseDuration": str(wanted.lease_s),
            }
            self._call("AddPortMapping", arguments)

    def _mapping(self, wanted: _Wanted) -> dict[str, str]:
        port = str(wanted.port)
        return {"NewRemoteHost": "", "NewExternalPort": port, "NewProtocol": "UDP"}

    def _next(self, action: str) -> int:
        self._ids += 1
        self._open = _Open(self._ids, action)
        return self._ids

    def _call(self, action: str, arguments: dict[str, str]) -> None:
        assert self._service is not None
        request = upnp.call(self._service, action, arguments)
        self._requests.append(CallRouter(self._next(action), request))

    def _read(self, action: str, body: bytes) -> None:
        assert self._service is not None
        assert self._wanted is not None
        try:
            answer = upnp.result(self._service, action, body)
            if action == "GetExternalIPAddress":
                self._address = IPv4Address(answer.get("NewExternalIPAddress", ""))
        except upnp.UpnpFault as fault:
            self._handle_fault(fault, self._wanted)
        except (DecodeError, AddressValueError):
            self._settle(Denied("the router's UPnP answer makes no sense"))
        else:
            self._handle_answer(action, self._wanted)

    def _handle_answer(self, action: str, wanted: _Wanted) -> None:
        if action == "GetExternalIPAddress":
            self._go_on()
        else:
            address = self._address or IPv4Address(0)
            self._settle(Granted(Endpoint(address, wanted.port), wanted.lifetime_s))

    def _handle_fault(self, fault: upnp.UpnpFault, wanted: _Wanted) -> None:
        if fault.code == upnp.ONLY_PERMANENT_LEASES and wanted.lease_s:
            self._wanted = _Wanted(wanted.lifetime_s, wanted.port, 0, wanted.ports_tried)
            self._go_on()
        elif fault.code == upnp.CONFLICT and wanted.ports_tried < MOST_PORTS:
            port = FIRST_PORT + self._entropy.randrange(65536 - FIRST_PORT)
            tried = wanted.ports_tried + 1
            self._wanted = _Wanted(wanted.lifetime_s, port, wanted.lease_s, tried)
            self._go_on()
        else:
            self._settle(Denied(f"the router refuses UPnP (error {fault.code})"))

    def _settle(self, outcome: Outcome) -> None:
        if isinstance(outcome, Denied):
            # It may be another router, or it may have changed its description, next time.
            self._service = None
        self._address = None
        self._wanted, self._outcome = None, outcome
