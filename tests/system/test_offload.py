"""The same bytes arrive whether or not the machines hand over many packets as one."""

from collections.abc import Iterator

import pytest

from ntmobile.lab.ntm import NtmNode, World
from tests.system.conftest import Figure
from tests.system.programs import Programs, iperf
from tests.system.transfers import Transfer, make_file

pytestmark = [pytest.mark.lab, pytest.mark.alone]

SIZE = 32 << 20
SECONDS = 2
SLOWEST_MBIT = 20
"""A debug build on a busy machine does better; what is broken stays far below."""
OFFLOADS = [(True, True), (True, False), (False, True), (False, False)]
IDS = ["both", "here-only", "there-only", "neither"]


class Pair:
    """Two nodes with a direct path, and a file that both serve."""

    def __init__(self, world: World, served: Programs) -> None:
        org, net = world.federation("ntm.example.org", "ntm.example.net")
        self.here = world.machine("here", "alice", org, world.internet)
        self.there = world.machine("there", "bob", net, world.internet)
        world.bring_up(self.here, self.there)
        self.digest = make_file(served.folder / "file", SIZE)
        served.serve(self.there.host)
        served.serve_web(self.here.host)

    def offload(self, here: bool, there: bool) -> None:
        """Let the machines' wires carry super-packets, or not."""
        self.here.host.offload(here)
        self.there.host.offload(there)


@pytest.fixture(scope="module")
def pair(world: World, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(world, Programs(tmp_path_factory.mktemp("served") / "files"))


@pytest.fixture(params=OFFLOADS, ids=IDS)
def offloaded(pair: Pair, request: pytest.FixtureRequest) -> Iterator[Pair]:
    pair.offload(*request.param)
    yield pair
    pair.offload(True, True)


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_iperf3_gets_through_at_speed(
    offloaded: Pair, family: str, figure: Figure, request: pytest.FixtureRequest
) -> None:
    received = iperf(offloaded.here, offloaded.there, family, "--time", str(SECONDS))

    mbit = received["bits_per_second"] / 1e6
    figure(f"iperf3 {family}, debug build, {request.node.callspec.id}", f"{mbit:.0f} Mbit/s")
    assert mbit > SLOWEST_MBIT


@pytest.mark.parametrize("direction", ["there-to-here", "here-to-there"])
def test_every_byte_is_right(offloaded: Pair, direction: str) -> None:
    ends: tuple[NtmNode, NtmNode] = (offloaded.here, offloaded.there)
    receiver, sender = ends if direction == "there-to-here" else ends[::-1]

    with Transfer(receiver, sender, "file") as transfer:
        digest = transfer.finish()

    assert digest == offloaded.digest
