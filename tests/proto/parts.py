"""What the tests of the machines share: places, keys, identities, and how a machine is drained."""

from collections.abc import Callable
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import Protocol, TypeVar

from ntmobile.keys.identity import Identity
from ntmobile.keys.sealing import SALT_SIZE, Opener, Sealer
from ntmobile.keys.table import CommonKey, Kntmdc
from ntmobile.proto.conversation import CHALLENGE_SIZE, Challenger, Conversation
from ntmobile.proto.io import Timeout, Transmit
from ntmobile.proto.journal import Journal
from ntmobile.time import SECOND, Instant
from ntmobile.wire.datagram import Envelope, Header, Sender, Signal
from ntmobile.wire.direction import NodeInformation
from ntmobile.wire.endpoint import Endpoint

T0 = Instant(1_000 * SECOND)
DC = Endpoint("192.0.2.1", 4330)
DC6 = Endpoint("2001:db8::1", 4330)
RS = Endpoint("192.0.2.9", 4330)
HERE = Endpoint("198.51.100.7", 40000)
HERE6 = Endpoint("2001:db8:7::7", 40000)
THERE = Endpoint("203.0.113.8", 50000)
STRANGER = Endpoint("203.0.113.66", 6666)
ALICE = "laptop.alice.example.org"
BOB = "pc.bob.example.net"
CAROL = "phone.carol.example.org"

T = TypeVar("T")
K = TypeVar("K", bound=CommonKey)


def after(now: Instant, seconds: float) -> Instant:
    """Return the instant that many seconds later."""
    return Instant(now + round(seconds * SECOND))


def drain(poll: Callable[[], T | None]) -> list[T]:
    """Return all that a poll gives out now."""
    return list(iter(poll, None))


class Timed(Protocol):
    """What every machine can do with time."""

    def poll_timeout(self) -> Timeout | None: ...
    def handle_timeout(self, now: Instant) -> None: ...


def fire(machine: Timed, limit: Instant | None = None) -> Instant | None:
    """Let the next timeout happen; the one after it must be later, or the machine spins."""
    due = machine.poll_timeout()
    if due is None or (limit is not None and due.at > limit):
        return None
    machine.handle_timeout(due.at)
    following = machine.poll_timeout()
    assert following is None or following.at > due.at, f"spins at {due.reason}"
    return due.at


def run(machine: Timed, limit: Instant) -> list[Instant]:
    """Let every timeout up to limit happen; return when they did."""
    return drain(lambda: fire(machine, limit))


def key(
    kind: type[CommonKey] = Kntmdc, number: int = 1, expires: Instant | None = None
) -> CommonKey:
    """Return a key: the same number gives the same bytes, as at the two owners of one."""
    secret, identifier = bytes((number,)) * 32, bytes((number,)) * 8
    return kind(secret, identifier, after(T0, 86400) if expires is None else expires)


class Numbers:
    """Epoch numbers where there is no tunnel: one proposes always this, and takes any."""

    def __init__(self, own: int = 0) -> None:
        self.own = own

    def propose_epoch(self, now: Instant) -> int:
        return self.own

    def accept_epoch(self, proposed: int, remote_index: int, now: Instant) -> int:
        return proposed


@cache
def identity(name: str) -> Identity:
    """Return the identity of a node, always the same for one name."""
    random = Random(name)
    return Identity.of(random.randbytes(32), random.randbytes(32))


def conversation(
    own: Sender, under: CommonKey | None = None, *, seed: int = 0, **options: bool
) -> Conversation[str]:
    """Open one end of a conversation; another seed is another boot."""
    entropy = Random(f"{own} {seed}")
    return Conversation(
        under or key(),
        own,
        Challenger(entropy),
        entropy,
        Journal(own.name),
        lambda *_: "there",
        **options,
    )


def information(
    fqdn: str,
    *,
    mapped: tuple[Endpoint, ...] = (),
    local: tuple[Endpoint, ...] = (),
    reachable: tuple[Endpoint, ...] = (),
    number: int = 1,
) -> NodeInformation:
    """Return what a DC tells of a node; number makes its virtual addresses."""
    return NodeInformation(
        fqdn,
        IPv4Address("100.64.0.0") + 16 + number,
        IPv6Address("fd00::") + number,
        identity(fqdn).public,
        mapped,
        local,
        reachable,
    )


class Mouth:
    """The far end of a machine under test: seals and opens by hand, and keeps nothing."""

    def __init__(self, own: Sender, under: CommonKey, boot: int = 1) -> None:
        """Speaks as role own under a key."""
        self._key = under
        self.identifier = under.identifier
        self._sealer = Sealer(under, own, bytes((boot,)) * SALT_SIZE)

    def hear(self, transmit: Transmit) -> Envelope:
        """Open a datagram that the machine sent."""
        header = Header.decode(transmit.payload)
        opener = Opener(self._key, header.sender, header.salt)
        return Envelope.decode(opener.open(header, transmit.payload))

    def say(self, message: Signal, transaction: int = 1, token: bytes = b"") -> bytes:
        """Return a datagram with this message."""
        plaintext = Envelope(transaction, token, message).encode(CHALLENGE_SIZE)
        return self._sealer.seal(self._key.identifier, plaintext)

    def reply(self, asked: Transmit, message: Signal) -> bytes:
        """Return a datagram that answers what the machine sent."""
        return self.say(message, self.hear(asked).transaction)
