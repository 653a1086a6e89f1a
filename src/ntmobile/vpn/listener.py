"""DNS queries that come out of the device, to addresses that only this process knows."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address

from ntmobile.agent.dns_stub_listener import Datagrams as Protocol
from ntmobile.agent.dns_stub_listener import Listener, Query, Respond
from ntmobile.agent.dns_stub_messages import PAYLOAD_BYTES, truncated
from ntmobile.runtime.tasks import Tasks
from ntmobile.sockets.datagrams import Datagrams
from ntmobile.sockets.events import Events
from ntmobile.sockets.server import Server
from ntmobile.wire.endpoint import Endpoint

BACKLOG = 32


class InsideListener(Listener):
    """The DNS stub's listener on a stack in this process, by UDP and TCP."""

    def __init__(
        self, events: Events, respond: Respond, tasks: Tasks, counters: Counter[str]
    ) -> None:
        """The stack has the addresses that `open` is given."""

        async def fitting(query: Query) -> bytes | None:
            # What does not go into one packet of the device is asked for again over TCP.
            answer = await respond(query)
            if answer is None or query.tcp:
                return answer
            return truncated(answer, PAYLOAD_BYTES)

        super().__init__(fitting, tasks, counters)
        self._events = events

    async def open(self, addresses: Sequence[str], port: int) -> None:
        """Listens at one port of all the addresses; raises OSError when it is taken."""
        hosts = {host.version: host for host in map(ip_address, addresses)}
        self.endpoints = tuple(Endpoint(host, port) for host in hosts.values())
        datagrams = Datagrams(
            self._events,
            Protocol(self, self.endpoints[0]),
            port=port,
            own=lambda version: hosts[6 if version == 6 else 4],
            remote=None,
            fqdn=None,
        )
        datagrams.begin()
        self._transports.append(datagrams)
        server = Server(self._events, self._make, lambda _: None, port=port, backlog=BACKLOG)
        self._servers.append(server)

    def _make(self) -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), self._accept)
