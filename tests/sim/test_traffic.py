from ntmobile.sim.node import SimNode
from ntmobile.sim.quality import MILLISECOND, Quality
from ntmobile.sim.traffic import Flow, Stream
from ntmobile.sim.world import World


def test_a_flow_over_a_good_network_loses_nothing_and_has_no_gap() -> None:
    world, a, b = a_pair(Quality(10 * MILLISECOND))

    flow = Flow(a, a.address_of(b), b, 20 * MILLISECOND)
    world.run_for(2)
    flow.stop()
    world.run_for(1)

    assert flow.sent == 101
    assert (flow.lost, flow.duplicates) == (0, 0)
    assert flow.longest_gap_ns == 20 * MILLISECOND


def test_a_flow_sees_a_cut_as_loss_and_a_gap() -> None:
    world, a, b = a_pair(Quality(10 * MILLISECOND))
    flow = Flow(a, a.address_of(b), b, 20 * MILLISECOND)
    world.run_for(1)

    world.internet.core.cut(a.host.name, b.host.name)
    world.run_for(0.5)
    world.internet.core.mend(a.host.name, b.host.name)
    world.run_for(1)
    flow.stop()
    world.run_for(1)

    assert flow.lost == 25
    assert flow.longest_gap_ns == 520 * MILLISECOND


def test_a_stream_delivers_everything_in_order_over_a_network_that_loses_and_reorders() -> None:
    world, a, b = a_pair(Quality(10 * MILLISECOND, 3 * MILLISECOND, 0.05, 0.05, 0.05))

    stream = Stream(a, a.address_of(b), b, 500)
    world.run_until(lambda: stream.done, "the stream", limit_s=60)

    assert stream.delivered == 500
    assert stream.retransmitted > 0
    assert not stream.broken


def test_a_stream_into_the_void_gives_up_as_tcp_does() -> None:
    world, a, b = a_pair(Quality(10 * MILLISECOND))
    stream = Stream(a, a.address_of(b), b, 5000)
    world.run_for(1)

    b.kill()
    world.run_for(1200)

    assert stream.broken
    assert not stream.done


def a_pair(core: Quality) -> tuple[World, SimNode, SimNode]:
    world = World(1, core)
    org = world.organisation()
    a, b = world.node("laptop.alice", org), world.node("pc.bob", org)
    world.connect(a, b)
    return world, a, b
