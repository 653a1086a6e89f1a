"""The face of pyroute2 that the agent uses to change the system, with types."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol, cast

from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

__all__ = ["Kernel", "NetlinkError", "open_kernel"]


class Kernel(Protocol):
    """Each method takes the verb of ip(8) and raises NetlinkError when the kernel refuses."""

    async def link(self, verb: str, **arguments: object) -> object:
        """Changes a device."""
        ...

    async def addr(self, verb: str, **arguments: object) -> object:
        """Changes an address."""
        ...


def open_kernel() -> AbstractAsyncContextManager[Kernel]:
    """Returns a connection to the network namespace that the caller is in."""
    opened = AsyncIPRoute()  # type: ignore[no-untyped-call]
    return cast("AbstractAsyncContextManager[Kernel]", opened)
