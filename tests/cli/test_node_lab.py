"""`ntm` as people use it: real servers, real namespaces, real agents."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ntmobile.lab.waiting import wait_until

if TYPE_CHECKING:
    from tests.cli.conftest import NodeHost, World

pytestmark = pytest.mark.lab
DOMAIN = "ntm.example.org"
PC = f"pc.bob.{DOMAIN}"
LAPTOP = f"laptop.alice.{DOMAIN}"
PASSWORD = "correct horse battery staple"
GUARD_S = 180

Pair = tuple["NodeHost", "NodeHost"]
NewNode = Callable[..., "NodeHost"]


def test_the_first_up_prints_the_name_and_the_addresses(new_node: NewNode) -> None:
    node = new_node("first", nat=True)

    done = node.login()

    name, ipv4, ipv6 = done.stdout.splitlines()
    assert done.returncode == 0
    assert name == f"first.alice.{DOMAIN} is up"
    assert ipv4.strip().startswith("100.")
    assert ipv6.strip().startswith("fd")


def test_a_later_up_needs_no_password_and_keeps_the_addresses(new_node: NewNode) -> None:
    node = new_node("later")
    node.up()
    before = node.json("status")
    assert node.ntm("down").returncode == 0

    done = node.ntm("up")

    assert done.returncode == 0, done.stderr
    after = node.json("status")
    kept = ("fqdn", "virtual_ipv4", "virtual_ipv6", "device_key")
    assert [after[field] for field in kept] == [before[field] for field in kept]


def test_a_second_up_says_that_the_agent_runs(pair: Pair) -> None:
    laptop, _ = pair

    done = laptop.ntm("up")

    assert done.returncode == 0
    assert "already running" in done.stderr
    assert f"{LAPTOP} is up" in done.stdout


def test_a_wrong_password_changes_nothing_and_leaves_no_agent(new_node: NewNode) -> None:
    node = new_node("typo")

    done = node.login(password="not the password")

    assert done.returncode == 1
    assert "refused the user, the password or the key" in done.stderr
    again = f"up alice@{DOMAIN} --ca {node.world.ca} --name typo, with the right password"
    assert f"next: ntm --state {node.state} {again}" in done.stderr
    assert node.ntm("status").returncode == 3
    assert not (node.state / "account.json").exists()


def test_who_was_shut_out_comes_back_by_ntm_up_without_a_down(
    new_node: NewNode, world: "World"
) -> None:
    node = new_node("banned")
    admin = ("admin", "--server", str(world.organisation), "user")
    world.run(world.server, *admin, "add", "carol", "--password-stdin", input=PASSWORD)
    node.up("carol")
    world.run(world.server, *admin, "disable", "carol")
    wait_until(lambda: node.json("status")["state"] != "up", "the node to be shut out", 60)

    refused = node.ntm("up")
    world.run(world.server, *admin, "enable", "carol")
    admitted = node.ntm("up")

    assert refused.returncode == 1
    assert "up carol@" in refused.stderr
    assert admitted.returncode == 0, admitted.stderr
    assert node.json("status")["state"] == "up"


def test_a_server_that_cannot_be_verified_gets_no_password(new_node: NewNode) -> None:
    node = new_node("careful")

    unknown = node.login("alice", "--fingerprint", "SHA256:" + "00" * 32)

    assert unknown.returncode == 1
    assert "no password was sent" in unknown.stderr
    assert "--ca FILE" in unknown.stderr


def test_a_domain_that_does_not_exist_is_named(new_node: NewNode) -> None:
    node = new_node("lost")

    done = node.ntm("up", "alice@nowhere.example.org", "--password-stdin", input=PASSWORD)

    assert done.returncode == 1
    assert "nowhere.example.org was not found" in done.stderr
    assert "--as" in done.stderr


def test_status_has_every_field_that_programs_rely_on(pair: Pair) -> None:
    laptop, _ = pair
    assert laptop.ntm("wait", PC, "--timeout", "60").returncode == 0

    status = laptop.json("status")

    [peer] = [peer for peer in status["peers"] if peer["fqdn"] == PC]
    assert (status["fqdn"], status["state"], status["reasons"]) == (LAPTOP, "up", [])
    assert {server["role"]: server["healthy"] for server in status["servers"]} == {
        "AS": True,
        "DC": True,
    }
    assert peer["authenticated"] == "certificate"
    assert peer["cipher"] in ("aes-256-gcm", "chacha20-poly1305")
    assert peer["peer_key"].startswith("SHA256:")
    assert {"kind", "local", "remote", "family", "rtt_ms", "mtu"} <= set(peer["path"])
    assert peer["path"]["family"] == "ipv4"
    assert {"tx_bytes", "rx_bytes", "established_ms", "last_handover"} <= set(peer)


def test_an_application_reaches_a_peer_by_its_name(pair: Pair) -> None:
    laptop, _ = pair

    done = laptop.host.run(["ping", "-c", "2", "-i", "0.2", "-W", "5", PC], check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_short_name_is_a_node_of_the_same_user(pair: Pair, new_node: NewNode) -> None:
    laptop, _ = pair
    new_node("desk").up("alice")

    done = laptop.ntm("ping", "desk", "-c", "1")

    assert done.returncode == 0, done.stderr
    assert f"pong from desk.alice.{DOMAIN}" in done.stdout


def test_ping_names_the_path_of_each_answer(pair: Pair) -> None:
    laptop, _ = pair

    done = laptop.ntm("ping", PC, "-c", "2", "-i", "0.1", "--json")

    *pongs, summary = [json.loads(line) for line in done.stdout.splitlines()]
    assert [pong["sequence"] for pong in pongs] == [1, 2]
    assert {pong["kind"] for pong in pongs} <= {"direct", "relay"}
    assert (summary["sent"], summary["received"]) == (2, 2)


def test_a_name_that_is_nobodys_fails_and_says_why(pair: Pair) -> None:
    laptop, _ = pair

    done = laptop.ntm("ping", f"nobody.bob.{DOMAIN}", "-c", "1")

    assert done.returncode == 1
    assert "no such node" in done.stderr


def test_a_node_has_no_tunnel_to_itself(pair: Pair) -> None:
    laptop, _ = pair

    done = laptop.ntm("ping", "laptop", "-c", "1")

    assert done.returncode == 1
    assert f"{LAPTOP} is this node" in done.stderr


def test_trace_draws_how_the_tunnel_was_built(pair: Pair) -> None:
    laptop, _ = pair
    laptop.ntm("wait", PC)

    chart = laptop.ntm("trace", PC).stdout

    order = ["Direction Request", "Route Direction", "Tunnel Request", "Tunnel Response"]
    places = [chart.index(message) for message in order]
    assert places == sorted(places)
    assert "--->|" in chart


def test_keys_shows_identifiers_and_owners_and_no_key(pair: Pair) -> None:
    laptop, _ = pair

    view = laptop.json("keys")

    [kntmdc] = [key for key in view["keys"] if key["key"] == "Kntmdc"]
    assert (kntmdc["created_by"], kntmdc["owners"]) == (["AS"], ["DC", "node"])
    assert len(kntmdc["identifier"]) == 16
    assert {"key", "identifier", "owners", "created_by", "expires"} == set(kntmdc)


def test_whois_knows_the_peer_and_this_node(pair: Pair) -> None:
    laptop, pc = pair
    laptop.ntm("wait", PC)
    own = laptop.json("status")

    [peer] = [each for each in laptop.json("peers")["peers"] if each["fqdn"] == PC]

    assert laptop.json("whois", peer["virtual_ipv4"])["fqdn"] == PC
    assert laptop.json("whois", own["virtual_ipv6"])["peer_key"] is None
    assert peer["peer_key"] == pc.json("status")["device_key"]
    assert laptop.ntm("whois", "192.0.2.1").returncode == 1


def test_dns_status_shows_the_hook(pair: Pair) -> None:
    laptop, _ = pair

    view = laptop.json("dns", "status")

    assert view["hook"] == "nftables"
    assert DOMAIN in view["zones"]


def test_a_move_shows_as_a_handover(new_node: NewNode, world: "World", pair: Pair) -> None:
    walker = new_node("walker", nat=True)
    walker.up()
    assert walker.ntm("ping", PC, "-c", "1").returncode == 0
    old = walker.json("status")["peers"][0]["path"]["local"]

    walker.host.move(world.net)
    assert walker.ntm("ping", PC, "-c", "2", "-i", "0.2").returncode == 0

    [move] = walker.json("handovers")["handovers"]
    assert (move["fqdn"], move["from"]) == (PC, old)
    assert move["to"].startswith(str(walker.host.ipv4))
    assert move["outage_ms"] >= 0
    assert move["cause"] == "new-network"
    assert (move["before"]["local"], move["after"]["local"]) == (old, move["to"])
    assert {move["before"]["kind"], move["after"]["kind"]} <= {"direct", "relay"}
    shown = walker.ntm("handovers").stdout
    assert walker.ntm("down").returncode == walker.ntm("up").returncode == 0
    assert walker.json("handovers")["handovers"] == [move], "it is kept over a restart"
    assert walker.ntm("handovers").stdout == shown
    assert f"{PC}  new-network  {old}" in shown


def test_down_gives_the_machine_its_network_back(new_node: NewNode) -> None:
    node = new_node("guest")
    before = traces_in(node)
    node.up()
    node.ntm("ping", PC, "-c", "1")
    assert traces_in(node) != before

    assert node.ntm("down").returncode == 0

    assert traces_in(node) == before
    assert node.ntm("status").returncode == 3
    assert not (node.state / "control.sock").exists()


def test_a_term_signal_restores_everything(new_node: NewNode) -> None:
    node = new_node("polite")
    before = traces_in(node)
    node.up()
    agent = node.agent

    os.kill(agent, signal.SIGTERM)
    seconds_until(lambda: not Path(f"/proc/{agent}").exists())

    assert traces_in(node) == before


def test_a_killed_agent_leaves_names_working_and_starts_again(new_node: NewNode) -> None:
    node = new_node("victim")
    node.up()
    agent = node.agent

    os.kill(agent, signal.SIGKILL)
    seconds_until(lambda: not Path(f"/proc/{agent}").exists())

    assert resolves(node, f"dc.{DOMAIN}")
    assert node.ntm("status").returncode == 3
    done = node.ntm("up")
    assert done.returncode == 0, done.stderr


def test_the_peer_hears_that_a_node_left(pair: Pair, new_node: NewNode) -> None:
    _, pc = pair
    node = new_node("leaver")
    node.up()
    assert node.ntm("ping", PC, "-c", "1").returncode == 0
    name = f"leaver.alice.{DOMAIN}"
    assert name in {peer["fqdn"] for peer in pc.json("status")["peers"]}

    node.ntm("down")

    seconds_until(lambda: name not in {peer["fqdn"] for peer in pc.json("status")["peers"]})


def test_logout_forgets_the_account_and_keeps_the_key(new_node: NewNode) -> None:
    node = new_node("former")
    node.up()
    key = node.json("status")["device_key"]

    assert node.ntm("logout").returncode == 0

    again = node.ntm("up")
    assert again.returncode == 1
    assert "no account" in again.stderr
    node.up()
    assert node.json("status")["device_key"] == key


def test_settings_are_shown_changed_and_kept(new_node: NewNode) -> None:
    node = new_node("choosy")
    node.up()

    done = node.ntm("set", "relay-only=yes", "operator=nobody")

    assert "relay-only=yes" in done.stdout
    assert "takes effect at the next" in done.stderr
    node.ntm("down")
    node.ntm("up")
    kept = {"operator": "nobody", "accept-dns": "yes", "relay-only": "yes"}
    assert kept.items() <= node.json("set")["choices"].items()


@pytest.mark.parametrize("change", ["colour=red", "relay-only=perhaps", "operator=no such user"])
def test_a_wrong_setting_changes_nothing(pair: Pair, change: str) -> None:
    laptop, _ = pair
    before = laptop.json("set")

    assert laptop.ntm("set", change).returncode == 1
    assert laptop.json("set") == before


def test_bugreport_holds_no_secret(pair: Pair) -> None:
    laptop, _ = pair

    report = laptop.ntm("bugreport").stdout

    identity = json.loads((laptop.state / "identity.json").read_text())
    assert LAPTOP in report
    assert PASSWORD not in report
    secrets = [secret for secret in identity.values() if secret is not None]
    assert len(secrets) >= 2
    assert not any(secret in report for secret in secrets)


def test_a_node_whose_servers_are_down_goes_on_trying(new_node: NewNode, world: "World") -> None:
    node = new_node("patient")
    node.up()
    node.ntm("down")
    world.stop_serving()

    done = node.ntm("up")

    assert done.returncode == 1
    assert "goes on trying" in done.stderr
    assert node.json("status")["state"] == "degraded"
    world.serve()
    assert node.ntm("wait", "--timeout", "90").returncode == 0
    assert node.json("status")["state"] == "up"


ONLY_THE_AS = """
table ip wall {{
  chain aside {{
    type nat hook output priority -100;
    ip daddr 198.51.100.7 tcp dport 443 dnat to {server}
  }}
  chain out {{
    type filter hook output priority 0;
    udp dport 4330 drop
    ct original ip daddr {server} tcp dport 443 drop
  }}
}}
"""
"""The AS answers at another address; the DC neither by UDP nor by WebSocket."""


def test_a_coordinator_that_cannot_be_reached_is_told_apart(
    new_node: NewNode, world: "World"
) -> None:
    node = new_node("walled")
    node.host.nft(ONLY_THE_AS.format(server=world.server.ipv4))
    shown = world.run(world.server, "server", "show", str(world.organisation), "--json").stdout
    fingerprint = json.loads(shown)["tls_fingerprint"]

    done = node.login("alice", "--as", "https://198.51.100.7:443", "--fingerprint", fingerprint)

    assert done.returncode == 1
    assert "logged in and not registered" in done.stderr
    assert "goes on trying" in done.stderr
    node.host.run(["nft", "delete table ip wall"])
    assert node.ntm("wait", "--timeout", "60").returncode == 0


def test_without_the_right_to_make_devices_no_agent_stays(new_node: NewNode) -> None:
    node = new_node("plain")
    lesser = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
    command = ["up", f"alice@{DOMAIN}", "--password-stdin", "--state", str(node.state)]

    done = node.host.run([*lesser, *node.world.ntm_command, *command], check=False, input=PASSWORD)

    assert done.returncode == 1
    assert "as root" in done.stderr
    assert node.ntm("status").returncode == 3


HOLD_EVERY_PLACE = """
import contextlib, sys
from ntmobile.agent.dns_hook_table import LEVELS, OwnerTable
with contextlib.ExitStack() as stack:
    for _ in range(LEVELS):
        stack.enter_context(OwnerTable())
    print("held", flush=True)
    sys.stdin.read()
"""


def test_where_queries_cannot_be_redirected_resolv_conf_names_the_stub(
    new_node: NewNode, pair: Pair
) -> None:
    node = new_node("crowded")
    holding = node.host.popen([sys.executable, "-c", HOLD_EVERY_PLACE], stdin=-1, stdout=-1)
    assert holding.stdout is not None
    assert holding.stdout.readline() == "held\n"
    before = node.host.run(["cat", "/etc/resolv.conf"]).stdout

    node.up()

    assert node.json("dns", "status")["hook"] == "resolv.conf"
    assert resolves(node, PC)
    assert resolves(node, f"dc.{DOMAIN}")
    node.host.path("/etc/resolv.conf").write_text(before)
    wait_until(
        lambda: "ntm" in node.host.run(["cat", "/etc/resolv.conf"]).stdout, "the stub", GUARD_S
    )
    assert resolves(node, PC)
    node.ntm("down")
    assert node.host.run(["cat", "/etc/resolv.conf"]).stdout == before
    holding.communicate(timeout=GUARD_S)


def test_in_the_foreground_the_agent_ends_with_the_command(new_node: NewNode) -> None:
    node = new_node("front")
    node.up()
    node.ntm("down")
    command = ["up", "--foreground", "--state", str(node.state)]

    running = node.host.popen([*node.world.ntm_command, *command], stdout=-1, stderr=-1)
    assert running.stdout is not None
    first = running.stdout.readline()
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=GUARD_S)

    assert first == f"front.alice.{DOMAIN} is up\n"
    assert running.returncode == 0
    assert node.ntm("status").returncode == 3


def traces_in(node: "NodeHost") -> tuple[str, ...]:
    """Everything an agent changes on a machine."""
    commands = (
        ["nft", "list", "tables"],
        ["ip", "-brief", "link"],
        ["ip", "route", "show", "table", "all"],
        ["ip", "-6", "route", "show", "table", "all"],
        ["cat", "/etc/resolv.conf"],
    )
    return tuple(node.host.run(command, check=False).stdout for command in commands)


def resolves(node: "NodeHost", name: str) -> bool:
    return node.host.run(["getent", "ahosts", name], check=False).returncode == 0


def seconds_until(condition: Callable[[], bool]) -> float:
    """Wait for a real process to do what it must; returns how long it took."""
    began = time.monotonic()  # noqa: TID251
    while not condition():
        assert time.monotonic() - began < GUARD_S, "it never came"  # noqa: TID251
        time.sleep(0.05)
    return time.monotonic() - began  # noqa: TID251
