"""Networks whose links carry less than Ethernet, and say nothing when they drop what is larger."""

from dataclasses import dataclass
from functools import partial

import pytest

from ntmobile.lab.ntm import NtmNode, World
from ntmobile.lab.waiting import wait_until
from tests.system.programs import Programs
from tests.system.transfers import Transfer, make_file

pytestmark = pytest.mark.lab
SIZE = 2 << 20
LINKS = {"tunnel": 1400, "least": 1280}
"""Bytes that the wires to the internet carry; the machines behind them see 1500."""
INNER = {"tunnel": 1332, "least": 1192}
"""What of the sizes that are tried fits, with IPv4, UDP and capsule around it: 68 bytes."""
MUTE = "table ip mute { chain out { type filter hook output priority 0; ip protocol icmp drop; }; }"


@dataclass
class Homes:
    """A node behind each such wire, and one on a good network."""

    nodes: dict[str, NtmNode]
    server: NtmNode
    digest: str


@pytest.fixture(scope="module")
def homes(world: World, tmp_path_factory: pytest.TempPathFactory) -> Homes:
    org = world.organisation("ntm.example.org")
    nodes: dict[str, NtmNode] = {}
    for name, mtu in LINKS.items():
        nat = world.lab.nat(f"{name}-nat", world.internet, mtu=mtu)
        nat.run(["nft", MUTE])
        nodes[name] = world.machine(name, "alice", org, nat, ipv6=None)
    good = world.lab.nat("good", world.internet)
    server = world.machine("server", "alice", org, good, ipv6=None)
    world.bring_up(*nodes.values(), server)
    served = Programs(tmp_path_factory.mktemp("served") / "files")
    digest = make_file(served.folder / "file", SIZE)
    for node in (*nodes.values(), server):
        served.serve_web(node.host)
    return Homes(nodes, server, digest)


@pytest.mark.parametrize("name", LINKS)
def test_downloads_work_over_a_link_that_drops_large_packets_without_a_word(
    homes: Homes, name: str
) -> None:
    node = homes.nodes[name]
    for receiver, sender in ((node, homes.server), (homes.server, node)):
        with Transfer(receiver, sender, "file") as transfer:
            assert transfer.finish() == homes.digest

    # A probe that was lost on a busy machine is repeated: what fits is known a little later.
    for one, other in ((node, homes.server), (homes.server, node)):
        wait_until(partial(fits, one, other, INNER[name]), f"{one.name} to know what fits")


def fits(node: NtmNode, peer: NtmNode, size: int) -> bool:
    """Whether that is what a node has found its path to carry."""
    found: int = node.peer(peer)["path"]["mtu"]
    return found == size
