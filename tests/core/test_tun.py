"""The packet loops between real TUN devices: what the kernels at both ends say."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ntmobile.lab import Host, Lab, unavailable

REASON = unavailable()
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

END = Path("bench/tunnel_end.py").resolve()
IPV4, IPV6 = "100.64.0.2", "fd00:6e74::2"
PORT, INNER_PORT = 4330, 5201
DEVICE_MTU, PATH_MTU = 1420, 1300
TCP_MSS = {IPV4: PATH_MTU - 40, IPV6: PATH_MTU - 60}
UDP_SEGMENT = 103
MEGABYTES = 30


@dataclass(frozen=True)
class Ends:
    """Two machines with a tunnel whose path carries less than its devices."""

    a: Host
    b: Host


@pytest.fixture(
    scope="module",
    params=[(), ("a",), ("b",), ("a", "b")],
    ids=["offload", "a-without", "b-without", "no-offload"],
)
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    with Lab() as lab:
        net = lab.internet()
        both = Ends(lab.host("a", net), lab.host("b", net))
        for side, own, peer in (("a", both.a, both.b), ("b", both.b, both.a)):
            options = ["--no-offload"] if side in request.param else []
            start_end(side, own, peer, *options)
        yield both


def start_end(side: str, own: Host, peer: Host, *options: str) -> None:
    process = own.popen(
        [
            *(sys.executable, str(END), side, "--device", "ntm0"),
            *("--peer", f"{peer.ipv4}:{PORT}", "--port", str(PORT)),
            *("--mtu", str(DEVICE_MTU), "--path-mtu", str(PATH_MTU)),
            *options,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


@pytest.mark.parametrize("address", [IPV4, IPV6])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_tcp_stream_arrives_without_one_wrong_checksum(
    ends: Ends, address: str, direction: str
) -> None:
    server = ends.b.popen(["iperf3", "-s", "-1", "--forceflush"], stdout=subprocess.PIPE)
    wait_for(server, "listening")
    backwards = ["-R"] if direction == "down" else []

    ends.a.run(["iperf3", "-c", address, "-n", f"{MEGABYTES}M", *backwards])

    assert wrong_checksums(ends) == 0


@pytest.mark.parametrize("address", [IPV4, IPV6])
def test_a_tcp_stream_is_cut_to_the_path_not_to_the_device(ends: Ends, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with ends.b.socket(family, socket.SOCK_STREAM) as server:
        server.bind((address, 7000))
        server.listen()
        with ends.a.socket(family, socket.SOCK_STREAM) as client:
            client.connect((address, 7000))
            segment = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)

    # Time stamps take 12 bytes of each segment.
    assert segment == TCP_MSS[address] - 12


@pytest.mark.parametrize("address", [IPV4, IPV6])
@pytest.mark.parametrize("size", [1, 333, 1200])
def test_datagrams_sent_by_the_batch_arrive_whole_and_in_order(
    ends: Ends, address: str, size: int
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    payload = bytes(number % 251 for number in range(40 * size + size // 2))
    with ends.b.socket(family) as receiver, ends.a.socket(family) as sender:
        receiver.bind((address, INNER_PORT))
        receiver.settimeout(60)
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)

        sender.sendto(payload, (address, INNER_PORT))

        pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
        assert [receiver.recv(2048) for _ in pieces] == pieces


@pytest.mark.parametrize("address", [IPV4, IPV6])
def test_the_path_is_found_out_by_the_answer_to_a_packet_too_big(ends: Ends, address: str) -> None:
    headers = 48 if ":" in address else 28
    exact, above = PATH_MTU - headers, PATH_MTU - headers + 1

    fits = ping(ends, address, "-s", str(exact), "-M", "do")
    refused = ping(ends, address, "-s", str(above), "-M", "do")

    assert "1 received" in fits
    assert f"mtu={PATH_MTU}" in refused.replace("mtu = ", "mtu=")


def test_an_unreachable_port_is_told_across_the_tunnel(ends: Ends) -> None:
    with ends.a.socket() as sender:
        sender.settimeout(60)
        sender.connect((IPV4, 9))
        sender.send(b"anybody?")

        with pytest.raises(ConnectionRefusedError):
            sender.recv(1)


def ping(ends: Ends, address: str, *options: str) -> str:
    command = ["ping", "-n", "-c", "1", "-W", "30", *options, address]
    done = ends.a.run(command, check=False)
    return done.stdout + done.stderr


def wrong_checksums(ends: Ends) -> int:
    names = ["TcpInCsumErrors", "UdpInCsumErrors", "Udp6InCsumErrors", "IpInHdrErrors"]
    lines = [
        line
        for end in (ends.a, ends.b)
        for line in end.run(["nstat", "-asz", *names]).stdout.splitlines()
        if not line.startswith("#")
    ]
    assert len(lines) == 2 * len(names)
    return sum(int(line.split()[1]) for line in lines)


def wait_for(process: "subprocess.Popen[str]", word: str) -> None:
    assert process.stdout is not None
    assert any(word in line for line in iter(process.stdout.readline, ""))
