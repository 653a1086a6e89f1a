"""Loss, duplication, reordering, small packets, short-lived mappings."""

from dataclasses import replace

import pytest

from ntmobile.proto.node.events import NameResolved, TunnelClosed
from ntmobile.sim.nat import EASY, HARD, NatBehaviour
from ntmobile.sim.quality import MILLISECOND, Quality
from ntmobile.sim.traffic import Flow, Stream
from ntmobile.sim.world import World

BAD = Quality(10 * MILLISECOND, 3 * MILLISECOND, loss=0.2, duplication=0.1, reordering=0.1)


@pytest.mark.parametrize("seed", range(10))
def test_a_tunnel_is_built_and_moved_over_a_network_that_loses_a_fifth(seed: int) -> None:
    world = World(seed, BAD)
    org, net = world.organisation(), world.organisation("example.net")
    mn = world.node("laptop.alice", org, world.internet.home("mn home"))
    cn = world.node("pc.bob", net, world.internet.home("cn home"))
    world.connect(mn, cn)
    stream = Stream(mn, mn.address_of(cn), cn, 200)

    world.run_for(1)
    world.move(mn, world.internet.home("cafe"))
    world.run_until(lambda: stream.done, "the stream", limit_s=300)

    assert not mn.events_of(TunnelClosed)
    assert not cn.events_of(TunnelClosed)


def test_total_loss_is_the_negative_twin() -> None:
    world = World()
    org = world.organisation()
    mn, cn = world.node("laptop.alice", org), world.node("pc.bob", org)
    world.internet.core.quality = Quality(10 * MILLISECOND, loss=1.0)

    mn.resolve(cn.fqdn)
    world.run_for(60)

    assert not mn.events_of(NameResolved)


def test_a_tunnel_carries_no_datagram_twice_and_loses_no_more_than_the_path() -> None:
    world = World(3, BAD)
    org = world.organisation()
    mn, cn = world.node("laptop.alice", org), world.node("pc.bob", org)
    world.connect(mn, cn)

    flow = Flow(mn, mn.address_of(cn), cn, 5 * MILLISECOND)
    world.run_for(10)
    flow.stop()
    world.run_for(1)

    assert flow.duplicates == 0
    assert 0.15 < flow.lost / flow.sent < 0.4


def test_a_path_with_an_mtu_of_1380_carries_inner_packets_of_1280() -> None:
    world = World(0, Quality(10 * MILLISECOND, mtu=1380))
    org, net = world.organisation(), world.organisation("example.net")
    mn = world.node("laptop.alice", org, world.internet.home("mn home"))
    cn = world.node("pc.bob", net, world.internet.home("cn home"))

    world.connect(mn, cn)

    assert world.echo(mn, cn, bytes(1280 - 48))
    assert not world.echo(mn, cn, bytes(1400 - 48))


@pytest.mark.parametrize("relayed", [True, False])
def test_a_tunnel_in_use_outlives_mappings_of_thirty_seconds(relayed: bool) -> None:
    world = World()
    org = world.organisation()
    short = replace(HARD if relayed else EASY, lifetime_s=30)
    mn = world.node("laptop.alice", org, world.internet.home("mn home", short))
    cn_home = world.internet.home("cn home", short) if relayed else None
    cn = world.node("pc.bob", org, cn_home)
    world.connect(mn, cn)
    received = list[bytes]()
    mn.listen(5, lambda got: received.append(got.data))

    for number in range(4):
        world.run_for(100)
        cn.send(cn.address_of(mn), 5, b"%d" % number)
    world.run_for(1)

    assert received == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("relayed", [True, False])
def test_a_nat_that_reboots_under_a_busy_stream_does_not_break_it(relayed: bool) -> None:
    world = World()
    org = world.organisation()
    nat = HARD if relayed else EASY
    mn = world.node("laptop.alice", org, world.internet.home("mn home", nat))
    cn = world.node("pc.bob", org, world.internet.home("cn home", nat) if relayed else None)
    world.connect(mn, cn)
    stream = Stream(cn, cn.address_of(mn), mn, 3000)
    world.run_for(0.5)

    world.internet.gateways["mn home"].reboot(None)
    world.run_until(lambda: stream.done, "the stream", limit_s=120)

    assert not stream.broken


@pytest.mark.parametrize("sends", ["one way", "both ways"])
@pytest.mark.parametrize("rebooted", [("mn",), ("cn",), ("mn", "cn")])
def test_the_nats_of_a_relayed_path_may_reboot_and_the_data_pauses_two_seconds(
    rebooted: tuple[str, ...], sends: str
) -> None:
    """Also that of an end which only receives, and would not speak for twenty seconds."""
    for phase in range(4):
        world = World(phase)
        org, net = world.organisation(), world.organisation("example.net")
        mn = world.node("laptop.alice", org, world.internet.home("mn home", HARD))
        cn = world.node("pc.bob", net, world.internet.home("cn home", HARD))
        world.connect(mn, cn)
        data = (
            Flow(mn, mn.address_of(cn), cn, 20 * MILLISECOND)
            if sends == "one way"
            else Stream(mn, mn.address_of(cn), cn, 100_000)
        )
        world.run_for(3 + phase / 4)

        for name in rebooted:
            world.internet.gateways[f"{name} home"].reboot(None)
        world.run_for(4)

        assert data.longest_gap_ns < 2_500 * MILLISECOND, phase


def test_a_mapping_that_dies_of_age_costs_an_established_stream_seconds_at_most() -> None:
    world = World()
    org = world.organisation()
    aged = NatBehaviour(age_limit_s=60)
    mn = world.node("laptop.alice", org, world.internet.home("mn home", aged))
    cn = world.node("pc.bob", org)
    world.connect(mn, cn)

    flow = Flow(cn, cn.address_of(mn), mn, 100 * MILLISECOND)
    world.run_for(200)

    assert flow.longest_gap_ns < 8_000_000_000
