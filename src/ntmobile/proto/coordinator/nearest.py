"""Which RS is the nearest to both ends of a tunnel: pure, from what the ends measured.

An end's figures count when it has some for at least two of the RS in question; one that it left out
is as far as can be. An end that knows less says nothing, and where neither end knows, the
operator's order stays, as it does between equals. What a node forges moves only its own tunnels,
to another RS of the same domain. Ours: docs/protocol.md section 7.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from ntmobile.proto.coordinator.settings import Relay
from ntmobile.wire.endpoint import Endpoint, Host
from ntmobile.wire.round_trip import LONGEST_MS, MOST_RELAYS_A_DOMAIN, RoundTrips

Named = tuple[tuple[Endpoint, ...], ...]
"""RS by their addresses, as they travel."""
INSIDE = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("10.0.0.0/8"),
    IPv4Network("100.64.0.0/10"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv6Network("fc00::/7"),
)


def several(relays: tuple[Relay, ...]) -> Named:
    """Return the RS between which there is a choice; none where there is one alone."""
    named = tuple(relay.endpoints[:2] for relay in relays[:MOST_RELAYS_A_DOMAIN])
    return named if len(named) > 1 else ()


def outside(named: Named) -> Named:
    """Leave out what no other domain may have a node of ours send to: addresses of inner networks,
    where who answers STUN is nobody's business.
    """
    kept = (tuple(place for place in relay if _is_outside(place.host)) for relay in named)
    return tuple(relay for relay in kept if relay)


def told_of(named: Named, round_trips: RoundTrips) -> RoundTrips:
    """Return the round trips to these RS alone."""
    places = {place for relay in named for place in relay}
    return tuple(each for each in round_trips if each.relay in places)


def distances(relays: tuple[Relay, ...], ends: Iterable[RoundTrips]) -> dict[str, int]:
    """Return, by name of the RS, the sum of both ends' round trips in milliseconds."""
    known = [figures for end in ends if len(figures := _by_name(relays, end)) > 1]
    return {
        relay.name: sum(figures.get(relay.name, LONGEST_MS) for figures in known)
        for relay in relays
    }


def _by_name(relays: tuple[Relay, ...], told: RoundTrips) -> dict[str, int]:
    by_place = {each.relay: each.ms for each in told}
    return {
        relay.name: min(by_place[place] for place in relay.endpoints if place in by_place)
        for relay in relays
        if any(place in by_place for place in relay.endpoints)
    }


def _is_outside(host: Host) -> bool:
    special = host.is_loopback or host.is_multicast or host.is_unspecified or host.is_link_local
    return not special and not any(host in network for network in INSIDE)
