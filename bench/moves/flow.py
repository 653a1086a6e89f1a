"""What runs at both ends while one of them moves: paced TCP and numbered UDP. Run as a program.

`serve PORT` answers on TCP and UDP of that port. `tcp HOST PORT down|up RATE` carries bytes one
way, `udp HOST PORT RATE` datagrams both ways, until standard input ends. Each prints what it saw
as lines of JSON: `{"total": bytes, "at": seconds}` now and then, and a report at its end.
Times are of time.perf_counter, the same for all processes of one machine.
"""

import json
import random
import select
import socket
import struct
import sys
import threading
import time
from contextlib import suppress

CHUNK = 1 << 15
PERIOD = 1_000_003
"""Of the bytes that are sent; a prime, so that no whole number of segments may be lost."""
PATTERN = random.Random(1).randbytes(PERIOD) * 2
NOTED_S = 0.002
"""Shorter pauses between two deliveries are not reported."""
SAID_S = 0.05
MOST_LATE_S = 0.02
"""What a pause of the network held back is not caught up with by the pace."""
SO_RCVBUFFORCE = 33
PAYLOAD = 1200
NUMBER = struct.Struct("=Q")
HELLO, DATA, END, REPORT = b"H", b"D", b"E", b"R"
DRAIN_S = 1.5
TOTAL_RETRANS = 100
"""Where in struct tcp_info the number of retransmitted segments is (linux/tcp.h)."""


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


class Pauses:
    """Notes when something was delivered, and for how long nothing was."""

    def __init__(self) -> None:
        self.total = 0
        self.noted: list[tuple[float, float]] = []
        self._last = time.perf_counter()
        self._said = 0.0

    def note(self, size: int) -> None:
        now = time.perf_counter()
        self.total += size
        if now - self._last >= NOTED_S:
            self.noted.append((self._last, now))
        if now - self._said >= SAID_S:
            self._said = now
            say(total=self.total, at=now)
        self._last = now


class Pace:
    """So many bytes a second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._due = time.perf_counter()

    def wait(self, size: int) -> None:
        now = time.perf_counter()
        self._due = max(self._due + size / self._rate, now - MOST_LATE_S)
        if self._due > now:
            time.sleep(self._due - now)


def send_stream(there: socket.socket, rate: float, ends: threading.Event) -> None:
    """Send until told to end; reports the segments that TCP sent again."""
    pace, at = Pace(rate), 0
    try:
        while not ends.is_set():
            there.sendall(PATTERN[at : at + CHUNK])
            at = (at + CHUNK) % PERIOD
            pace.wait(CHUNK)
        broken = ""
    except OSError as error:
        broken = str(error)
    information = there.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    (again,) = struct.unpack_from("=I", information, TOTAL_RETRANS)
    say(sent=True, retransmits=again, broken=broken)


def take_stream(there: socket.socket) -> None:
    """Take until the other end ends; reports the pauses, and whether each byte was right."""
    pauses, at, broken = Pauses(), 0, ""
    try:
        while part := there.recv(CHUNK):
            if part != PATTERN[at : at + len(part)]:
                broken = "other bytes came than were sent"
                break
            at = (at + len(part)) % PERIOD
            pauses.note(len(part))
    except OSError as error:
        broken = str(error)
    say(taken=pauses.total, pauses=pauses.noted, broken=broken)


class Datagrams:
    """Sends and takes numbered datagrams at once on one socket."""

    def __init__(self, here: socket.socket, rate: float) -> None:
        here.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        here.settimeout(0.2)
        self._here, self._rate = here, rate
        self.sent = 0
        self._seen: set[int] = set()
        self._newest = self._deepest = self._twice = 0
        self._pauses = Pauses()
        self.ends = threading.Event()
        self.over = threading.Event()

    def send(self, there: tuple[str, int]) -> None:
        pace, filling = Pace(self._rate), bytes(PAYLOAD - 1 - NUMBER.size)
        while not self.ends.is_set():
            self.sent += 1
            # Without a route too the application did send it, and it is lost.
            with suppress(OSError):
                self._here.sendto(DATA + NUMBER.pack(self.sent) + filling, there)
            pace.wait(PAYLOAD)

    def take(self, data: bytes) -> None:
        (number,) = NUMBER.unpack_from(data, 1)
        if number in self._seen:
            self._twice += 1
            return
        self._seen.add(number)
        self._newest = max(self._newest, number)
        self._deepest = max(self._deepest, self._newest - number)
        self._pauses.note(len(data))

    def report(self, role: str) -> None:
        say(
            udp=role,
            sent=self.sent,
            taken=len(self._seen),
            twice=self._twice,
            deepest=self._deepest,
            pauses=self._pauses.noted,
        )


def serve(port: int) -> None:
    threading.Thread(target=serve_datagrams, args=(port,), daemon=True).start()
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        say(ready=True)
        while True:
            there, _ = server.accept()
            threading.Thread(target=answer, args=(there,), daemon=True).start()


def answer(there: socket.socket) -> None:
    with there:
        way, _, rate = read_line(there).partition(" ")
        if way == "up":
            take_stream(there)
            return
        ends = threading.Event()

        def wait() -> None:
            with suppress(OSError):
                there.recv(1)
            ends.set()

        threading.Thread(target=wait, daemon=True).start()
        send_stream(there, float(rate), ends)


def read_line(there: socket.socket) -> str:
    """Not a byte more than the line: what follows is counted."""
    line = b""
    while not line.endswith(b"\n"):
        line += there.recv(1)
    return line.decode()


def serve_datagrams(port: int) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as here:
        here.bind(("::", port))
        while True:
            serve_flow(here)


def serve_flow(here: socket.socket) -> None:
    """One flow, from its hello to its end."""
    here.settimeout(None)
    data, there = here.recvfrom(2048)
    if data[:1] != HELLO:
        return
    flow = Datagrams(here, float(data[1:]))
    sender = threading.Thread(target=flow.send, args=(there,), daemon=True)
    sender.start()
    ended_at = None
    while ended_at is None or time.perf_counter() - ended_at < DRAIN_S:
        try:
            data = here.recv(2048)
        except TimeoutError:
            continue
        if data[:1] == DATA:
            flow.take(data)
        elif data[:1] == END and ended_at is None:
            flow.ends.set()
            ended_at = time.perf_counter()
    sender.join()
    flow.report("server")


def tcp(host: str, port: int, way: str, rate: float) -> None:
    with socket.create_connection((host, port), timeout=30) as there:
        there.settimeout(None)
        there.sendall(f"{way} {rate}\n".encode())
        ends = threading.Event()

        def end() -> None:
            sys.stdin.read()
            ends.set()
            if way == "down":
                with suppress(OSError):
                    there.shutdown(socket.SHUT_WR)

        threading.Thread(target=end, daemon=True).start()
        if way == "up":
            send_stream(there, rate, ends)
            with suppress(OSError):
                there.shutdown(socket.SHUT_WR)
                there.recv(1)
        else:
            take_stream(there)


def udp(host: str, port: int, rate: float) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as here:
        flow = Datagrams(here, rate)
        here.sendto(HELLO + str(rate).encode(), (host, port))
        sender = threading.Thread(target=flow.send, args=((host, port),), daemon=True)
        sender.start()
        ended_at = None
        while ended_at is None or time.perf_counter() - ended_at < DRAIN_S:
            if ended_at is None and select.select([sys.stdin], [], [], 0)[0]:
                flow.ends.set()
                sender.join()
                ended_at = time.perf_counter()
            try:
                data = here.recv(2048)
            except OSError:
                data = b""
            if data[:1] == DATA:
                flow.take(data)
            if ended_at is not None:
                here.sendto(END, (host, port))
        flow.report("client")


def main(verb: str, *words: str) -> None:
    match verb, *words:
        case "serve", port:
            serve(int(port))
        case "tcp", host, port, way, rate:
            tcp(host, int(port), way, float(rate))
        case "udp", host, port, rate:
            udp(host, int(port), float(rate))


if __name__ == "__main__":
    main(*sys.argv[1:])
