"""A network that only an HTTP proxy leads out of, as in many companies."""

from dataclasses import dataclass
from typing import Any

import pytest

from ntmobile.lab import Host
from ntmobile.lab.errors import LabError
from ntmobile.lab.ntm import NtmNode, World
from ntmobile.lab.waiting import wait_until
from tests.system.programs import HELLO, Programs, fetch
from tests.system.squid import PASSWORD, PORT, USER, Squid

pytestmark = pytest.mark.lab

ONLY_DNS = """
table ip vault {
  chain forward {
    type filter hook forward priority -10;
    meta l4proto udp ct original proto-dst 53 accept
    ct state established accept
    drop
  }
}
"""
LONG_S = 120.0
STRICT = 3129


@dataclass
class Scene:
    """A node inside, one outside, and the proxy between."""

    laptop: NtmNode
    pc: NtmNode
    proxy: Host
    squid: Squid
    strict: Squid
    """Another one on the same machine, that lets nobody out but to port 443."""

    def url(self, user: str = "", port: int = PORT) -> str:
        return f"http://{user}{self.proxy.uplinks['eth0'].ipv4.ip}:{port}"  # type: ignore[union-attr]

    @property
    def credentials(self) -> str:
        return f"{USER}:{PASSWORD.replace(' ', '%20')}@"


@pytest.fixture(scope="module")
def scene(world: World) -> Scene:
    org = world.organisation("ntm.example.org")
    vault = world.lab.nat("vault", world.internet)
    vault.nft(ONLY_DNS)
    laptop = world.machine("laptop", "alice", org, vault)
    pc = world.machine("pc", "alice", org, world.internet)
    proxy = world.lab.host("proxy", vault)
    proxy.add_uplink(world.internet, metric=50)
    squid = Squid(proxy, world.directory / "squid.log")
    strict = Squid(proxy, world.directory / "strict.log", port=STRICT, only_443=True)
    world.bring_up(pc)
    Programs(world.directory / "served").serve_web(pc.host)
    return Scene(laptop, pc, proxy, squid, strict)


def refused(scene: Scene, user: str | None) -> str:
    """Return what `ntm up` says when it fails."""
    env = {} if user is None else {"HTTPS_PROXY": scene.url(user)}
    with pytest.raises(LabError) as error:
        scene.laptop.up(env=env)
    scene.laptop.ntm("down", check=False)
    return str(error.value)


def test_without_the_proxy_nothing_gets_out_and_the_node_says_what_to_do(scene: Scene) -> None:
    """The negative twin of all below."""
    told = refused(scene, None)

    assert "does not answer" in told
    assert "HTTPS_PROXY" in told


@pytest.mark.parametrize(
    ("user", "told"),
    [("", "wants a user and a password"), (f"{USER}:wrong@", "does not take the user")],
    ids=["no password", "a wrong one"],
)
def test_a_proxy_that_refuses_is_named_with_the_remedy(scene: Scene, user: str, told: str) -> None:
    said = refused(scene, user)

    assert told in said
    assert "http://USER:PASSWORD@HOST:PORT" in said
    assert "wrong" not in said.replace("certificate is wrong", "")


def test_login_signalling_and_relay_go_through_the_proxy(scene: Scene) -> None:
    laptop, pc = scene.laptop, scene.pc

    laptop.up(env={"HTTPS_PROXY": scene.url(scene.credentials)})

    assert "UDP is blocked here" in laptop.ntm("status").stdout
    assert fetch(laptop, pc, "-4", patience_s=LONG_S) == HELLO
    assert fetch(laptop, pc, "-6", patience_s=LONG_S) == HELLO
    path = laptop.peer(pc)["path"]
    assert (path["kind"], path["websocket"]) == ("relay", True)
    assert laptop.ntm("bugreport").stdout.count(PASSWORD.split()[0]) == 0


def test_the_other_way_round_the_node_inside_is_reached(scene: Scene) -> None:
    Programs(scene.laptop.organisation.directory.with_name("inside")).serve_web(scene.laptop.host)

    assert fetch(scene.pc, scene.laptop, "-4", patience_s=LONG_S) == HELLO


def test_the_setting_outlives_the_agent_and_does_not_show_the_password(scene: Scene) -> None:
    laptop = scene.laptop

    shown = laptop.ntm("set", f"proxy={scene.url(scene.credentials)}").stdout
    laptop.ntm("down")
    laptop.ntm("up")

    # Squid writes what it carried when it ends.
    ways = [f" {server}.ntm.example.org:443 {USER} " for server in ("as", "dc", "rs")]
    wait_until(lambda: all(way in scene.squid.log() for way in ways), "squid's log", LONG_S)
    assert f"proxy={scene.url()}" in shown
    assert "sesame" not in shown
    assert fetch(laptop, scene.pc, "-4", patience_s=LONG_S) == HELLO


@pytest.mark.paper("Fig. 4", "Notification Registration", "Notification")
def test_the_connection_to_ns_goes_through_the_proxy_and_the_node_is_reached_over_it(
    scene: Scene,
) -> None:
    laptop = scene.laptop
    laptop.ntm("up", "--keepalive", "tcp")

    wait_until(lambda: keepalive(laptop)["now"] == "tcp", "the connection to NS", LONG_S)

    assert keepalive(laptop)["server"] == "ns.ntm.example.org"
    scene.pc.ntm("down")
    scene.pc.ntm("up")
    assert fetch(scene.pc, laptop, "-4", patience_s=LONG_S) == HELLO
    laptop.ntm("down")
    # Squid writes what it carried when it ends.
    way = f" ns.ntm.example.org:4434 {USER} "
    wait_until(lambda: way in scene.squid.log(), "the connection in squid's log", LONG_S)
    laptop.ntm("up")


def test_a_proxy_that_lets_only_443_through_is_named_and_the_node_is_reached_all_the_same(
    scene: Scene,
) -> None:
    """The negative twin: nothing else leads to NS."""
    laptop = scene.laptop
    laptop.ntm("set", f"proxy={scene.url(scene.credentials, STRICT)}")
    laptop.ntm("down")
    laptop.ntm("up")

    wait_until(lambda: "the proxy" in str(keepalive(laptop)["problem"]), "a reason", LONG_S)

    told = keepalive(laptop)
    assert told["now"] == "udp"
    assert (
        "forbids connections to ns.ntm.example.org, port 4434: ask who runs it" in told["problem"]
    )
    scene.pc.ntm("down")
    scene.pc.ntm("up")
    assert fetch(scene.pc, laptop, "-4", patience_s=LONG_S) == HELLO


def keepalive(node: NtmNode) -> dict[str, Any]:
    """What status says of how the node is reached."""
    said: dict[str, Any] = node.status()["keepalive"]
    return said
