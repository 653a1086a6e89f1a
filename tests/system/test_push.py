"""Nodes that hold no connection at all are woken through their push services, and reached.

Real FCM, APNs and Web Push as the vendors speak them (ntmobile.lab.push); the phone's system is a
program that gets the push, as the vendor's does, and runs `ntm wake`. The node's own NAT has
forgotten it long before. Source: paper, Figs. 3, 4 and 6.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ntmobile.lab import Nat
from ntmobile.lab.capture import Capture
from ntmobile.lab.ntm import NtmNode, Organisation, World, together
from ntmobile.lab.push.services import DEVICE_PORT, CustomerKeys
from ntmobile.lab.push.site import Phone, PushSite, reload
from tests.system.conftest import Figure
from tests.system.failing import newest_log, refusal
from tests.system.programs import HELLO, Programs

pytestmark = [pytest.mark.lab, pytest.mark.paper("Push", "Fig. 3", "Fig. 6")]
SERVICES = ("fcm", "apns", "web")
DELAYS = {"fcm": 0.0, "apns": 5.0, "web": 0.0}
"""Seconds from a push to the start of the app; one phone takes longer than a DNS query may."""
AGAIN = ["--retry", "5", "--retry-all-errors", "--retry-delay", "1"]
"""On a busy machine an app starts later than the C library waits for a name: people try again."""
ASLEEP_S = 6.0
"""A DC takes a node for awake for 5 s after it was heard."""
SILENCE_S = 25.0
"""A node that keeps its mapping alive by UDP does so every 20 s."""
FROM_NODE = f"ip and not tcp port {DEVICE_PORT}"
"""All but the vendor's own link, which the phone's system holds for every app."""


@dataclass
class Place:
    """One domain; phones behind a NAT, each with a push service of its own, and a laptop."""

    org: Organisation
    site: PushSite
    home: Nat
    laptop: NtmNode
    nodes: dict[str, NtmNode]
    phones: dict[str, Phone]
    quiet: Capture
    """Of the last of the nodes, at its NAT."""
    since: float


@pytest.fixture(scope="module")
def place(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    org = world.organisation("ntm.example.org")
    site = PushSite(world)
    site.subscribe_operator(org)
    home = world.lab.nat("home", world.internet)
    nodes = {each: world.machine(f"{each}-phone", "bob", org, home) for each in SERVICES}
    laptop = world.machine("laptop", "alice", org, world.internet)
    started = together(lambda each: site.phone(nodes[each], each, delay_s=DELAYS[each]), SERVICES)
    phones = dict(zip(SERVICES, started, strict=True))
    programs = Programs(Path(tmp_path_factory.mktemp("web")) / "served")
    for node in nodes.values():
        programs.serve_web(node.host)
    ups = [(laptop, ()), *((nodes[each], ("--push", phones[each].option)) for each in SERVICES)]
    together(lambda one: one[0].up(options=one[1]), ups)
    address = nodes["web"].host.ipv4
    time.sleep(ASLEEP_S)
    with Capture(home, f"host {address} and {FROM_NODE}") as quiet:
        home.expire()
        yield Place(org, site, home, laptop, nodes, phones, quiet, time.perf_counter())


def fall_asleep(place: Place) -> None:
    """Wait until the DC takes the nodes for asleep, and have their NAT forget them."""
    time.sleep(ASLEEP_S)
    place.home.expire()


def reach(place: Place, service: str) -> float:
    """Fetch a page from a sleeping node by its name; returns how long that took in seconds."""
    url = f"http://{place.nodes[service].fqdn}/hello.txt"
    began = time.perf_counter()
    command = ["curl", "-sS", "--noproxy", "*", "--max-time", "60", *AGAIN, url]
    assert place.laptop.host.run(command).stdout == HELLO
    took_s = time.perf_counter() - began
    assert "pushed: " in place.phones[service].log.read_text()
    return took_s


def refused(place: Place, service: str) -> str:
    """Ask for a node that cannot be woken; returns what the person at the laptop reads."""
    _, said = refusal(place.laptop, "wait", place.nodes[service].fqdn)
    return said


def test_a_push_service_that_is_down_is_named_and_works_again_when_it_is_up(
    place: Place, figure: Figure
) -> None:
    place.site.fail("fcm", 503, times=99)

    said = refused(place, "fcm")

    assert "its push service takes no wake-up now" in said
    assert "tell the operator" in said
    log = newest_log(place.org)
    assert "push.example.org answered 503" in log
    place.site.mend("fcm")
    took = reach(place, "fcm")
    figure("fcm: name asked for to page fetched from a sleeping node", f"{took:.2f} s")


def test_wrong_credentials_are_named_and_the_node_is_reached_once_they_are_right(
    place: Place, figure: Figure
) -> None:
    key = place.org.directory / "push-apns.p8"
    right = key.read_bytes()
    key.write_bytes(CustomerKeys.make().apns_pem())
    reload(place.org)

    said = refused(place, "apns")

    assert "the push service refuses its credentials" in said
    assert "tell the operator" in said
    log = newest_log(place.org)
    assert "InvalidProviderToken" in log
    assert "[push.apns] key, key_id and team_id" in log
    key.write_bytes(right)
    reload(place.org)
    took = reach(place, "apns")
    figure(
        f"apns: the same, of a phone that takes {DELAYS['apns']:.0f} s to start its app",
        f"{took:.2f} s",
    )


def test_a_node_that_sleeps_sends_nothing(place: Place, figure: Figure) -> None:
    time.sleep(max(0.0, place.since + SILENCE_S - time.perf_counter()))
    lasted_s = time.perf_counter() - place.since

    packets = place.quiet.packets()

    assert packets == []
    figure(f"push: packets of an idle node at its NAT in {lasted_s:.0f} s", str(len(packets)))


def test_a_phone_that_is_off_is_named(place: Place) -> None:
    """The negative twin of every node that is reached here: without the push nothing wakes it."""
    place.phones["web"].stop()

    said = refused(place, "web")

    assert "was sent a wake-up and did not answer it in time" in said
    assert place.site.counts("web") == {"201": 1}


def test_a_token_that_is_gone_is_named_and_a_new_one_wakes_the_node(
    place: Place, figure: Figure
) -> None:
    node, phone = place.nodes["web"], place.phones["web"]
    place.site.expire(phone)

    said = refused(place, "web")

    assert "its push service does not know it any more" in said
    assert "ntm up --keepalive push --push with a new device token" in said
    assert refused(place, "web") == said
    assert place.site.counts("web")["410"] == 1
    place.phones["web"] = place.site.phone(node, "web")
    told = node.ntm("wake", "--json").stdout
    assert "does not know this node's device token any more" in told
    told = node.ntm("up", "--push", place.phones["web"].option, "--json").stdout
    assert "device token" not in told
    fall_asleep(place)
    with Capture(place.home, f"host {node.host.ipv4} and {FROM_NODE}") as capture:
        took = reach(place, "web")
        # The negative twin of the silence: this is how a node that is awake looks there.
        assert capture.packets()
    figure("web push: name asked for to page fetched from a sleeping node", f"{took:.2f} s")
