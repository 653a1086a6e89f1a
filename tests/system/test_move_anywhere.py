"""One ssh session lives through every kind of change of network, one after the other."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from ntmobile.lab import Internet, Nat
from ntmobile.lab.host import Host
from ntmobile.lab.ntm import NtmNode, World
from tests.system.conftest import Figure
from tests.system.programs import Programs

pytestmark = pytest.mark.lab

GUARD_S = 120.0
"""Until the session answers again, however busy the machine; how soon is a figure."""
A_MOMENT_S = 2.0
HOLE_S = 3.0


@dataclass
class Scene:
    """Where both ends can go, and the session between them."""

    internet: Internet
    home: Nat
    cafe: Nat
    office: Nat
    nodes: tuple[NtmNode, NtmNode]
    session: subprocess.Popen[str]
    answers: list[str] = field(default_factory=list)

    @property
    def laptop(self) -> Host:
        return self.nodes[0].host

    @property
    def pc(self) -> Host:
        return self.nodes[1].host

    def listen(self) -> None:
        """Note what the session answers, until it ends."""
        assert self.session.stdout is not None
        self.answers += self.session.stdout

    def type(self, line: str, within_s: float = GUARD_S) -> float:
        """Return after how many seconds the session answered; raises AssertionError if not."""
        assert self.session.stdin is not None
        began = time.perf_counter()
        self.session.stdin.write(f"{line}\n")
        self.session.stdin.flush()
        return self.await_answer(f"{line}\n", began, within_s)

    def await_answer(self, line: str, began: float, within_s: float = GUARD_S) -> float:
        while line not in self.answers:
            assert time.perf_counter() - began < within_s, f"no answer to {line!r}"
            time.sleep(0.002)
        return time.perf_counter() - began


@pytest.fixture(scope="module")
def scene(world: World) -> Iterator[Scene]:
    org, net = world.federation("ntm.example.org", "ntm.example.net")
    home, cafe, office = (
        world.lab.nat(name, world.internet) for name in ("home", "cafe", "office")
    )
    laptop = world.machine("laptop", "alice", org, home)
    pc = world.machine("pc", "bob", net, office)
    world.bring_up(laptop, pc)
    served = Programs(world.directory / "served")
    served.serve_ssh(pc.host)
    pipe = subprocess.PIPE
    session = laptop.host.popen(served.ssh(pc.fqdn, "cat"), stdin=pipe, stdout=pipe)
    made = Scene(world.internet, home, cafe, office, (laptop, pc), session)
    listener = threading.Thread(target=made.listen)
    listener.start()
    made.type("ready")
    yield made
    session.kill()
    listener.join()


def idle_to_another_nat(scene: Scene) -> None:
    scene.laptop.move(scene.cafe)


def both_ends_at_once(scene: Scene) -> None:
    scene.laptop.move(scene.home)
    scene.pc.move(scene.internet)


def to_ipv6_only(scene: Scene) -> None:
    scene.laptop.move(scene.internet, ipv4=None)


def from_ipv6_only_to_a_nat_of_ipv4(scene: Scene) -> None:
    scene.laptop.move(scene.cafe)


def the_peer_into_a_nat(scene: Scene) -> None:
    scene.pc.move(scene.office)


def relayed_to_ipv6_only(scene: Scene) -> None:
    scene.laptop.move(scene.internet, ipv4=None)


def to_ipv4_only(scene: Scene) -> None:
    scene.laptop.move(scene.internet, ipv6=None)


def through_four_networks_in_a_row(scene: Scene) -> None:
    for network in (scene.home, scene.internet, scene.cafe, scene.home):
        scene.laptop.move(network)


def the_peer_to_the_internet(scene: Scene) -> None:
    scene.pc.move(scene.internet)


def the_nat_forgets_everything(scene: Scene) -> None:
    scene.home.reboot()


def the_plug_is_out_for_a_while(scene: Scene) -> None:
    scene.laptop.set_carrier(False)
    time.sleep(HOLE_S)
    scene.laptop.set_carrier(True)


def nowhere_for_a_while(scene: Scene) -> None:
    scene.laptop.drop_uplink()
    time.sleep(HOLE_S)
    scene.laptop.add_uplink(scene.cafe)


def a_second_and_better_uplink(scene: Scene) -> None:
    scene.laptop.move(scene.home, keep_old=True, interface="wlan0")


def the_first_uplink_goes(scene: Scene) -> None:
    scene.laptop.drop_uplink("eth0")


def the_peer_is_gone_while_this_end_moves(scene: Scene) -> None:
    scene.pc.drop_uplink()
    time.sleep(HOLE_S)
    scene.laptop.move(scene.cafe)
    scene.pc.add_uplink(scene.office)


CHANGES = (
    idle_to_another_nat,
    both_ends_at_once,
    to_ipv6_only,
    from_ipv6_only_to_a_nat_of_ipv4,
    the_peer_into_a_nat,
    relayed_to_ipv6_only,
    to_ipv4_only,
    through_four_networks_in_a_row,
    the_peer_to_the_internet,
    the_nat_forgets_everything,
    the_plug_is_out_for_a_while,
    nowhere_for_a_while,
    a_second_and_better_uplink,
    the_first_uplink_goes,
    the_peer_is_gone_while_this_end_moves,
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_session_answers_again_after(
    scene: Scene, change: Callable[[Scene], None], figure: Figure
) -> None:
    """In the order given: each change starts from where the one before led."""
    change(scene)

    took_s = scene.type(change.__name__)

    figure(f"ssh, {change.__name__.replace('_', ' ')}", f"answers after {took_s * 1000:.0f} ms")


def test_a_session_with_a_machine_that_is_nowhere_does_not_answer(scene: Scene) -> None:
    scene.pc.drop_uplink()

    with pytest.raises(AssertionError, match="no answer"):
        scene.type("anybody there?", within_s=A_MOMENT_S)

    scene.pc.add_uplink(scene.office)
    scene.await_answer("anybody there?\n", time.perf_counter())
