from collections import deque
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

import pytest

from ntmobile.proto.node.events import (
    ActivateKeys,
    ClearPath,
    CloseTunnel,
    InstallKeys,
    OpenTunnel,
    RefuseAddress,
    Resend,
    SendControl,
    SetPath,
)
from ntmobile.sim.inner import Inner
from ntmobile.sim.plane import WAITING_PACKETS, Plane
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint, Host

KEYS = bytes(range(32)), bytes(range(32, 64))
PEER = {4: IPv4Address("100.64.0.20"), 6: IPv6Address("fd00::20")}
OWN = IPv4Address("100.64.0.21"), IPv6Address("fd00::21")
AT = Endpoint("203.0.113.1", 4000), Endpoint("203.0.113.2", 4000)
ELSEWHERE = Endpoint("198.51.100.3", 4000)
T0 = Instant(0)
HELLO = Inner(4, 1, 2, b"hello")


@pytest.mark.paper("Capsule")
def test_a_datagram_crosses_sealed_and_arrives_from_the_peers_address() -> None:
    pair = Pair()

    pair.a.plane.send(PEER[4], HELLO)
    capsule = pair.carry()

    assert HELLO.data not in capsule
    assert pair.b.delivered == [("b's peer", PEER[4], HELLO)]
    assert pair.b.plane.traffic(1).rx_bytes == len(HELLO.data)


def test_a_control_message_reaches_the_machine_with_where_it_came_from() -> None:
    pair = Pair()

    pair.a.plane.execute(SendControl(1, b"control"))
    pair.carry()

    assert pair.b.control == [(1, 0, AT[0], 7, b"control")]


def test_a_capsule_that_is_forged_or_replayed_is_dropped_and_counted() -> None:
    pair = Pair()
    pair.a.plane.send(PEER[4], HELLO)
    capsule = pair.carry()

    pair.b.plane.receive(AT[0], capsule, 7)
    pair.b.plane.receive(AT[0], capsule[:-1] + bytes((capsule[-1] ^ 1,)), 7)
    pair.b.plane.receive(AT[0], bytes((4,)) + bytes(100), 7)

    assert len(pair.b.delivered) == 1
    assert sum(pair.b.plane.drops.values()) == 3


def test_the_newest_capsule_from_elsewhere_says_that_the_peer_moved_and_an_old_one_does_not() -> (
    None
):
    pair = Pair()
    for _ in range(3):
        pair.a.plane.send(PEER[4], HELLO)
    first, second, third = pair.a.sent

    pair.b.plane.receive(AT[0], second[1], 7)
    pair.b.plane.receive(ELSEWHERE, first[1], 7)
    assert pair.b.moved == []
    pair.b.plane.receive(ELSEWHERE, third[1], 7)

    assert pair.b.moved == [(1, ELSEWHERE, 7)]


def test_what_was_lost_is_sent_again_unchanged_and_only_that() -> None:
    pair = Pair()
    for number in range(4):
        pair.a.plane.send(PEER[4], Inner(4, 1, 2, b"%d" % number))
    sent = [capsule for _, capsule, _ in pair.a.sent]
    for arrived in (0, 3):
        pair.b.plane.receive(AT[0], sent[arrived], 7)
    pair.a.sent.clear()

    (state,) = pair.b.plane.receive_state(1)
    pair.a.plane.execute(Resend(1, (state,)))

    assert [capsule for _, capsule, _ in pair.a.sent] == sent[1:3]


def test_packets_wait_while_there_is_no_path_and_go_when_there_is_one() -> None:
    pair = Pair()
    pair.a.plane.execute(ClearPath(1))

    pair.a.plane.send(PEER[6], HELLO)
    assert not pair.a.sent
    pair.a.plane.execute(SetPath(1, ELSEWHERE, 3, 1280))

    assert [(to, interface) for to, _, interface in pair.a.sent] == [(ELSEWHERE, 3)]


def test_packets_to_an_address_without_a_tunnel_ask_for_one_once_a_second_and_are_bounded() -> None:
    end = End()
    for _ in range(WAITING_PACKETS + 10):
        end.plane.send(PEER[4], HELLO)
    assert end.wanted == [PEER[4]]
    end.now = Instant(SECOND)
    end.plane.send(PEER[4], HELLO)
    assert end.wanted == [PEER[4]] * 2

    open_tunnel(end, "b", KEYS)
    end.plane.execute(SetPath(1, AT[1], 0, 1280))

    assert len(end.sent) == WAITING_PACKETS


def test_an_address_that_is_refused_loses_what_waits_for_it() -> None:
    end = End()
    end.plane.send(PEER[4], HELLO)

    end.plane.execute(RefuseAddress(PEER[4]))
    open_tunnel(end, "b", KEYS)
    end.plane.execute(SetPath(1, AT[1], 0, 1280))

    assert end.refusals == [PEER[4]]
    assert not end.sent


def test_a_packet_above_the_tunnels_size_is_not_sent() -> None:
    pair = Pair()

    pair.a.plane.send(PEER[4], Inner(4, 1, 2, bytes(1280 - 28 + 1)))

    assert not pair.a.sent
    assert pair.a.plane.drops == {"too big": 1}


def test_a_closed_tunnel_opens_nothing_any_more_and_knows_nothing() -> None:
    pair = Pair()
    pair.a.plane.send(PEER[4], HELLO)

    pair.b.plane.execute(CloseTunnel(1))
    pair.carry()
    pair.b.plane.execute(SendControl(1, b"into the void"))

    assert pair.b.delivered == []
    assert pair.b.plane.receive_state(1) == ()
    assert pair.b.plane.traffic(1).last_rx is None
    assert not pair.b.sent


@dataclass
class End:
    """A plane whose reports are written down."""

    now: Instant = T0
    sent: deque[tuple[Endpoint, bytes, int]] = field(default_factory=deque)
    delivered: list[tuple[str, Host, Inner]] = field(default_factory=list)
    control: list[tuple[int, int, Endpoint, int, bytes]] = field(default_factory=list)
    moved: list[tuple[int, Endpoint, int]] = field(default_factory=list)
    wanted: list[Host] = field(default_factory=list)
    woken: list[int] = field(default_factory=list)
    refusals: list[Host] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.plane = Plane(self._send, self, lambda: self.now)

    def handle_control(
        self,
        index: int,
        epoch: int,
        source: Endpoint,
        interface: int,
        payload: bytes,
        socket: int = 0,
    ) -> None:
        self.control.append((index, epoch, source, interface, payload))

    def handle_moved(self, index: int, source: Endpoint, interface: int, socket: int = 0) -> None:
        self.moved.append((index, source, interface))

    def handle_woken(self, index: int) -> None:
        self.woken.append(index)

    def handle_signal(self, source: Endpoint, data: bytes, interface: int) -> None:
        raise AssertionError("there is one port")

    def handle_wanted(self, address: Host) -> None:
        self.wanted.append(address)

    def deliver(self, peer: str, source: Host, inner: Inner) -> None:
        self.delivered.append((peer, source, inner))

    def refuse(self, address: Host) -> None:
        self.refusals.append(address)

    def _send(self, to: Endpoint, capsule: bytes, interface: int) -> bool:
        self.sent.append((to, capsule, interface))
        return True


class Pair:
    """Two ends with keys, each with a path to the other."""

    def __init__(self) -> None:
        self.a, self.b = End(), End()
        open_tunnel(self.a, "a's peer", KEYS)
        open_tunnel(self.b, "b's peer", KEYS[::-1])
        self.a.plane.execute(SetPath(1, AT[1], 0, 1280))
        self.b.plane.execute(SetPath(1, AT[0], 0, 1280))

    def carry(self) -> bytes:
        """Bring the oldest capsule of a to b."""
        _, capsule, _ = self.a.sent.popleft()
        self.b.plane.receive(AT[0], capsule, 7)
        return capsule


def open_tunnel(end: End, fqdn: str, keys: tuple[bytes, bytes]) -> None:
    end.plane.execute(OpenTunnel(1, fqdn, *OWN, PEER[4], PEER[6]))
    end.plane.execute(InstallKeys(1, 0, "aes-256-gcm", *keys, remote_index=1))
    end.plane.execute(ActivateKeys(1, 0))
