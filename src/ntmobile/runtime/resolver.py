"""Looks up zones, services and addresses at the configured resolvers; remembers by TTL.

What was known last is still good while no resolver answers (RFC 8767), because a dead resolver
must not cut off servers that live.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from weakref import WeakValueDictionary

import dns.entropy
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.resolver

from ntmobile.errors import NTMobileError
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.dns_client import UDP_SIZE, ask
from ntmobile.runtime.protection import Protect, unprotected
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint

TRY_S = 1.5
ROUNDS = 2
LONGEST_S = 86400
LONGEST_NEGATIVE_S = 300
"""A new domain or node is found within five minutes whatever its SOA says."""
STALE_S = 7 * 86400
MAX_ENTRIES = 20_000
RESOLV_CONF = "/etc/resolv.conf"


class ResolverError(NTMobileError):
    """The DNS gave nothing to work with."""


class NoSuchName(ResolverError):
    """The DNS says that the name, or a record of that type, does not exist."""


class ResolverFailed(ResolverError):
    """No resolver answered, and nothing is remembered."""


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone and the host names of its authoritative servers, both without final dot."""

    name: str
    servers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Service:
    """One SRV record: a host (no final dot) and port, best first by `key`."""

    host: str
    port: int
    priority: int
    weight: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is known of one name and type: records, or the zone that says there are none."""

    records: tuple[dns.rdata.Rdata, ...]
    authority: str | None
    expires: Instant


_Key = tuple[str, dns.rdatatype.RdataType]


def system_servers(file: str = RESOLV_CONF) -> tuple[Endpoint, ...]:
    """Return the resolvers of resolv.conf; none when there is no such file."""
    try:
        configured = dns.resolver.Resolver(filename=file)
    except (dns.exception.DNSException, OSError):
        return ()
    return tuple(Endpoint(str(host), configured.port) for host in configured.nameservers)


class SystemServers:
    """The resolvers of resolv.conf, read again whenever the file changes."""

    def __init__(self, file: str = RESOLV_CONF) -> None:
        """Reads at the first call."""
        self._file = file
        self._seen: tuple[int, int] | None = None
        self._servers: tuple[Endpoint, ...] = ()

    def __call__(self) -> tuple[Endpoint, ...]:
        """The resolvers now."""
        try:
            status = os.stat(self._file)
        except OSError:
            return self._servers
        if (seen := (status.st_mtime_ns, status.st_ino)) != self._seen:
            self._seen = seen
            self._servers = system_servers(self._file)
        return self._servers


class Resolver:
    """A caching stub resolver. Its methods raise NoSuchName or ResolverFailed."""

    def __init__(
        self,
        servers: Callable[[], Sequence[Endpoint]],
        clock: Clock,
        *,
        protect: Protect = unprotected,
    ) -> None:
        """Servers gives the recursive resolvers to ask now, best first."""
        self.servers = servers
        """Gives the recursive resolvers to ask now."""
        self._clock = clock
        self._protect = protect
        self._entries: dict[_Key, _Entry] = {}
        self._locks: WeakValueDictionary[_Key, asyncio.Lock] = WeakValueDictionary()

    async def zone(self, name: str) -> Zone:
        """The closest zone that encloses a name, by its SOA and NS records."""
        for candidate in _ancestors(name):
            entry = await self._look_up(candidate, dns.rdatatype.NS)
            if entry.records:
                return _zone(candidate, entry)
            if entry.authority is not None:
                break
        if not entry.authority:
            raise NoSuchName(f"no zone of {name} is in the DNS")
        apex = await self._look_up(entry.authority, dns.rdatatype.NS)
        if not apex.records:
            raise NoSuchName(f"the zone {entry.authority} has no NS records")
        return _zone(entry.authority, apex)

    async def services(self, name: str) -> tuple[Service, ...]:
        """The SRV records of a name such as _ntm._udp.ntm.example.org, best first."""
        records = await self._records(name, dns.rdatatype.SRV)
        found = [
            Service(_text(each.target), each.port, each.priority, each.weight)  # type: ignore[attr-defined]
            for each in records
        ]
        if [service.host for service in found] == [""]:
            # A single record with the target "." says there is no such service (RFC 2782).
            raise NoSuchName(f"{name} is not offered")
        return tuple(sorted(found, key=lambda s: (s.priority, -s.weight, s.host)))

    async def addresses(self, host: str) -> tuple[IPv4Address | IPv6Address, ...]:
        """The addresses of a host, IPv6 first."""
        kinds = (dns.rdatatype.AAAA, dns.rdatatype.A)
        answers = await asyncio.gather(
            *(self._records(host, kind) for kind in kinds), return_exceptions=True
        )
        found = [answer for answer in answers if not isinstance(answer, BaseException)]
        if not found:
            failures = [answer for answer in answers if isinstance(answer, BaseException)]
            raise next((f for f in failures if not isinstance(f, NoSuchName)), failures[0])
        return tuple(ip_address(each.to_text()) for records in found for each in records)

    async def endpoints(self, service: Service) -> tuple[Endpoint, ...]:
        """The addresses of a service with its port."""
        return tuple(Endpoint(host, service.port) for host in await self.addresses(service.host))

    async def texts(self, name: str) -> tuple[bytes, ...]:
        """The TXT records of a name, the strings of each joined."""
        records = await self._records(name, dns.rdatatype.TXT)
        return tuple(b"".join(each.strings) for each in records)  # type: ignore[attr-defined]

    async def signed(
        self, name: dns.name.Name, kind: dns.rdatatype.RdataType
    ) -> dns.message.QueryMessage:
        """The answer with its signatures, which the resolver is told not to judge (DO, CD).

        Nothing of it is remembered here.
        """
        query = dns.message.make_query(name, kind, use_edns=0, payload=UDP_SIZE, want_dnssec=True)
        query.flags |= dns.flags.CD
        return await self._exchange(query, f"{name} {kind.name}")

    def forget(self) -> None:
        """Drop all that is remembered; after a change of network, for instance."""
        self._entries.clear()

    async def _records(
        self, name: str, kind: dns.rdatatype.RdataType
    ) -> tuple[dns.rdata.Rdata, ...]:
        entry = await self._look_up(name, kind)
        if not entry.records:
            raise NoSuchName(f"{name} has no {kind.name} record")
        return entry.records

    async def _look_up(self, name: str, kind: dns.rdatatype.RdataType) -> _Entry:
        key = (name, kind)
        if (entry := self._entries.get(key)) and entry.expires > self._clock.now():
            return entry
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            entry = self._entries.get(key)
            if entry is not None and entry.expires > self._clock.now():
                return entry
            try:
                return self._keep(key, await self._ask(name, kind))
            except ResolverFailed:
                now = self._clock.now()
                if entry is None or now - entry.expires > STALE_S * SECOND:
                    raise
                return entry

    def _keep(self, key: _Key, entry: _Entry) -> _Entry:
        self._entries.pop(key, None)
        while len(self._entries) >= MAX_ENTRIES:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = entry
        return entry

    async def _ask(self, name: str, kind: dns.rdatatype.RdataType) -> _Entry:
        try:
            query = dns.message.make_query(f"{name}.", kind, use_edns=0, payload=UDP_SIZE)
        except dns.exception.DNSException as error:
            raise NoSuchName(f"{name} cannot be in the DNS: {error}") from None
        return self._entry(await self._exchange(query, f"{name} {kind.name}"))

    async def _exchange(
        self, query: dns.message.QueryMessage, shown: str
    ) -> dns.message.QueryMessage:
        """The first answer of a resolver that has one."""
        troubles: dict[str, None] = {}
        for server in tuple(self.servers()) * ROUNDS:
            query.id = dns.entropy.random_16()
            try:
                answer = await ask(server, query, timeout_s=TRY_S, protect=self._protect)
            except OSError as error:
                troubles[f"{server}: {error or 'no answer'}"] = None
                continue
            if answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                assert isinstance(answer, dns.message.QueryMessage)
                return answer
            troubles[f"{server}: {dns.rcode.to_text(answer.rcode())}"] = None
        detail = "; ".join(troubles) or "no resolver is configured"
        raise ResolverFailed(f"the DNS does not answer for {shown} ({detail})")

    def _entry(self, answer: dns.message.QueryMessage) -> _Entry:
        try:
            chain = answer.resolve_chaining()
        except dns.exception.DNSException as error:
            raise ResolverFailed(f"a DNS answer makes no sense: {error}") from None
        records = tuple(chain.answer or ())
        longest = LONGEST_S if records else LONGEST_NEGATIVE_S
        ttl_s = min(chain.minimum_ttl, longest)
        authority = None if records else _authority(answer, chain.canonical_name)
        return _Entry(records, authority, Instant(self._clock.now() + max(ttl_s, 1) * SECOND))


def _authority(answer: dns.message.Message, name: dns.name.Name) -> str | None:
    """The zone whose SOA came with a negative answer, if it encloses the name."""
    for rrset in answer.authority:
        if rrset.rdtype == dns.rdatatype.SOA and name.is_subdomain(rrset.name):
            return _text(rrset.name)
    return None


def _zone(name: str, entry: _Entry) -> Zone:
    servers = frozenset(_text(each.target) for each in entry.records)  # type: ignore[attr-defined]
    return Zone(name, servers)


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def _ancestors(name: str) -> list[str]:
    labels = name.split(".")
    return [".".join(labels[start:]) for start in range(len(labels))]
