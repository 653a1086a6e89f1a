"""Push services that cannot be had, each in its way: who asks is told, the operator is told more,
and once the service is back the node is woken, without anything being started anew.

Real FCM, APNs and Web Push as the vendors speak them (ntmobile.lab.push). What stands in for them
meanwhile is another machine, to which their name leads.
Source: paper, Push. Ours: docs/protocol.md section 9.
"""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ntmobile.lab import Nat
from ntmobile.lab.host import Host
from ntmobile.lab.ntm import NtmNode, Organisation, World, together
from ntmobile.lab.push.services import APNS_PORT, HTTPS_PORT
from ntmobile.lab.push.site import NAME, Phone, PushSite, reload
from tests.system.failing import forget_tunnels, newest_log, refusal, seconds_until
from tests.system.programs import HELLO, Programs, await_listening

pytestmark = [
    pytest.mark.lab,
    pytest.mark.paper("Push"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="not installed: openssl"),
]
SERVICES = ("fcm", "apns", "web")
AGAIN = ["--retry", "5", "--retry-all-errors", "--retry-delay", "1"]
"""On a busy machine an app starts later than the C library waits for a name: people try again."""
AWAKE_S = 6.0
"""A DC takes a node for awake for 5 s after it was heard."""
LISTENER = """
import socket, sys, threading
for port in map(int, sys.argv[1:]):
    listening = socket.create_server(("", port))
    threading.Thread(target=lambda each=listening: [each.accept() for _ in iter(int, 1)]).start()
"""
"""Takes connections and never says a word."""


@dataclass
class Place:
    """One domain; phones behind a NAT, each with a push service of its own, and a laptop."""

    world: World
    org: Organisation
    site: PushSite
    home: Nat
    impostor: Host
    laptop: NtmNode
    nodes: dict[str, NtmNode]
    phones: dict[str, Phone]
    directory: Path
    awake: dict[str, float]
    """When nodes were last reached, or spoke for another reason."""


@pytest.fixture(scope="module")
def place(world: World, tmp_path_factory: pytest.TempPathFactory) -> Place:
    org = world.organisation("ntm.example.org")
    site = PushSite(world)
    site.subscribe_operator(org)
    home = world.lab.nat("home", world.internet)
    impostor = world.lab.host("impostor", world.internet, ipv6=None)
    nodes = {each: world.machine(f"{each}-phone", "bob", org, home) for each in SERVICES}
    laptop = world.machine("laptop", "alice", org, world.internet)
    started = together(lambda each: site.phone(nodes[each], each), SERVICES)
    phones = dict(zip(SERVICES, started, strict=True))
    directory = Path(tmp_path_factory.mktemp("files"))
    programs = Programs(directory / "served")
    for node in nodes.values():
        programs.serve_web(node.host)
    ups = [(laptop, ()), *((nodes[each], ("--push", phones[each].option)) for each in SERVICES)]
    together(lambda one: one[0].up(options=one[1]), ups)
    awake = dict.fromkeys(SERVICES, time.perf_counter())
    return Place(world, org, site, home, impostor, laptop, nodes, phones, directory, awake)


@contextmanager
def led_to(place: Place, address: str | None) -> Iterator[None]:
    """The services' name leads elsewhere, or nowhere; and no connection to them is left."""
    dns = place.world.dns
    if address is None:
        dns.remove(NAME, "A")
    else:
        dns.replace(f"{NAME}. 60 IN A {address}")
    reload(place.org)
    try:
        yield
    finally:
        dns.replace(f"{NAME}. 60 IN A {place.site.host.ipv4}")


@contextmanager
def refusing(place: Place) -> Iterator[None]:
    with led_to(place, str(place.impostor.ipv4)):
        yield


@contextmanager
def nameless(place: Place) -> Iterator[None]:
    with led_to(place, None):
        yield


@contextmanager
def mute(place: Place) -> Iterator[None]:
    """Whoever is there takes the connection and says nothing."""
    ports = [str(HTTPS_PORT), str(APNS_PORT)]
    listener = place.impostor.popen([sys.executable, "-c", LISTENER, *ports])
    await_listening(place.impostor, APNS_PORT)
    try:
        with led_to(place, str(place.impostor.ipv4)):
            yield
    finally:
        listener.kill()
        listener.wait()


@contextmanager
def hung(place: Place) -> Iterator[None]:
    """The service itself hangs, and the connection that stood to it with it."""
    with place.site.silent():
        yield


@contextmanager
def forged(place: Place) -> Iterator[None]:
    """Who is there has a certificate of its own making for the name."""
    own = [str(place.directory / name) for name in ("forged.pem", "forged.key")]
    place.impostor.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={NAME}"),
            *("-addext", f"subjectAltName=DNS:{NAME}", "-out", own[0], "-keyout", own[1]),
        ]
    )
    command = ["openssl", "s_server", "-quiet", "-www", "-cert", own[0], "-key", own[1]]
    server = place.impostor.popen([*command, "-accept", str(HTTPS_PORT)])
    await_listening(place.impostor, HTTPS_PORT)
    try:
        with led_to(place, str(place.impostor.ipv4)):
            yield
    finally:
        server.kill()
        server.wait()


DOWN = "its push service takes no wake-up now"
WAYS = {
    "refuses connections": (refusing, "fcm", DOWN, "cannot be reached"),
    "has no name": (nameless, "apns", DOWN, "cannot be reached"),
    "is another": (forged, "web", "could not prove to be that service", "[push] ca"),
    "takes connections and says nothing": (mute, "fcm", DOWN, "says nothing"),
    "hangs": (hung, "apns", DOWN, "says nothing"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_push_service_that(place: Place, way: str) -> None:
    """Each is named to who asks and to the operator, and wakes the node again once it is back."""
    broken, service, told, logged = WAYS[way]
    asleep(place, service)
    before = len(newest_log(place.org))
    with broken(place):
        said = asked(place, service)
        log = newest_log(place.org)[before:]

    assert told in said
    assert "next: " in said
    assert "the operator of the node's domain: the log of ntm serve says" in said
    assert f"service={service}" in log
    assert logged in log
    assert "next=" in log
    assert way_of(place, service) == "push"
    assert reach(place, service) == HELLO
    assert "pushed: " in place.phones[service].log.read_text()


@pytest.mark.parametrize(("service", "answered"), [("fcm", "404"), ("apns", "410")])
def test_a_token_that_is_gone_is_named_to_the_operator_too_and_a_new_one_works(
    place: Place, service: str, answered: str
) -> None:
    node = place.nodes[service]
    asleep(place, service)
    place.site.expire(place.phones[service])

    said = asked(place, service)

    assert "its push service does not know it any more" in said
    assert "ntm up --keepalive push --push with a new device token" in said
    assert any(each.startswith(answered) for each in place.site.counts(service))
    assert "a device token is gone" in newest_log(place.org)
    seconds_until(lambda: "gone" in way_of(place, service), "the store to be written")
    assert way_of(place, service) == "udp (device token gone)"
    node.ntm("wake")
    assert "does not know this node's device token any more" in str(node.status()["reasons"])
    place.phones[service] = place.site.phone(node, service)
    node.ntm("up", "--push", place.phones[service].option)
    place.awake[service] = time.perf_counter()
    assert node.status()["reasons"] == []
    asleep(place, service)
    assert reach(place, service) == HELLO
    seconds_until(lambda: way_of(place, service) == "push", "the store to be written")


def test_how_a_running_node_is_reached_changes_by_ntm_set(place: Place) -> None:
    """And with it what the DC does: the push service is asked only while the node wants that."""
    node, phone = place.nodes["web"], place.phones["web"]
    seen: list[tuple[str, str, bool]] = []

    for way in ("udp", "tcp", "push", "udp"):
        node.ntm("set", f"keepalive={way}")
        place.awake["web"] = time.perf_counter()
        seconds_until(lambda way=way: node.status()["keepalive"]["now"] == way, f"{way} to work")
        assert node.status()["keepalive"]["chosen"] == way
        seconds_until(lambda way=way: way_of(place, "web").startswith(way), "the DC to know")
        if way == "push":
            asleep(place, "web")
        else:
            forget_tunnels(place.laptop)
        pushes = phone.log.read_text().count("pushed: ")
        if way == "tcp":
            place.home.expire()
        assert reach(place, "web") == HELLO
        woken = phone.log.read_text().count("pushed: ") > pushes
        seen.append((way, way_of(place, "web").partition(" ")[0], woken))

    assert seen == [
        ("udp", "udp", False),
        ("tcp", "tcp", False),
        ("push", "push", True),
        ("udp", "udp", False),
    ]


def asleep(place: Place, service: str) -> None:
    """Return when the DC takes a node for asleep, no tunnel stands and its NAT has forgotten it."""
    since = place.awake.pop(service, None)
    if since is not None:
        forget_tunnels(place.laptop)
        time.sleep(max(0.0, since + AWAKE_S - time.perf_counter()))
    place.home.expire()


def asked(place: Place, service: str) -> str:
    """Ask for a node that cannot be woken; returns what the person at the laptop reads."""
    return refusal(place.laptop, "ping", place.nodes[service].fqdn, "-c", "1")[1]


def reach(place: Place, service: str) -> str:
    """Fetch a page from a node by its name."""
    url = f"http://{place.nodes[service].fqdn}/hello.txt"
    command = ["curl", "-sS", "--noproxy", "*", "--max-time", "60", *AGAIN, url]
    fetched = place.laptop.host.run(command).stdout
    place.awake[service] = time.perf_counter()
    return fetched


def way_of(place: Place, service: str) -> str:
    """How the DC reaches a node, as the operator sees it."""
    rows = json.loads(place.org.admin("node", "list", "--json"))
    ways = {row["fqdn"]: row["reached_by"] for row in rows}
    return str(ways[place.nodes[service].fqdn])
