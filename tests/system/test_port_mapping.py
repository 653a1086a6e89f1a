"""Port mapping by a real router (miniupnpd): each protocol, restarts, a node that uses it."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import SystemRandom
from typing import Any

import pytest
from pyroute2 import netns

from ntmobile.agent.links import Links
from ntmobile.agent.port_mapper import PortMapper
from ntmobile.lab import Host, Internet, Lab, unavailable
from ntmobile.lab.mapping_router import PUBLIC, MappingRouter
from ntmobile.lab.ntm import NtmNode, World
from ntmobile.lab.waiting import wait_until
from ntmobile.proto.node.port_mapping_udp import MappingProtocol
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.tasks import Tasks
from tests.system.failing import SYMMETRIC

pytestmark = pytest.mark.lab
GUARD_S = 90.0
A_MOMENT_S = 1.0
DOMAIN = "ntm.example.org"
RS = "203.0.113.241"
PORT = 40404


class Home:
    """A laptop behind a router that maps ports, and a stranger outside."""

    def __init__(self, lab: Lab) -> None:
        self.net: Internet = lab.internet()
        self.nat = lab.nat("home", self.net, ipv4=PUBLIC)
        self.router = MappingRouter(self.nat, Path(lab.directory))
        self.laptop = lab.host("laptop", self.nat)
        self.stranger = lab.host("stranger", self.net)
        lab.logs["router"] = lambda: self.router.log

    @asynccontextmanager
    async def mapper(self, *protocols: MappingProtocol) -> AsyncIterator[PortMapper]:
        """What the agent runs, in the laptop; the router has decided."""
        with inside(self.laptop):
            async with Tasks() as tasks:
                made = PortMapper(PORT, Clock(), SystemRandom(), tasks, protocols=protocols)
                async with Links(made.follow, port=PORT), asyncio.timeout(GUARD_S):
                    await made.changed.until(lambda: made.settled)
                    yield made
                    await made.close()

    def gets_in(self, patience_s: float = A_MOMENT_S) -> bool:
        """Whether a stranger's datagram reaches the laptop's port through the router."""
        with self.laptop.socket() as listening, self.stranger.socket() as sending:
            listening.bind(("0.0.0.0", PORT))
            listening.settimeout(patience_s)
            sending.sendto(b"hello", (PUBLIC, PORT))
            try:
                return listening.recv(100) == b"hello"
            except TimeoutError:
                return False


class Nodes:
    """Three nodes behind NATs that filter: the router of one maps ports; none has a direct path
    otherwise. RS has an address of its own, so that it can find out who is reachable."""

    def __init__(self, lab: Lab) -> None:
        self.world = World(lab)
        self.organisation = self.world.organisation(DOMAIN, rs_ipv4=RS)
        nets = {
            "served": lab.nat("home", self.world.internet, ipv4=PUBLIC),
            "unserved": lab.nat("cafe", self.world.internet, SYMMETRIC),
            "pc": lab.nat("office", self.world.internet, SYMMETRIC),
        }
        self.router = MappingRouter(nets["served"], Path(lab.directory))
        made = [
            self.world.machine(name, "alice", self.organisation, net) for name, net in nets.items()
        ]
        self.world.bring_up(*made)
        self.served, self.unserved, self.pc = made
        for node in (self.served, self.unserved):
            # RS knocks in vain once the port is given back, and must knock again at once.
            node.ntm("set", "map-port=no")
            node.ntm("set", "map-port=yes")
        wait_until(self.router.ports, "a port to be mapped", GUARD_S)

    def path(self, node: NtmNode, peer: NtmNode) -> str:
        """How a node reaches another, newly."""
        node.ntm("ping", peer.fqdn, "-c", "1")
        kind: str = node.peer(peer)["path"]["kind"]
        return kind

    def checked(self, node: NtmNode) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(node.ntm("netcheck", "--json").stdout)["port_mapping"]
        return told


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    if (reason := unavailable()) is not None:
        pytest.skip(f"no lab here: {reason}")
    if shutil.which("miniupnpd") is None:
        pytest.skip("no miniupnpd here")
    with Lab() as lab:
        yield Home(lab)


@pytest.mark.parametrize("protocol", MappingProtocol)
async def test_a_stranger_gets_in_while_the_port_is_mapped_and_not_before_or_after(
    home: Home, protocol: MappingProtocol
) -> None:
    before = home.gets_in()
    async with home.mapper(protocol) as mapper:
        mapped = mapper.mapped
        assert mapped is not None, mapper.reason
        during = home.gets_in(GUARD_S)

    assert (mapped.protocol, str(mapped.external)) == (protocol, f"{PUBLIC}:{PORT}")
    assert not mapped.behind_another_nat
    assert (before, during, home.gets_in()) == (False, True, False)
    assert home.router.ports() == []


async def test_a_router_that_restarts_is_asked_again_at_once(home: Home) -> None:
    async with home.mapper(MappingProtocol.PCP) as mapper:
        assert mapper.mapped is not None, mapper.reason
        home.router.restart()
        assert home.router.ports() == []

        await asyncio.to_thread(wait_until, home.router.ports, "a new mapping", GUARD_S)

        assert home.gets_in(GUARD_S)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    if (reason := unavailable()) is not None:
        pytest.skip(f"no lab here: {reason}")
    if shutil.which("miniupnpd") is None:
        pytest.skip("no miniupnpd here")
    with Lab() as lab:
        yield Nodes(lab)


def test_a_node_whose_router_maps_its_port_is_reached_directly(nodes: Nodes) -> None:
    wait_until(lambda: nodes.path(nodes.pc, nodes.served) == "direct", "a direct path", GUARD_S)


def test_a_node_whose_router_does_not_is_reached_through_the_relay(nodes: Nodes) -> None:
    assert nodes.path(nodes.pc, nodes.unserved) == "relay"


def test_netcheck_shows_which_protocol_serves_and_why_none_does(nodes: Nodes) -> None:
    served, unserved = nodes.checked(nodes.served), nodes.checked(nodes.unserved)

    assert served["protocol"] == "PCP"
    assert served["external"].startswith(f"{PUBLIC}:")
    assert (unserved["protocol"], unserved["external"]) == (None, None)
    assert "PCP" in unserved["reason"]


def test_a_person_can_switch_it_off_and_on(nodes: Nodes) -> None:
    nodes.served.ntm("set", "map-port=no")
    off = nodes.router.ports(), nodes.checked(nodes.served)["reason"]
    nodes.served.ntm("set", "map-port=yes")

    assert off == ([], "switched off (ntm set map-port=yes)")
    assert nodes.checked(nodes.served)["protocol"] == "PCP"


def test_ntm_down_gives_the_port_back(nodes: Nodes) -> None:
    assert len(nodes.router.ports()) == 1

    nodes.served.ntm("down")

    assert nodes.router.ports() == []


@contextmanager
def inside(host: Host) -> Iterator[None]:
    """This thread, and what it opens, is in the machine."""
    with open("/proc/thread-self/ns/net") as own:
        netns.setns(host.netns)
        try:
            yield
        finally:
            netns.setns(own.fileno())
