"""Networks beyond other nodes: machines that cannot run the software, and the Internet by a peer.

Two people have to agree: who leads to a network says `ntm set advertise-routes=PREFIX,...`, and
who wants to go there `ntm set routes=PREFIX@NODE,...`. 0.0.0.0/0 and ::/0 are the Internet, and a
NODE that they are routed to is an exit node. Ours: docs/protocol.md section 5, decision 50.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from ntmobile._core import Engine
from ntmobile.agent.names import DOMAIN_PREFIX
from ntmobile.agent.real_networks import POOLS
from ntmobile.agent.state import State
from ntmobile.errors import Remedy

Network = IPv4Network | IPv6Network
SHORTEST = 8
"""No network but the Internet itself is larger: half of it would be a mistake."""
OWN_IPV6 = IPv6Network("fc00::/7")
MOST = 64


@dataclass(frozen=True, slots=True)
class Beyond:
    """A network and the node that leads there."""

    network: Network
    gateway: str

    def __str__(self) -> str:
        return f"{self.network}@{self.gateway}"


def parse_beyond(text: str) -> tuple[Beyond, ...]:
    """Parse PREFIX@NODE,...; raises Remedy."""
    found: list[Beyond] = []
    for word in filter(None, text.split(",")):
        prefix, at, gateway = word.partition("@")
        if not at or gateway.count(".") < 3:
            raise Remedy(
                f"{word!r} is not PREFIX@NODE with the node's full name",
                remedy="ntm set routes=192.168.50.0/24@gw.bob.ntm.example.net",
            )
        found.append(Beyond(_network(prefix), gateway.lower().rstrip(".")))
    if len({each.network for each in found}) < len(found) or len(found) > MOST:
        raise Remedy(f"each network once, at most {MOST}", remedy="ntm set")
    return tuple(found)


def parse_behind(text: str) -> tuple[Network, ...]:
    """Parse PREFIX,...; raises Remedy."""
    found = tuple(_network(word) for word in filter(None, text.split(",")))
    if len(found) > MOST:
        raise Remedy(f"at most {MOST} networks", remedy="ntm set")
    return found


def _network(text: str) -> Network:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise Remedy(f"{text!r} is no network: {error}", remedy="write 192.168.50.0/24") from None
    # Such addresses are given to nodes: what comes from them cannot be told apart.
    pools = POOLS[:2] if network.version == 4 else ()
    if any(pool.overlaps(network) for pool in pools) and network.prefixlen:
        raise Remedy(f"{network} overlaps the virtual addresses of nodes", remedy="another network")
    if 0 < network.prefixlen < SHORTEST or network.is_loopback or network.is_multicast:
        raise Remedy(f"{network} is no network to lead to", remedy="0.0.0.0/0 is the Internet")
    return network


class NetworksBeyond:
    """What this node's choices say of networks, told to the packet loops and to the machine."""

    def __init__(
        self,
        engine: Engine,
        state: State,
        meet: Callable[[str], None],
        route: Callable[[tuple[Network, ...], tuple[Network, ...]], None],
    ) -> None:
        """Meet is given nodes whose addresses are not known yet: call `apply` when they are.

        Route is given what to route into the tunnel device, and what lies behind this node.
        """
        self._engine, self._state, self._meet, self._route = engine, state, meet, route
        self._told = False

    def apply(self) -> None:
        """Makes the choices effective, as far as the nodes are known; raises SystemRefused."""
        choices, peers, own = self._state.choices, self._state.peers, self._state.addresses
        beyond, behind = parse_beyond(choices.routes), parse_behind(choices.advertised)
        if not (beyond or behind or self._told):
            return
        self._told = True
        known = [each for each in beyond if each.gateway in peers]
        table = []
        for each in known:
            peer = peers[each.gateway]
            gateway = peer.ipv4 if each.network.version == 4 else peer.ipv6
            table.append((*_packed(each.network), gateway.packed))
        guests = None
        if own is not None and behind:
            guests = _packed(IPv6Network((own.ipv6, DOMAIN_PREFIX), strict=False))
        self._engine.set_networks(table, [_packed(each) for each in behind], guests)
        self._route(tuple(each.network for each in known), behind)
        for fqdn in {each.gateway for each in beyond} - set(peers):
            self._meet(fqdn)


def _packed(network: Network) -> tuple[bytes, int]:
    return network.network_address.packed, network.prefixlen
