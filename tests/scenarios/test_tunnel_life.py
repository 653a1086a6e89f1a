"""A tunnel's life: glare, rekeying, idling, closing, revocation."""

import pytest

from ntmobile.keys.table import KeyAct
from ntmobile.proto.coordinator.policy import Federation, Policy, Rule
from ntmobile.proto.node.events import NameRefused, Pong, TunnelClosed
from ntmobile.sim.nat import HARD
from ntmobile.sim.node import NodeOptions, SimNode
from ntmobile.sim.quality import MILLISECOND, Quality
from ntmobile.sim.traffic import Flow
from ntmobile.sim.world import World
from ntmobile.wire.tunnel import CloseReason


@pytest.mark.parametrize("behind_nats", [False, True], ids=["direct", "relayed"])
@pytest.mark.parametrize("later_ms", [0, 5, 30, 55])
def test_both_ends_may_start_at_once_and_still_share_one_tunnel(
    behind_nats: bool, later_ms: int
) -> None:
    world = World()
    internet = world.internet
    org, net = world.organisation(), world.organisation("example.net")
    homes = [internet.home(name, HARD) if behind_nats else None for name in ("mn home", "cn home")]
    mn = world.node("laptop.alice", org, homes[0])
    cn = world.node("pc.bob", net, homes[1])

    mn.resolve(cn.fqdn)
    world.run_for(later_ms / 1000)
    cn.resolve(mn.fqdn)
    world.run_for(5)

    for node, peer in ((mn, cn), (cn, mn)):
        assert [p.fqdn for p in node.machine.peers()] == [peer.fqdn]
    assert world.echo(mn, cn, b"hello")
    assert world.echo(cn, mn, b"hello")
    world.run_for(20)
    assert world.echo(mn, cn, b"still")


def test_a_busy_tunnel_changes_its_keys_without_losing_a_datagram() -> None:
    world, mn, cn = a_pair()
    flow = Flow(mn, mn.address_of(cn), cn, 50 * MILLISECOND)

    world.run_for(600)
    flow.stop()
    world.run_for(1)

    assert flow.lost == 0
    created = world.recorder.of_key("Kmncn", KeyAct.CREATED)
    erased = world.recorder.of_key("Kmncn", KeyAct.ERASED)
    assert len(created) >= 5
    assert len({line.record.identifier for line in erased}) >= len(created) - 2


def test_an_idle_tunnel_does_not_change_its_keys() -> None:
    """The negative twin."""
    world, _, _ = a_pair()
    before = len(world.recorder.of_key("Kmncn", KeyAct.CREATED))

    world.run_for(500)

    assert len(world.recorder.of_key("Kmncn", KeyAct.CREATED)) == before


def test_keys_change_over_a_network_that_loses_a_fifth() -> None:
    world, mn, cn = a_pair()
    world.internet.core.quality = Quality(10 * MILLISECOND, loss=0.2, duplication=0.1)
    flow = Flow(mn, mn.address_of(cn), cn, 50 * MILLISECOND)

    world.run_for(600)

    assert flow.arrivals[-1][0] > world.now - 1000 * MILLISECOND
    assert flow.longest_gap_ns < 2_000 * MILLISECOND
    assert not mn.events_of(TunnelClosed)


def test_a_tunnel_that_carries_nothing_closes_at_both_ends_and_the_next_packet_rebuilds_it() -> (
    None
):
    options = NodeOptions(idle_s=60)
    world, mn, cn = a_pair(options)
    to = mn.address_of(cn)

    world.run_for(100)
    assert CloseReason.IDLE in [event.reason for event in mn.events_of(TunnelClosed)]
    assert not mn.machine.peers()
    received: list[bytes] = []
    cn.listen(5, lambda got: received.append(got.data))
    mn.send(to, 5, b"again")
    world.run_for(3)

    assert received == [b"again"]


def test_a_node_that_leaves_tells_its_peers_and_its_dc() -> None:
    world, mn, cn = a_pair()

    mn.call(mn.machine.leave)
    world.run_for(1)

    assert [event.reason for event in cn.events_of(TunnelClosed)] == [CloseReason.LEAVING]
    assert isinstance(world.resolve(cn, mn.fqdn), NameRefused)


def test_a_packet_to_a_name_that_left_is_refused_and_does_not_hang() -> None:
    world, mn, cn = a_pair()
    to = cn.address_of(mn)
    mn.call(mn.machine.leave)
    world.run_for(1)

    cn.send(to, 5, b"anybody there?")
    world.run_for(3)

    assert cn.refused[to] > 0


def test_a_revoked_node_loses_its_tunnels_at_once_in_both_domains() -> None:
    world, mn, cn = a_pair()

    world.organisations["example.org"].revoke(mn.fqdn)
    world.run_for(2)

    assert not cn.machine.peers()
    assert not mn.machine.peers()
    assert isinstance(world.resolve(cn, mn.fqdn), NameRefused)


def test_a_pair_that_policy_forbids_later_is_parted_when_its_leave_is_renewed() -> None:
    world, mn, cn = a_pair()
    flow = Flow(mn, mn.address_of(cn), cn, 10_000 * MILLISECOND)
    rule = Rule("*", cn.fqdn, allow=False)
    world.organisations["example.net"].set_policy(
        Policy("example.net", Federation.OPEN, rules=(rule,))
    )

    world.run_for(3700)
    arrived = len(flow.arrivals)
    world.run_for(60)

    assert len(flow.arrivals) == arrived


def test_a_pair_that_policy_allows_goes_on_when_its_leave_is_renewed() -> None:
    """The negative twin."""
    world, mn, cn = a_pair()
    flow = Flow(mn, mn.address_of(cn), cn, 10_000 * MILLISECOND)

    world.run_for(3700)
    flow.stop()
    world.run_for(1)

    assert flow.lost == 0


def test_a_ping_is_answered_and_names_its_path() -> None:
    world, mn, cn = a_pair()

    mn.call(lambda now: mn.machine.ping(cn.fqdn, 7, now))
    world.run_for(1)

    (pong,) = mn.events_of(Pong)
    assert (pong.fqdn, pong.sequence, pong.rtt_ns) == (cn.fqdn, 7, 20 * MILLISECOND)
    assert not pong.relayed


@pytest.mark.parametrize("peer_key", ["changed", "same"])
def test_a_peer_with_another_device_key_is_not_let_in(peer_key: str) -> None:
    """Its DC vouches for it all the same: the pin is what stops it."""
    world, mn, cn = a_pair()
    pins = mn.state.pins[cn.fqdn]
    cn.call(cn.machine.leave)
    world.run_for(1)
    cn.kill()
    if peer_key == "changed":
        world.organisations["example.net"].accounts.enrolled.pop(cn.fqdn)
        impostor = world.impostor(cn)
    else:
        impostor = world.restart(cn)
    world.await_registration(impostor)

    answer = world.resolve(mn, cn.fqdn)

    assert isinstance(answer, NameRefused) is (peer_key == "changed")
    assert mn.state.pins[cn.fqdn] == pins


def a_pair(options: NodeOptions | None = None) -> tuple[World, SimNode, SimNode]:
    """MN behind a NAT, CN global, with a tunnel."""
    world = World()
    options = options or NodeOptions()
    org, net = world.organisation(), world.organisation("example.net")
    mn = world.node("laptop.alice", org, world.internet.home("home", HARD), options)
    cn = world.node("pc.bob", net, options=options)
    world.connect(mn, cn)
    world.run_for(2)
    return world, mn, cn
