"""The tunnel device: where applications' packets to virtual addresses come out of the kernel."""

import os
import socket
from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from ntmobile._core import open_tun
from ntmobile.agent.kernel import Kernel, NetlinkError, open_kernel
from ntmobile.agent.links import OWN_TUN_PREFIX
from ntmobile.agent.routes import NO_IPV6, Host, Routes, SystemRefused

NAME = f"{OWN_TUN_PREFIX}%d"
DEVICE_MTU = 9000
"""No route is larger: what a peer's path carries is in its route, and a jumbo LAN carries this."""
QUEUE = 4096
"""Packets that wait in the device while the packet loops wait for a processor.

The system's own 500 are 96 ms of 50 Mbit/s in datagrams of 1,200 B; on a busy machine a thread
waits for several times that, and what came meanwhile was lost. The room delays nothing as long as
the loops run: they empty it faster than an uplink takes it. Streams are bounded by their own
windows long before 500 super-packets. An empty place costs a pointer, a full one a packet: 10 MB
in all, or 256 MB if nobody but senders of UDP super-packets has a processor.
"""
DEVICE_REMEDY = (
    "run ntm up as root; a service needs CAP_NET_ADMIN, and /dev/net/tun open to it as udev "
    "makes it: chmod 666 /dev/net/tun"
)
_NODAD = 0x02
"""No other machine is on this device, so no address on it can be a duplicate."""
_VERBS = {"add": "add", "del": "remove"}

log = structlog.get_logger()


class Tun:
    """A TUN device with addresses and routes while its context is entered.

    It belongs to its descriptor: when the agent dies, however it dies, the kernel takes the
    device away and with it the addresses and routes, so there is nothing to repair afterwards.
    """

    def __init__(self, *, name: str = NAME, mtu: int = DEVICE_MTU, offload: bool = True) -> None:
        """A name with %d takes the next free number; the name must begin with "ntm"."""
        if not name.startswith(OWN_TUN_PREFIX):
            raise ValueError(f"a device that others recognise as ours: {OWN_TUN_PREFIX}..., {name}")
        self._wanted = (name, mtu, offload)
        self._stack = AsyncExitStack()
        self._kernel: Kernel | None = None
        self._addresses: set[Host] = set()
        self.name = ""
        self.index = 0
        self.fd = -1
        self.offload = False
        """For Engine.attach_tun, with fd."""
        self.routes: Routes
        """Only inside the context."""

    @property
    def addresses(self) -> frozenset[Host]:
        """The virtual addresses on the device."""
        return frozenset(self._addresses)

    async def __aenter__(self) -> Self:
        """Makes the device, without addresses; raises SystemRefused."""
        async with AsyncExitStack() as stack:
            name, mtu, offload = self._wanted
            try:
                self.fd, self.name, self.offload = open_tun(name, offload=offload)
            except PermissionError as error:
                raise SystemRefused("make a tunnel device", error, DEVICE_REMEDY) from error
            except OSError as error:
                raise SystemRefused("make a tunnel device", error) from error
            stack.callback(os.close, self.fd)
            kernel = await stack.enter_async_context(open_kernel())
            await self._set_up(kernel, mtu)
            # The packet loops hold a duplicate of the descriptor: closing ours is not enough.
            stack.push_async_callback(self._delete)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Removes the device with its addresses and routes."""
        await self._stack.aclose()
        self._kernel = None
        self._addresses.clear()

    async def set_addresses(self, hosts: Iterable[Host]) -> None:
        """Makes these the machine's virtual addresses; raises SystemRefused.

        A machine whose kernel has no IPv6 goes without the IPv6 ones.
        """
        wanted = set(hosts)
        for host in self._addresses - wanted:
            await self._change_address("del", host)
        for host in wanted - self._addresses:
            await self._change_address("add", host)

    async def _set_up(self, kernel: Kernel, mtu: int) -> None:
        try:
            self.index = socket.if_nametoindex(self.name)
            self._quieten_ipv6()
            await kernel.link("set", index=self.index, mtu=mtu, txqlen=QUEUE, state="up")
        except (NetlinkError, OSError) as error:
            raise SystemRefused(f"set up the device {self.name}", error) from error
        self._kernel = kernel
        self.routes = Routes(self.index)

    def _quieten_ipv6(self) -> None:
        """IPv6 on this device even where it is off by default, but no link-local address."""
        directory = Path("/proc/sys/net/ipv6/conf", self.name)
        for setting, value in (("disable_ipv6", "0"), ("addr_gen_mode", "1")):
            with suppress(OSError):
                (directory / setting).write_text(value)

    async def _change_address(self, verb: str, host: Host) -> None:
        assert self._kernel is not None, "set_addresses is for inside the context"
        try:
            await self._kernel.addr(
                verb,
                index=self.index,
                address=str(host),
                prefixlen=host.max_prefixlen,
                **_flags(verb, host),
            )
        except NetlinkError as error:
            if host.version == 6 and error.code in NO_IPV6:
                log.warning("this machine has no IPv6; peers are reached by IPv4 addresses only")
                return
            raise SystemRefused(
                f"{_VERBS[verb]} a virtual IPv{host.version} address", error
            ) from error
        if verb == "add":
            self._addresses.add(host)
        else:
            self._addresses.discard(host)

    async def _delete(self) -> None:
        assert self._kernel is not None
        with suppress(NetlinkError):
            await self._kernel.link("del", index=self.index)


def _flags(verb: str, host: Host) -> dict[str, int]:
    return {"flags": _NODAD} if verb == "add" and host.version == 6 else {}
