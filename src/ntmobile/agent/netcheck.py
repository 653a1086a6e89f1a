"""`ntm netcheck`: examines the network that this node is in, and says it in views."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from ntmobile.agent.examination import Examination
from ntmobile.agent.requests import Answer, Said, done
from ntmobile.agent.session import Session
from ntmobile.agent.views import (
    FamilyView,
    LifetimeView,
    NetcheckView,
    ObservationView,
    PortMappingView,
)
from ntmobile.errors import Remedy
from ntmobile.proto.node.finding import Finding, Point, PointSeen
from ntmobile.proto.node.lifetime import LifetimeFound
from ntmobile.wire.endpoint import Endpoint, Host
from ntmobile.wire.nat import Behaviour

SERVERS_S = 4.0
"""A DC that does not say by then where the RS are is asked alone."""
ROUTER_S = 12.0
"""All three protocols are given up by then."""
_MILLISECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found in one family."""

    own: tuple[Host, ...]
    finding: Finding
    lifetime: LifetimeFound | None = None


async def netcheck(session: Session, *, lifetime: bool) -> AsyncGenerator[Answer, None]:
    """Examine both families at once; raises Remedy where there is nobody to ask."""
    own = tuple(address.endpoint.host for address in session.links.addresses)
    if not own:
        raise Remedy("this machine has no network now", remedy="ip address")
    coordinator = session.node.view().coordinator or session.account.domain
    points = [Point(coordinator, endpoint) for endpoint in session.coordinator_endpoints]
    if not points:
        raise Remedy("this node does not know a server yet: it never logged in", remedy="ntm up")
    yield Said("asking the coordinator where the relays are")
    for relay in await session.ask_relays(SERVERS_S):
        points += [Point(relay.name, endpoint) for endpoint in relay.endpoints]
    yield Said(f"asking {len(set(points))} addresses of servers from several ports")
    found = await _examine(session.examination(), points, own)
    if lifetime:
        yield Said("measuring how long idle mappings live: up to five minutes")
        found = await _with_lifetimes(session.examination(), found)
    if session.port_mapper.is_asking:
        yield Said("waiting for the router's word on port mapping")
        with suppress(TimeoutError):
            async with asyncio.timeout(ROUTER_S):
                await session.port_mapper.changed.until(lambda: not session.port_mapper.is_asking)
    coordinators = frozenset(session.coordinator_endpoints)
    yield done(view(found, coordinators, _port_mapping(session)))


async def _examine(
    examination: Examination, points: list[Point], own: tuple[Host, ...]
) -> list[Examined]:
    async def examine(version: int) -> Examined | None:
        here = tuple(host for host in own if host.version == version)
        there = [point for point in points if point.endpoint.version == version]
        if not here or not there:
            return None
        return Examined(here, await examination.discover(there, frozenset(here)))

    both = await asyncio.gather(examine(4), examine(6))
    return [each for each in both if each is not None]


async def _with_lifetimes(examination: Examination, found: list[Examined]) -> list[Examined]:
    async def measure(each: Examined) -> Examined:
        answering = [seen.point for seen in each.finding.points if seen.rtt_ns is not None]
        if not answering:
            return each
        lifetime = await examination.find_lifetime(answering[0].endpoint)
        return Examined(each.own, each.finding, lifetime)

    return list(await asyncio.gather(*map(measure, found)))


def view(
    found: Iterable[Examined], coordinators: frozenset[Endpoint], port_mapping: PortMappingView
) -> NetcheckView:
    """Return what `ntm netcheck --json` prints; servers that are no coordinators are RS."""
    families = {each.finding.family: each for each in found}
    return NetcheckView(
        udp=any(each.finding.udp for each in families.values()),
        ipv4=_family(families.get(4)),
        ipv6=_family(families.get(6)),
        port_mapping=port_mapping,
        servers=tuple(
            _server(seen, "DC" if seen.point.endpoint in coordinators else "RS")
            for each in families.values()
            for seen in each.finding.points
        ),
    )


def _family(examined: Examined | None) -> FamilyView | None:
    if examined is None:
        return None
    finding, lifetime = examined.finding, examined.lifetime
    return FamilyView(
        local=tuple(map(str, examined.own)),
        udp=finding.udp,
        mapped=None if finding.mapped is None else str(finding.mapped),
        translated=finding.translated,
        mapping=_only(finding.mapping),
        mapping_possible=_names(finding.mapping),
        filtering=_only(finding.filtering),
        filtering_possible=_names(finding.filtering),
        ports=None if finding.ports is None else finding.ports.value,
        hairpin=finding.hairpin,
        lifetime=None
        if lifetime is None
        else LifetimeView(alive_s=lifetime.alive_s, dead_s=lifetime.dead_s),
    )


def _port_mapping(session: Session) -> PortMappingView:
    mapper = session.port_mapper
    mapped = mapper.mapped
    off = "" if session.map_port else "switched off (ntm set map-port=yes)"
    off = off or ("relay-only" if session.relay_only else "")
    return PortMappingView(
        protocol=None if mapped is None else mapped.protocol.value,
        external=None if mapped is None else str(mapped.external),
        behind_another_nat=mapped is not None and mapped.behind_another_nat,
        reason="" if mapped is not None else off or mapper.reason,
    )


def _names(possible: frozenset[Behaviour]) -> tuple[str, ...]:
    return tuple(behaviour.value for behaviour in Behaviour if behaviour in possible)


def _only(possible: frozenset[Behaviour]) -> str | None:
    return _names(possible)[0] if len(possible) == 1 else None


def _server(seen: PointSeen, role: Literal["DC", "RS"]) -> ObservationView:
    return ObservationView(
        role=role,
        name=seen.point.name,
        address=str(seen.point.endpoint),
        rtt_ms=None if seen.rtt_ns is None else seen.rtt_ns / _MILLISECOND,
    )
