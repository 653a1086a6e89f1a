"""What the demo starts with: two organisations with their servers, three NATs, four nodes."""

from dataclasses import dataclass
from pathlib import Path

from ntmobile.lab.demo.map import OFFICE_NAT
from ntmobile.lab.demo.scene import LAPTOP, NET, ORG, PC, PHONE, TV, Scene, Where
from ntmobile.lab.demo.screen import Screen
from ntmobile.lab.impairment import Impairment
from ntmobile.lab.lab import Lab
from ntmobile.lab.nat import Nat
from ntmobile.lab.network import Network
from ntmobile.lab.ntm import NtmNode, Organisation, World, together
from ntmobile.runtime.clock import Clock
from ntmobile.time import SECOND

ONE_WAY_MS = 10
"""Between any two machines of the internet: half of it on either's wire."""
SLOW = Impairment(delay_ms=ONE_WAY_MS / 2)
FILE = "random.bin"
SIZE = 128 << 20
"""Bytes of the file."""


@dataclass(frozen=True)
class Stage:
    """Everything that is running."""

    world: World
    networks: dict[Where, Network]
    organisations: tuple[Organisation, ...]
    laptop: NtmNode
    """Of alice at ntm.example.org, which moves."""
    pc: NtmNode
    """Of bob at ntm.example.net, behind the office's NAT."""
    tv: NtmNode
    """Likewise; so is the next."""
    phone: NtmNode
    file: Path
    """Random bytes on the pc."""
    start_s: float
    """How long it took until all this ran."""

    @property
    def nodes(self) -> tuple[NtmNode, ...]:
        """All of them."""
        return self.laptop, self.pc, self.tv, self.phone

    def dead(self) -> list[str]:
        """Return what should be running and is not."""
        servers = [
            f"ntm serve {roles} of {made.domain}"
            for made in self.organisations
            for roles, process in made.processes.items()
            if process.poll() is not None
        ]
        agents = [node for node in self.nodes if not Path(f"/proc/{node.pid}").exists()]
        return servers + [f"the agent of {node.fqdn}" for node in agents]


def build(lab: Lab, scene: Scene, screen: Screen, clock: Clock) -> Stage:
    """Return the stage when every node is registered; raises LabError."""
    began = clock.now()
    scene.doing = "making networks"
    world = World(lab)
    nats = _nats(world, scene)
    home, cafe, office = nats
    networks = {Where.HOME: home, Where.CAFE: cafe, Where.INTERNET: world.internet}
    screen.say("an internet with its own DNS root and three NATs stand, in network namespaces")
    scene.doing = "starting two organisations: account server, coordinator, relay, name server"
    organisations = _organise(world, scene)
    for made in organisations:
        screen.say(f"{made.domain} is in service at {made.host.ipv4}")
    screen.say("each has pinned the other's domain key; they share nothing else")
    scene.doing = "four nodes log in"
    nodes = _nodes(world, networks[Where.HOME], office, organisations)
    _introduce(nodes, scene, screen)
    start_s = (clock.now() - began) / SECOND
    scene.doing = "making wires longer"
    _slow_down(world, nats)
    screen.say(f"from now on every message takes {ONE_WAY_MS} ms from one end to the other")
    scene.doing = ""
    file = lab.directory / FILE
    _fill(nodes[1], file)
    return Stage(world, networks, organisations, *nodes, file, start_s)


def _nats(world: World, scene: Scene) -> list[Nat]:
    nats = [world.lab.nat(name, world.internet) for name in ("home", "cafe", "office")]
    titles = (str(Where.HOME), str(Where.CAFE), OFFICE_NAT)
    for title, nat in zip(titles, nats, strict=True):
        scene.addresses[title] = str(nat.outside)
    return nats


def _slow_down(world: World, nats: list[Nat]) -> None:
    wires = [nat.uplink for nat in nats]
    wires += [made.host.uplink for made in world.organisations]
    together(lambda wire: world.lab.impair(wire, SLOW), wires)


def _organise(world: World, scene: Scene) -> tuple[Organisation, ...]:
    organisations = world.federation(ORG, NET)
    for made in organisations:
        scene.up.add(made.domain)
        scene.addresses[made.domain] = str(made.host.ipv4)
    return organisations


def _nodes(
    world: World, home: Network, office: Network, organisations: tuple[Organisation, ...]
) -> tuple[NtmNode, NtmNode, NtmNode, NtmNode]:
    org, net = organisations
    together(lambda one: one[0].add_user(one[1]), ((org, "alice"), (net, "bob")))
    nodes = (
        world.machine(LAPTOP, "alice", org, home),
        world.machine(PC, "bob", net, office),
        world.machine(TV, "bob", net, office),
        world.machine(PHONE, "bob", net, office),
    )
    world.bring_up(*nodes)
    return nodes


def _introduce(nodes: tuple[NtmNode, ...], scene: Scene, screen: Screen) -> None:
    for node in nodes:
        scene.up.add(node.name)
        scene.addresses[node.name] = str(node.host.ipv4)
        where = node.host.uplink.network.name
        screen.say(f"{node.fqdn} is up: {node.host.ipv4} behind the {where} NAT")


def _fill(pc: NtmNode, file: Path) -> None:
    what = ["if=/dev/urandom", f"of={file}", "bs=1M", f"count={SIZE >> 20}"]
    pc.host.run(["dd", "status=none", *what])


def end_of_logs(directory: Path, lines: int = 8) -> list[str]:
    """Return the last lines of every log of a lab, for when something failed."""
    found = []
    for log in sorted(directory.glob("**/*.log")):
        text = log.read_text(errors="replace")
        found += [f"--- {log.relative_to(directory)}", *text.splitlines()[-lines:]]
    return found
