"""Where this machine is, as the operating system's VPN service tells it."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from ntmobile.proto.node.events import LocalAddress
from ntmobile.vpn.configuration import Network
from ntmobile.wire.endpoint import Endpoint

Report = Callable[[tuple[LocalAddress, ...]], None]


class ToldUplinks:
    """In the place of the kernel's own notifications, which an app may not hear on a phone."""

    def __init__(self, report: Report, port: int, network: Network | None) -> None:
        """Port is the node's UDP port; None is no network."""
        self._report = report
        self._port = port
        self._addresses = local_addresses(network, port)

    @property
    def addresses(self) -> tuple[LocalAddress, ...]:
        """What was last told."""
        return self._addresses

    def tell(self, network: Network | None) -> None:
        """The machine is there now; the same again is no news."""
        addresses = local_addresses(network, self._port)
        if addresses != self._addresses:
            self._addresses = addresses
            self._report(addresses)

    async def __aenter__(self) -> Self:
        """Reports once."""
        self._report(self._addresses)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Reports no more."""
        self._report = lambda _: None


def local_addresses(network: Network | None, port: int) -> tuple[LocalAddress, ...]:
    """Return the addresses that peers may be told."""
    if network is None:
        return ()
    return tuple(
        LocalAddress(
            Endpoint(host, port), interface=network.interface, mtu=network.mtu, preferred=True
        )
        for host in network.addresses
        if not (host.is_loopback or host.is_link_local or host.is_multicast)
    )
