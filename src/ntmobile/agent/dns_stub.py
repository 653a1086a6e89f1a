"""The DNS server on loopback that hooked queries reach.

What becomes of a query::

    a node of a known NTMobile domain: A, AAAA --> resolve: virtual address; NXDOMAIN if refused
                                       others --> NODATA
    PTR of a virtual address                  --> the peer's FQDN
    everything else                           --> the ordinary resolver, its answer untouched
        but A, AAAA without data              --> resolve, if the zone's SRV says NTMobile
        and short names without data          --> resolve below the own users' names

A short name is NAME of the same user, or NAME.USER of the same domain. The C library tries its
search list first and a bare name last (resolv.conf(5), ndots), so a host of the local network goes
before a peer of the same short name, and resolv.conf needs no search line of ours. NAME.USER is
tried only where the root of DNS itself denies it: any top-level domain goes before a user.

Source: paper, Fig. 5. Ours: docs/protocol.md section 6.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Self

import dns.rcode
from dns.message import QueryMessage
from dns.rdatatype import RdataType

from ntmobile.agent.dns_stub_listener import Listener, Query, Respond
from ntmobile.agent.dns_stub_messages import (
    Answer,
    Refused,
    answer_addresses,
    answer_name,
    answer_nothing,
    name_of,
    negative_of,
    parse_query,
    reversed_address,
    type_of,
)
from ntmobile.agent.dns_stub_nodes import NodeNames
from ntmobile.agent.dns_stub_upstream import Upstream
from ntmobile.agent.dns_stub_zones import NtmZones
from ntmobile.runtime.protection import Protect, unprotected
from ntmobile.runtime.tasks import Tasks
from ntmobile.wire.endpoint import Endpoint

Resolve = Callable[[str], Awaitable[Answer | Refused]]
Reverse = Callable[[IPv4Address | IPv6Address], str | Refused | None]
"""FQDN of a virtual address; Refused for a virtual one without a name, None for any other."""

MakeListener = Callable[[Respond, Tasks, Counter[str]], Listener]

_ADDRESS_TYPES = (RdataType.A, RdataType.AAAA)


class DnsStub:
    """Answers while its context is entered; several may run on one machine."""

    def __init__(
        self,
        resolve: Resolve,
        reverse: Reverse,
        servers: Callable[[], Sequence[Endpoint]],
        *,
        own_zones: Iterable[str] = (),
        known_zones: Iterable[str] = (),
        search: Iterable[str] = (),
        addresses: Sequence[str] = ("127.0.0.1", "::1"),
        port: int = 0,
        protect: Protect = unprotected,
        listener: MakeListener = Listener,
    ) -> None:
        """Forwards to servers(), or to the one an application chose when a redirect tells it.

        resolve is given lower-case FQDNs. own_zones are the domains this agent is logged in to,
        known_zones those of peers met before, search the suffixes of short names (USER.DOMAIN and
        DOMAIN). addresses not on this machine are left out; port 0 takes a free one. protect is
        given each socket that asks the ordinary resolvers. listener takes the queries.
        """
        self._tasks = Tasks()
        self._reverse = reverse
        self._servers = servers
        self._upstream = Upstream(protect)
        self._nodes = NodeNames(resolve, self._tasks)
        self._search = tuple(search)
        self.zones = NtmZones(
            self._ask_own,
            lambda: asyncio.get_running_loop().time(),
            own=own_zones,
            known=known_zones,
        )
        self.counters: Counter[str] = Counter()
        """hooked, forwarded, unanswered, repeated, dropped, refused."""
        self._listener = listener(self._respond, self._tasks, self.counters)
        self._wanted = (tuple(addresses), port)

    def serve(
        self, own_zones: Iterable[str], known_zones: Iterable[str], search: Iterable[str]
    ) -> None:
        """Answers for these own zones and short names from now; known_zones come to the others."""
        self._search = tuple(search)
        self._nodes.forget()
        self.zones.take_own(own_zones, known_zones)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where queries are taken, by UDP and TCP; one port on each address."""
        return self._listener.endpoints

    @property
    def port(self) -> int:
        """The port of all endpoints."""
        return self.endpoints[0].port

    async def __aenter__(self) -> Self:
        """Opens the sockets; raises OSError when the port is taken or no address is here."""
        await self._listener.open(*self._wanted)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the sockets; unanswered queries stay unanswered."""
        self._listener.close()
        await self._tasks.close()

    async def _respond(self, query: Query) -> bytes | None:
        asked = parse_query(query.wire)
        if asked is None:
            return await self._forward(query)
        if await self.zones.is_node(name_of(asked)):
            return await self._answer_node(asked, name_of(asked))
        if type_of(asked) == RdataType.PTR:
            return self._answer_reverse(asked) or await self._forward(query, asked)
        response = await self._forward(query, asked)
        if response is None or type_of(asked) not in _ADDRESS_TYPES:
            return response
        return await self._hook(asked, response) or response

    async def _hook(self, asked: QueryMessage, response: bytes) -> bytes | None:
        """Answers for a node that ordinary DNS has no address of; None when it is no node."""
        negative = negative_of(response)
        if negative is None:
            return None
        name = name_of(asked)
        if "." not in name or (name.count(".") == 1 and negative.zone == ""):
            return await self._answer_short(asked, name)
        if await self.zones.learn(name, negative):
            return await self._answer_node(asked, name)
        return None

    async def _answer_short(self, asked: QueryMessage, name: str) -> bytes | None:
        longer = (f"{name}.{suffix}" for suffix in self._search)
        for fqdn in filter(self.zones.is_own_node, longer):
            outcome = await self._nodes.find(fqdn)
            if isinstance(outcome, Answer):
                self.counters["hooked"] += 1
                return answer_addresses(asked, outcome, fqdn)
        return None

    async def _answer_node(self, asked: QueryMessage, fqdn: str) -> bytes:
        self.counters["hooked"] += 1
        if type_of(asked) not in _ADDRESS_TYPES:
            return answer_nothing(asked)
        match await self._nodes.find(fqdn):
            case Answer() as answer:
                return answer_addresses(asked, answer, fqdn)
            case Refused():
                return answer_nothing(asked, dns.rcode.NXDOMAIN)
            case None:
                return answer_nothing(asked, dns.rcode.SERVFAIL)

    def _answer_reverse(self, asked: QueryMessage) -> bytes | None:
        address = reversed_address(name_of(asked))
        found = self._reverse(address) if address is not None else None
        match found:
            case str():
                return answer_name(asked, found)
            case Refused():
                return answer_nothing(asked, dns.rcode.NXDOMAIN)
            case None:
                return None

    async def _forward(self, query: Query, asked: QueryMessage | None = None) -> bytes | None:
        self.counters["forwarded"] += 1
        servers = [query.original] if query.original is not None else self._ordinary()
        ask = self._upstream.ask_tcp if query.tcp else self._upstream.ask
        answer = await ask(query.wire, servers)
        if answer is not None:
            return answer
        self.counters["unanswered"] += 1
        return answer_nothing(asked, dns.rcode.SERVFAIL) if asked is not None else None

    async def _ask_own(self, wire: bytes) -> bytes | None:
        return await self._upstream.ask_whole(wire, self._ordinary())

    def _ordinary(self) -> list[Endpoint]:
        """Without this stub itself, should somebody have written it into resolv.conf."""
        return [server for server in self._servers() if server not in self.endpoints]
