"""The framework built-in type as the node's session sees it: a stack where others have a device.

Source: paper, Implementation models (the framework built-in type).
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Network

from ntmobile._core import Stack
from ntmobile.agent.session import Session
from ntmobile.proto.io import Entropy, random_bytes
from ntmobile.proto.node.events import Registered
from ntmobile.runtime.protection import unprotected
from ntmobile.wire.endpoint import Host

SEED_SIZE = 8


class FrameworkModel:
    """Hooks into nothing but this process: no device, no route, no clash with any real network."""

    protect = staticmethod(unprotected)
    avoid: tuple[IPv4Network | IPv6Network, ...] = ()

    def __init__(self, entropy: Entropy) -> None:
        """Makes the stack, which is closed with `close`."""
        self.stack = Stack(int.from_bytes(random_bytes(entropy, SEED_SIZE)))
        self._attached = False

    async def look_around(
        self, towards: IPv4Address | None
    ) -> tuple[IPv4Network | IPv6Network, ...]:
        """Return no network: a socket in here never reaches one."""
        return ()

    def attach(self, session: Session, registered: Registered) -> None:
        """Gives the stack its addresses and the tunnels' packets, or follows new addresses."""
        own = (registered.virtual_ipv4, registered.virtual_ipv6)
        self.stack.set_addresses(*(host.packed for host in own))
        if not self._attached:
            session.loops.on_path = self._handle_path
            session.engine.attach_stack(self.stack)
            self._attached = True

    def close(self) -> None:
        """Ends the stack; its connections are gone."""
        self.stack.close()

    def _handle_path(self, hosts: tuple[Host, Host], mtu: int) -> None:
        for host in hosts:
            self.stack.set_mtu(host.packed, mtu)
