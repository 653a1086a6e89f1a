"""Two NS on machines of their own, and a node behind a NAT that forgets UDP after 5 s.

In the order given: each test leaves the world to the next. Source: paper, Fig. 4.
"""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from ntmobile.lab import Behaviour
from ntmobile.lab.further import FurtherServer
from ntmobile.lab.ntm import NtmNode, Organisation, World, together
from ntmobile.lab.waiting import wait_until
from tests.system.conftest import Figure
from tests.system.programs import HELLO, Programs

pytestmark = [
    pytest.mark.lab,
    pytest.mark.paper("Fig. 4", "Notification", "Notification Direction", "Key Sharing"),
]
FORGETFUL = Behaviour(udp_lifetime_s=5)
SILENCE_S = 7.0
"""More than the NAT remembers."""
NOTICED_S = 13.0
"""The DC asks each NS every 10 s whether it is there, and counts it as silent 1.5 s later."""
PATIENCE_S = 90.0
FOUND_S = 120.0
BROUGHT = """
table inet brought {
  chain in {
    type filter hook input priority 0;
    udp dport 4434 meta length > 400 counter
  }
}
"""
"""Counts what DC gives NS for nodes: its question whether NS is there is shorter."""


@dataclass
class Place:
    """An operator with AS, DC and RS on one machine and two NS; MNs, and CN on TCP."""

    org: Organisation
    notifiers: dict[str, FurtherServer]
    callers: list[NtmNode]
    held: NtmNode

    def serving(self) -> FurtherServer | None:
        """The NS that holds CN's connection."""
        return self.notifiers.get(str(self.held.status()["keepalive"]["server"]))

    def await_serving(self, but: FurtherServer | None = None) -> FurtherServer:
        """Wait until an NS holds the node, another one than that; returns it."""
        wait_until(lambda: self.serving() not in (None, but), "an NS to hold the node", FOUND_S)
        found = self.serving()
        assert found is not None
        return found


@pytest.fixture(scope="module")
def place(world: World) -> Place:
    org = world.organisation("ntm.example.org", roles=("as", "dc", "rs"))
    hosts = [world.lab.host(name, world.internet) for name in ("ns1", "ns2")]
    made = [FurtherServer(org, "ns", host) for host in hosts]
    for each in made:
        world.lab.logs[each.fqdn] = each.log.read_text
        each.start()
    together(FurtherServer.await_ready, made)
    home = world.lab.nat("home", world.internet, FORGETFUL)
    held = world.machine("held", "bob", org, home, ipv6=None)
    names = ("laptop", "desk", "tablet")
    callers = [world.machine(name, "alice", org, world.internet) for name in names]
    ups = [*((each, ()) for each in callers), (held, ("--keepalive", "tcp"))]
    together(lambda one: one[0].up(options=one[1]), ups)
    Programs(world.directory / "served").serve_web(held.host)
    found = Place(org, {each.fqdn: each for each in made}, callers, held)
    found.await_serving()
    return found


def curl(mn: NtmNode, cn: NtmNode) -> list[str]:
    url = f"http://{cn.fqdn}/hello.txt"
    return ["curl", "-sS", "--fail", "--noproxy", "*", "--max-time", "80", url]


def test_the_directory_of_an_ns_has_no_secret_of_the_domain(place: Place) -> None:
    secret = (place.org.directory / "domain.key").read_bytes()
    for each in place.notifiers.values():
        files = {file.name: file for file in Path(each.directory).iterdir() if file.is_file()}
        assert {"domain.key", "ca.key", "ntm.db"} & set(files) == set()
        assert all(secret not in file.read_bytes() for file in files.values())


def test_a_node_whose_ns_is_killed_goes_to_the_other_and_stays_when_the_first_is_back(
    place: Place, figure: Figure
) -> None:
    first = place.await_serving()
    began = time.perf_counter()
    first.kill()
    second = place.await_serving(but=first)
    figure("kill -9 of NS to another that holds the node", f"{time.perf_counter() - began:.1f} s")

    first.start()
    first.await_ready()
    time.sleep(SILENCE_S)

    assert place.serving() is second
    caller = place.callers[0]
    assert caller.host.run(curl(caller, place.held), timeout=PATIENCE_S).stdout == HELLO


def test_an_ns_killed_with_a_route_direction_in_its_hands_only_delays_the_tunnel(
    place: Place, figure: Figure
) -> None:
    """It has taken the datagram and not looked at it: nobody else has what was in it."""
    holder, caller = place.await_serving(), place.callers[1]
    holder.host.nft(BROUGHT)
    time.sleep(SILENCE_S)
    holder.freeze()
    began = time.perf_counter()
    asking = caller.host.popen(curl(caller, place.held), stdout=subprocess.PIPE)
    wait_until(lambda: brought(holder) > 0, "the Route Direction to reach NS", PATIENCE_S)

    holder.kill()
    page, _ = asking.communicate(timeout=PATIENCE_S)

    took = time.perf_counter() - began
    figure("page by a new tunnel, its NS killed in the middle", f"{took:.1f} s")
    assert page == HELLO
    assert place.await_serving(but=holder) is not holder


def test_where_it_is_the_only_ns_the_name_is_refused_with_the_reason_until_it_is_back(
    place: Place,
) -> None:
    """The negative twin: its machine loses its network, so nobody tells the node."""
    [only] = [each for each in place.notifiers.values() if is_running(each)]
    caller = place.callers[2]
    # From now the next TCP Keep Alive, by which the node would notice, is two minutes away.
    place.held.ntm("down")
    place.held.ntm("up")
    assert place.await_serving() is only
    only.host.set_carrier(False)
    time.sleep(NOTICED_S)

    told: list[str] = []
    wait_until(lambda: "holds the node's connection" in hear(told, caller, place.held), "a reason")

    assert "the notification server that holds the node's connection does not answer" in told[-1]
    assert "[[notifier]]" in told[-1]
    only.host.set_carrier(True)
    wait_until(lambda: "1 answer" in ping(caller, place.held), "the node to be reached", FOUND_S)
    assert place.serving() is only


def brought(notifier: FurtherServer) -> int:
    """How many Notifications reached the machine of an NS."""
    listed = notifier.host.run(["nft", "list", "table", "inet", "brought"]).stdout
    return int(listed.partition("packets ")[2].split()[0])


def is_running(notifier: FurtherServer) -> bool:
    return notifier.process is not None and notifier.process.poll() is None


def hear(told: list[str], caller: NtmNode, held: NtmNode) -> str:
    """Ask again; returns what is told, and keeps it."""
    told.append(ping(caller, held))
    return told[-1]


def ping(caller: NtmNode, held: NtmNode) -> str:
    """What `ntm ping` says, on both outputs."""
    done = caller.ntm("ping", held.fqdn, "-c", "1", check=False)
    return done.stdout + done.stderr
