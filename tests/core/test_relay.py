import select
import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from ntmobile._core import Relay

IPV4 = bytes([127, 0, 0, 1])
IPV6 = bytes(15) + b"\x01"
SECOND = bytes([127, 0, 0, 2])
GUARD_S = 60.0
PATH = (1 << 128) - 1


class End:
    """One end of a path: a socket that knows the relay."""

    def __init__(self, relay: Relay, host: bytes) -> None:
        family = socket.AF_INET if len(host) == 4 else socket.AF_INET6
        name = socket.inet_ntop(family, host)
        self.host = host
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.settimeout(GUARD_S)
        self.socket.bind((name, 0))
        self.port: int = self.socket.getsockname()[1]
        self.relay = (name, relay.port)

    def send(self, datagram: bytes) -> None:
        self.socket.sendto(datagram, self.relay)

    def take(self) -> bytes:
        return self.socket.recv(65_535)


@pytest.fixture
def relay() -> Iterator[Relay]:
    relay = Relay(queue=8)
    yield relay
    relay.close()


@pytest.fixture
def end(relay: Relay) -> Iterator[Callable[[bytes], End]]:
    ends: list[End] = []

    def make(host: bytes = IPV4) -> End:
        ends.append(End(relay, host))
        return ends[-1]

    yield make
    for made in ends:
        made.socket.close()


Make = Callable[..., End]


@pytest.mark.parametrize("a_host", [IPV4, IPV6], ids=["from-ipv4", "from-ipv6"])
@pytest.mark.parametrize("b_host", [IPV4, IPV6], ids=["to-ipv4", "to-ipv6"])
def test_a_bound_capsule_arrives_unchanged(
    relay: Relay, end: Make, a_host: bytes, b_host: bytes
) -> None:
    a, b = end(a_host), end(b_host)
    assert bind(relay, a, b, index=0xFFFFFFFF)

    a.send(capsule(0xFFFFFFFF, b"sealed"))

    assert b.take() == capsule(0xFFFFFFFF, b"sealed")
    assert relay.statistics(PATH)[:2] == (len(capsule(0, b"sealed")), 1)


def test_without_its_binding_the_same_capsule_is_dropped_and_counted(
    relay: Relay, end: Make
) -> None:
    a, b = end(), end()
    bind(relay, a, b, index=1)
    a.send(capsule(1))
    b.take()

    assert relay.unbind(a.host, a.port, 1)
    a.send(capsule(1))

    wait_for(relay, "unbound", 1)
    assert not relay.unbind(a.host, a.port, 1)
    assert relay.counters()["forwarded"] == 1


def test_a_relay_at_one_address_forwards_from_it() -> None:
    assert forwarding(at=SECOND) == SECOND


def test_a_relay_at_all_addresses_forwards_from_the_systems_choice() -> None:
    """The negative twin: a NAT would drop what comes from there."""
    assert forwarding(at=None) == IPV4


def forwarding(at: bytes | None) -> bytes:
    """From where a relay that is asked at 127.0.0.2 forwards."""
    with closing(Relay(ipv4=at)) as relay:
        a, b = End(relay, IPV4), End(relay, IPV4)
        with a.socket, b.socket:
            bind(relay, a, b, index=1)
            a.socket.sendto(capsule(1), (socket.inet_ntoa(SECOND), relay.port))
            _, source = b.socket.recvfrom(65_535)
    return socket.inet_aton(source[0])


def test_forgetting_a_path_forgets_both_directions(relay: Relay, end: Make) -> None:
    a, b = end(), end()
    bind(relay, a, b, index=1)
    bind(relay, b, a, index=2)

    assert relay.forget(PATH) == 2

    a.send(capsule(1))
    b.send(capsule(2))
    wait_for(relay, "unbound", 2)
    assert relay.counters()["bindings"] == 0
    assert relay.statistics(PATH) == (0, 0, None)


def test_an_index_in_use_by_another_path_is_refused(relay: Relay, end: Make) -> None:
    a, b = end(), end()
    bind(relay, a, b, index=1)

    assert not bind(relay, a, end(), index=1, path=5)

    a.send(capsule(1))
    assert b.take() == capsule(1)


def test_the_statistics_tell_how_long_a_path_is_idle(relay: Relay, end: Make) -> None:
    a, b = end(), end()
    bind(relay, a, b, index=1)
    before = relay.statistics(PATH)

    a.send(capsule(1))
    b.take()

    _, _, idle_ns = relay.statistics(PATH)
    assert before == (0, 0, None)
    assert idle_ns is not None
    assert 0 <= idle_ns < GUARD_S * 1e9


def test_above_its_rate_a_path_loses_the_excess(relay: Relay, end: Make) -> None:
    a, b = end(), end()
    bind(relay, a, b, index=1, rate=1)

    for _ in range(80):
        a.send(capsule(1, bytes(1000)))
    wait_for(relay, "forwarded", "over_rate", 80)

    assert relay.counters()["over_rate"] > 0
    assert relay.statistics(PATH)[0] <= 65_536


@pytest.mark.parametrize(
    "garbage",
    [b"\x00", b"\x05" + bytes(40), b"\x06", b"\xff" * 1200, bytes(2000)],
    ids=["stun", "signalling", "probe", "noise", "long"],
)
def test_what_is_no_capsule_waits_in_the_queue(relay: Relay, end: Make, garbage: bytes) -> None:
    a = end()
    a.send(garbage)

    assert select.select([relay], [], [], GUARD_S)[0]

    [datagram] = relay.drain()
    assert datagram.payload == garbage
    assert (datagram.source_host, datagram.source_port) == (a.host, a.port)


def test_a_flood_fills_the_queue_and_the_forwarding_goes_on(relay: Relay, end: Make) -> None:
    a, b = end(), end()
    bind(relay, a, b, index=1)

    for _ in range(100):
        a.send(b"\x05 a flood")
    a.send(capsule(1))

    assert b.take() == capsule(1)
    wait_for(relay, "queue_full", 92)
    assert len(relay.drain()) == 8


def test_python_answers_from_the_same_port(relay: Relay, end: Make) -> None:
    a = end(IPV6)

    assert relay.send(a.host, a.port, b"\x05answer") == 0

    answer, source = a.socket.recvfrom(100)
    assert answer == b"\x05answer"
    assert source[1] == relay.port


def test_numbers_out_of_range_are_the_callers_fault(relay: Relay, end: Make) -> None:
    a = end()

    with pytest.raises(OverflowError):
        bind(relay, a, a, index=1 << 32)
    with pytest.raises(OverflowError):
        bind(relay, a, a, index=1, path=1 << 128)
    with pytest.raises(ValueError, match="4 or 16 bytes"):
        relay.unbind(b"", 1, 1)


def test_a_closed_relay_refuses_every_use_but_close() -> None:
    relay = Relay()
    relay.close()
    relay.close()

    for use in (relay.fileno, relay.drain, relay.counters, lambda: relay.forget(1)):
        with pytest.raises(ValueError, match="closed"):
            use()


def capsule(index: int, sealed: bytes = b"") -> bytes:
    return b"\x04\x00\x00\x00" + index.to_bytes(4, "big") + bytes(8) + sealed + bytes(16)


def bind(
    relay: Relay, source: End, to: End, *, index: int, path: int = PATH, rate: int = 0
) -> bool:
    return relay.bind(source.host, source.port, index, to.host, to.port, path=path, rate=rate)


def wait_for(relay: Relay, *names_and_count: str | int) -> None:
    *names, count = names_and_count
    while sum(relay.counters()[str(name)] for name in names) < int(count):
        pass
