"""An established connection outlives any history of moves, restarts and reboots."""

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from ntmobile.proto.node.events import TunnelClosed
from ntmobile.sim.gateway import Firewall
from ntmobile.sim.nat import HARD
from ntmobile.sim.network import Network
from ntmobile.sim.node import SimNode
from ntmobile.sim.quality import MILLISECOND, Quality
from ntmobile.sim.traffic import Stream
from ntmobile.sim.world import World

PLACES = ("core", "easy", "hard", "four", "six", "firewall", "island")
GOOD = Quality(10 * MILLISECOND)
BAD = Quality(10 * MILLISECOND, 3 * MILLISECOND, loss=0.05, duplication=0.05, reordering=0.05)

steps = st.one_of(
    st.tuples(st.just("mn moves"), st.sampled_from(PLACES)),
    st.tuples(st.just("cn moves"), st.sampled_from(PLACES)),
    st.tuples(st.just("restart"), st.sampled_from(("dc", "rs", "as"))),
    st.tuples(st.just("reboot"), st.sampled_from(("easy", "hard", "firewall"))),
    st.tuples(st.just("wait"), st.sampled_from(("0.015", "0.2", "1", "7", "40"))),
)


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(steps, max_size=10), st.booleans(), st.sampled_from((GOOD, BAD)))
def test_no_move_restart_or_reboot_breaks_a_stream(
    history: list[tuple[str, str]], mn_sends: bool, core: Quality
) -> None:
    world = World("stream", core)
    places = build(world)
    org, net = world.organisation(), world.organisation("example.net")
    mn, cn = world.node("laptop.alice", org), world.node("pc.bob", net)
    world.connect(mn, cn)
    sender, receiver = (mn, cn) if mn_sends else (cn, mn)
    stream = Stream(sender, sender.address_of(receiver), receiver, 2000, window=2)

    for step, what in history:
        perform(world, places, mn, cn, step, what)
    world.move(mn, places["easy"])
    world.move(cn, places["core"])
    world.run_until(lambda: stream.done, "the stream", limit_s=300)

    assert not stream.broken
    assert not mn.events_of(TunnelClosed)
    assert not cn.events_of(TunnelClosed)


def build(world: World) -> dict[str, Network]:
    internet = world.internet
    return {
        "core": internet.core,
        "easy": internet.home("easy"),
        "hard": internet.home("hard", HARD),
        "four": internet.site("four", ipv6=False),
        "six": internet.site("six", ipv4=False),
        "firewall": internet.home("firewall", ipv6=True, firewall=Firewall()),
        "island": internet.island("island"),
    }


def perform(
    world: World, places: dict[str, Network], mn: SimNode, cn: SimNode, step: str, what: str
) -> None:
    match step:
        case "mn moves":
            world.move(mn, places[what])
        case "cn moves":
            world.move(cn, places[what])
        case "reboot":
            world.internet.gateways[what].reboot()
        case "wait":
            world.run_for(float(what))
        case _:
            for organisation in world.organisations.values():
                {
                    "dc": organisation.restart_coordinator,
                    "as": organisation.restart_account,
                    "rs": organisation.restart_relay,
                }[what]()
