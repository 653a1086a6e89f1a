"""Garbage and replays at every port: nothing breaks, all is counted, and what stands goes on."""

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field

import pytest

from ntmobile.lab.ntm import NtmNode, Organisation, World
from tests.system import attacker as attacking
from tests.system.attacker import Address, Attacker, Datagram, datagrams
from tests.system.conftest import Figure
from tests.system.failing import (
    SYMMETRIC,
    Download,
    forget_tunnels,
    restart,
    seconds_until,
    serve_stream,
)
from tests.system.programs import await_listening

pytestmark = [pytest.mark.lab, pytest.mark.alone]
ALL = "as,dc,ns,rs"
METRICS = "127.0.0.1:9433"
DC, RS, HTTPS, DNS, IPERF = 4330, 4331, 443, 53, 5201
GARBAGE = 3000
FLOOD_RATE = 50_000
LEAST = 20_000
"""Of those, how many a slow machine must send, which does other things too."""
FLOOD_S = 2.0
ROUNDS = 6
HALF = 0.5
TRIES = 3
A_MOMENT_S = 0.5
LARGEST = 400
"""Bytes of a datagram in a flood."""


@dataclass
class Place:
    """A domain that counts, two nodes behind NATs and one on the internet, and an attacker."""

    org: Organisation
    laptop: NtmNode
    pc: NtmNode
    """Behind a NAT: reached through RS."""
    box: NtmNode
    """On the internet: reached directly."""
    attacker: Attacker
    recorded: list[Datagram] = field(default_factory=list)
    """A login, set-ups and pings, as they passed the servers and the box."""

    def record(self) -> None:
        """Record anew, so that the keys in use are those that the attacker saw."""
        senders = (self.laptop.host, self.pc.host, self.box.host, self.org.host)
        # As datagrams are on a wire: not several in one, as the kernel hands them on.
        for host in senders:
            host.offload(False)
        with self.org.host.capture("udp") as servers, self.box.host.capture("udp") as at_box:
            forget_tunnels(self.laptop)
            for peer in (self.pc, self.box):
                self.laptop.ntm("ping", peer.fqdn, "-c", "3", "-i", "0.1")
            self.recorded = [*datagrams(servers.stop()), *datagrams(at_box.stop())]
        for host in senders:
            host.offload(True)


@pytest.fixture(scope="module")
def place(world: World) -> Place:
    org = world.organisation("ntm.example.org")
    org.kill(ALL)
    settings = org.directory / "server.toml"
    text = settings.read_text()
    settings.write_text(text.replace('metrics = ""', f'metrics = "{METRICS}"'))
    restart(org, ALL)
    lab, internet = world.lab, world.internet
    laptop = world.machine("laptop", "alice", org, lab.nat("home", internet, SYMMETRIC), ipv6=None)
    pc = world.machine("pc", "bob", org, lab.nat("office", internet, SYMMETRIC), ipv6=None)
    box = world.machine("box", "bob", org, internet, ipv6=None)
    world.bring_up(laptop, pc, box)
    for node in (pc, box):
        serve_stream(node.host)
        quiet = subprocess.DEVNULL
        node.host.popen(["iperf3", "--server"], stdout=quiet, stderr=quiet)
        await_listening(node.host, IPERF)
    seed = "hostile"
    mallory = Attacker(lab.host("mallory", internet, ipv6=None), seed)
    made = Place(org, laptop, pc, box, mallory)
    made.record()
    return made


def test_everything_recorded_and_sent_again_changes_nothing_and_is_counted(place: Place) -> None:
    before, counted = standing(place), counts(place)
    assert {DC, RS} <= {datagram.destination[1] for datagram in place.recorded}

    with Download(place.laptop, place.box, seconds=4) as download:
        place.attacker.replay(place.recorded)
        download.finish()

    assert standing(place) == before
    assert_counted(place, counted)


def test_everything_recorded_and_mangled_changes_nothing_and_is_counted(place: Place) -> None:
    before, counted = standing(place), counts(place)

    with Download(place.laptop, place.pc, seconds=4) as download:
        place.attacker.mangle(place.recorded)
        download.finish()

    assert standing(place) == before
    assert_counted(place, counted)


def test_garbage_at_every_datagram_port_changes_nothing_and_is_counted(place: Place) -> None:
    before, counted = standing(place), counts(place)

    with Download(place.laptop, place.box, seconds=4) as download:
        for target in (server(place, DC), server(place, RS), server(place, DNS), node_port(place)):
            place.attacker.throw(target, GARBAGE)
        download.finish()

    assert standing(place) == before
    assert_counted(place, counted, dns=True)


def test_garbage_at_every_listener_is_refused_and_counted(place: Place) -> None:
    before, refused = standing(place), metric(place, "ntm_https_total", "4")

    for port in (DNS, HTTPS):
        place.attacker.throw_at_listener(server(place, port), 50)
    statuses = {
        place.attacker.throw_at_web(server(place, HTTPS), path, place.attacker.noise(size))
        for path in ("/ntm/v1/login", "/ntm/v1/keys", "/")
        for size in (0, 1, 100, 10_000)
    }

    assert statuses <= {400, 401, 404, 413}
    assert metric(place, "ntm_https_total", "4") > refused
    assert standing(place) == before


def test_after_all_that_logins_and_new_tunnels_work_and_no_bug_was_met(place: Place) -> None:
    forget_tunnels(place.laptop, place.box)

    assert "pong from" in place.laptop.ntm("ping", place.box.fqdn, "-c", "1").stdout
    assert "pong from" in place.laptop.ntm("ping", place.pc.fqdn, "-c", "1").stdout
    assert metric(place, "ntm_dc_bugs") == 0
    assert place.org.processes[ALL].poll() is None
    assert "Traceback" not in place.org.log(ALL).read_text() + place.laptop.log() + place.box.log()


def test_a_genuine_move_does_show(place: Place, world: World) -> None:
    """The negative twin: what is compared above is what an attacker would change."""
    before = standing(place)

    place.laptop.host.move(world.lab.nat("cafe", world.internet), ipv6=None)

    seconds_until(lambda: standing(place) != before, "the move to show")
    assert "pong from" in place.laptop.ntm("ping", place.box.fqdn, "-c", "1").stdout


@pytest.mark.parametrize("port", ["node", "dc", "rs"])
def test_a_flood_costs_an_existing_tunnel_at_most_half_its_throughput(
    place: Place, port: str, figure: Figure
) -> None:
    peer = place.box if port == "node" else place.pc
    place.record()
    targets = {"node": node_port(place), "dc": server(place, DC), "rs": server(place, RS)}
    templates = like(place.recorded, targets[port])
    dropped = counts(place)[port]

    # What else a machine does costs throughput too: one round without much of that will do.
    ratios: list[float] = []
    for _ in range(ROUNDS):
        quiet = rate(place.laptop, peer)
        flooding = flood(place, targets[port], templates)
        left = rate(place.laptop, peer) / quiet
        if int(flooding.communicate()[0]) > LEAST * FLOOD_S:
            ratios.append(left)
        if ratios and ratios[-1] >= HALF:
            break

    figure(f"left by {FLOOD_RATE} datagrams/s at {port}", f"{[f'{each:.0%}' for each in ratios]}")
    assert max(ratios, default=0.0) >= HALF
    assert place.laptop.status()["state"] == "up"
    assert counts(place)[port] - dropped > LEAST, "the flood did not arrive"


def standing(place: Place) -> object:
    """What an attacker would like to change: where everybody is."""
    status = place.laptop.status()
    server_views = [(each["role"], each["healthy"], each["detail"]) for each in status["servers"]]
    path = place.box.peer(place.laptop)["path"]["remote"] if knows(place) else None
    paths = {peer["fqdn"]: peer["path"]["remote"] for peer in status["peers"]}
    return status["state"], status["virtual_ipv4"], server_views, paths, path


def knows(place: Place) -> bool:
    """Whether the box has a tunnel to the laptop."""
    return place.laptop.fqdn in {peer["fqdn"] for peer in place.box.status()["peers"]}


def server(place: Place, port: int) -> Address:
    return str(place.org.host.ipv4), port


def node_port(place: Place) -> Address:
    """Where the box takes capsules and signalling."""
    host, _, port = place.laptop.peer(place.box)["path"]["remote"].rpartition(":")
    return host, int(port)


def like(recorded: list[Datagram], target: Address) -> list[bytes]:
    """Datagrams that went to a place: a flood of their like is not dropped at the first byte."""
    found = [each.payload for each in recorded if each.destination == target]
    alike = [payload for payload in found if 40 <= len(payload) <= LARGEST][-20:]
    assert {payload[0] for payload in alike} & {4, 5}, "nothing was recorded there"
    return alike


def flood(place: Place, target: Address, templates: list[bytes]) -> "subprocess.Popen[str]":
    words = [target[0], str(target[1]), str(FLOOD_S), str(FLOOD_RATE)]
    command = [sys.executable, attacking.__file__, *words, *(each.hex() for each in templates)]
    return place.attacker.machine.popen(command, stdout=subprocess.PIPE)


def rate(mn: NtmNode, cn: NtmNode) -> float:
    """Bits a second that one TCP stream gets through."""
    command = ["iperf3", "-4", "--client", cn.fqdn, "--json", "--time", "1", "--reverse"]
    for _ in range(TRIES):
        report = json.loads(mn.host.run(command, check=False).stdout)
        if "error" not in report:
            return float(report["end"]["sum_received"]["bits_per_second"])
        # Its server may still be busy with the one before.
        time.sleep(A_MOMENT_S)
    raise AssertionError(report["error"])


def metric(place: Place, name: str, label: str = "") -> float:
    """The sum of a metric's values whose label begins so."""
    text = place.org.host.run(["curl", "-sS", "--noproxy", "*", f"http://{METRICS}/metrics"]).stdout
    lines = re.findall(rf'^{name}(?:{{\w+="{label}[^"]*"}})? (\S+)$', text, re.MULTILINE)
    return sum(map(float, lines))


def counts(place: Place) -> dict[str, float]:
    """What DC, RS, DNS and the box have dropped so far."""
    dropped = re.findall(
        r"^(?:[\w ]+) = (\d+)$",
        place.box.ntm("bugreport").stdout.partition("-- packet loops")[2].partition("-- the")[0],
        re.MULTILINE,
    )
    return {
        "dc": metric(place, "ntm_dc_rejected_total"),
        "rs": metric(place, "ntm_rs_rejected_total") + metric(place, "ntm_rs_port_total"),
        "dns": metric(place, "ntm_dns_total"),
        "node": float(sum(map(int, dropped))),
    }


def assert_counted(place: Place, before: dict[str, float], *, dns: bool = False) -> None:
    """What was sent to every port shows in its numbers."""
    wanted = {"dc", "rs", "node"} | ({"dns"} if dns else set())
    seconds_until(
        lambda: all(counts(place)[each] > before[each] for each in wanted), "the counters to rise"
    )
