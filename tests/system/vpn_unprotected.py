"""As examples/vpn_node.py, but no socket is protected: python vpn_unprotected.py STATE SOCKET."""

import asyncio
import sys

from ntmobile import vpn


async def main(state: str, place: str) -> None:
    """Fail to come up where nothing leaves past the device."""
    async with (
        vpn.System(place) as system,
        vpn.attach(
            None,
            state=state,
            protect=lambda descriptor: True,
            configure=system.configure,
            network=system.network,
        ),
    ):
        print("up", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
