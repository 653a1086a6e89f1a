"""A node of the VpnService type without any right: python vpn_node.py STATE SOCKET.

Beforehand, once: login.py. And as root: python -m ntmobile.vpn.linux SOCKET --user UID
"""

import asyncio
import signal
import sys

from ntmobile import vpn


async def main(state: str, place: str) -> None:
    """Run until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with (
        vpn.System(place) as system,
        vpn.attach(
            None,
            state=state,
            protect=system.protect,
            configure=system.configure,
            network=system.network,
        ) as node,
    ):
        system.on_network = node.network_changed
        print(node.fqdn, flush=True)
        await ended.wait()


asyncio.run(main(*sys.argv[1:]))
