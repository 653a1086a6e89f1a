"""Who has which address: a pool gives out, takes back and never gives twice."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Generic, TypeVar

from ntmobile.lab.errors import LabError

AUTO = "auto"
"""In place of an address: the next free one. None in its place: no such family."""

FIRST_HOST = 10
"""Lower host numbers are for gateways and for addresses given by hand."""

LARGEST_POOL = 1 << 14
"""More machines than one lab can hold."""

Address = TypeVar("Address", IPv4Address, IPv6Address)


class Pool(Generic[Address]):
    """The addresses of one network and one family."""

    def __init__(self, kind: type[Address], network: IPv4Network | IPv6Network) -> None:
        """Give out addresses of `network`, which is of the family of `kind`."""
        self._kind: Callable[[int | str], Address] = kind
        size = min(network.num_addresses - 1, LARGEST_POOL)
        start = int(network.network_address)
        self._numbers = range(start + FIRST_HOST, start + size)
        self._taken: set[Address] = set()

    def take(self, wanted: str | None) -> Address | None:
        """Return the wanted address, for AUTO a free one; raises LabError if none."""
        match wanted:
            case None:
                return None
            case "auto":
                address = self._free()
            case _:
                address = self._kind(wanted)
        if address in self._taken:
            raise LabError(f"{address} is in use")
        self._taken.add(address)
        return address

    def release(self, address: Address | None) -> None:
        """Take an address back."""
        if address is not None:
            self._taken.discard(address)

    def _free(self) -> Address:
        for number in self._numbers:
            if (address := self._kind(number)) not in self._taken:
                return address
        raise LabError("no address is left")
