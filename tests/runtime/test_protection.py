import os
import socket

import pytest

from ntmobile.runtime.protection import marking, unprotected


def mark_of(made: socket.socket) -> int:
    return made.getsockopt(socket.SOL_SOCKET, socket.SO_MARK)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mark sockets")
def test_marking_marks_the_socket_and_leaves_it_open() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        marking(0x6E01)(made.fileno())

        assert mark_of(made) == 0x6E01


def test_neither_no_mark_nor_no_protection_touches_a_socket() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        marking(0)(made.fileno())
        unprotected(made.fileno())

        assert mark_of(made) == 0


def test_a_descriptor_that_is_no_socket_is_refused() -> None:
    with open("/dev/null", "rb") as file, pytest.raises(OSError, match=r"socket"):
        marking(1)(file.fileno())
