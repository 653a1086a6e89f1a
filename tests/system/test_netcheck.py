"""`ntm netcheck` finds out which network a real node is in: four NATs, none, and no UDP."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from ntmobile.lab import Behaviour, Filtering, Lab, Mapping, Network, Ports, unavailable
from ntmobile.lab.ntm import NtmNode, World

pytestmark = pytest.mark.lab
DOMAIN = "ntm.example.org"
DC, RS = "203.0.113.240", "203.0.113.241"
"""Two addresses of one machine: so one server can be a stranger where the other is known."""
NATS = [
    Behaviour(Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT, hairpin=True),
    Behaviour(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT),
    Behaviour(Mapping.ADDRESS_DEPENDENT, Filtering.ADDRESS_DEPENDENT, Ports.SEQUENTIAL),
    Behaviour(
        Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT, Ports.RANDOM
    ),
]
PORTS = {Ports.PRESERVED: "preserving", Ports.SEQUENTIAL: "sequential", Ports.RANDOM: "random"}


class Traveller:
    """One node that is up, and goes from network to network."""

    def __init__(self, lab: Lab) -> None:
        self.world = World(lab)
        organisation = self.world.organisation(DOMAIN, ipv4=DC, ipv6=None, rs_ipv4=RS)
        self.node: NtmNode = self.world.node("laptop", "alice", organisation, self.world.internet)
        # These routers map no ports; what they do not answer is not waited for.
        self.node.ntm("set", "map-port=no")

    def goes_to(self, network: Network) -> None:
        self.node.host.move(network)

    def check(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return self.node.ntm("netcheck", *words, check=False)

    def found(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.check("--json").stdout)
        return told


@pytest.fixture(scope="module")
def traveller() -> Iterator[Traveller]:
    if (reason := unavailable()) is not None:
        pytest.skip(f"no lab here: {reason}")
    with Lab() as lab:
        yield Traveller(lab)


@pytest.mark.parametrize("behaviour", NATS, ids=lambda b: f"{b.mapping.value} {b.filtering.value}")
def test_what_netcheck_says_of_a_nat_is_what_the_nat_is(
    traveller: Traveller, behaviour: Behaviour
) -> None:
    name = f"nat{NATS.index(behaviour)}"
    nat = traveller.world.lab.nat(name, traveller.world.internet, behaviour)
    traveller.goes_to(nat)

    found = traveller.found()

    family = found["ipv4"]
    assert found["udp"]
    assert family["mapped"].startswith(f"{nat.outside}:")
    assert family["mapping"] == behaviour.mapping.value
    assert family["filtering"] == behaviour.filtering.value
    assert family["ports"] == PORTS[behaviour.ports]
    if behaviour.mapping is Mapping.ENDPOINT_INDEPENDENT:
        assert family["hairpin"] is behaviour.hairpin
    assert [(server["role"], server["address"]) for server in found["servers"]] == [
        ("DC", f"{DC}:4330"),
        ("RS", f"{RS}:4331"),
    ]
    assert all(server["rtt_ms"] > 0 for server in found["servers"])


def test_without_a_nat_none_is_found(traveller: Traveller) -> None:
    traveller.goes_to(traveller.world.internet)

    family = traveller.found()["ipv4"]

    assert family["translated"] is False
    assert (family["mapping"], family["filtering"]) == ("endpoint-independent",) * 2
    assert (family["ports"], family["hairpin"]) == (None, None)


def test_blocked_udp_is_said_and_fails(traveller: Traveller) -> None:
    blocked = Behaviour(block_udp=True)
    network = traveller.world.lab.nat("blocked", traveller.world.internet, blocked)
    traveller.goes_to(network)

    checked = traveller.check()

    assert checked.returncode == 1
    assert "UDP   is blocked: no server answered" in checked.stdout
    assert checked.stdout.count("no answer") == 2 + 1


def test_a_person_reads_the_words_of_rfc_4787(traveller: Traveller) -> None:
    network = traveller.world.lab.nat("plain", traveller.world.internet)
    traveller.goes_to(network)

    checked = traveller.check()

    assert checked.returncode == 0, checked.stderr
    assert "mapping    endpoint-independent" in checked.stdout
    assert "filtering  address-and-port-dependent" in checked.stdout
    assert "hairpin    no" in checked.stdout
    assert "asking 2 addresses of servers" in checked.stderr


def test_a_node_that_is_down_is_not_asked(traveller: Traveller) -> None:
    traveller.node.ntm("down")

    assert traveller.check().returncode == 3
