"""Two engines over loopback; a socket pair stands where the TUN device would be,
as it too carries one packet a call.
"""

import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TypeVar

import pytest
from tests.core.packets import InnerDatagram, checksum, packed, pseudo, taken_apart, udp

from ntmobile._core import (
    Control,
    Datagram,
    Engine,
    Moved,
    RekeyDue,
    SendFailed,
    Wanted,
    Woken,
)
from ntmobile.runtime.clock import Clock
from ntmobile.time import SECOND

Signal = Datagram | Control | Moved | RekeyDue | SendFailed | Wanted | Woken
S = TypeVar("S", Datagram, Control, Moved, RekeyDue, SendFailed, Wanted, Woken)

LOOPBACK = bytes([127, 0, 0, 1])
DEADLINE_S = 60.0
LOOKS = 20_000_000
MTU = 1300
INDEX = {"alice": 7, "bob": 9}
KEYS = {"alice": bytes([1]) * 32, "bob": bytes([2]) * 32}
# What alice calls herself and bob; bob has other names for both.
ALICE, BOB = "100.64.0.1", "100.64.0.2"
ALICE_6, BOB_6 = "fd00::1", "fd00::2"
BOBS_ALICE, BOBS_OWN = "198.18.0.1", "198.18.0.2"
BOBS_ALICE_6, BOBS_OWN_6 = "fd01::1", "fd01::2"


def test_a_control_message_names_its_tunnel_epoch_and_source(pair: "Pair") -> None:
    assert pair.alice.send_control(INDEX["alice"], b"path update") is True

    control = one(pair.bob, Control)

    assert (control.index, control.epoch) == (INDEX["bob"], 0)
    assert control.payload == b"path update"
    assert (control.source_host, control.source_port) == (LOOPBACK, pair.alice.port)
    assert control.interface == socket.if_nametoindex("lo")


def test_what_is_no_capsule_reaches_python(pair: "Pair") -> None:
    pair.alice.send(LOOPBACK, pair.bob.port, b"\x05signalling")

    datagram = one(pair.bob, Datagram)

    assert datagram.payload == b"\x05signalling"
    assert datagram.source_port == pair.alice.port


def test_a_tunnel_talks_through_a_socket_of_its_own(pair: "Pair") -> None:
    alice, index = pair.alice, INDEX["alice"]
    descriptors = alice.open_sockets(index, 1, 3)
    ports = [bound_port(descriptor) for descriptor in descriptors]

    assert len({alice.port, *ports}) == 4
    alice.send_control(index, b"probe", host=LOOPBACK, port=pair.bob.port, socket=2)
    control = drained_until(pair.bob, Control)

    assert (control.source_port, control.socket, control.payload) == (ports[1], 0, b"probe")
    pair.bob.send_control(INDEX["bob"], b"answer", host=LOOPBACK, port=ports[1])
    answer = drained_until(alice, Control)
    assert (answer.socket, answer.payload) == (2, b"answer")

    alice.set_path(index, LOOPBACK, pair.bob.port, mtu=MTU, socket=2)
    alice.close_sockets(index, [2])
    alice.send_control(index, b"along the path")
    assert drained_until(pair.bob, Control).source_port == ports[1]
    pair.bob.set_path(INDEX["bob"], LOOPBACK, ports[1], mtu=MTU)
    pair.bob_device.send(udp(BOBS_OWN, BOBS_ALICE, b"data"))
    assert InnerDatagram.read(receive(pair.alice_device)).payload == b"data"


def test_a_socket_of_a_tunnels_own_takes_nothing_but_its_capsules(pair: "Pair") -> None:
    alice = pair.alice
    alice.open_tunnel(
        5,
        own_ipv4=packed(ALICE),
        own_ipv6=packed(ALICE_6),
        peer_ipv4=packed("100.64.0.9"),
        peer_ipv6=packed("fd00::9"),
    )
    (descriptor,) = alice.open_sockets(5, 1, 1)

    pair.bob.send(LOOPBACK, bound_port(descriptor), b"\x05signalling")
    pair.bob.send_control(INDEX["bob"], b"astray", host=LOOPBACK, port=bound_port(descriptor))
    for _ in range(3000):
        counted = alice.counters()
        if (counted["malformed"], counted["stranger"]) == (1, 1):
            break
        select.select([], [], [], 0.01)

    assert (counted["malformed"], counted["stranger"]) == (1, 1)
    assert alice.drain() == []


def test_a_path_through_a_socket_that_was_closed_sends_nothing(pair: "Pair") -> None:
    """The negative twin: the rest of the tunnels' own sockets are closed at once."""
    alice, index = pair.alice, INDEX["alice"]
    alice.open_sockets(index, 1, 2)
    alice.close_sockets(index, [])

    alice.send_control(index, b"lost", host=LOOPBACK, port=pair.bob.port, socket=2)

    assert one(alice, SendFailed).index == index
    marker(pair)
    assert not any(isinstance(signal, Control) for signal in pair.heard)


def test_sockets_of_a_tunnel_that_is_not_there_raise(pair: "Pair") -> None:
    with pytest.raises(KeyError):
        pair.alice.open_sockets(12345, 1, 1)


@pytest.mark.parametrize(
    ("sent", "arrived"),
    [
        ((ALICE, BOB), (BOBS_ALICE, BOBS_OWN)),
        ((ALICE_6, BOB_6), (BOBS_ALICE_6, BOBS_OWN_6)),
        (("203.0.113.66", BOB), (BOBS_ALICE, BOBS_OWN)),
    ],
    ids=["IPv4", "IPv6", "spoofed source"],
)
def test_the_receiver_stamps_its_own_names_of_both_ends(
    pair: "Pair", sent: tuple[str, str], arrived: tuple[str, str]
) -> None:
    pair.alice_device.send(udp(*sent, b"hello"))

    packet = InnerDatagram.read(receive(pair.bob_device))

    assert packet == InnerDatagram(*arrived, b"hello")


def test_a_packet_without_a_tunnel_asks_for_one_and_is_sent_once_it_is_up(
    pair: "Pair",
) -> None:
    pair.alice.close_tunnel(INDEX["alice"])
    for number in range(3):
        pair.alice_device.send(udp(ALICE, BOB, bytes([number])))
    assert one(pair.alice, Wanted).destination == packed(BOB)

    pair.connect("alice")

    arrived = [InnerDatagram.read(receive(pair.bob_device)) for _ in range(3)]
    assert [packet.payload for packet in arrived] == [b"\0", b"\1", b"\2"]


def test_a_capsule_that_comes_before_its_keys_is_opened_when_they_come(pair: "Pair") -> None:
    with hole() as elsewhere:
        (capsule,) = pair.diverted_to(elsewhere, 1)
        pair.bob.close_tunnel(INDEX["bob"])
        pair.open("bob")
        elsewhere.sendto(capsule, ("127.0.0.1", pair.bob.port))
    marker(pair)

    pair.bring_up("bob")

    assert InnerDatagram.read(receive(pair.bob_device)).payload == bytes([0])
    assert pair.bob.counters()["unknown_epoch"] == 1


def test_packets_wait_in_order_while_the_tunnel_has_no_path(pair: "Pair") -> None:
    pair.alice.clear_path(INDEX["alice"])
    pair.keep(100)

    pair.alice.set_path(INDEX["alice"], LOOPBACK, pair.bob.port, mtu=MTU)

    arrived = [InnerDatagram.read(receive(pair.bob_device)) for _ in range(100)]
    assert [packet.payload for packet in arrived] == [bytes([n]) for n in range(100)]


def test_a_packet_waits_for_the_first_path_of_a_tunnel(pair: "Pair") -> None:
    pair.alice.close_tunnel(INDEX["alice"])
    pair.open("alice")
    pair.alice_device.send(udp(ALICE_6, BOB_6, b"waits"))
    assert one(pair.alice, Wanted).destination == packed(BOB_6)

    pair.bring_up("alice")

    assert InnerDatagram.read(receive(pair.bob_device)).payload == b"waits"


def test_without_a_path_control_messages_leave_only_for_an_address_that_is_told(
    pair: "Pair",
) -> None:
    pair.alice.clear_path(INDEX["alice"])

    assert pair.alice.send_control(INDEX["alice"], b"nowhere") is False
    assert pair.alice.send_control(INDEX["alice"], b"there", host=LOOPBACK, port=pair.bob.port)

    assert one(pair.bob, Control).payload == b"there"


def test_on_a_path_that_holds_control_messages_pass_and_data_do_not(pair: "Pair") -> None:
    pair.alice.set_path(INDEX["alice"], LOOPBACK, pair.bob.port, mtu=MTU, hold=True)
    pair.keep(3)
    pair.alice.send_control(INDEX["alice"], b"path update")
    assert one(pair.bob, Control).payload == b"path update"
    before = pair.bob.statistics(INDEX["bob"]).rx_packets

    pair.alice.set_path(INDEX["alice"], LOOPBACK, pair.bob.port, mtu=MTU)

    arrived = [InnerDatagram.read(receive(pair.bob_device)) for _ in range(3)]
    assert before == 1
    assert [packet.payload for packet in arrived] == [bytes([n]) for n in range(3)]


def test_what_the_peer_lacks_goes_before_what_was_held_and_each_goes_once(pair: "Pair") -> None:
    with hole() as lost:
        pair.diverted_to(lost, 2)
    pair.alice.set_path(INDEX["alice"], LOOPBACK, pair.bob.port, mtu=MTU, hold=True)
    pair.keep(3)

    again = pair.alice.resend(INDEX["alice"], (0, 0, b"\xfe"))
    pair.alice_device.send(udp(ALICE, BOB, b"after"))

    arrived = [InnerDatagram.read(receive(pair.bob_device)).payload for _ in range(6)]
    assert again == 5
    assert arrived == [bytes([n]) for n in (0, 1, 0, 1, 2)] + [b"after"]


def test_what_was_held_under_keys_that_the_peer_tells_nothing_of_goes_too(pair: "Pair") -> None:
    pair.alice.set_path(INDEX["alice"], LOOPBACK, pair.bob.port, mtu=MTU, hold=True)
    pair.keep(2)
    for who, peer in (("alice", "bob"), ("bob", "alice")):
        engine = getattr(pair, who)
        keys = KEYS[who][::-1], KEYS[peer][::-1]
        engine.install_keys(INDEX[who], 1, "aes-256-gcm", *keys, INDEX[peer])
    pair.alice.activate_keys(INDEX["alice"], 1)

    pair.alice.resend(INDEX["alice"], (1, 0, b"\xff"))

    arrived = [InnerDatagram.read(receive(pair.bob_device)).payload for _ in range(2)]
    assert arrived == [bytes([0]), bytes([1])]


def test_what_the_system_refused_goes_by_the_next_path(pair: "Pair") -> None:
    pair.alice.set_path(INDEX["alice"], LOOPBACK, 0, mtu=MTU)
    pair.keep(3)
    assert drained_until(pair.alice, SendFailed).index == INDEX["alice"]

    pair.alice.set_path(INDEX["alice"], LOOPBACK, pair.bob.port, mtu=MTU)

    arrived = [InnerDatagram.read(receive(pair.bob_device)).payload for _ in range(3)]
    assert arrived == [bytes([n]) for n in range(3)]


def test_a_refused_destination_is_prohibited_at_once(pair: "Pair") -> None:
    packet = udp(ALICE, "100.64.0.99", b"let me in")
    pair.alice_device.send(packet)
    one(pair.alice, Wanted)

    pair.alice.refuse(packed("100.64.0.99"))

    source, destination, error = taken_apart(receive(pair.alice_device))
    assert (source, destination) == (packed("100.64.0.99"), packed(ALICE))
    assert (error[0], error[1]) == (3, 13)
    assert error[8:] == packet
    assert checksum(error) == 0
    assert pair.alice.counters()["waiting_refused"] == 1


def test_a_packet_above_the_size_is_answered_with_that_size(pair: "Pair") -> None:
    pair.alice_device.send(udp(ALICE, BOB, bytes(MTU - 27), may_fragment=False))
    _, _, error = taken_apart(receive(pair.alice_device))
    pair.alice_device.send(udp(ALICE_6, BOB_6, bytes(MTU - 47)))
    _, _, error_6 = taken_apart(receive(pair.alice_device))

    assert struct.unpack("!BBHHH", error[:8])[:2] == (3, 4)
    assert int.from_bytes(error[6:8]) == MTU
    assert (error_6[0], error_6[1], int.from_bytes(error_6[4:8])) == (2, 0, MTU)


def test_a_packet_of_exactly_the_size_passes(pair: "Pair") -> None:
    pair.alice_device.send(udp(ALICE, BOB, bytes(MTU - 28), may_fragment=False))

    assert len(receive(pair.bob_device)) == MTU


def test_a_packet_above_the_size_that_may_be_cut_arrives_in_fragments(
    pair: "Pair",
) -> None:
    payload = bytes(islice(cycle(range(251)), 3000))
    pair.alice_device.send(udp(ALICE, BOB, payload))

    fragments = [receive(pair.bob_device) for _ in range(3)]

    assert all(len(fragment) <= MTU for fragment in fragments)
    offsets = [int.from_bytes(fragment[6:8]) & 0x1FFF for fragment in fragments]
    parts = [taken_apart(fragment)[2] for fragment in fragments]
    assert offsets == [0, len(parts[0]) // 8, len(parts[0] + parts[1]) // 8]
    assert [fragment[6] >> 5 & 1 for fragment in fragments] == [1, 1, 0]
    upper = b"".join(parts)
    assert upper[8:] == payload
    ends = packed(BOBS_ALICE), packed(BOBS_OWN)
    assert checksum(pseudo(*ends, len(upper)) + upper) == 0


def test_a_capsule_from_elsewhere_is_told_once_and_changes_no_path(
    pair: "Pair",
) -> None:
    with hole() as elsewhere:
        capsules = pair.diverted_to(elsewhere, 3)
        for capsule in capsules:
            elsewhere.sendto(capsule, ("127.0.0.1", pair.bob.port))
            receive(pair.bob_device)

        moved = one(pair.bob, Moved)

        assert (moved.index, moved.source_host) == (INDEX["bob"], LOOPBACK)
        assert moved.source_port == elsewhere.getsockname()[1]
    pair.bob_device.send(udp(BOBS_OWN, BOBS_ALICE, b"still"))
    assert InnerDatagram.read(receive(pair.alice_device)).payload == b"still"


def test_a_late_or_replayed_capsule_from_elsewhere_is_no_move(pair: "Pair") -> None:
    with hole() as elsewhere:
        (late,) = pair.diverted_to(elsewhere, 1)
        pair.alice_device.send(udp(ALICE, BOB, b"newer"))
        receive(pair.bob_device)

        for _ in range(2):
            elsewhere.sendto(late, ("127.0.0.1", pair.bob.port))
        receive(pair.bob_device)
        marker(pair)

    assert pair.bob.counters()["replayed"] == 1
    assert not [signal for signal in pair.heard if isinstance(signal, Moved)]


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (b"\x04", "malformed"),
        (b"\x04" + bytes(31), "stranger"),
        (b"\x04\x01" + bytes(5) + b"\x09" + bytes(24), "unknown_epoch"),
        (b"\x04\x00" + bytes(5) + b"\x09" + b"\xff" * 24, "forged"),
        (b"\x04\xff" + bytes(60), "malformed"),
    ],
)
def test_garbage_is_counted_by_reason_and_harms_nothing(
    pair: "Pair", garbage: bytes, reason: str
) -> None:
    pair.alice.send(LOOPBACK, pair.bob.port, garbage)
    marker(pair)

    assert pair.bob.counters()[reason] == 1
    assert sum(pair.bob.counters().values()) == 1


@pytest.mark.parametrize(
    ("destination", "reason"),
    [
        ("224.0.0.251", "inner_multicast"),
        ("255.255.255.255", "inner_broadcast"),
        ("169.254.1.1", "inner_link_local"),
        ("ff02::1", "inner_multicast"),
        ("fe80::1", "inner_link_local"),
    ],
)
def test_packets_that_a_tunnel_does_not_carry_are_counted(
    pair: "Pair", destination: str, reason: str
) -> None:
    source = ALICE_6 if ":" in destination else ALICE
    pair.alice_device.send(udp(source, destination))
    pair.alice_device.send(udp(ALICE, BOB, b"next"))

    assert InnerDatagram.read(receive(pair.bob_device)).payload == b"next"
    assert pair.alice.counters()[reason] == 1
    assert not [each for each in pair.alice.drain() if not isinstance(each, Woken)]


def test_packets_keep_their_order_when_few_become_many_and_few_again(
    pair: "Pair",
) -> None:
    bursts = [1, 1, 120, 1, 150, 2, 1]
    numbers = iter(range(sum(bursts)))
    arrived = []
    for burst in bursts:
        for number in islice(numbers, burst):
            pair.alice_device.send(udp(ALICE, BOB, number.to_bytes(4)))
        arrived += [receive(pair.bob_device) for _ in range(burst)]

    payloads = [InnerDatagram.read(packet).payload for packet in arrived]
    assert payloads == [number.to_bytes(4) for number in range(sum(bursts))]


def test_the_outer_header_carries_the_inner_congestion_bits(pair: "Pair") -> None:
    with hole() as elsewhere:
        elsewhere.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        pair.alice.set_path(INDEX["alice"], LOOPBACK, elsewhere.getsockname()[1], mtu=MTU)
        capable = bytearray(udp(ALICE, BOB))
        capable[1] |= 0b10
        told = []
        for packet in (udp(ALICE, BOB), bytes(capable)):
            pair.alice_device.send(packet)
            _, ((_, _, tos),), _, _ = elsewhere.recvmsg(2048, 64)
            told.append(tos[0] & 0b11)

    assert told == [0b00, 0b10]


def test_what_was_lost_in_a_hole_is_sent_again_through_the_new_path(
    pair: "Pair",
) -> None:
    pair.alice_device.send(udp(ALICE, BOB, b"before"))
    receive(pair.bob_device)
    with hole() as lost:
        pair.diverted_to(lost, 5)
    state = pair.bob.receive_state(INDEX["bob"])
    assert state is not None

    again = pair.alice.resend(INDEX["alice"], state)

    arrived = [InnerDatagram.read(receive(pair.bob_device)) for _ in range(5)]
    assert again == 5
    assert [packet.payload for packet in arrived] == [bytes([n]) for n in range(5)]


def test_what_did_arrive_is_not_sent_again(pair: "Pair") -> None:
    for number in range(5):
        pair.alice_device.send(udp(ALICE, BOB, bytes([number])))
        receive(pair.bob_device)
    state = pair.bob.receive_state(INDEX["bob"])
    assert state is not None

    assert pair.alice.resend(INDEX["alice"], state) == 0


def test_a_refusal_of_the_system_is_told_once(pair: "Pair") -> None:
    too_long = bytes(65_507)
    for _ in range(3):
        pair.alice.send_control(INDEX["alice"], too_long)

    failed = one(pair.alice, SendFailed)

    assert (failed.index, failed.errno) == (INDEX["alice"], 90)
    assert pair.alice.drain() == []
    assert pair.alice.counters()["send_failed"] == 3


def test_new_keys_are_due_after_the_set_number_of_capsules(pair: "Pair") -> None:
    pair.alice.set_rekey_after(2)
    for _ in range(4):
        pair.alice_device.send(udp(ALICE, BOB))
        receive(pair.bob_device)

    assert [s.index for s in drained(pair.alice, RekeyDue)] == [INDEX["alice"]]


def test_a_tunnel_that_was_quiet_wakes_with_its_first_packet_and_not_with_the_next(
    pair: "Pair",
) -> None:
    clock = Clock()
    began = clock.now()
    for _ in range(5):
        pair.alice_device.send(udp(ALICE, BOB))
        receive(pair.bob_device)
    passed_s = (clock.now() - began) / SECOND

    woken = drained(pair.alice, Woken)

    assert {signal.index for signal in woken} == {INDEX["alice"]}
    assert len(woken) <= 1 + passed_s, "a second of quiet lies between two"


def test_a_control_message_wakes_nothing(pair: "Pair") -> None:
    """The negative twin: what the machine sends itself it knows of."""
    pair.alice.send_control(INDEX["alice"], b"keep alive")

    assert one(pair.bob, Control).payload == b"keep alive"
    assert pair.alice.drain() == []


def test_statistics_count_what_is_inside_the_capsules(pair: "Pair") -> None:
    idle = pair.alice.statistics(INDEX["alice"])
    pair.alice_device.send(udp(ALICE, BOB, bytes(72)))
    receive(pair.bob_device)

    sent = pair.alice.statistics(INDEX["alice"])
    received = pair.bob.statistics(INDEX["bob"])

    assert (idle.tx_packets, idle.last_tx_ns) == (0, None)
    assert (sent.tx_packets, sent.tx_bytes, sent.rx_packets) == (1, 100, 0)
    assert (received.rx_packets, received.rx_bytes) == (1, 100)
    assert received.last_rx_ns is not None
    assert 0 < received.last_rx_ns < DEADLINE_S * 1e9


def test_commands_to_no_tunnel_and_second_tunnels_raise(pair: "Pair") -> None:
    with pytest.raises(KeyError):
        pair.alice.statistics(1234)
    with pytest.raises(ValueError, match="open already"):
        pair.open("alice")
    with pytest.raises(ValueError, match="no keys"):
        pair.alice.activate_keys(INDEX["alice"], 3)


def test_after_close_the_port_is_free_and_every_command_raises() -> None:
    engine = Engine()
    port = engine.port
    engine.close()
    engine.close()

    with pytest.raises(ValueError, match="closed"):
        engine.drain()
    Engine(port=port).close()


def test_without_a_device_packets_are_dropped_and_control_messages_work(
    pair: "Pair",
) -> None:
    pair.bob.detach_tun()
    with hole() as elsewhere:
        (capsule,) = pair.diverted_to(elsewhere, 1)
        elsewhere.sendto(capsule, ("127.0.0.1", pair.bob.port))
    pair.alice.send_control(INDEX["alice"], b"after it")

    assert drained_until(pair.bob, Control).payload == b"after it"
    assert pair.bob.counters()["no_device"] == 1


@dataclass
class Pair:
    """Alice and bob, with a tunnel between them."""

    alice: Engine
    bob: Engine
    alice_device: socket.socket
    bob_device: socket.socket
    heard: list[Signal]

    def open(self, who: str) -> None:
        """Opens the tunnel, without keys and path."""
        if who == "alice":
            names = ALICE, ALICE_6, BOB, BOB_6
        else:
            names = BOBS_OWN, BOBS_OWN_6, BOBS_ALICE, BOBS_ALICE_6
        own_4, own_6, peer_4, peer_6 = map(packed, names)
        engine = self.alice if who == "alice" else self.bob
        engine.open_tunnel(
            INDEX[who],
            own_ipv4=own_4,
            own_ipv6=own_6,
            peer_ipv4=peer_4,
            peer_ipv6=peer_6,
        )

    def connect(self, who: str) -> None:
        """Opens the tunnel and brings it up."""
        self.open(who)
        self.bring_up(who)

    def bring_up(self, who: str) -> None:
        """Gives the tunnel keys and its path."""
        peer = "bob" if who == "alice" else "alice"
        engine, to = getattr(self, who), getattr(self, peer).port
        engine.install_keys(INDEX[who], 0, "aes-256-gcm", KEYS[who], KEYS[peer], INDEX[peer])
        engine.activate_keys(INDEX[who], 0)
        engine.set_path(INDEX[who], LOOPBACK, to, mtu=MTU)

    def keep(self, count: int) -> None:
        """Packets of alice's, sealed and not sent."""
        before = self.alice.statistics(INDEX["alice"]).tx_packets
        for number in range(count):
            self.alice_device.send(udp(ALICE, BOB, bytes([number])))
        for _ in range(LOOKS):
            if self.alice.statistics(INDEX["alice"]).tx_packets >= before + count:
                return
            os.sched_yield()
        raise AssertionError("the packets were not sealed")

    def diverted_to(self, elsewhere: socket.socket, count: int) -> list[bytes]:
        """Capsules of alice's that do not reach bob."""
        index, port = INDEX["alice"], elsewhere.getsockname()[1]
        self.alice.set_path(index, LOOPBACK, port, mtu=MTU)
        capsules = []
        for number in range(count):
            self.alice_device.send(udp(ALICE, BOB, bytes([number])))
            capsules.append(elsewhere.recv(2048))
        self.alice.set_path(index, LOOPBACK, self.bob.port, mtu=MTU)
        return capsules


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        ends = []
        for _ in range(2):
            engine = Engine()
            stack.callback(engine.close)
            inside, outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(outside)
            with inside:
                engine.attach_tun(inside.fileno(), offload=False)
            outside.settimeout(DEADLINE_S)
            ends.append((engine, outside))
        (alice, alice_device), (bob, bob_device) = ends
        both = Pair(alice, bob, alice_device, bob_device, [])
        both.connect("alice")
        both.connect("bob")
        yield both


def one(engine: Engine, kind: type[S]) -> S:
    """The only signal that comes, once it does."""
    (signal,) = drained(engine, kind)
    return signal


def drained(engine: Engine, kind: type[S]) -> list[S]:
    """What waits, as soon as something does: all of one kind. Any packet may wake its tunnel."""
    signals: list[Signal] = []
    while not signals:
        readable, _, _ = select.select([engine.fileno()], [], [], DEADLINE_S)
        assert readable, f"no {kind.__name__} within {DEADLINE_S} s"
        signals = [each for each in engine.drain() if kind is Woken or not isinstance(each, Woken)]
    assert all(isinstance(signal, kind) for signal in signals), signals
    return [signal for signal in signals if isinstance(signal, kind)]


def drained_until(engine: Engine, kind: type[S]) -> S:
    """The first signal of a kind, whatever comes before it."""
    while True:
        readable, _, _ = select.select([engine.fileno()], [], [], DEADLINE_S)
        assert readable, f"no {kind.__name__} within {DEADLINE_S} s"
        for signal in engine.drain():
            if isinstance(signal, kind):
                return signal


def marker(pair: Pair) -> None:
    """Waits until bob has worked off all that was sent to him before."""
    pair.alice.send(LOOPBACK, pair.bob.port, b"\x05marker")
    while not any(isinstance(signal, Datagram) for signal in pair.heard):
        readable, _, _ = select.select([pair.bob.fileno()], [], [], DEADLINE_S)
        assert readable, "the marker did not arrive"
        pair.heard += pair.bob.drain()


def bound_port(descriptor: int) -> int:
    """The number of a socket that is the engine's."""
    with socket.socket(fileno=os.dup(descriptor)) as there:
        port: int = there.getsockname()[1]
        return port


@contextmanager
def hole() -> Iterator[socket.socket]:
    """A socket that is neither alice's nor bob's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
        elsewhere.bind(("127.0.0.1", 0))
        elsewhere.settimeout(DEADLINE_S)
        yield elsewhere


def receive(device: socket.socket) -> bytes:
    return device.recv(1 << 16)
