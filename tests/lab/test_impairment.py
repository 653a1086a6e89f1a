import re
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from ntmobile.lab import Direction, Host, Impairment, Lab, LabError
from ntmobile.lab.prober import Prober, udp

pytestmark = [pytest.mark.lab, pytest.mark.alone]

PORT = 5000
SO_RCVBUFFORCE = 33
UDP_SEGMENT = 103
"""Both missing in Python's own module."""
PATIENCE_S = 1.0
"""Longer than anything here is on its way."""


def test_a_delay_is_as_set_in_both_directions(lab: Lab) -> None:
    laptop, server = pair(lab)

    lab.impair(laptop, Impairment(delay_ms=10))

    times = ping(laptop, server)
    assert 20.0 <= min(times) < 22.0


def test_a_delay_can_be_set_in_one_direction_and_changed_live(lab: Lab) -> None:
    laptop, server = pair(lab)

    link = lab.impair(laptop, Impairment(delay_ms=10), Direction.UP)
    one_way = ping(laptop, server)
    link.set(Impairment(delay_ms=30), Direction.DOWN)
    both = ping(laptop, server)
    link.set(Impairment())
    none = ping(laptop, server)

    assert 10.0 <= min(one_way) < 12.0
    assert 40.0 <= min(both) < 42.0
    assert min(none) < 2.0


def test_jitter_stays_in_its_range(lab: Lab) -> None:
    laptop, server = pair(lab)

    lab.impair(laptop, Impairment(delay_ms=5, jitter_ms=20), Direction.UP)

    times = ping(laptop, server)
    assert 5.0 <= min(times) < 15.0
    assert statistics.stdev(times) > 2.0


def test_loss_is_as_frequent_as_set_and_counted_exactly(lab: Lab) -> None:
    laptop, server = pair(lab)

    link = lab.impair(laptop, Impairment(loss=0.2), Direction.UP)
    arrived = send(laptop, server, 2000)

    seen = link.statistics(Direction.UP)
    others = seen.arrived - 2000
    assert seen.arrived == seen.delivered + seen.lost + seen.refused
    assert 0 <= seen.delivered + seen.refused - len(arrived) <= others < 10
    assert 300 < seen.lost < 500
    assert link.statistics(Direction.DOWN).lost == 0


def test_a_duplicated_packet_arrives_twice(lab: Lab) -> None:
    laptop, server = pair(lab)

    lab.impair(laptop, Impairment(duplicate=1.0), Direction.UP)

    assert sorted(send(laptop, server, 3)) == [0, 0, 1, 1, 2, 2]


def test_reordered_packets_are_overtaken_and_none_is_lost(lab: Lab) -> None:
    laptop, server = pair(lab)

    reordering = Impairment(reorder=0.2, reorder_by_ms=20)
    lab.impair(laptop, reordering, Direction.UP)
    arrived = send(laptop, server, 500)

    assert sorted(arrived) == list(range(500))
    assert arrived != sorted(arrived)


def test_a_rate_is_kept_and_its_queue_is_bounded(lab: Lab) -> None:
    laptop, server = pair(lab)
    link = lab.impair(laptop, Impairment(rate_mbit=20, queue_ms=1000), Direction.UP)

    took_s, arrived = min(timed(lambda: send(laptop, server, 400, size=1208)) for _ in range(3))
    link.set(Impairment(rate_mbit=20, queue_ms=10))
    with udp(laptop) as sender:
        for _ in range(400):
            sender.sendto(bytes(1208), (str(server.ipv4), PORT))
    ping(laptop, server)

    # 400 frames of 1250 bytes at 20 Mbit/s; the first does not wait for another.
    assert len(arrived) == 400
    assert 0.19 < took_s < 2.0
    assert link.statistics(Direction.UP).overflowed > 0


def test_super_packets_pass_whole_when_the_link_only_delays(lab: Lab) -> None:
    laptop, server = pair(lab)
    link = lab.impair(laptop, Impairment(delay_ms=1))
    amount = 4_000_000

    transfer(laptop, server, amount)

    assert link.statistics(Direction.UP).arrived < amount / 1448 / 4


def test_tcp_survives_loss_with_every_segment_lost_by_itself(lab: Lab) -> None:
    laptop, server = pair(lab)
    link = lab.impair(laptop, Impairment(loss=0.02, delay_ms=1))
    amount = 1_000_000

    transfer(laptop, server, amount)

    seen = link.statistics(Direction.UP)
    assert seen.arrived >= amount / 1448
    assert seen.lost > 0


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_batch_of_datagrams_passes_whole_or_each_by_itself(
    lab: Lab, family: socket.AddressFamily
) -> None:
    laptop, server = pair(lab)
    address = str(server.ipv4 if family == socket.AF_INET else server.ipv6)
    link = lab.impair(laptop, Impairment(delay_ms=1))

    whole = send_batch(laptop, server, address, family)
    after_whole = link.statistics(Direction.UP).arrived
    link.set(Impairment(jitter_ms=1))
    apart = send_batch(laptop, server, address, family)
    after_apart = link.statistics(Direction.UP).arrived

    assert whole == apart == [bytes([number]) * 1000 for number in range(40)]
    assert after_whole < 40
    assert after_apart - after_whole >= 40


def test_the_machine_does_not_notice_that_its_wire_is_taken_over(lab: Lab) -> None:
    laptop, server = pair(lab)
    changes = laptop.path("/sys/class/net/eth0/carrier_changes")
    before = changes.read_text()
    # Every packet of a stream that runs meanwhile must come through; while the wire is mended,
    # what is on the way may be lost.
    stream = laptop.popen(
        ["ping", "-q", "-c", "200", "-i", "0.005", str(server.ipv4)], stdout=subprocess.PIPE
    )

    with lab.impair(laptop, Impairment(delay_ms=1)):
        impaired = ping(laptop, server)
        report = stream.communicate()[0]
    mended = ping(laptop, server)

    assert min(impaired) >= 2.0
    assert min(mended) < 2.0
    assert " 0% packet loss" in report
    assert changes.read_text() == before


def test_wires_inside_and_outside_of_a_nat_can_be_impaired(lab: Lab) -> None:
    net = lab.internet()
    prober = Prober(lab.host("first", net), lab.host("second", net))
    home = lab.nat("home", net)
    laptop = lab.host("laptop", home)

    lab.impair(home, Impairment(delay_ms=10))
    lab.impair(laptop, Impairment(delay_ms=20))

    server = lab.machines["first"]
    assert isinstance(server, Host)
    assert 60.0 <= min(ping(laptop, server)) < 80.0
    with prober, udp(laptop) as inside:
        assert prober.mapped(inside).host == str(home.outside)


def test_a_moved_machine_has_an_unimpaired_wire(lab: Lab) -> None:
    laptop, server = pair(lab)
    link = lab.impair(laptop, Impairment(delay_ms=20))

    laptop.move(laptop.uplink.network)

    assert min(ping(laptop, server)) < 2.0
    link.remove()


def test_a_wire_is_impaired_once_and_with_possible_values_only(lab: Lab) -> None:
    laptop, _ = pair(lab)
    lab.impair(laptop, Impairment())

    with pytest.raises(LabError, match="impaired already"):
        lab.impair(laptop, Impairment())
    with pytest.raises(LabError, match="between 0 and 1"):
        Impairment(loss=5)
    with pytest.raises(LabError, match="not negative"):
        Impairment(delay_ms=-1)


def pair(lab: Lab) -> tuple[Host, Host]:
    net = lab.internet()
    return lab.host("laptop", net), lab.host("server", net)


def ping(laptop: Host, server: Host) -> list[float]:
    """Return round-trip times in ms; the first one, which asks for addresses, is out."""
    command = ["ping", "-c", "41", "-i", "0.005", str(server.ipv4)]
    times = re.findall(r"time=([0-9.]+) ms", laptop.run(command, check=False).stdout)
    return [float(found) for found in times[1:]]


def timed(sending: Callable[[], list[int]]) -> tuple[float, list[int]]:
    """Return how many seconds it took until the last one came, and what came."""
    began = time.perf_counter()
    arrived = sending()
    return time.perf_counter() - began - PATIENCE_S, arrived


def send(laptop: Host, server: Host, count: int, size: int = 8) -> list[int]:
    """Send numbered datagrams and return the numbers that arrived, in that order."""
    with udp(server, PORT) as receiver, udp(laptop) as sender:
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
        receiver.settimeout(PATIENCE_S)
        for number in range(count):
            sender.sendto(number.to_bytes(size, "big"), (str(server.ipv4), PORT))
        arrived = []
        while (data := receive(receiver)) is not None:
            arrived.append(int.from_bytes(data, "big"))
        return arrived


def send_batch(
    laptop: Host, server: Host, address: str, family: socket.AddressFamily
) -> list[bytes]:
    """Send 40 datagrams by one call, which the kernel cuts, and return what arrived."""
    batch = b"".join(bytes([number]) * 1000 for number in range(40))
    with server.socket(family) as receiver, laptop.socket(family) as sender:
        receiver.settimeout(60)
        receiver.bind((address, PORT))
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        sender.sendto(batch, (address, PORT))
        return [receiver.recv(2048) for _ in range(40)]


def receive(receiver: socket.socket) -> bytes | None:
    try:
        return receiver.recv(2048)
    except TimeoutError:
        return None


def transfer(laptop: Host, server: Host, amount: int) -> None:
    with server.socket(kind=socket.SOCK_STREAM) as listener:
        listener.bind((str(server.ipv4), PORT))
        listener.listen()
        with laptop.socket(kind=socket.SOCK_STREAM) as sender:
            sender.settimeout(60)
            sender.connect((str(server.ipv4), PORT))
            accepted, _ = listener.accept()
            with accepted:
                accepted.settimeout(60)
                sending = threading.Thread(target=sender.sendall, args=[bytes(amount)])
                sending.start()
                received = 0
                while received < amount:
                    received += len(accepted.recv(1 << 20))
                sending.join()
