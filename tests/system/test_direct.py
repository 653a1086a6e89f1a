"""Two real nodes behind NATs: first through the relay, then direct where the NATs permit it."""

from collections.abc import Iterator

import pytest

from ntmobile.lab import Behaviour, Filtering, Lab, Mapping, Ports, unavailable
from ntmobile.lab.ntm import World

pytestmark = pytest.mark.lab
EASY = Behaviour(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
HARD = Behaviour(
    Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT, Ports.RANDOM
)
RS = "203.0.113.241"


class Nodes:
    """Nodes as they are by default; RS is a host of its own and knows who is reachable."""

    def __init__(self, lab: Lab) -> None:
        world = World(lab)
        org = world.organisation("ntm.example.org", rs_ipv4=RS)
        made = {
            name: world.machine(
                name, "alice", org, lab.nat(f"{name}-nat", world.internet, nat), ipv6=None
            )
            for name, nat in {"laptop": EASY, "pc": EASY, "hard": HARD}.items()
        }
        world.bring_up(*made.values())
        self.laptop, self.pc, self.hard = made.values()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    if (reason := unavailable()) is not None:
        pytest.skip(f"no lab here: {reason}")
    with Lab() as lab:
        yield Nodes(lab)


def test_two_easy_nats_let_a_direct_path_through(nodes: Nodes) -> None:
    pinged = nodes.laptop.ntm("ping", nodes.pc.fqdn, "--until-direct", "-i", "0.2", "-c", "100")

    answers = [line for line in pinged.stdout.splitlines() if line.startswith("pong")]
    assert " direct " in answers[-1]
    assert "no answer" not in pinged.stdout
    there = nodes.laptop.peer(nodes.pc)["path"]
    back = nodes.pc.peer(nodes.laptop)["path"]
    assert (there["kind"], back["kind"]) == ("direct", "direct")


def test_what_applications_send_goes_the_direct_way(nodes: Nodes) -> None:
    nodes.laptop.ntm("ping", nodes.pc.fqdn, "--until-direct", "-i", "0.2", "-c", "100")

    pinged = nodes.laptop.host.run(["ping", "-c", "5", "-i", "0.2", "-W", "30", nodes.pc.fqdn])

    assert "5 received" in pinged.stdout
    assert nodes.laptop.peer(nodes.pc)["path"]["kind"] == "direct"


def test_a_nat_that_maps_anew_at_random_leaves_the_relay(nodes: Nodes) -> None:
    """The negative twin."""
    command = ("ping", nodes.hard.fqdn, "--until-direct", "-i", "0.2", "-c", "20")
    pinged = nodes.laptop.ntm(*command, check=False)

    assert pinged.returncode == 1
    assert "no answer" not in pinged.stdout
    assert nodes.laptop.peer(nodes.hard)["path"]["kind"] == "relay"


def test_who_switches_the_search_off_stays_on_the_relay(nodes: Nodes) -> None:
    """The other negative twin; the last test here, because it leaves the setting so."""
    pc = nodes.pc
    pc.ntm("set", "seek-direct=no")
    pc.ntm("down")
    pc.ntm("up")

    command = ("ping", pc.fqdn, "--until-direct", "-i", "0.2", "-c", "15")
    pinged = nodes.laptop.ntm(*command, check=False)

    assert pinged.returncode == 1
    assert nodes.laptop.peer(pc)["path"]["kind"] == "relay"
