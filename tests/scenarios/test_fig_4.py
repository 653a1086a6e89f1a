"""Registration with NS, and what comes through it. Source: paper, Fig. 4."""

from collections.abc import Callable

import pytest

from ntmobile.proto.node.events import NameRefused, ReachedBy, TunnelEstablished
from ntmobile.sim.figures import figure_4
from ntmobile.sim.nat import NatBehaviour
from ntmobile.sim.node import NodeOptions, SimNode
from ntmobile.sim.organisation import Organisation
from ntmobile.sim.packet import Packet, Transport
from ntmobile.sim.world import World
from ntmobile.time import SECOND
from ntmobile.wire.registration import KeepAliveChoice, Reason

FORGETFUL = NatBehaviour(lifetime_s=10)
"""A NAT whose UDP mappings die after 10 s."""
QUIET_S = 300


pytestmark = pytest.mark.paper("Fig. 4")


@pytest.mark.paper(
    "Key Sharing",
    "Notification Direction",
    "Notification Registration",
    "TCP Keep Alive",
    "Notification",
    "NTM ACK",
    "Kdcns",
    "Kntmns",
)
def test_the_messages_are_those_of_the_figure() -> None:
    """The Challenges are ours."""
    figure = figure_4()
    print(figure.draw())

    drawn = [
        line for line in figure.messages if line[1] not in ("Challenge", "Reachability Report")
    ]

    assert drawn[1:11] == [
        ("node", "Registration Request", "DC"),
        ("DC", "Key Sharing", "NS"),
        ("NS", "NTM ACK", "DC"),
        ("DC", "Notification Direction", "NS"),
        ("DC", "Notification Direction", "NS"),
        ("NS", "NTM ACK", "DC"),
        ("DC", "Registration Response", "node"),
        ("DC", "NTM ACK", "node"),
        ("node", "Notification Registration", "NS"),
        ("NS", "NTM ACK", "node"),
    ]
    assert ("node", "TCP Keep Alive", "NS") in drawn
    assert drawn[-5:-2] == [
        ("DC", "Notification", "NS"),
        ("NS", "NTM ACK", "DC"),
        ("NS", "Notification", "node"),
    ]


@pytest.mark.paper("Notification", "Notification Registration")
def test_a_node_on_tcp_is_reached_after_five_minutes_of_silence() -> None:
    world, org, cn = held()
    mn = world.node("laptop.alice", org)
    world.run_for(QUIET_S)

    world.connect(mn, cn)

    assert world.echo(mn, cn, b"still here")


def test_without_its_connection_the_same_node_is_not() -> None:
    """The negative twin: nothing but the connection is alive; its loss is not noticed yet."""
    world, org, cn = held()
    mn = world.node("laptop.alice", org)
    world.run_for(QUIET_S - 60)
    world.internet.core.cut("ns.example.org", "home")

    mn.resolve(cn.fqdn)
    world.run_for(10)

    assert not cn.events_of(TunnelEstablished)


def test_a_node_on_tcp_reaches_others_itself() -> None:
    world, org, cn = held()
    pc = world.node("laptop.alice", org, world.internet.home("other home", FORGETFUL))
    world.run_for(QUIET_S)

    world.connect(cn, pc)

    assert world.echo(cn, pc, b"from here")


def test_two_nodes_on_tcp_behind_two_forgetful_nats_meet() -> None:
    world, org, cn = held()
    home = world.internet.home("other home", FORGETFUL)
    mn = world.node("laptop.alice", org, home, TCP)
    world.run_for(QUIET_S)

    world.connect(mn, cn)

    assert world.echo(mn, cn, b"both")


PACKETS_AN_HOUR = {
    KeepAliveChoice.UDP: (180 + 60, 180),
    KeepAliveChoice.TCP: (10, 5),
    KeepAliveChoice.PUSH: (0, 0),
}
"""What crosses the node's NAT in an idle hour, both ways; of these the node's."""


@pytest.mark.paper("TCP Keep Alive")
@pytest.mark.parametrize("choice", KeepAliveChoice)
def test_packets_an_hour_while_idle(choice: KeepAliveChoice) -> None:
    """TCP: a keep-alive, its answer, and the acknowledgements of both, per half an hour."""
    world = World()
    org = world.organisation(notifiers=1)
    home = world.internet.home("home", FORGETFUL)
    node = world.node("pc.bob", org, home, NodeOptions(keepalive=choice))
    world.run_for(2 * 3600)
    seen: list[Packet] = []
    home.taps.append(seen.append)

    world.run_for(3600)

    own = node.host.interfaces[1].addresses
    out = sum(packet.source.host in own for packet in seen)
    print(f"{choice}: {len(seen)} packets an hour, {out} of them sent by the node")
    most, most_out = PACKETS_AN_HOUR[choice]
    assert (len(seen) <= most, out <= most_out) == (True, True)
    assert 2 * out >= len(seen)  # the answers, and no answer without a keep-alive
    assert (len(seen) == 0) is (choice is KeepAliveChoice.PUSH)
    assert node.machine.view().state == "up"


def test_an_ns_that_is_killed_is_replaced_by_another() -> None:
    world, org, cn = held(notifiers=2)
    before = serving(cn)
    org.notifiers[number_of(before)].kill()
    world.run_for(20)

    assert serving(cn) not in (before, "")
    assert_reached(world, org, cn)


def test_an_ns_that_falls_silent_is_missed_at_the_next_keep_alive() -> None:
    """No reset is sent, as when its machine loses power."""
    world, org, cn = held(notifiers=2)
    before = serving(cn)
    org.notifiers[number_of(before)].kill(silently=True)
    world.run_for(200)

    assert serving(cn) not in (before, "")
    assert_reached(world, org, cn)


@pytest.mark.parametrize("silently", [False, True])
def test_the_nodes_of_an_ns_stay_where_they_went_when_it_comes_back(silently: bool) -> None:
    """Nothing flaps: they are told another when their Kntmns is over, and not before."""
    world, org, cn = held(notifiers=2)
    first = number_of(serving(cn))
    org.notifiers[first].kill(silently=silently)
    world.run_for(200)
    second = serving(cn)
    told = len(cn.events_of(ReachedBy))

    org.restart_notifier(first)
    world.run_for(3600)

    assert (serving(cn), number_of(second)) == (second, 1 - first)
    assert len(cn.events_of(ReachedBy)) == told
    assert_reached(world, org, cn)


def test_a_node_goes_back_to_the_ns_of_its_order_with_its_next_kntmns() -> None:
    """So that an NS which was away does not stay without nodes."""
    world, org, cn = held(notifiers=2)
    first = serving(cn)
    org.notifiers[number_of(first)].kill()
    world.run_for(60)
    org.restart_notifier(number_of(first))
    assert serving(cn) not in (first, "")

    world.run_for(25 * 3600)

    assert serving(cn) == first
    assert_reached(world, org, cn)


def test_an_ns_that_the_operator_takes_away_lets_go_of_its_nodes_though_it_runs_on() -> None:
    world, org, cn = held(notifiers=2)
    before = number_of(serving(cn))

    org.use_notifiers(1 - before)
    world.run_for(10)

    assert number_of(serving(cn)) == 1 - before
    assert org.notifiers[before].machine.held == 0
    assert_reached(world, org, cn)


def test_an_ns_that_is_added_takes_nodes_of_its_own_and_leaves_the_others_where_they_are() -> None:
    world, org, cn = held(notifiers=2)
    org.use_notifiers(number_of(serving(cn)))
    world.run_for(30)
    before = serving(cn)
    told = len(cn.events_of(ReachedBy))

    org.use_notifiers(0, 1)
    others = [world.node(f"pc{n}.bob", org, options=TCP) for n in range(6)]
    world.run_for(30)

    assert (serving(cn), len(cn.events_of(ReachedBy))) == (before, told)
    assert {serving(each) for each in others} == {"ns.example.org", "ns2.example.org"}


@pytest.mark.parametrize("notifiers", [1, 2])
def test_while_a_node_does_not_know_that_its_ns_lost_power_its_name_is_refused_for_that_reason(
    notifiers: int,
) -> None:
    """No reset tells the node; its NAT has forgotten the DC. It notices by its next keep-alive."""
    world, org, cn = held(notifiers=notifiers)
    mn = world.node("laptop.alice", org)
    world.run_for(30)
    org.notifiers[number_of(serving(cn))].kill(silently=True)
    world.run_for(15)
    began = world.now

    answer = world.resolve(mn, cn.fqdn)

    assert isinstance(answer, NameRefused)
    assert answer.reason is Reason.NOTIFICATION_SILENT
    assert world.now - began < 2 * SECOND
    world.run_for(120)
    assert_reached(world, org, cn)


def test_a_node_without_a_nat_is_reached_by_udp_though_its_ns_is_silent() -> None:
    """The negative twin."""
    world = World()
    org = world.organisation(notifiers=1)
    cn = world.node("pc.bob", org, options=TCP)
    mn = world.node("laptop.alice", org)
    world.run_for(60)
    org.notifier.kill(silently=True)
    world.run_for(15)
    assert serving(cn)

    world.connect(mn, cn)

    assert world.echo(mn, cn, b"by UDP")


def test_one_in_another_domain_is_told_the_same_reason() -> None:
    world, org, cn = held()
    mn = world.node("laptop.alice", world.organisation("example.net"))
    org.notifier.kill(silently=True)
    world.run_for(15)

    answer = world.resolve(mn, cn.fqdn)

    assert isinstance(answer, NameRefused)
    assert answer.reason is Reason.NOTIFICATION_SILENT


def test_a_node_whose_ns_has_no_connection_left_gets_the_next_of_its_order() -> None:
    world, org, cn = held(notifiers=2)
    before = number_of(serving(cn))
    org.notifiers[before].kill()
    org.restart_notifier(before)
    org.notifiers[before].machine.most = 0
    org.use_notifiers(before, 1 - before)
    others = [world.node(f"pc{n}.bob", org, options=TCP) for n in range(6)]
    world.run_for(30)

    assert {number_of(serving(each)) for each in (cn, *others)} == {1 - before}
    assert_reached(world, org, cn)


def test_without_another_ns_the_node_keeps_alive_by_udp_meanwhile_and_says_why() -> None:
    """The negative twin of the fail-over."""
    world, org, cn = held(lifetime_s=60)
    org.notifier.kill()
    world.run_for(60)

    assert cn.machine.view().reached == ReachedBy(
        KeepAliveChoice.UDP, problem=Reason.NO_NOTIFICATION
    )
    assert_reached(world, org, cn)


@pytest.mark.parametrize("silently", [False, True])
def test_a_lone_ns_that_restarts_gets_its_nodes_back(silently: bool) -> None:
    world, org, cn = held()
    org.restart_notifier(silently=silently)
    world.run_for(200)

    assert serving(cn) == "ns.example.org"
    assert org.notifier.machine.held == 1
    assert_reached(world, org, cn)


def test_an_ns_that_was_gone_for_an_hour_is_used_again() -> None:
    world, org, cn = held()
    org.notifier.kill()
    world.run_for(3600)
    org.restart_notifier()
    world.run_for(900)

    assert serving(cn) == "ns.example.org"
    assert_reached(world, org, cn)


def test_a_dc_that_restarted_still_reaches_its_nodes_through_ns() -> None:
    world, org, cn = held()
    mn = world.node("laptop.alice", org)
    world.run_for(QUIET_S)
    org.restart_coordinator()
    world.run_for(100)
    before = cn.events_of(ReachedBy)

    world.connect(mn, cn)

    assert cn.events_of(ReachedBy) == before


def test_an_ns_killed_in_the_middle_of_a_set_up_only_delays_it() -> None:
    world, org, cn = held(notifiers=2)
    mn = world.node("laptop.alice", org)
    world.run_for(QUIET_S)
    query = mn.resolve(cn.fqdn)
    world.run_for(0.02)
    org.notifiers[number_of(serving(cn))].kill()

    world.connect(mn, cn)

    assert query
    assert world.echo(mn, cn, b"in the end")


def test_a_nat_that_reboots_is_noticed_and_mended() -> None:
    world, org, cn = held()
    world.internet.gateways["home"].reboot()
    world.run_for(1900)

    assert_reached(world, org, cn)


def test_a_node_that_moves_takes_its_connection_along() -> None:
    world, org, cn = held()
    world.move(cn, world.internet.home("elsewhere", FORGETFUL))
    world.run_for(QUIET_S)

    assert org.notifier.machine.held == 1
    assert_reached(world, org, cn)


def test_where_tcp_is_blocked_the_node_goes_on_by_udp() -> None:
    world = World()
    org = world.organisation(notifiers=1)
    home = world.internet.home("home", blocked=[Transport.TCP])
    elsewhere = world.internet.home("elsewhere")
    cn = world.stranger("pc.bob", org, elsewhere, TCP)
    cn.log_in("a long password")
    world.await_registration(cn)
    world.run_for(2)
    assert serving(cn)

    world.move(cn, home)
    world.run_for(60)

    assert serving(cn) == ""
    assert_reached(world, org, cn)


def test_a_node_that_is_revoked_is_cut_at_once() -> None:
    world, org, cn = held()
    org.revoke(cn.fqdn)
    world.run_for(2)

    assert org.notifier.machine.held == 0
    assert cn.machine.view().reason == "revoked"


@pytest.mark.paper("Kntmns", "Kdcns")
def test_kntmns_is_erased_by_the_dc_and_owned_by_node_and_ns() -> None:
    world, org, cn = held()
    world.run_for(60)

    names = [key.name for key in org.coordinator.machine.keyring]
    assert "Kntmns" not in names
    assert "Kntmns" in [key.name for key in cn.machine.keyring]
    assert "Kntmns" in [key.name for key in org.notifier.machine.keyring]


TCP = NodeOptions(keepalive=KeepAliveChoice.TCP)


def held(
    *, notifiers: int = 1, lifetime_s: int = 10, then: Callable[[World], None] = lambda _: None
) -> tuple[World, Organisation, SimNode]:
    """Return a world with CN behind a NAT, on TCP, its connection held for a while."""
    world = World()
    org = world.organisation(notifiers=notifiers)
    home = world.internet.home("home", NatBehaviour(lifetime_s=lifetime_s))
    cn = world.node("pc.bob", org, home, TCP)
    world.run_for(30)
    then(world)
    assert serving(cn)
    return world, org, cn


def serving(node: SimNode) -> str:
    """FQDNns, or nothing."""
    return node.machine.view().reached.server


def number_of(notifier: str) -> int:
    return 0 if notifier.startswith("ns.") else 1


def assert_reached(world: World, org: Organisation, cn: SimNode) -> None:
    mn = world.nodes.get("laptop.alice.example.org") or world.node("laptop.alice", org)
    world.connect(mn, cn)
    assert world.echo(mn, cn, b"hello")
