"""Servers that are killed: what stands goes on, what is under way ends once they are back."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ntmobile.lab.ntm import NtmNode, Organisation, World
from tests.system.failing import (
    Download,
    command,
    ended,
    forget_tunnels,
    hanging,
    queued,
    restart,
    seconds_until,
    serve_stream,
)

pytestmark = pytest.mark.lab
STALL_S = 1.0
"""Longest silence that the death of a server may cause in what already runs."""
BACK_S = 3.0
"""After `ready`, what waited for a server has this long."""
ALL = "as,dc,rs"
DC_UDP, RS_UDP, AS_HTTPS, DC_HTTPS = 4330, 4331, 443, 444


@dataclass
class Place:
    """One domain with its roles apart, one with all in one process, and three nodes."""

    org: Organisation
    net: Organisation
    laptop: NtmNode
    """Behind a NAT, of org."""
    pc: NtmNode
    """Behind a NAT, of net: reached through the relay of org."""
    box: NtmNode
    """On the internet, of net: reached directly."""


@pytest.fixture(scope="module")
def place(world: World) -> Place:
    org = world.organisation("ntm.example.org", apart=True)
    net = world.organisation("ntm.example.net")
    world.federate(org, net)
    lab, internet = world.lab, world.internet
    laptop = world.machine("laptop", "alice", org, lab.nat("home", internet))
    pc = world.machine("pc", "bob", net, lab.nat("office", internet))
    box = world.machine("box", "bob", net, internet)
    world.bring_up(laptop, pc, box)
    serve_stream(pc.host)
    serve_stream(box.host)
    return Place(org, net, laptop, pc, box)


@dataclass(frozen=True)
class Victim:
    """A process of a server and where it takes what a set-up needs of it."""

    organisation: str
    roles: str
    port: int

    def of(self, place: Place) -> Organisation:
        organisation: Organisation = getattr(place, self.organisation)
        return organisation

    def __str__(self) -> str:
        return f"{self.roles} of {self.organisation}"


AS, DC, RS = Victim("org", "as", AS_HTTPS), Victim("org", "dc", DC_UDP), Victim("org", "rs", RS_UDP)
THEIRS = Victim("net", ALL, DC_UDP)
GIVEN_A_KEY = Victim("org", "dc", DC_HTTPS)
"""DC, while it is given Kntmdc."""


@pytest.mark.parametrize("victim", [AS, DC, THEIRS], ids=str)
def test_a_relayed_download_does_not_notice_that_a_server_died(
    place: Place, victim: Victim
) -> None:
    organisation = victim.of(place)
    with Download(place.laptop, place.pc, seconds=8) as download:
        assert place.laptop.peer(place.pc)["path"]["kind"] == "relay"
        began = time.perf_counter()
        organisation.kill(victim.roles)
        download.await_more()
        restart(organisation, victim.roles)
        download.finish()
        assert download.longest_gap_s(began) < STALL_S


@pytest.mark.parametrize("victim", [AS, DC, RS, THEIRS], ids=str)
def test_a_direct_download_does_not_notice_that_a_server_died(place: Place, victim: Victim) -> None:
    organisation = victim.of(place)
    with Download(place.laptop, place.box, seconds=8) as download:
        assert place.laptop.peer(place.box)["path"]["kind"] == "direct"
        began = time.perf_counter()
        organisation.kill(victim.roles)
        download.await_more()
        restart(organisation, victim.roles)
        download.finish()
        assert download.longest_gap_s(began) < STALL_S


def test_a_download_through_a_relay_that_died_goes_on_once_it_is_back(place: Place) -> None:
    with Download(place.laptop, place.pc, seconds=6) as download:
        assert place.laptop.peer(place.pc)["path"]["kind"] == "relay"

        place.org.kill("rs")
        ready = restart(place.org, "rs")
        download.await_more()

        assert time.perf_counter() - ready < BACK_S
        download.finish()


def test_a_download_through_a_relay_stalls_while_it_is_dead(place: Place) -> None:
    """The negative twin of all above: the clock they are measured by does tick."""
    with Download(place.laptop, place.pc, seconds=6) as download:
        place.org.kill("rs")
        began = time.perf_counter()
        time.sleep(2 * STALL_S)

        assert download.longest_gap_s(began) > STALL_S
        restart(place.org, "rs")
        download.finish()


@pytest.mark.parametrize("victim", [DC, RS, THEIRS], ids=str)
def test_a_tunnel_being_built_when_a_server_is_killed_stands_soon_after_it_is_back(
    place: Place, victim: Victim
) -> None:
    keys_shared(place)
    forget_tunnels(place.laptop)

    waiting = die_while(
        victim, place, lambda: command(place.laptop, "wait", place.pc.fqdn, "--timeout", "40")
    )
    ready = restart(victim.of(place), victim.roles)

    code, _, said = ended(waiting)
    assert (code, time.perf_counter() - ready < BACK_S) == (0, True), said
    assert place.laptop.host.run(["ping", "-c", "1", "-W", "5", place.pc.fqdn])


@pytest.mark.parametrize("victim", [AS, GIVEN_A_KEY], ids=str)
def test_a_login_under_way_when_a_server_is_killed_ends_soon_after_it_is_back(
    place: Place, victim: Victim
) -> None:
    place.laptop.ntm("down")

    coming_up = die_while(victim, place, lambda: command(place.laptop, "up"))
    waiting = command(place.laptop, "wait", "--timeout", "40")
    ready = restart(victim.of(place), victim.roles)

    code, _, said = ended(waiting)
    assert (code, time.perf_counter() - ready < BACK_S) == (0, True), said
    ended(coming_up)


def keys_shared(place: Place) -> None:
    """See to it that the servers share keys: a tunnel has been built since they started."""
    forget_tunnels(place.laptop)
    place.laptop.ntm("wait", place.pc.fqdn, "--timeout", "20")


def die_while(
    victim: Victim, place: Place, act: Callable[[], "subprocess.Popen[str]"]
) -> "subprocess.Popen[str]":
    """Kill a server in the very moment in which something waits for its answer."""
    organisation = victim.of(place)
    transport = "tcp" if victim.port in (AS_HTTPS, DC_HTTPS) else "udp"
    with hanging(organisation.processes[victim.roles]):
        acting = act()
        seconds_until(
            lambda: queued(organisation.host, transport, victim.port), f"a question to the {victim}"
        )
        organisation.kill(victim.roles)
    return acting
