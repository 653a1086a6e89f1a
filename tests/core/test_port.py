import errno
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from ntmobile._core import Datagram, Port

IPV4 = bytes([127, 0, 0, 1])
IPV6 = bytes(15) + b"\x01"
SECOND = bytes([127, 0, 0, 2])
GUARD_S = 60.0


@pytest.fixture
def here() -> Iterator[Port]:
    port = Port()
    yield port
    port.close()


@pytest.fixture
def there() -> Iterator[Port]:
    port = Port(queue=8)
    yield port
    port.close()


@pytest.mark.parametrize("host", [IPV4, IPV6], ids=["ipv4", "ipv6"])
def test_a_datagram_arrives_with_its_source_and_interface(
    here: Port, there: Port, host: bytes
) -> None:
    assert here.send(host, there.port, b"\x05hello") == 0

    [datagram] = take(there, 1)

    interface = socket.if_nametoindex("lo")
    assert datagram == Datagram(host, here.port, interface, b"\x05hello")


def test_an_ipv4_mapped_destination_is_ipv4(here: Port, there: Port) -> None:
    here.send(bytes(10) + b"\xff\xff" + IPV4, there.port, b"mapped")

    assert take(there, 1)[0].source_host == IPV4


def test_a_full_queue_drops_and_counts_what_comes(here: Port, there: Port) -> None:
    for n in range(20):
        here.send(IPV4, there.port, bytes([n]))
    while sum_of(there, "received", "queue_full") < 20:
        pass

    kept = there.drain()

    assert [datagram.payload for datagram in kept] == [bytes([n]) for n in range(8)]
    assert there.counters()["queue_full"] == 12


def test_drain_takes_no_more_than_asked(here: Port, there: Port) -> None:
    for n in range(5):
        here.send(IPV4, there.port, bytes([n]))
    while sum_of(there, "received") < 5:
        pass

    first, rest = there.drain(2), there.drain()

    assert [len(first), len(rest)] == [2, 3]
    assert there.drain() == []
    assert select.select([there], [], [], 0)[0] == []


def test_the_systems_refusal_is_an_errno_not_an_exception(here: Port) -> None:
    assert here.send(IPV4, 9, b"x", interface=999_999) != 0
    assert here.counters()["send_failed"] == 1


@pytest.mark.parametrize("length", [0, 3, 5, 17])
def test_a_host_of_another_length_is_the_callers_fault(here: Port, length: int) -> None:
    with pytest.raises(ValueError, match="4 or 16 bytes"):
        here.send(bytes(length), 9, b"x")


def test_a_taken_number_is_an_oserror(here: Port) -> None:
    with pytest.raises(OSError, match="in use") as raised:
        Port(port=here.port)

    assert raised.value.errno == errno.EADDRINUSE


def test_an_address_of_another_machine_is_an_oserror() -> None:
    with pytest.raises(OSError, match="assign") as raised:
        Port(ipv4=bytes([203, 0, 113, 10]))

    assert raised.value.errno == errno.EADDRNOTAVAIL


def test_a_refused_mark_is_a_permission_error() -> None:
    program = (
        "import os\nfrom ntmobile._core import Port\n"
        "os.setuid(65534)\ntry: Port(mark=1)\n"
        "except PermissionError as error: print(error.errno)"
    )
    if os.geteuid() != 0:
        program = program.replace("os.setuid(65534)", "")

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stdout == f"{errno.EPERM}\n", done.stderr


def test_without_an_ipv6_socket_there_is_no_way_there(there: Port) -> None:
    with closing(Port(ipv6=b"")) as here:
        assert here.send(IPV6, there.port, b"x") == errno.EAFNOSUPPORT
        assert here.send(IPV4, there.port, b"x") == 0


@pytest.mark.parametrize("wrong", [{"ipv4": bytes(16)}, {"ipv6": bytes(4)}, {"ipv4": b""}])
def test_a_local_address_of_another_length_is_the_callers_fault(wrong: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="bytes"):
        Port(**wrong)


def test_a_port_at_one_address_answers_from_it() -> None:
    with closing(Port(ipv4=SECOND, ipv6=IPV6)) as there, closing(Port()) as here:
        for asked, back in ((SECOND, IPV4), (IPV6, IPV6)):
            here.send(asked, there.port, b"asked")
            take(there, 1)
            there.send(back, here.port, b"answer")

            assert take(here, 1)[0].source_host == asked


def test_a_port_at_all_addresses_answers_from_where_it_was_asked() -> None:
    assert answering(homes=8) == SECOND


def test_a_port_that_remembers_no_peers_answers_from_the_systems_choice() -> None:
    """The negative twin."""
    assert answering(homes=0) == IPV4


def answering(homes: int) -> bytes:
    """From where a port answers that is asked at 127.0.0.2."""
    with closing(Port(homes=homes)) as there, closing(Port()) as here:
        here.send(SECOND, there.port, b"asked")
        source = take(there, 1)[0]
        there.send(source.source_host, source.source_port, b"answer")
        return take(here, 1)[0].source_host


def test_a_closed_port_refuses_every_use_but_close() -> None:
    port = Port()
    port.close()
    port.close()

    for use in (port.fileno, port.drain, port.counters, lambda: port.port):
        with pytest.raises(ValueError, match="closed"):
            use()


def take(port: Port, count: int) -> list[Datagram]:
    taken: list[Datagram] = []
    while len(taken) < count:
        assert select.select([port], [], [], GUARD_S)[0], "nothing arrived"
        taken += port.drain()
    return taken


def sum_of(port: Port, *names: str) -> int:
    counters = port.counters()
    return sum(counters[name] for name in names)
