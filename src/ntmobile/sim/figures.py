"""The paper's figures, run: each builds its world, lets it happen, and can be drawn.

Two domains: MN is laptop.alice.example.org, CN is pc.bob.example.net. "Keys warm" means that the
domains have talked before (to another node of CN's domain), so that no Key Sharing is necessary.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ntmobile.proto.node.events import LoggedIn, NameRefused
from ntmobile.sim.chart import once
from ntmobile.sim.errors import SimulationError
from ntmobile.sim.nat import NatBehaviour
from ntmobile.sim.node import NodeOptions, SimNode
from ntmobile.sim.recorder import Arrow
from ntmobile.sim.world import PASSWORD, World
from ntmobile.time import Instant
from ntmobile.wire.registration import KeepAliveChoice

MN = "laptop.alice.example.org"
CN = "pc.bob.example.net"
SERVERS = {"dc.example.org": "DCmn", "dc.example.net": "DCcn"}


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure as it ran."""

    title: str
    world: World
    columns: dict[str, str]
    start: Instant
    end: Instant
    text: str = ""
    """What to look for, in a sentence."""
    counts: bool = True
    """Whether the time from start to end means anything: not where keep-alives are waited for."""
    hidden: frozenset[str] = frozenset()
    """Messages that are not drawn."""

    @property
    def delays(self) -> float:
        """One-way delays from the start to the end."""
        return (self.end - self.start) / self.world.internet.core.quality.delay_ns

    @property
    def arrows(self) -> list[Arrow]:
        """The messages, by arrival; what went over both families at once is there once."""
        return once(self.world.recorder.since(self.start))

    @property
    def messages(self) -> list[tuple[str, str, str]]:
        """(from, message, to) with the columns' titles, by arrival."""
        names = self.columns
        return [
            (names[a.sender], a.message, names[a.receiver])
            for a in self.arrows
            if a.sender in names and a.receiver in names and a.message not in self.hidden
        ]

    def draw(self) -> str:
        """Return the chart."""
        return self.world.chart(self.columns, self.start, self.hidden)


def figure_2() -> Figure:
    """Node authentication by password. Source: paper, Fig. 2."""
    world = World()
    org = world.organisation("example.org")
    node = world.stranger("laptop.alice", org)
    start = world.now
    node.log_in(PASSWORD)
    world.run_until(lambda: bool(node.events_of(LoggedIn)), "the login")
    columns = {MN: "node", "as.example.org": "AS", "dc.example.org": "DC"}
    text = "The nonce is ours: it proves the device key without comparing clocks."
    return Figure("Fig. 2: node authentication", world, columns, start, world.now, text)


def figure_3() -> Figure:
    """Registration from behind a NAT, then keep-alives. Source: paper, Fig. 3."""
    world = World()
    org = world.organisation("example.org")
    node = world.stranger("laptop.alice", org, world.internet.home("home"))
    node.log_in(PASSWORD)
    world.run_until(lambda: bool(node.events_of(LoggedIn)), "the login")
    start = world.now
    world.await_registration(node)
    world.run_for(61)
    columns = {MN: "node", "dc.example.org": "DC"}
    text = "The Challenge is ours: a new source is believed only after a round trip."
    return Figure("Fig. 3: registration", world, columns, start, world.now, text, counts=False)


def figure_4() -> Figure:
    """Registration with NS, then reached through it. Source: paper, Fig. 4."""
    world = World()
    org, net = world.organisation("example.org"), world.organisation("example.net", notifiers=1)
    peer = world.node("laptop.alice", org)
    home = world.internet.home("home", NatBehaviour(lifetime_s=10))
    node = world.stranger("pc.bob", net, home, NodeOptions(keepalive=KeepAliveChoice.TCP))
    node.log_in(PASSWORD)
    world.run_until(lambda: bool(node.events_of(LoggedIn)), "the login")
    start = world.now
    world.await_registration(node)
    world.run_for(300)
    world.connect(peer, node)
    columns = {CN: "node", "dc.example.net": "DC", "ns.example.net": "NS"}
    text = (
        "The NAT forgets UDP after 10 s; after five minutes the Route Direction goes by the "
        "connection, as DC sealed it for the node. DC asks NS every 10 s whether it is there; that "
        "is not drawn."
    )
    beats = frozenset(("UDP Keep Alive", "Keep Alive Answer"))
    title = "Fig. 4: registration with NS"
    return Figure(title, world, columns, start, world.now, text, counts=False, hidden=beats)


def figure_5() -> Figure:
    """Name resolution between two domains that meet for the first time. Source: paper, Fig. 5."""
    world, mn, cn = two_domains(mn_behind_nat=False)
    columns = {MN: "MN", **SERVERS, CN: "CN"}
    text = "Nothing is shared yet: NS record, Key Sharing, then the path of Fig. 6."
    return _resolved("Fig. 5: name resolution, domains meet", world, mn, cn, columns, text)


def figure_6() -> Figure:
    """CN behind a NAT, MN global, keys warm. Source: paper, Fig. 6."""
    world, mn, cn = two_domains(mn_behind_nat=False)
    warm_up(world, mn)
    columns = {MN: "MN", **SERVERS, CN: "CN"}
    text = "Route Directions go out in parallel; the paper's order takes 8."
    return _resolved("Fig. 6: CN behind a NAT", world, mn, cn, columns, text)


def figure_7() -> Figure:
    """Both behind NATs, keys warm: through RS. Source: paper, Fig. 7."""
    world, mn, cn = two_domains(mn_behind_nat=True)
    warm_up(world, mn)
    columns = {
        MN: "MN",
        "dc.example.org": "DCmn",
        "rs.example.org": "RS",
        "dc.example.net": "DCcn",
        CN: "CN",
    }
    text = "RS is directed in parallel too; the paper's order takes 14."
    return _resolved("Fig. 7: both behind NATs", world, mn, cn, columns, text)


FIGURES: tuple[Callable[[], Figure], ...] = (
    figure_2,
    figure_3,
    figure_4,
    figure_5,
    figure_6,
    figure_7,
)


def two_domains(
    *, mn_behind_nat: bool, cn_behind_nat: bool = True, seed: int = 0
) -> tuple[World, SimNode, SimNode]:
    """Return a world with MN and CN registered, and tv.bob, who serves to warm keys up."""
    world = World(seed)
    internet = world.internet
    org, net = world.organisation("example.org"), world.organisation("example.net")
    mn = world.node("laptop.alice", org, internet.home("mn home") if mn_behind_nat else None)
    cn = world.node("pc.bob", net, internet.home("cn home") if cn_behind_nat else None)
    world.node("tv.bob", net, internet.home("tv home"))
    return world, mn, cn


def warm_up(world: World, mn: SimNode) -> None:
    """Let MN build a tunnel to tv.bob, so that the servers share their keys."""
    world.connect(mn, world.nodes["tv.bob.example.net"])
    world.run_for(2)


def _resolved(
    title: str, world: World, mn: SimNode, cn: SimNode, columns: dict[str, str], text: str
) -> Figure:
    start = world.now
    answer = world.resolve(mn, cn.fqdn)
    if isinstance(answer, NameRefused):
        raise SimulationError(world.now, str(answer), world.recorder.tail())
    end = world.now
    world.run_for(1)
    return Figure(title, world, columns, start, end, text)
