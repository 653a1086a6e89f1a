"""Two nodes in one process, one in each organisation; run as ``two_nodes.py STATE STATE``.

Each serves, and each asks the other one by name, at the same time: what a server answers is the
name of who asks, as the tunnel proves it. Prints a JSON object of what each was told.
"""

import asyncio
import json
import sys

import ntmobile

PORT = 7


async def serve(node: ntmobile.Node) -> None:
    """Tell whoever connects who that is."""

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(writer.get_extra_info("fqdn")).encode())
        writer.close()

    await node.start_server(handle, port=PORT)


async def ask(node: ntmobile.Node, other: ntmobile.Node) -> str:
    """Return what the other node calls this one."""
    reader, writer = await node.open_connection(other.fqdn, PORT)
    told = await reader.read()
    writer.close()
    return told.decode()


async def main() -> None:
    """Ask both ways at once."""
    first, second = sys.argv[1:]
    async with ntmobile.Node.open(first) as one, ntmobile.Node.open(second) as other:
        for node in (one, other):
            await serve(node)
        told = await asyncio.gather(ask(one, other), ask(other, one))
        print(json.dumps({one.fqdn: told[0], other.fqdn: told[1]}))


if __name__ == "__main__":
    asyncio.run(main())
