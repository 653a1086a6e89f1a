"""Two RS on machines of their own, one of them far: which carries, and what its death costs.

In the order given: each test leaves the world to the next. Ours: docs/protocol.md sections 7 and 8.
"""

import time
from dataclasses import dataclass

import pytest

from ntmobile.lab import Impairment
from ntmobile.lab.further import FurtherServer
from ntmobile.lab.ntm import NtmNode, World, together
from ntmobile.lab.waiting import wait_until
from tests.system.conftest import Figure
from tests.system.failing import SYMMETRIC, Download, seconds_until, serve_stream
from tests.system.stream import BLOCK

pytestmark = pytest.mark.lab
FAR = Impairment(delay_ms=40)
DOWNLOAD_S = 12.0
STALLED_S = 1.0
"""No byte for so long, where one comes every few milliseconds."""
PATIENCE_S = 120.0


@dataclass
class Place:
    """An operator with AS and DC on one machine, and two RS, without which two nodes never meet."""

    far: FurtherServer
    """The first in the operator's order."""
    near: FurtherServer
    laptop: NtmNode
    pc: NtmNode

    def carrying(self) -> FurtherServer | None:
        """The RS that the tunnel leads through now, as laptop says."""
        path = self.laptop.peer(self.pc)["path"]
        for each in (self.far, self.near):
            if path is not None and path["remote"].rsplit(":", 1)[0] in addresses(each):
                assert path["kind"] == "relay"
                return each
        return None

    def await_carrying(self, wanted: FurtherServer) -> None:
        """Wait until that RS carries; raises LabError."""
        wait_until(lambda: self.carrying() is wanted, f"{wanted.fqdn} to carry", PATIENCE_S)


def addresses(relay: FurtherServer) -> tuple[str, str]:
    return str(relay.host.ipv4), f"[{relay.host.ipv6}]"


@pytest.fixture(scope="module")
def place(world: World) -> Place:
    org = world.organisation("ntm.example.org", roles=("as", "dc"))
    hosts = [world.lab.host(name, world.internet) for name in ("rs1", "rs2")]
    relays = [FurtherServer(org, "rs", host) for host in hosts]
    world.lab.impair(hosts[0], FAR)
    for each in relays:
        world.lab.logs[each.fqdn] = each.log.read_text
        each.start()
    together(FurtherServer.await_ready, relays)
    lab, internet = world.lab, world.internet
    laptop = world.machine("laptop", "alice", org, lab.nat("home", internet, SYMMETRIC), ipv6=None)
    pc = world.machine("pc", "bob", org, lab.nat("office", internet, SYMMETRIC), ipv6=None)
    world.bring_up(laptop, pc)
    serve_stream(pc.host)
    return Place(*relays, laptop, pc)


def round_trips(node: NtmNode) -> dict[str, str]:
    """What `ntm status` says of each RS."""
    servers = node.status()["servers"]
    return {each["name"]: each["detail"] for each in servers if each["role"] == "RS"}


def test_of_two_relays_the_nearer_carries_though_the_other_was_named_first(
    place: Place, figure: Figure
) -> None:
    both = place.laptop, place.pc
    wait_until(lambda: all(len(round_trips(each)) == 2 for each in both), "figures", PATIENCE_S)
    for relay, detail in round_trips(place.laptop).items():
        figure(f"laptop to {relay}", detail)

    with Download(place.laptop, place.pc, 0.5) as download:
        download.finish()

    place.await_carrying(place.near)


def test_a_download_goes_on_through_the_other_relay_when_its_own_is_killed(
    place: Place, figure: Figure
) -> None:
    """By the same TCP connection: curl asks once, and every byte is right."""
    with Download(place.laptop, place.pc, DOWNLOAD_S) as download:
        place.await_carrying(place.near)
        began = time.perf_counter()
        assert download.size < download.blocks * BLOCK, "it is over before anything happened"

        place.near.kill()

        place.await_carrying(place.far)
        download.finish()
        gap_s = download.longest_gap_s(began)
        figure("longest silence, its RS killed, another up", f"{gap_s:.2f} s")


def test_with_the_only_relay_killed_a_download_stalls_and_goes_on_when_that_is_back(
    place: Place, figure: Figure
) -> None:
    """The negative twin: the first is dead since."""
    with Download(place.laptop, place.pc, DOWNLOAD_S) as download:
        place.await_carrying(place.far)
        place.far.kill()
        seconds_until(lambda: stalled(download), "the download to stall")
        assert download.size < download.blocks * BLOCK, "it went on without a relay"

        place.far.start()
        place.far.await_ready()

        began = time.perf_counter()
        download.await_more()
        figure("from `ready` to the next byte", f"{time.perf_counter() - began:.2f} s")
        download.finish()


def stalled(download: Download) -> bool:
    size = download.size
    time.sleep(STALLED_S)
    return download.size == size
