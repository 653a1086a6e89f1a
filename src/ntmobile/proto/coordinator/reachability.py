"""Which of its nodes' mapped addresses a stranger reaches.

An RS that the node never contacted, on another host than the DC, knocks at each newly registered
address; the node brings the knock's token back to the DC. Filtering counts, not only translation.
Until the knock is answered or clearly lost, and where no such RS exists, an address that the node
itself has counts as reachable: a wrong guess costs two tries, then RS.

Ours: docs/protocol.md section 7.
"""

from dataclasses import dataclass

from ntmobile.proto.coordinator.common import Common
from ntmobile.proto.coordinator.directions import Directions
from ntmobile.proto.coordinator.registry import Node
from ntmobile.proto.coordinator.settings import Relay
from ntmobile.time import SECOND, Instant
from ntmobile.wire.direction import ReachabilityProbe
from ntmobile.wire.endpoint import Endpoint

MAX_OPEN = 4096
LIFETIME_NS = 10 * SECOND
KNOCK_AGAIN_NS = 600 * SECOND
"""An RS that was down, or a firewall that was opened since, must not matter for ever."""


@dataclass(frozen=True, slots=True)
class _Knock:
    fqdn: str
    endpoint: Endpoint
    at: Instant


class Reachability:
    """The knocks that are under way."""

    def __init__(self, common: Common, directions: Directions) -> None:
        """Asks the domain's RS through directions."""
        self._common = common
        self._directions = directions
        self._open: dict[int, _Knock] = {}

    def check(self, node: Node, now: Instant) -> None:
        """Have every address of the node knocked at where no knock got in, now and then."""
        for endpoint in node.places:
            relay = self._stranger(endpoint.version)
            last = node.knocked_again.get(endpoint)
            waits = last is not None and now - last < KNOCK_AGAIN_NS
            if relay is None or endpoint.is_web or endpoint in node.proven or waits:
                continue
            self._sweep(now)
            if len(self._open) >= MAX_OPEN:
                return
            token = self._common.entropy.getrandbits(62)
            self._open[token] = _Knock(node.fqdn, endpoint, now)
            node.knocked.setdefault(endpoint, now)
            node.knocked_again[endpoint] = now
            self._directions.ask_relay(relay, ReachabilityProbe((endpoint,), token), now)

    def report(self, node: Node, token: int, now: Instant) -> None:
        """A node says that a knock got in."""
        self._sweep(now)
        knock = self._open.get(token)
        if knock is not None and knock.fqdn == node.fqdn:
            del self._open[token]
            node.proven.add(knock.endpoint)

    def _stranger(self, family: int) -> Relay | None:
        """An RS on a host where the node talks to nobody else."""
        for relay in self._common.settings.relays:
            for endpoint in relay.endpoints:
                if endpoint.version == family and endpoint.host not in self._common.settings.hosts:
                    return relay
        return None

    def _sweep(self, now: Instant) -> None:
        while self._open:
            token, oldest = next(iter(self._open.items()))
            if now - oldest.at <= LIFETIME_NS:
                return
            del self._open[token]
