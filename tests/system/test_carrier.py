"""Behind a carrier's NAT and a home router: virtual addresses give way to the carrier's own."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

import pytest

from ntmobile.lab import Host, Nat
from ntmobile.lab.ntm import NtmNode, World
from ntmobile.lab.waiting import wait_until
from tests.system.programs import HELLO, PATIENCE_S, Programs, dig, fetch, ping

pytestmark = pytest.mark.lab

SHARED = IPv4Network("100.64.0.0/10")
NEXT_POOL = IPv4Network("198.18.0.0/15")


@dataclass
class Scene:
    """A carrier with a server of its own, a home behind it, and a node on the internet."""

    carrier: Nat
    home: Nat
    provider: Host
    laptop: NtmNode
    """At home."""
    phone: NtmNode
    """In the carrier's network itself."""
    tablet: NtmNode
    """On the internet at first."""
    pc: NtmNode
    box: NtmNode

    def provider_has(self, address: str) -> None:
        """Give the provider's server one more address."""
        self.provider.ip(f"addr replace {address}/10 dev eth0")

    def ask_provider(self, node: NtmNode, address: str) -> str:
        """Return what the provider's web server says to a machine; raises LabError."""
        command = ["curl", "-4", "-sS", "--fail", "--noproxy", "*", "--max-time", str(PATIENCE_S)]
        return node.host.run([*command, f"http://{address}/hello.txt"]).stdout


@pytest.fixture(scope="module")
def scene(world: World) -> Scene:
    org = world.organisation("ntm.example.org")
    lab, internet = world.lab, world.internet
    carrier = lab.nat("carrier", internet, lan=str(SHARED))
    home = lab.nat("home", carrier, lan="192.168.1.0/24")
    provider = lab.host("provider", carrier, ipv4="100.64.9.9")
    tablet, pc, box = (
        world.machine(name, "alice", org, internet) for name in ("tablet", "pc", "box")
    )
    laptop = world.machine("laptop", "alice", org, home)
    phone = world.machine("phone", "alice", org, carrier)
    world.bring_up(tablet, pc, box, laptop, phone)
    served = Programs(world.directory / "served")
    for host in (provider, pc.host, box.host):
        served.serve_web(host)
    return Scene(carrier, home, provider, laptop, phone, tablet, pc, box)


def own_of(node: NtmNode) -> IPv4Address:
    return IPv4Address(node.status()["virtual_ipv4"])


@pytest.mark.parametrize("where", ["laptop", "phone"], ids=["at home", "in the carrier's network"])
def test_a_nodes_addresses_come_from_the_next_pool(scene: Scene, where: str) -> None:
    node: NtmNode = getattr(scene, where)

    assert fetch(node, scene.pc, "-4") == HELLO
    assert "1 received" in ping(node, scene.pc, "-6")
    assert own_of(node) in NEXT_POOL
    assert [IPv4Address(a) in NEXT_POOL for a in dig(node, scene.pc.fqdn, "A")] == [True]


def test_elsewhere_they_come_from_the_first(scene: Scene) -> None:
    """The negative twin."""
    assert fetch(scene.tablet, scene.pc, "-4") == HELLO
    assert own_of(scene.tablet) in SHARED
    assert [IPv4Address(a) in SHARED for a in dig(scene.tablet, scene.pc.fqdn, "A")] == [True]


@pytest.mark.parametrize("where", ["laptop", "phone"], ids=["at home", "in the carrier's network"])
def test_the_providers_server_is_reached_though_peers_elsewhere_have_its_address(
    scene: Scene, where: str
) -> None:
    node: NtmNode = getattr(scene, where)
    (taken,) = dig(scene.tablet, scene.pc.fqdn, "A")
    scene.provider_has(taken)
    scene.provider_has(str(own_of(scene.tablet)))

    assert scene.ask_provider(node, taken) == HELLO
    assert scene.ask_provider(node, str(own_of(scene.tablet))) == HELLO
    assert fetch(node, scene.pc, "-4") == HELLO


def test_after_a_move_behind_the_carrier_what_nobody_uses_steps_aside(scene: Scene) -> None:
    tablet = scene.tablet
    assert fetch(tablet, scene.box, "-4") == HELLO
    (before,) = dig(tablet, scene.box.fqdn, "A")
    own = own_of(tablet)
    scene.provider_has(before)

    tablet.host.move(scene.home)
    assert fetch(tablet, scene.box, "-4") == HELLO, "the tunnel goes on"
    assert own_of(tablet) == own, "and so do the connections that are bound to it"
    for peer in (scene.box, scene.pc):
        peer.ntm("down")

    _await(lambda: own_of(tablet) in NEXT_POOL, "the own address to step aside")
    assert scene.ask_provider(tablet, before) == HELLO
    assert scene.ask_provider(tablet, str(own)) == HELLO
    scene.box.ntm("up")
    assert fetch(tablet, scene.box, "-4") == HELLO
    assert [IPv4Address(a) in NEXT_POOL for a in dig(tablet, scene.box.fqdn, "A")] == [True]


def _await(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, what, timeout_s=120.0)
