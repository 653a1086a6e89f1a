"""A DC that lost what it knew of its nodes: a backup, a clock, a disk. Nobody has to help.

Ours: docs/protocol.md section 10.
"""

from ntmobile.proto.node.events import NameResolved
from ntmobile.sim.node import SimNode
from ntmobile.sim.organisation import Organisation
from ntmobile.sim.world import World


def test_nodes_that_their_dc_forgot_are_back_within_two_minutes() -> None:
    world, org, mn, cn = a_domain()

    forget(org)
    world.run_for(120)

    assert {node.machine.view().state for node in (mn, cn)} == {"up"}
    world.connect(mn, cn)
    assert world.echo(mn, cn, b"hello")


def test_who_wants_to_connect_notices_at_once_that_the_dc_forgot() -> None:
    world, org, mn, cn = a_domain()
    world.run_for(1)

    forget(org)
    for node, peer in ((cn, mn), (mn, cn)):
        node.resolve(peer.fqdn)
    world.run_for(40)
    query = mn.resolve(cn.fqdn)
    world.run_for(2)

    assert query in [event.query for event in mn.events_of(NameResolved)]


def test_while_the_dc_is_down_nodes_do_not_storm_the_as() -> None:
    world, org, _, _ = a_domain()
    before = logins(world)

    org.coordinator.kill()
    world.run_for(3600)

    assert 0 < logins(world) - before < 2 * 20


def test_a_dc_that_forgot_nothing_is_not_followed_by_a_login() -> None:
    """The negative twin: it is the silence that makes a node log in again."""
    world, org, mn, _ = a_domain()
    before = logins(world)

    org.restart_coordinator()
    world.run_for(600)

    assert logins(world) == before
    assert mn.machine.view().state == "up"


def a_domain() -> tuple[World, Organisation, SimNode, SimNode]:
    world = World()
    org = world.organisation()
    mn, cn = world.node("laptop.alice", org), world.node("pc.bob", org)
    return world, org, mn, cn


def forget(org: Organisation) -> None:
    org.registrations.nodes.clear()
    org.restart_coordinator()


def logins(world: World) -> int:
    """How many Login Requests nodes have sent."""
    steps = [step for _, step in world.recorder.steps if step.sent]
    return sum(1 for step in steps if step.message == "Login Request")
