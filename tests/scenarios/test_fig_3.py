"""Registration and keep-alive. Source: paper, Fig. 3."""

from ipaddress import IPv4Address

import pytest

from ntmobile.proto.node.events import Registered, RegistrationLost
from ntmobile.sim.figures import figure_3
from ntmobile.sim.nat import NatBehaviour
from ntmobile.sim.world import World

pytestmark = pytest.mark.paper("Fig. 3")


@pytest.mark.paper("Registration Request", "Registration Response", "Kntmdc")
def test_a_registration_is_challenged_once_and_answered_with_the_virtual_addresses() -> None:
    figure = figure_3()
    print(figure.draw())

    assert figure.messages[:5] == [
        ("node", "Registration Request", "DC"),
        ("DC", "Challenge", "node"),
        ("node", "Registration Request", "DC"),
        ("DC", "Registration Response", "node"),
        ("node", "UDP Keep Alive", "DC"),
    ]


@pytest.mark.paper("UDP Keep Alive")
def test_keep_alives_hold_the_mapping_and_each_third_is_answered() -> None:
    figure = figure_3()

    after = [line for line in figure.messages if "Keep" in line[1]]

    assert after == [
        ("node", "UDP Keep Alive", "DC"),
        ("node", "UDP Keep Alive", "DC"),
        ("node", "UDP Keep Alive", "DC"),
        ("DC", "Keep Alive Answer", "node"),
    ]


@pytest.mark.paper("Overview", "Registration Response")
def test_a_node_gets_the_same_virtual_addresses_after_every_start() -> None:
    world = World()
    node = world.node("laptop.alice", world.organisation())
    (before,) = {(e.virtual_ipv4, e.virtual_ipv6) for e in node.events_of(Registered)}

    again = world.restart(node)
    world.await_registration(again)

    assert {(e.virtual_ipv4, e.virtual_ipv6) for e in again.events_of(Registered)} == {before}


def test_a_nat_that_rebooted_is_noticed_within_one_answered_keep_alive() -> None:
    world = World()
    org = world.organisation()
    home = world.internet.home("home")
    node = world.node("laptop.alice", org, home)

    world.internet.gateways["home"].reboot(IPv4Address("203.0.113.200"))
    world.run_for(62)

    stored = org.registrations.nodes[node.fqdn]
    assert IPv4Address("203.0.113.200") in [endpoint.host for endpoint in stored.mapped]


def test_a_dc_that_restarted_still_knows_its_nodes_and_they_it() -> None:
    world = World()
    org = world.organisation()
    node = world.node("laptop.alice", org, world.internet.home("home"))

    org.restart_coordinator()
    world.run_for(120)

    registered = org.coordinator.machine.registered(world.now)
    assert [stored.fqdn for stored in registered] == [node.fqdn]
    assert not node.events_of(RegistrationLost)


def test_a_node_whose_dc_is_gone_says_so_and_comes_back_within_seconds_of_its_return() -> None:
    world = World()
    org = world.organisation()
    node = world.node("laptop.alice", org)
    org.coordinator.kill()
    world.run_until(lambda: bool(node.events_of(RegistrationLost)), "the loss", limit_s=120)

    org.restart_coordinator()
    world.run_for(5)

    assert node.machine.view().state == "up"


def test_a_nat_that_forgets_sooner_than_the_keep_alive_leaves_the_node_unreachable() -> None:
    """The negative twin: the mapping is what keeps the DC's way to the node open."""
    for lifetime_s, heard in ((60, True), (1, False)):
        world = World()
        org = world.organisation()
        home = world.internet.home("home", NatBehaviour(lifetime_s=lifetime_s))
        node = world.node("laptop.alice", org, home)
        peer = world.node("pc.bob", org)
        world.run_for(15)

        peer.resolve(node.fqdn)
        world.run_for(3)

        heard_by_node = any(
            a.message == "Route Direction" and a.receiver == node.fqdn
            for a in world.recorder.arrows
        )
        assert heard_by_node is heard
