"""The demo for who may not make networks: the same protocol machines in the simulator.

Names, messages, keys, NATs and decisions are those of the real thing; packets, clocks and the
packet loops are simulated, in virtual time that passes as fast as the real one.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from rich.console import Console
from rich.text import Text

from ntmobile.lab.demo.delays import PAPER
from ntmobile.lab.demo.map import OFFICE_NAT
from ntmobile.lab.demo.scene import LAPTOP, NET, ORG, PC, PHONE, TV, Scene, Way, Where
from ntmobile.lab.demo.screen import Screen, open_screen
from ntmobile.lab.demo.summary import print_lines
from ntmobile.proto.node.events import NameRefused, Pong
from ntmobile.runtime.clock import Clock
from ntmobile.sim.errors import SimulationError
from ntmobile.sim.network import Network
from ntmobile.sim.node import SimNode
from ntmobile.sim.traffic import SEGMENT, Stream
from ntmobile.sim.world import World

ONE_WAY_MS = 10
"""Between any two hosts of the simulated internet."""
SEGMENTS = 8000
MOVES = ((0.3, Where.CAFE), (0.65, Where.INTERNET))
TICK_S = 0.1
CHART_PAUSE_S = 0.15
NS_PER_MS = 1_000_000
COLUMNS = {
    f"{LAPTOP}.alice.{ORG}": "laptop",
    f"dc.{ORG}": "DCmn",
    f"rs.{ORG}": "RS",
    f"dc.{NET}": "DCcn",
}


def simulate(console: Console, reason: str, *, pace: float = 1.0) -> int:
    """Tell the story and print its figures; returns the exit code.

    `reason` is why it is not the real demo; `pace` is real seconds for a virtual one.
    """
    clock, scene = Clock(), Scene()
    with open_screen(scene, console, clock) as screen:
        screen.say(f"no network can be made here: {reason}", "yellow")
        screen.say("so this is SIMULATED: real protocol machines, virtual packets and time", "bold")
        story = SimulatedStory(scene, screen, pace=pace)
        story.tell()
    print_lines(console, story.lines())
    how = f"remove the obstacle ({reason})" if os.geteuid() == 0 else "sudo make demo"
    console.print(Text(f"next, with real packets: {how}", "bold"), soft_wrap=True)
    return 0 if story.is_whole else 1


@dataclass
class SimulatedStory:
    """The same acts as in the real story."""

    scene: Scene
    screen: Screen
    pace: float = 1.0
    """Real seconds for a virtual one."""
    world: World = field(default_factory=World)
    networks: dict[Where, Network] = field(default_factory=dict)
    set_ups: list[tuple[str, float]] = field(default_factory=list)
    """Figure of the paper, and one-way delays."""
    gaps_ms: list[tuple[Where, float]] = field(default_factory=list)
    stream: Stream | None = None

    def tell(self) -> None:
        """Let it happen; raises SimulationError where the protocol fails."""
        laptop, pc = self._build()
        self._ask(laptop, pc, "Fig. 7")
        self._download(laptop, pc)
        self._ask(laptop, self.world.nodes[f"{PHONE}.bob.{NET}"], "Fig. 6")

    @property
    def is_whole(self) -> bool:
        """Whether every byte came, in order; the stream compares each."""
        return self.stream is not None and self.stream.done

    def lines(self) -> Iterator[tuple[str, str]]:
        """Return what to say at the end, each with the label it stands under."""
        for figure, delays in self.set_ups:
            ms = delays * ONE_WAY_MS
            told = f"{delays:.0f} one-way delays (the paper: {PAPER[figure]}), {ms:.0f} ms"
            yield "set-up", f"{figure}, keys warm: {told} from DNS query to DNS answer"
        for goal, gap_ms in self.gaps_ms:
            yield "outage", f"to the {goal}: {gap_ms:.0f} ms; a round trip is {2 * ONE_WAY_MS} ms"
        verdict = "whole and in order" if self.is_whole else "BROKEN"
        yield "download", f"{SEGMENTS * SEGMENT:,} bytes, {verdict}, over {len(self.gaps_ms)} moves"
        yield "simulated", "networks, NATs, time, and the packet loops; nothing of the protocol"

    def _build(self) -> tuple[SimNode, SimNode]:
        world, internet = self.world, self.world.internet
        org, net = world.organisation(ORG), world.organisation(NET)
        home, office = internet.home(Where.HOME), internet.home(OFFICE_NAT)
        cafe = internet.home(Where.CAFE)
        self.networks = {Where.HOME: home, Where.CAFE: cafe, Where.INTERNET: internet.core}
        laptop = world.node(f"{LAPTOP}.alice", org, home)
        pc, tv, _ = (world.node(f"{name}.bob", net, office) for name in (PC, TV, PHONE))
        self.scene.up |= {ORG, NET, LAPTOP, PC, TV, PHONE}
        self.scene.addresses |= {LAPTOP: _address(laptop), PC: _address(pc)}
        self.screen.say(f"{ORG} and {NET} run, with their nodes behind NATs")
        world.connect(laptop, tv)
        world.run_for(2)
        self.screen.say(f"{laptop.fqdn} once spoke to {tv.fqdn}: the coordinators share keys")
        return laptop, pc

    def _ask(self, laptop: SimNode, peer: SimNode, figure: str) -> None:
        world = self.world
        self.screen.say(f"an application on the laptop asks DNS for {peer.fqdn}", "bold")
        began = world.now
        answer = world.resolve(laptop, peer.fqdn)
        if isinstance(answer, NameRefused):
            raise SimulationError(world.now, str(answer), world.recorder.tail())
        delays = (world.now - began) / (ONE_WAY_MS * NS_PER_MS)
        world.run_for(0.5)
        self.set_ups.append((figure, delays))
        columns = {**COLUMNS, peer.fqdn: peer.state.name}
        self.screen.show(world.chart(columns, began).splitlines(), CHART_PAUSE_S * self.pace)
        self.screen.say(
            f"{delays:.0f} one-way delays ({figure}; the paper: {PAPER[figure]}); "
            f"DNS answers {answer.ipv6}",
            "green",
        )

    def _download(self, laptop: SimNode, pc: SimNode) -> None:
        self.screen.say("a download from the pc begins", "bold")
        self.scene.size = SEGMENTS * SEGMENT
        self.stream = stream = Stream(pc, pc.address_of(laptop), laptop, SEGMENTS)
        for part, goal in MOVES:
            self._follow(laptop, pc, stream, int(part * SEGMENTS))
            self._move(laptop, goal)
            before = len(stream.deliveries) - 1
            self._follow(laptop, pc, stream, stream.delivered + SEGMENTS // 10)
            self.gaps_ms.append((goal, _longest(stream, before)))
        self._follow(laptop, pc, stream, SEGMENTS)
        self.screen.say("the download is over: every byte came, in order", "green")

    def _move(self, laptop: SimNode, goal: Where) -> None:
        self.screen.say(f"the laptop leaves the {self.scene.where} and joins the {goal}", "yellow")
        self.world.move(laptop, self.networks[goal])
        self.scene.where = goal
        self.scene.addresses[LAPTOP] = _address(laptop)

    def _follow(self, laptop: SimNode, pc: SimNode, stream: Stream, until: int) -> None:
        while stream.delivered < until:
            before = stream.delivered
            laptop.call(lambda now: laptop.machine.ping(pc.fqdn, 0, now))
            self.world.run_for(TICK_S)
            if stream.broken:
                raise SimulationError(self.world.now, "the stream broke")
            self.scene.received = stream.delivered * SEGMENT
            self.scene.rates.append((stream.delivered - before) * SEGMENT / TICK_S)
            self._look(laptop)
            time.sleep(TICK_S * self.pace)

    def _look(self, laptop: SimNode) -> None:
        pongs = laptop.events_of(Pong)
        if pongs:
            self.scene.way = Way.RELAY if pongs[-1].relayed else Way.DIRECT
            self.scene.rtts_ms.append(pongs[-1].rtt_ns / NS_PER_MS)


def _address(node: SimNode) -> str:
    """Return the real address of a node with one network."""
    [interface] = node.host.interfaces.values()
    return str(min(interface.addresses, key=lambda address: address.version))


def _longest(stream: Stream, since: int) -> float:
    """Return the longest gap, in ms, between two deliveries from number `since` on."""
    times = stream.deliveries[max(0, since) :]
    longest = max((b - a for a, b in pairwise(times)), default=0)
    return longest / NS_PER_MS
