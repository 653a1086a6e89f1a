"""Reads links, addresses and default routes out of the kernel, all of them at once.

Read with struct and not with pyroute2: a route costs pyroute2 40 µs, and a node with 500 peers
has 500 routes that would delay the notice of a move by 20 ms; here all but default routes are
skipped by their header.

Source: rtnetlink(7), netlink(7).
"""

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from ntmobile.agent.netlink import (
    DONE,
    DUMP,
    DUMP_INTERRUPTED,
    ERROR,
    HEADER,
    REQUEST,
    attributes,
    messages,
    open_netlink,
)

RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
WATCHED_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE."""

RTM = struct.Struct("=BBBBBBBBI")
"""Family, destination's and source's length, TOS, table, protocol, scope, type, flags."""
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_NEXTHOP = struct.Struct("=HBBi")
RT_TABLE_MAIN, RTN_UNICAST, _RTNH_F_DEAD_OR_LINKDOWN = 254, 1, 0x11
_IFF_UP, _IFF_LOOPBACK, _IFF_RUNNING = 0x1, 0x8, 0x40
_IFA_F_UNUSABLE = 0x08 | 0x20 | 0x40
"""DADFAILED, DEPRECATED, TENTATIVE."""
_RECEIVE_BYTES = 1 << 18
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface."""

    index: int
    name: str
    kind: str
    """What the kernel calls its driver: "bridge", "tun", "veth"; empty for hardware."""
    mtu: int
    running: bool
    """Administratively up and with a carrier."""
    loopback: bool


@dataclass(frozen=True, slots=True)
class Address:
    """An address of an interface."""

    index: int
    host: IPv4Address | IPv6Address
    usable: bool
    """Neither tentative (duplicate detection runs or failed) nor deprecated."""


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """A default route of the main table; one of several hops is one of these each."""

    version: int
    index: int
    metric: int


@dataclass(frozen=True, slots=True)
class Gateway:
    """The router that a default route goes through."""

    host: IPv4Address
    index: int
    """Of the interface it is behind."""
    metric: int


@dataclass(frozen=True, slots=True)
class Route:
    """A unicast route of the main table that is no default route."""

    destination: IPv4Network | IPv6Network
    interface: int
    """0 when the route has several hops."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of one network namespace, read in one go."""

    links: tuple[Link, ...]
    addresses: tuple[Address, ...]
    defaults: tuple[DefaultRoute, ...]


def read_snapshot() -> Snapshot:
    """Reads the caller's network namespace; the kernel answers within the call, no waiting.

    Raises OSError when the tables change faster than they can be read.
    """
    with open_netlink() as kernel:
        links = [_link(body) for body in _dump(kernel, RTM_GETLINK, RTM_NEWLINK)]
        addresses = [_address(body) for body in _dump(kernel, RTM_GETADDR, RTM_NEWADDR)]
        routes = [
            route
            for family in (socket.AF_INET, socket.AF_INET6)
            for body in _dump(kernel, RTM_GETROUTE, RTM_NEWROUTE, family)
            for route in _default_routes(body)
        ]
    return Snapshot(tuple(links), tuple(a for a in addresses if a is not None), tuple(routes))


def read_routes() -> tuple[Route, ...]:
    """Reads all but the default routes; raises OSError as read_snapshot does."""
    with open_netlink() as kernel:
        return tuple(
            route
            for family in (socket.AF_INET, socket.AF_INET6)
            for body in _dump(kernel, RTM_GETROUTE, RTM_NEWROUTE, family)
            if (route := _route(body)) is not None
        )


def read_gateway() -> Gateway | None:
    """Reads which IPv4 router the best default route names; raises OSError as read_snapshot does.

    None without a route, and on links without routers (PPP).
    """
    with open_netlink() as kernel:
        bodies = _dump(kernel, RTM_GETROUTE, RTM_NEWROUTE, socket.AF_INET)
    found = [gateway for body in bodies if (gateway := _gateway(body)) is not None]
    return min(found, key=lambda gateway: gateway.metric, default=None)


def concerns_uplinks(data: bytes) -> bool:
    """True unless all messages of a notification are about routes that are no default routes."""
    return any(
        kind not in (RTM_NEWROUTE, RTM_DELROUTE) or body[1:2] == b"\x00"
        for kind, _, body in messages(data)
    )


def _dump(kernel: socket.socket, ask: int, answer: int, family: int = 0) -> list[bytes]:
    for _ in range(_TRIES):
        bodies = _dump_once(kernel, ask, answer, family)
        if bodies is not None:
            return bodies
    raise OSError(errno.EBUSY, "the kernel's network tables change without pause")


def _dump_once(kernel: socket.socket, ask: int, answer: int, family: int) -> list[bytes] | None:
    """Returns None when the table changed under the reading."""
    header = HEADER.pack(HEADER.size + RTM.size, ask, REQUEST | DUMP, 1, 0)
    kernel.send(header + bytes([family]) + bytes(RTM.size - 1))
    bodies: list[bytes] = []
    whole = True
    while True:
        for kind, flags, body in messages(kernel.recv(_RECEIVE_BYTES)):
            if kind == ERROR:
                code = -struct.unpack_from("=i", body)[0]
                raise OSError(code, "the kernel refused to list its network tables")
            whole = whole and not flags & DUMP_INTERRUPTED
            if kind == DONE:
                return bodies if whole else None
            if kind == answer:
                bodies.append(body)


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    found = attributes(body, _IFINFO.size)
    information = attributes(found.get(18, b""), 0)
    return Link(
        index,
        name=_text(found.get(3, b"")),
        kind=_text(information.get(1, b"")),
        mtu=int.from_bytes(found.get(4, b""), sys.byteorder),
        running=flags & (_IFF_UP | _IFF_RUNNING) == _IFF_UP | _IFF_RUNNING,
        loopback=bool(flags & _IFF_LOOPBACK),
    )


def _address(body: bytes) -> Address | None:
    _, _, flags, _, index = _IFADDR.unpack_from(body)
    found = attributes(body, _IFADDR.size)
    # On a point-to-point link IFA_ADDRESS (1) is the other end; IFA_LOCAL (2) is ours.
    packed = found.get(2) or found.get(1, b"")
    flags |= int.from_bytes(found.get(8, b""), sys.byteorder)
    usable = not flags & _IFA_F_UNUSABLE
    match len(packed):
        case 4:
            return Address(index, IPv4Address(packed), usable)
        case 16:
            return Address(index, IPv6Address(packed), usable)
        case _:
            return None


def _default_routes(body: bytes) -> Iterator[DefaultRoute]:
    family, length, _, _, table, _, _, kind, flags = RTM.unpack_from(body)
    if length or table != RT_TABLE_MAIN or kind != RTN_UNICAST:
        return
    found = attributes(body, RTM.size)
    version = 4 if family == socket.AF_INET else 6
    metric = int.from_bytes(found.get(6, b""), sys.byteorder)
    if 4 in found and not flags & _RTNH_F_DEAD_OR_LINKDOWN:
        yield DefaultRoute(version, int.from_bytes(found[4], sys.byteorder), metric)
    for index in _hops(found.get(9, b"")):
        yield DefaultRoute(version, index, metric)


def _gateway(body: bytes) -> Gateway | None:
    _, length, _, _, table, _, _, kind, flags = RTM.unpack_from(body)
    found = attributes(body, RTM.size)
    usable = table == RT_TABLE_MAIN and kind == RTN_UNICAST and not flags & _RTNH_F_DEAD_OR_LINKDOWN
    if length or not usable or len(found.get(5, b"")) != 4 or 4 not in found:
        return None
    metric = int.from_bytes(found.get(6, b""), sys.byteorder)
    return Gateway(IPv4Address(found[5]), int.from_bytes(found[4], sys.byteorder), metric)


def _route(body: bytes) -> Route | None:
    family, length, _, _, table, _, _, kind, _ = RTM.unpack_from(body)
    if not length or table != RT_TABLE_MAIN or kind != RTN_UNICAST:
        return None
    found = attributes(body, RTM.size)
    network = IPv4Network if family == socket.AF_INET else IPv6Network
    return Route(
        network((found.get(1, b""), length)), int.from_bytes(found.get(4, b""), sys.byteorder)
    )


def _hops(data: bytes) -> Iterator[int]:
    at = 0
    while at + _NEXTHOP.size <= len(data):
        size, flags, _, index = _NEXTHOP.unpack_from(data, at)
        if size < _NEXTHOP.size:
            return
        if not flags & _RTNH_F_DEAD_OR_LINKDOWN:
            yield index
        at += (size + 3) & ~3


def _text(data: bytes) -> str:
    return data.split(b"\x00")[0].decode(errors="replace")
