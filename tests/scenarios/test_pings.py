"""`ntm ping`: answered over any distance; a dead tunnel is built anew though nothing else is sent.

Ours: docs/protocol.md section 8.
"""

import pytest

from ntmobile.proto.node.events import Pong
from ntmobile.sim.node import SimNode
from ntmobile.sim.quality import MILLISECOND, Quality
from ntmobile.sim.world import World


@pytest.mark.parametrize("one_way_ms", [10, 60, 150])
def test_a_ping_is_answered_however_far_the_peer_is(one_way_ms: int) -> None:
    world, mn, cn = a_pair(one_way_ms)

    ping(mn, cn, 7)
    world.run_for(2)

    (pong,) = mn.events_of(Pong)
    assert (pong.sequence, pong.rtt_ns) == (7, 2 * one_way_ms * MILLISECOND)


def test_pings_alone_find_a_peer_again_that_crashed_and_came_back() -> None:
    world, mn, cn = a_pair(10)
    again = world.restart(cn)
    world.await_registration(again)

    for sequence in range(10):
        ping(mn, cn, sequence)
        world.run_for(1)

    assert [pong.sequence for pong in mn.events_of(Pong)][-3:] == [7, 8, 9]


def test_pings_of_a_peer_that_is_gone_stay_unanswered() -> None:
    """The negative twin of the two above."""
    world, mn, cn = a_pair(10)
    cn.kill()

    for sequence in range(10):
        ping(mn, cn, sequence)
        world.run_for(1)

    assert mn.events_of(Pong) == []


def a_pair(one_way_ms: int) -> tuple[World, SimNode, SimNode]:
    world = World(core=Quality(delay_ns=one_way_ms * MILLISECOND))
    org, net = world.organisation(), world.organisation("example.net")
    mn, cn = world.node("laptop.alice", org), world.node("pc.bob", net)
    world.connect(mn, cn)
    return world, mn, cn


def ping(mn: SimNode, cn: SimNode, sequence: int) -> None:
    mn.call(lambda now: mn.machine.ping(cn.fqdn, sequence, now))
