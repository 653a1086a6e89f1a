"""Ports for servers that must be told their number before they are opened.

Not those that the kernel gives: it may give them to somebody else before they are used, also as
the near end of a connection.
"""

import os
import socket
from itertools import count

FIRST, COUNT = 10_000, 22_000
"""Below what Linux gives to whoever asks for any (32768 and more)."""
STEP = 7919
"""Apart from each other: where processes with neighbouring numbers begin."""
LOOPBACK = "127.0.0.1"

_numbers = count(os.getpid() * STEP)


def free_ports(wanted: int) -> list[int]:
    """Return numbers that nobody uses in UDP or TCP, none of them twice in a process."""
    found: list[int] = []
    while len(found) < wanted:
        port = FIRST + next(_numbers) % COUNT
        if all(is_free(port, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)):
            found.append(port)
    return found


def is_free(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
