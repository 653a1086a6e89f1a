"""`ntm trace` draws the paper's figures from real runs, of one end or of all who took part."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ntmobile.lab import Lab
from ntmobile.lab.ntm import NtmNode, Organisation, World
from ntmobile.lab.waiting import wait_until

pytestmark = pytest.mark.lab


@dataclass
class Scene:
    """Two domains that met when laptop asked for pc; tablet asked for it afterwards."""

    org: Organisation
    net: Organisation
    laptop: NtmNode
    tablet: NtmNode
    phone: NtmNode
    """Kept alive by TCP through NS."""
    pc: NtmNode
    directory: Path
    told: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By MN: the tunnel's number, and where those who took part told of it."""

    def keep(self, name: str, text: str) -> str:
        """Write what somebody told into a file; return its name."""
        file = self.directory / f"{name}.json"
        file.write_text(text)
        return str(file)

    def remember(self, mn: NtmNode) -> None:
        """Have all who took part tell now: what a busy machine does later is another story."""
        told = mn.ntm("trace", self.pc.fqdn, "--json").stdout
        number = json.loads(told)["negotiation"]
        files = [
            self.keep(f"mn-{mn.name}", told),
            self.keep(f"cn-{mn.name}", self.pc.ntm("trace", mn.fqdn, "--json").stdout),
            self.keep(f"dccn-{mn.name}", self.net.admin("trace", number, "--json")),
        ]
        self.told[mn.name] = (number, *(word for file in files for word in ("--with", file)))

    def tunnel(self, mn: NtmNode) -> list[str]:
        """The chart of a tunnel to pc, from what all who took part tell."""
        return drawn(self.org.admin("trace", *self.told[mn.name]))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Lab() as lab:
        world = World(lab)
        org, net = world.federation("ntm.example.org", "ntm.example.net")
        laptop = world.machine("laptop", "alice", org, world.internet)
        tablet = world.machine("tablet", "alice", org, lab.nat("home", world.internet))
        pc = world.machine("pc", "bob", net, lab.nat("office", world.internet))
        phone = world.machine("phone", "alice", org, lab.nat("cell", world.internet))
        world.bring_up(laptop, tablet, pc)
        scene = Scene(org, net, laptop, tablet, phone, pc, tmp_path_factory.mktemp("told"))
        for node in (laptop, tablet):
            node.host.run(["getent", "ahosts", pc.fqdn])
            scene.remember(node)
        yield scene


@pytest.mark.paper("Fig. 2", "Fig. 3")
def test_a_node_draws_its_own_login_and_registration(scene: Scene) -> None:
    lines = drawn(scene.laptop.ntm("trace").stdout)

    assert in_order(lines, "Login Request", "Login Response", "Registration Request", "Challenge")
    assert in_order(lines, "Challenge", "Registration Response")
    assert columns(lines) == ["node", "AS", "DC"]
    assert "Key Distribution" not in str(lines)


@pytest.mark.paper("Fig. 2", "Fig. 3")
def test_node_and_servers_together_draw_figs_2_and_3(scene: Scene) -> None:
    told = scene.keep("servers", scene.org.admin("trace", "laptop.alice", "--json"))

    lines = drawn(scene.laptop.ntm("trace", "--with", told).stdout)

    assert columns(lines) == ["node", "AS", "DC"]
    assert "|<|" not in "".join(lines), "nobody speaks to itself"
    assert in_order(lines, "Login Request", "Key Distribution", "NTM ACK", "Login Response")
    assert in_order(lines, "Login Response", "Registration Request", "Registration Response")


@pytest.mark.paper("Fig. 5", "Fig. 6")
def test_all_together_draw_figs_5_and_6(scene: Scene) -> None:
    lines = scene.tunnel(scene.laptop)

    assert columns(lines) == ["application", "MN", "DCmn", "DNS", "DCcn", "CN"]
    assert in_order(
        lines,
        "DNS Query",
        "Direction Request",
        "NS Query",
        "NS Answer",
        "Key Sharing",
        "Node Information Request",
        "Node Information Response",
        "Route Direction",
        "Tunnel Request",
        "DNS Answer",
    )
    assert in_order(lines, "Tunnel Request", "Tunnel Response")
    assert arrow_of(lines, "Tunnel Request").count("<") == 1, "CN sends it, from the right"


@pytest.mark.paper("Fig. 7")
def test_all_together_draw_fig_7(scene: Scene) -> None:
    lines = scene.tunnel(scene.tablet)

    assert columns(lines)[:4] == ["application", "MN", "DCmn", "RS"]
    assert columns(lines)[-2:] == ["DCcn", "CN"]
    assert in_order(lines, "DNS Query", "Relay Direction", "Tunnel Request", "DNS Answer")
    assert in_order(lines, "Relay Direction", "Hole Punching")
    assert " x" not in "".join(lines), "nothing is lost on a quiet wire"


@pytest.mark.paper("Fig. 5")
def test_a_node_alone_sees_nothing_of_what_servers_say_to_each_other(scene: Scene) -> None:
    """The negative twin: these legs come from the servers' journals and from nowhere else."""
    lines = drawn(scene.laptop.ntm("trace", scene.pc.fqdn).stdout)

    assert "Direction Request" in str(lines)
    assert "Node Information" not in str(lines)
    assert columns(lines) == ["application", "MN", "DCmn", "CN"]


def test_an_rs_knows_a_tunnel_by_its_number_only(scene: Scene) -> None:
    told = json.loads(scene.tablet.ntm("trace", scene.pc.fqdn, "--json").stdout)

    seen = json.loads(scene.org.admin("trace", told["negotiation"], "--json"))

    of_rs = [step for step in seen["steps"] if step["here"] == "RS"]
    assert {"Relay Direction", "Hole Punching", "Tunnel Request"} <= {s["message"] for s in of_rs}
    assert [step for step in of_rs if step["names"]] == []


@pytest.mark.paper("Fig. 4")
def test_node_and_servers_together_draw_fig_4(scene: Scene) -> None:
    # Last: what the DC shares with NS would be in the charts above, too.
    scene.phone.up(options=("--keepalive", "tcp"))
    wait_until(lambda: "through ns." in scene.phone.ntm("status").stdout, "the connection to NS")
    told = scene.keep("servers-of-phone", scene.org.admin("trace", "phone.alice", "--json"))

    lines = drawn(scene.phone.ntm("trace", "--with", told).stdout)

    assert columns(lines) == ["node", "AS", "DC", "NS"]
    assert in_order(
        lines,
        "Registration Request",
        "Notification Direction",
        "Registration Response",
        "Notification Registration",
    )
    assert arrow_of(lines, "Notification Direction").count(">") == 1, "DC directs NS"


def drawn(text: str) -> list[str]:
    print(text)
    return text.splitlines()


def columns(lines: list[str]) -> list[str]:
    """Who takes part, from left to right."""
    return next(line.split() for line in lines if line.startswith("    ") and "|" not in line)


def in_order(lines: list[str], *messages: str) -> bool:
    """Whether the first of each message stands below the first of the one before."""
    words = [re.compile(rf"\b{message}\b") for message in messages]
    places = [next(n for n, line in enumerate(lines) if word.search(line)) for word in words]
    return places == sorted(places)


def arrow_of(lines: list[str], message: str) -> str:
    """The line of the arrow below the message's name."""
    return lines[next(n for n, line in enumerate(lines) if message in line) + 1]
