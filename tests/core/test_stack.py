"""Two stacks behind two engines over loopback: TCP and UDP without a device, end to end."""

import errno
import select
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.stacks import ALICE, BOB, MTU, join

from ntmobile._core import Engine, Stack

GUARD_S = 60.0
READABLE, WRITABLE, ENDED = 1, 2, 4
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])


@dataclass
class End:
    """A node: an engine with a stack."""

    engine: Engine
    stack: Stack

    def until(self, number: int, what: int) -> None:
        """Wait for an event."""
        happened = 0
        while not happened & what:
            assert select.select([self.stack], [], [], GUARD_S)[0], "nothing happened"
            happened |= sum(seen for each, seen in self.stack.drain() if each == number)

    def read(self, number: int, count: int) -> bytes:
        """Return so many bytes, fewer at the end."""
        data = b""
        while len(data) < count:
            piece = self.stack.receive(number, count - len(data))
            if piece == b"":
                break
            if piece is None:
                self.until(number, READABLE)
            else:
                data += piece
        return data

    def write(self, number: int, data: bytes) -> None:
        while data:
            data = data[self.stack.send(number, data) :]
            if data:
                self.until(number, WRITABLE)


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    alice, bob = End(Engine(), Stack(1)), End(Engine(), Stack(2))
    join((alice.engine, alice.stack), (bob.engine, bob.stack))
    yield alice, bob
    for end in (alice, bob):
        end.engine.close()
        end.stack.close()


def stream(ends: tuple[End, End], family: int) -> tuple[int, int]:
    """Return both ends' numbers of a connection from alice to bob."""
    alice, bob = ends
    listener, port = bob.stack.listen(0, 8)
    near, (own, _) = alice.stack.connect(BOB[family], port)
    assert own == ALICE[family]
    bob.until(listener, READABLE)
    accepted = bob.stack.accept(listener)
    assert accepted is not None
    far, local, remote = accepted
    assert (local, remote[0]) == ((BOB[family], port), ALICE[family])
    alice.until(near, WRITABLE)
    return near, far


@FAMILIES
def test_a_stream_carries_much_both_ways(ends: tuple[End, End], family: int) -> None:
    alice, bob = ends
    near, far = stream(ends, family)
    question = bytes(range(256)) * 2000

    alice.write(near, question)
    assert bob.read(far, len(question)) == question
    bob.write(far, question[::-1])
    assert alice.read(near, len(question)) == question[::-1]


def test_the_end_of_a_stream_is_told_and_nothing_is_kept(ends: tuple[End, End]) -> None:
    alice, bob = ends
    near, far = stream(ends, 0)
    alice.stack.send(near, b"last words")
    alice.stack.leave(near)

    assert bob.read(far, 100) == b"last words"
    assert bob.stack.receive(far, 100) == b""
    bob.stack.shutdown(far)
    bob.until(far, ENDED)
    assert bob.stack.failure(far) == 0
    bob.stack.leave(far)

    assert bob.stack.count() == 0
    with pytest.raises(OSError, match="not connected"):
        bob.stack.receive(far, 100)


def test_where_nobody_listens_a_connection_is_refused(ends: tuple[End, End]) -> None:
    alice, _ = ends
    near, _ = alice.stack.connect(BOB[0], 9)

    alice.until(near, ENDED)

    assert alice.stack.failure(near) == errno.ECONNREFUSED


def test_without_an_address_of_the_family_there_is_no_connection(ends: tuple[End, End]) -> None:
    alice, _ = ends
    alice.stack.set_addresses(ALICE[0])

    with pytest.raises(OSError, match="no virtual address") as raised:
        alice.stack.connect(BOB[1], 9)

    assert raised.value.errno == errno.EADDRNOTAVAIL


@FAMILIES
def test_datagrams_go_both_ways(ends: tuple[End, End], family: int) -> None:
    alice, bob = ends
    near, near_port = alice.stack.bind(0)
    far, far_port = bob.stack.bind(0)
    alice.stack.send_to(near, BOB[family], far_port, b"ping")
    bob.until(far, READABLE)

    assert bob.stack.receive_from(far) == ((ALICE[family], near_port), b"ping")
    bob.stack.send_to(far, ALICE[family], near_port, b"pong")
    alice.until(near, READABLE)
    assert alice.stack.receive_from(near) == ((BOB[family], far_port), b"pong")
    assert alice.stack.receive_from(near) is None


@FAMILIES
def test_a_datagram_too_large_for_the_path_arrives_in_parts(
    ends: tuple[End, End], family: int
) -> None:
    alice, bob = ends
    near, near_port = alice.stack.bind(0)
    far, port = bob.stack.bind(0)
    said = bytes(range(256)) * 40
    assert len(said) > 7 * MTU
    alice.stack.send_to(near, BOB[family], port, said)
    bob.until(far, READABLE)

    assert bob.stack.receive_from(far) == ((ALICE[family], near_port), said)


def test_a_datagram_that_no_packet_holds_is_refused(ends: tuple[End, End]) -> None:
    alice, _ = ends
    near, _ = alice.stack.bind(0)

    with pytest.raises(OSError, match="too long") as raised:
        alice.stack.send_to(near, BOB[0], 9, bytes(65_508))

    assert raised.value.errno == errno.EMSGSIZE


def test_a_port_is_taken_once(ends: tuple[End, End]) -> None:
    alice, _ = ends
    alice.stack.listen(80, 1)

    with pytest.raises(OSError, match="in use"):
        alice.stack.listen(80, 1)


def test_a_closed_stack_says_so(ends: tuple[End, End]) -> None:
    alice, _ = ends
    alice.stack.close()

    with pytest.raises(ValueError, match="closed"):
        alice.stack.count()
