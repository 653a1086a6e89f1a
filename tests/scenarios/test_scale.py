"""What a tunnel costs does not grow with the domain."""

import pytest

from ntmobile.sim.chart import once
from ntmobile.sim.world import World

KEEPALIVE = ("UDP Keep Alive", "Keep Alive Answer")


@pytest.mark.parametrize("strangers", [0, 100])
def test_a_set_up_takes_the_same_messages_whatever_the_size_of_the_domain(strangers: int) -> None:
    world = World()
    org = world.organisation()
    for number in range(strangers):
        world.stranger(f"pc{number}.crowd", org).log_in("a long password")
        world.run_for(0.1)
    mn, cn = world.node("laptop.alice", org), world.node("pc.bob", org)
    world.run_for(5)
    start = world.now

    world.connect(mn, cn)

    ours = {mn.fqdn, cn.fqdn}
    messages = [
        a.message for a in once(world.recorder.since(start)) if ours & {a.sender, a.receiver}
    ]
    assert sorted(message for message in messages if message not in KEEPALIVE) == [
        "Direction Request",
        "NTM ACK",
        "NTM ACK",
        "NTM ACK",
        "Route Direction",
        "Route Direction",
        "Tunnel Request",
        "Tunnel Response",
    ]
