"""When a machine of the lab had a usable address: from the kernel's own notifications."""

import os
import socket
import struct
import threading
import time
from contextlib import suppress

from ntmobile.agent.netlink import DONE, DUMP, HEADER, REQUEST, attributes, messages
from ntmobile.lab.host import Host

NEW_LINK, DEL_LINK, GET_LINK, NEW_ROUTE, DEL_ROUTE, GET_ROUTE = 16, 17, 18, 24, 25, 26
GROUPS = 0x1 | 0x40 | 0x400
"""RTMGRP_LINK, IPV4_ROUTE, IPV6_ROUTE."""
UP_AND_RUNNING = 0x1 | 0x40
LINK = struct.Struct("=BxHiII")
ROUTE = struct.Struct("=BBBBBBBBI")
MAIN = 254
OUTGOING, VIA = 4, 9
"""RTA_OIF, RTA_MULTIPATH."""
PATIENCE_S = 10.0
FIRST_OF_ALL = -20


class Usable:
    """Watches one machine; as a context manager it stops at the end."""

    def __init__(self, host: Host) -> None:
        self._kernel = host.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._kernel.bind((0, GROUPS))
        self._running: set[int] = set()
        self._routes: set[tuple[int, int]] = set()
        self._is_usable = False
        for ask, size in ((GET_LINK, LINK.size), (GET_ROUTE, ROUTE.size)):
            self._read_table(ask, size)
        self._kernel.settimeout(0.1)
        self.since: list[float] = []
        """When the machine came to have a default route over a link that carries."""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def __enter__(self) -> "Usable":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._kernel.close()

    def _read_table(self, ask: int, size: int) -> None:
        self._kernel.settimeout(5)
        self._kernel.send(HEADER.pack(HEADER.size + size, ask, REQUEST | DUMP, 1, 0) + bytes(size))
        done = False
        while not done:
            for kind, _, body in messages(self._kernel.recv(1 << 18)):
                done = done or kind == DONE
                self._take(kind, body)
        self._is_usable = self._has_way()

    def _has_way(self) -> bool:
        return any(index in self._running for _, index in self._routes)

    def await_usable(self) -> float:
        """Return when the machine came to have a way last, once it is known that it did.

        The kernel tells it at once, but this process may be kept from its processor.
        """
        deadline = time.perf_counter() + PATIENCE_S
        while not self.since and time.perf_counter() < deadline:
            time.sleep(0.001)
        if not self.since:
            raise RuntimeError("the machine has no way out after its move")
        return self.since[-1]

    def _watch(self) -> None:
        # What is late here would make a gap look shorter than it was.
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), FIRST_OF_ALL)
        while not self._stopped.is_set():
            try:
                data = self._kernel.recv(1 << 16)
            except TimeoutError:
                continue
            now = time.perf_counter()
            for kind, _, body in messages(data):
                self._take(kind, body)
            self._judge(now)

    def _take(self, kind: int, body: bytes) -> None:
        if kind in (NEW_LINK, DEL_LINK):
            _, _, index, flags, _ = LINK.unpack_from(body)
            up = kind == NEW_LINK and flags & UP_AND_RUNNING == UP_AND_RUNNING
            (self._running.add if up else self._running.discard)(index)
            if kind == DEL_LINK:
                self._routes = {each for each in self._routes if each[1] != index}
        elif kind in (NEW_ROUTE, DEL_ROUTE):
            family, length, _, _, table, *_ = ROUTE.unpack_from(body)
            found = attributes(body, ROUTE.size)
            if length == 0 and table == MAIN and OUTGOING in found:
                route = (family, int.from_bytes(found[OUTGOING], "little"))
                (self._routes.add if kind == NEW_ROUTE else self._routes.discard)(route)

    def _judge(self, now: float) -> None:
        usable = self._has_way()
        if usable and not self._is_usable:
            self.since.append(now)
        self._is_usable = usable
