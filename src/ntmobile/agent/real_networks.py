"""Which real networks are here that virtual IPv4 addresses must not hide.

A carrier that translates (CGNAT) numbers its network, and often its own servers, out of
100.64.0.0/10 (RFC 6598), where virtual addresses come from too. Behind a home router no route shows
that; the name servers may, and the first routers on the way out do: packets with a small TTL make
them tell their addresses. Ours: docs/protocol.md section 5.
"""

import asyncio
import socket
import struct
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from ntmobile.agent.routes import overlaps
from ntmobile.runtime.protection import Protect, unprotected
from ntmobile.wire.endpoint import Endpoint

POOLS = (IPv4Network("100.64.0.0/10"), IPv4Network("198.18.0.0/15"), IPv4Network("10.0.0.0/8"))
"""Where virtual IPv4 addresses come from, in this order."""
SHARED = POOLS[0]
"""Whoever uses a part of it uses all of it."""
MOST_HOPS = 4
"""Home router, perhaps another one, the carrier's, and one to spare."""
PATIENCE_S = 0.6
TRACE_PORT = 33434
"""Where nobody listens. Source: traceroute."""
_IP_RECVERR, _ORIGIN_ICMP, _TIME_EXCEEDED = 11, 2, 11
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
_SOCKADDR_IN = struct.Struct("!HH4s")

Networks = tuple[IPv4Network | IPv6Network, ...]


def real_networks(
    own: Collection[int], servers: Iterable[Endpoint], routers: Iterable[IPv4Address]
) -> Networks:
    """Return the networks to avoid: those routed here, and those of name servers and routers.

    own are the indices of the agent's devices, whose routes do not count.
    """
    return to_avoid((overlap.real for overlap in overlaps(POOLS, own=own)), servers, routers)


def to_avoid(
    routed: Iterable[IPv4Network | IPv6Network],
    servers: Iterable[Endpoint],
    routers: Iterable[IPv4Address],
) -> Networks:
    """Return the same, where it is known what is routed here; a default route is no network."""
    routed = [n for n in routed if isinstance(n, IPv4Network) and n.prefixlen and _is_pooled(n)]
    hosts = [server.host for server in servers] + list(routers)
    near = [IPv4Network(host) for host in hosts if isinstance(host, IPv4Address)]
    # A single routed address is rather another agent's peer than a carrier's network.
    found = [net if net.prefixlen == net.max_prefixlen else _whole(net) for net in routed]
    found += [_whole(network) for network in near if _is_pooled(network)]
    return tuple(dict.fromkeys(found))


def _whole(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    inside = isinstance(network, IPv4Network) and network.subnet_of(SHARED)
    return SHARED if inside else network


def _is_pooled(network: IPv4Network) -> bool:
    return any(network.overlaps(pool) for pool in POOLS)


async def first_routers(
    towards: IPv4Address, *, protect: Protect = unprotected
) -> tuple[IPv4Address, ...]:
    """Return the addresses of the first routers on the way, as far as they tell them."""
    loop = asyncio.get_running_loop()
    heard: set[IPv4Address] = set()
    complete = asyncio.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as probe:
        try:
            protect(probe.fileno())
            probe.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        except OSError:
            return ()
        for hops in range(1, MOST_HOPS + 1):
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
            # A send fails for a report about the one before, which it clears.
            with suppress(OSError):
                _send(probe, towards)

        def read() -> None:
            for router in _reports(probe):
                if router is None:
                    complete.set()
                else:
                    heard.add(router)
            if len(heard) >= MOST_HOPS:
                complete.set()

        loop.add_reader(probe.fileno(), read)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await complete.wait()
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(probe.fileno())
    return tuple(sorted(heard))


def _send(probe: socket.socket, towards: IPv4Address) -> None:
    there = (str(towards), TRACE_PORT)
    try:
        probe.sendto(b"ntm", there)
    except OSError:
        probe.sendto(b"ntm", there)


def _reports(probe: socket.socket) -> Iterator[IPv4Address | None]:
    """Read the error queue: the routers where a packet ended, None where one arrived."""
    while True:
        try:
            _, ancillary, _, _ = probe.recvmsg(512, 512, socket.MSG_ERRQUEUE)
        except OSError:
            return
        for level, kind, data in ancillary:
            if (level, kind) == (socket.IPPROTO_IP, _IP_RECVERR):
                _, origin, what, _, _, _, _ = _EXTENDED_ERROR.unpack_from(data)
                rest = data[_EXTENDED_ERROR.size :]
                if origin != _ORIGIN_ICMP or len(rest) < _SOCKADDR_IN.size:
                    continue
                ended = what == _TIME_EXCEEDED
                yield IPv4Address(_SOCKADDR_IN.unpack_from(rest)[2]) if ended else None
