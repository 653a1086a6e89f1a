"""Watches the addresses of this machine's uplinks: how a node notices that it moved.

`Links` listens to the kernel's notifications; each only says that something changed, and the
whole state is then read anew, so a lost notification (an overflowing queue says so) cannot leave
a wrong picture. What a read gives is compared with the last report: lifetimes renewed by a
router, routes to peers and counters are no moves.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from ntmobile.agent.links_netlink import (
    WATCHED_GROUPS,
    Address,
    Link,
    Snapshot,
    concerns_uplinks,
    read_snapshot,
)
from ntmobile.proto.node.events import LocalAddress
from ntmobile.wire.endpoint import Endpoint

QUIET_S = 0.001
"""A move comes as a burst (link, address, route); it is reported when the burst pauses."""
LONGEST_S = 0.020
"""No burst delays the report longer than this."""
RETRY_S = 0.1
"""When the tables could not be read."""
OWN_TUN_PREFIX = "ntm"
"""Devices of this name that are TUNs belong to this agent or to another instance beside it."""
_READ_BYTES = 1 << 16
_READS_AT_ONCE = 64


def local_addresses(state: Snapshot, port: int) -> tuple[LocalAddress, ...]:
    """Returns the addresses that peers may be told, sorted, so that equal states are equal.

    Left out: loopback, link-local, multicast, tentative and deprecated addresses, links without
    a carrier, this program's TUN devices, and bridges without a default route (those that
    container engines make).
    """
    uplinks = {link.index: link for link in state.links if _may_be_uplink(link, state)}
    preferred = {version: frozenset(_preferred(version, uplinks, state)) for version in (4, 6)}
    found = [
        LocalAddress(
            Endpoint(address.host, port),
            interface=address.index,
            mtu=uplinks[address.index].mtu,
            preferred=address.index in preferred[address.host.version],
        )
        for address in state.addresses
        if address.index in uplinks and _may_be_told(address)
    ]
    return tuple(sorted(found, key=_order))


def _order(address: LocalAddress) -> tuple[bool, int, int, bytes]:
    host = address.endpoint.host
    return (not address.preferred, -host.version, address.interface, host.packed)


def _may_be_uplink(link: Link, state: Snapshot) -> bool:
    if link.loopback or not link.running:
        return False
    if link.kind == "tun" and link.name.startswith(OWN_TUN_PREFIX):
        return False
    return link.kind != "bridge" or any(r.index == link.index for r in state.defaults)


def _preferred(version: int, uplinks: dict[int, Link], state: Snapshot) -> Iterator[int]:
    routes = [r for r in state.defaults if r.version == version and r.index in uplinks]
    best = min((r.metric for r in routes), default=None)
    return (r.index for r in routes if r.metric == best)


def _may_be_told(address: Address) -> bool:
    host = address.host
    local_only = host.is_loopback or host.is_link_local or host.is_multicast or host.is_unspecified
    return address.usable and not local_only


class Links:
    """Reports the complete set of local addresses when it starts and at every change.

    Use as an async context manager, inside the network namespace to watch.
    """

    def __init__(self, report: Callable[[tuple[LocalAddress, ...]], None], port: int) -> None:
        """Calls report in the event loop's thread; port is the node's UDP port."""
        self._report = report
        self._port = port
        self._socket: socket.socket | None = None
        self._quiet: asyncio.TimerHandle | None = None
        self._latest: asyncio.TimerHandle | None = None
        self._reported: tuple[LocalAddress, ...] | None = None

    @property
    def addresses(self) -> tuple[LocalAddress, ...]:
        """What was last reported; empty before the start."""
        return self._reported or ()

    async def __aenter__(self) -> Self:
        """Starts listening, then reports once; raises OSError when the kernel refuses."""
        kernel = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        kernel.bind((0, WATCHED_GROUPS))
        self._socket = kernel
        asyncio.get_running_loop().add_reader(kernel.fileno(), self._handle_readable)
        self._read_state()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops; nothing is reported afterwards."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._cancel_timers()

    def _handle_readable(self) -> None:
        assert self._socket is not None
        concerned = False
        for _ in range(_READS_AT_ONCE):
            try:
                concerned |= concerns_uplinks(self._socket.recv(_READ_BYTES))
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                concerned = True  # The kernel dropped notifications: assume the worst.
        if concerned:
            self._schedule()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = loop.call_later(QUIET_S, self._read_state)
        if self._latest is None:
            self._latest = loop.call_later(LONGEST_S, self._read_state)

    def _cancel_timers(self) -> None:
        for timer in (self._quiet, self._latest):
            if timer is not None:
                timer.cancel()
        self._quiet = self._latest = None

    def _read_state(self) -> None:
        self._cancel_timers()
        try:
            addresses = local_addresses(read_snapshot(), self._port)
        except OSError:
            if self._reported is None:
                raise
            self._quiet = asyncio.get_running_loop().call_later(RETRY_S, self._read_state)
            return
        if addresses != self._reported:
            self._reported = addresses
            self._report(addresses)
