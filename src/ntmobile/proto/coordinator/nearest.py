"""Which RS is the nearest to both ends of a tunnel: pure, from what the ends measured.

An end's figures count when it has some for at least two of the RS in question; one that it left out
is as far as can be. An end that knows less says nothing, and where neither end knows, the
operator's order stays, as it does between equals. What a node forges moves only its own tunnels,
to another RS of the same domain. Ours: docs/protocol.md section 7.
"""

from collections.abc import Iterable

from ntmobile.proto.coordinator.settings import Relay
from ntmobile.wire.round_trip import LONGEST_MS, RoundTrips


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
