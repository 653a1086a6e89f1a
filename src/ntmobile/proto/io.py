"""What a machine exchanges with its driver.

Every machine has the same face::

    handle_datagram(source, data, now)   handle_timeout(now)   <verb>(..., now)     in
    handle_reply(id, reply, now)                     answers one of its own requests
    handle_request(id, caller, message, now)         a server's: an HTTPS request came in
    poll_transmit() -> Transmit | None   poll_event() -> Event | None               out
    poll_request() -> Request | None     poll_reply() -> Reply | None
    poll_timeout() -> Timeout | None                                                when

and where it talks over TCP (NS and node)::

    handle_stream_opened(stream, source, now)   handle_stream_closed(stream, now)   in
    handle_stream(stream, data, now)
    poll_stream() -> StreamCommand | None                                           out

After any call in, drain every poll until it gives None. Time never runs backwards.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.message import Message
from ntmobile.wire.registration import Reason


@dataclass(frozen=True, slots=True)
class Transmit:
    """One datagram the driver must send."""

    destination: Endpoint
    payload: bytes
    interface: int = 0
    """Uplink (interface index) to send it by; 0 is the system's choice."""


@dataclass(frozen=True, slots=True)
class StreamOpen:
    """Connect by TCP. Then handle_stream_opened is called, or handle_stream_closed."""

    stream: int
    destination: Endpoint
    name: str = ""
    """The server's host name, for a proxy on the way."""


@dataclass(frozen=True, slots=True)
class StreamData:
    """Write these bytes to a connection."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """Close a connection; nothing more is heard of it."""

    stream: int


StreamCommand = StreamOpen | StreamData | StreamEnd
"""What a machine that talks over TCP wants done, in order; the driver names accepted
connections by numbers of its own, the machine those it opens by its own."""


class Timeout(NamedTuple):
    """When to call handle_timeout, and why (for the trace)."""

    at: Instant
    reason: str


class Entropy(Protocol):
    """Randomness handed in: SystemRandom in production, a seeded one in simulation."""

    def getrandbits(self, k: int, /) -> int:
        """Return k random bits."""
        ...

    def randrange(self, stop: int, /) -> int:
        """Return an integer in [0, stop)."""
        ...


def random_bytes(entropy: Entropy, size: int) -> bytes:
    """Return that many random bytes."""
    return entropy.getrandbits(8 * size).to_bytes(size)


@dataclass(frozen=True, slots=True)
class OwnAccount:
    """The AS of the node's own domain."""


@dataclass(frozen=True, slots=True)
class OwnCoordinator:
    """The DC of the caller's own domain (an AS asks it)."""


@dataclass(frozen=True, slots=True)
class ForeignCoordinator:
    """A DC of another domain, found before by FindCoordinator."""

    domain: str


@dataclass(frozen=True, slots=True)
class RelayServer:
    """An RS, by the name in the DC's configuration."""

    name: str


@dataclass(frozen=True, slots=True)
class NotificationServer:
    """An NS, by the name in the DC's configuration."""

    name: str


Target = OwnAccount | OwnCoordinator | ForeignCoordinator | RelayServer | NotificationServer


@dataclass(frozen=True, slots=True)
class Call:
    """An HTTPS request the driver must make; answered by a message or a Failed."""

    id: int
    target: Target
    message: Message


@dataclass(frozen=True, slots=True)
class FindCoordinator:
    """Find the DC of a name by NS and SRV records and judge its domain key.

    Answered by handle_reply with a CoordinatorFound or a Failed.
    """

    id: int
    fqdn: str


@dataclass(frozen=True, slots=True)
class VerifyLogin:
    """Check a login's proofs against the store (slow: Argon2, SQL); AS only.

    Answered by handle_reply with a LoginVerified or a wire.login.LoginRefusal.
    """

    id: int
    message: Message
    source: str


@dataclass(frozen=True, slots=True)
class WakeUp:
    """Wake a sleeping node through its push service: "contact your DC", and no other word.

    Answered by handle_reply with an NtmAck when the service took it, else with a Failed whose
    reason is PUSH_DOWN (given up for now), PUSH_REFUSED (the operator must mend something) or
    TOKEN_GONE (the token is never used again).
    Source: paper, Fig. 6.
    """

    id: int
    fqdn: str
    token: str
    """The device token as the node registered it; never for a log."""


@dataclass(frozen=True, slots=True)
class FindAuthorities:
    """Find the CAs that another domain states for its nodes; AS only.

    Answered by handle_reply with an AuthoritiesFound or a Failed.
    """

    id: int
    domain: str


Request = Call | FindCoordinator | VerifyLogin | FindAuthorities | WakeUp


@dataclass(frozen=True, slots=True)
class CoordinatorFound:
    """The domain that a name belongs to and where its DCs take datagrams."""

    domain: str
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class LoginVerified:
    """The login is good: who it is, and what policy groups it is in."""

    fqdn: str
    groups: tuple[str, ...]
    certificate: bytes = b""
    """Of its device key, in DER; empty where this AS issues none."""
    certificate_s: int = 0
    """How long that is good."""


@dataclass(frozen=True, slots=True)
class AuthoritiesFound:
    """What a domain's key states of the CAs of its nodes, in DER."""

    authorities: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The request could not be done; detail is for the log and for `ntm status`."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server's driver must answer to the HTTPS request of that id."""

    id: int
    message: Message


@dataclass(frozen=True, slots=True)
class Caller:
    """Who made an HTTPS request: a domain whose signature was verified, or a stranger."""

    domain: str | None
    source: str
    """Textual IP address, for limits per source."""
