"""What is done to each socket of the node before it is used, so that nothing loops into the tunnel.

The DNS hook lets marked sockets pass; the VPN service of a phone is asked to protect each.
"""

import os
import socket
from collections.abc import Callable

Protect = Callable[[int], None]
"""Given a socket's descriptor before anything is sent; raises OSError if it must not be used."""


def unprotected(descriptor: int) -> None:
    """Leave a socket as it is."""


def marking(mark: int) -> Protect:
    """Return what puts a mark on sockets (SO_MARK, needs CAP_NET_ADMIN); nothing if it is 0."""

    def put(descriptor: int) -> None:
        with socket.socket(fileno=os.dup(descriptor)) as duplicate:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)

    return put if mark else unprotected
