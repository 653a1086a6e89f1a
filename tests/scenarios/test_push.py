"""A node that keeps nothing alive is woken by its push service. Source: paper, Figs. 3 and 6."""

import pytest

from ntmobile.proto.node.events import NameRefused, NameResolved
from ntmobile.sim.nat import NatBehaviour
from ntmobile.sim.node import NodeOptions, SimNode
from ntmobile.sim.world import World
from ntmobile.wire.registration import KeepAliveChoice, Reason

pytestmark = pytest.mark.paper("Push", "Fig. 3", "Fig. 6")

QUIET_S = 300
pytestmark = pytest.mark.paper("Push", "Fig. 3", "Fig. 6", "Device Token Request")


def test_a_sleeping_node_is_woken_by_a_peer_s_query_and_reached() -> None:
    world, mn, cn = asleep()
    start = world.now

    world.connect(mn, cn)

    assert world.echo(mn, cn, b"good morning")
    assert world.now - start < 2e9


def test_while_it_sleeps_it_sends_and_hears_nothing() -> None:
    world = World()
    cn = sleeper(world)
    world.run_for(2)
    before = len(world.recorder.arrows)

    world.run_for(3600)

    assert [a for a in world.recorder.arrows[before:] if cn.fqdn in (a.sender, a.receiver)] == []


def test_without_the_wake_up_nothing_reaches_it() -> None:
    """The negative twin: the push service takes the wake-up, and the phone never gets it."""
    world, mn, cn = asleep()
    cn.organisation.push.subscribe(f"token of {cn.fqdn}", lambda: None)

    answer = world.resolve(mn, cn.fqdn)

    assert isinstance(answer, NameRefused)
    assert answer.reason is Reason.NOT_WOKEN


@pytest.mark.parametrize("failure", [Reason.PUSH_DOWN, Reason.TOKEN_GONE])
def test_mn_hears_why_a_node_cannot_be_woken(failure: Reason) -> None:
    world, mn, cn = asleep()
    push = cn.organisation.push
    push.up = failure is not Reason.PUSH_DOWN
    if failure is Reason.TOKEN_GONE:
        push.unsubscribe(f"token of {cn.fqdn}")

    answer = world.resolve(mn, cn.fqdn)

    assert isinstance(answer, NameRefused)
    assert answer.reason is failure


def test_a_push_service_that_is_up_again_wakes_the_node_at_the_next_query() -> None:
    world, mn, cn = asleep()
    push = cn.organisation.push
    push.up = False
    world.resolve(mn, cn.fqdn)

    push.up = True

    assert isinstance(world.resolve(mn, cn.fqdn), NameResolved)


def sleeper(world: World) -> SimNode:
    """Return CN, behind a NAT that forgets UDP after 10 s."""
    home = world.internet.home("home", NatBehaviour(lifetime_s=10))
    options = NodeOptions(keepalive=KeepAliveChoice.PUSH)
    return world.node("pc.bob", world.organisation("example.net"), home, options)


def asleep() -> tuple[World, SimNode, SimNode]:
    """Return a world with MN, and CN silent for five minutes."""
    world = World()
    cn = sleeper(world)
    mn = world.node("laptop.alice", world.organisation())
    world.run_for(QUIET_S)
    return world, mn, cn
